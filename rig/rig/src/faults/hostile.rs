//! `rig faults hostile`: each behaviour of the library of hostile backends, against a disk that has an honest neighbour.
//!
//! ```text
//!   disk 0 ◄── hostile backend     I/O on both at a time: the hostile disk's requests end, one way or another; the honest
//!   disk 1 ◄── honest backend      disk's are right; no byte of the honest disk's turns up at the other; removal ends
//! ```
//! Bytes of the honest disk have their highest bit set, those of the hostile one have not.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backends::block::BlockConfig;
use backends::hostile::keys::{self, Wrong};
use backends::hostile::{Lie, Mischief};
use nt_host::pnp;

use super::director::Met;
use super::hostile_nic;
use super::trial::{Batch, Got, Outcome, REQUESTS, Scratch, TrialError};
use crate::boot::{self, Plan};
use crate::disk::{Disk as _, Op};
use crate::image::Claim;
use crate::packages::Packages;
use crate::port_disk::{self, PortDisk};
use crate::wait;
use xen_model::toolstack::GuestSpec;

/// The request at which a lie is told: well after the disk was recognised.
const TURN: u64 = 200;
/// Rounds of I/O, and requests in each.
const ROUNDS: u8 = 24;
const REQUESTS_IN_ROUND: u64 = 16;
/// How long the honest disk may take to come up beside its neighbour.
const PATIENCE: Duration = Duration::from_secs(60);
/// The bit of the honest disk's bytes.
const HONEST: u8 = 0x80;

/// The lies by name.
const LIES: &[&str] = &[
    "forget",
    "unknown-id",
    "early",
    "repeat",
    "status=-1",
    "status=77",
    "operation=9",
    "overrun",
    "rewind",
    "wrap",
    "silence",
    "noise",
    "storm",
    "flap",
    "hold-pages",
    "no-event",
    "hold-ring",
    "close",
    "mute",
];

/// The keys that a block backend writes.
const KEYS: &[&str] = &[
    "sectors",
    "sector-size",
    "physical-sector-size",
    "info",
    "max-ring-page-order",
    "multi-queue-max-queues",
    "feature-max-indirect-segments",
    "feature-flush-cache",
    "feature-discard",
    "discard-granularity",
    "discard-alignment",
];

/// What a backend does.
#[derive(Clone, Debug)]
enum Behaviour {
    Lie(Lie),
    /// Disks with each wrong value of a key.
    Key(&'static str),
}

/// The names of all behaviours.
pub fn names() -> Vec<String> {
    let lies = LIES.iter().map(|lie| (*lie).to_owned());
    lies.chain(KEYS.iter().map(|key| format!("key:{key}")))
        .chain(hostile_nic::names())
        .collect()
}

fn behaviour(name: &str) -> Option<Behaviour> {
    if let Some(key) = name.strip_prefix("key:") {
        return KEYS
            .iter()
            .find(|known| **known == key)
            .map(|key| Behaviour::Key(key));
    }
    let mischief: Mischief = format!("{TURN}:{name}").parse().ok()?;
    Some(Behaviour::Lie(mischief.lie))
}

impl Behaviour {
    /// Disks with a hostile backend; the honest one comes behind them.
    fn disks(&self) -> usize {
        match self {
            Self::Lie(_) => 1,
            Self::Key(_) => keys::numbers().len(),
        }
    }

    fn apply(&self, index: usize, config: &mut BlockConfig) {
        match self {
            _ if index >= self.disks() => {}
            Self::Lie(lie) => config.mischief.push(Mischief {
                request: TURN,
                lie: *lie,
            }),
            Self::Key(key) => {
                let wrong = keys::numbers().into_iter().nth(index);
                let wrong = wrong.map_or(Wrong::Missing, |(_, wrong)| wrong);
                config.wrong_keys.push(((*key).to_owned(), wrong));
            }
        }
    }

    /// What goes on and on would keep a machine of virtual time from ever sleeping.
    fn seed(&self) -> Option<u64> {
        match self {
            Self::Lie(Lie::Noise | Lie::Storm) => None,
            _ => Some(1),
        }
    }

    /// Whether so many failed requests of the hostile disk are what must come of it.
    fn allows(&self, failed: usize) -> bool {
        match self {
            // The request is sent again, or was answered.
            Self::Lie(
                Lie::Forget
                | Lie::Operation(_)
                | Lie::NoEvent
                | Lie::Close
                | Lie::Silence
                | Lie::Storm
                | Lie::HoldPages
                | Lie::HoldRing,
            ) => failed == 0,
            Self::Lie(Lie::Status(_)) => failed == 1,
            _ => true,
        }
    }

    /// Whether something may be left behind: grants that never end, and what keeps account of them.
    fn excuses(&self, finding: &str) -> bool {
        matches!(self, Self::Lie(Lie::HoldRing | Lie::Mute))
            && [
                " bytes of pool ",
                " pages allocated ",
                "grant-leak: ",
                "mdl-map-leak: ",
            ]
            .iter()
            .any(|kind| finding.contains(kind))
    }
}

/// Lets a backend behave like that. Once in a process; `None` for a name that is no behaviour's.
pub fn run(name: &str, drivers: &Path) -> Result<Option<Outcome>, TrialError> {
    let Some(behaviour) = behaviour(name) else {
        return hostile_nic::run(name, Packages::read(drivers)?);
    };
    let mut packages = Packages::read(drivers)?;
    packages.make_hasty();
    let hostile = behaviour.disks();
    let scratch: Vec<_> = (0..=hostile).map(Scratch::new).collect::<Result<_, _>>()?;
    let images = scratch.iter().map(|scratch| Claim::new(&scratch.0));
    let machine = boot::start(
        Plan {
            cpus: 2,
            seed: behaviour.seed(),
            memory_mib: 256,
            packages: &packages,
            images: images.collect::<Result<_, _>>()?,
            trace: None,
            guest: GuestSpec::default(),
            configure: &|index, config| behaviour.apply(index as usize, config),
        },
        None,
    )?;
    let mut failed = 0;
    let result = use_disks(hostile, &mut failed).and_then(|came| {
        let leaked = scratch[..hostile].iter().any(|scratch| {
            fs::read(&scratch.0).is_ok_and(|bytes| bytes.iter().any(|byte| byte & HONEST != 0))
        });
        match leaked {
            true => Err("bytes of the honest disk are in a hostile disk's image".to_owned()),
            false => Ok(came),
        }
    });
    let mut failure = result.as_ref().err().cloned();
    if failure.is_none() && !behaviour.allows(failed) {
        failure = Some(format!("{failed} requests of the hostile disk failed"));
    }
    if result.is_ok() {
        let findings = machine.shut_down();
        let findings: Vec<_> = findings
            .into_iter()
            .filter(|finding| !behaviour.excuses(finding))
            .collect();
        if !findings.is_empty() {
            failure = Some(findings.join("\n"));
        }
    }
    let came = result.unwrap_or(0);
    Ok(Some(Outcome {
        failure,
        device: format!(
            "{came} of {hostile} hostile disks came up, {failed} of their requests failed"
        ),
        met: Met::default(),
    }))
}

/// I/O on all disks at a time. Returns how many of the hostile ones there were.
fn use_disks(hostile: usize, failed: &mut usize) -> Result<usize, String> {
    let with_targets = || -> Vec<_> {
        let mut targets: Vec<_> = storport_host::disks()
            .iter()
            .map(|disk| disk.target())
            .collect();
        targets.sort_unstable();
        targets.into_iter().zip(port_disk::all()).collect()
    };
    let is_honest = |target: u8| usize::from(target) == hostile;
    let up = wait::until(PATIENCE, || {
        pnp::settled() && with_targets().iter().any(|(target, _)| is_honest(*target))
    });
    if !up {
        return Err(format!(
            "the honest disk did not come up within {} s",
            PATIENCE.as_secs()
        ));
    }
    let (honest, others): (Vec<_>, Vec<_>) = with_targets()
        .into_iter()
        .partition(|(target, _)| is_honest(*target));
    let others: Vec<Arc<PortDisk>> = others.into_iter().map(|(_, disk)| disk).collect();
    let honest = honest.first().map(|(_, disk)| disk.clone());
    let honest = honest.ok_or("the honest disk is gone")?;
    // With many of them a lie is none that waits for its turn.
    let rounds = if hostile > 1 { 2 } else { ROUNDS };
    for round in 0..rounds {
        for op in [Op::Write, Op::Read] {
            let hostile: Vec<_> = others
                .iter()
                .map(|disk| Batch::send(disk, op, &pieces(disk), |index| byte(round, index)))
                .collect::<Result<_, _>>()?;
            let batch = Batch::send(&honest, op, &pieces(&honest), |index| {
                HONEST | byte(round, index)
            })?;
            wait::until(REQUESTS, || batch.open() == 0);
            if batch.take()?.iter().any(|got| *got != Got::Right) {
                return Err("a request of the honest disk failed".to_owned());
            }
            wait::until(REQUESTS, || hostile.iter().all(|batch| batch.open() == 0));
            for batch in hostile {
                for got in batch.take()? {
                    match got {
                        Got::Right => {}
                        Got::Nothing => *failed += 1,
                        Got::Wrong { bits } if bits & HONEST != 0 => {
                            return Err("a hostile disk has bytes of the honest one".to_owned());
                        }
                        Got::Wrong { .. } => {}
                    }
                }
            }
        }
    }
    Ok(others.len())
}

fn byte(round: u8, index: usize) -> u8 {
    round.wrapping_mul(8).wrapping_add(index as u8) & !HONEST
}

/// Where requests go: apart from each other, as far as the disk's size, which may be a lie too, lets them.
fn pieces(disk: &PortDisk) -> Vec<(u64, u32)> {
    let blocks = disk.info().blocks.min(16 << 11);
    let apart = (blocks / REQUESTS_IN_ROUND).max(1);
    (0..REQUESTS_IN_ROUND)
        .map(|index| ((index * apart) % blocks.max(1), 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_behaviours() {
        let disks = names();
        let mut disks = disks.iter().filter(|name| !name.starts_with("vif:"));
        assert!(disks.all(|name| behaviour(name).is_some()));
        assert!(behaviour("kindness").is_none());
        assert!(behaviour("key:to-the-city").is_none());
    }
}
