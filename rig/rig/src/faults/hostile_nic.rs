//! Hostile network backends: each behaviour on an interface that has an honest neighbour.
//!
//! ```text
//!   vif/0 ◄── hostile backend     frames both ways on both at a time: what the hostile one is sent comes back, one way or
//!   vif/1 ◄── honest backend      another; the honest one's is right, and no byte of it turns up at the other; removal ends
//! ```
//! Frames of the honest interface hold bytes with the highest bit set, those of the hostile one hold none.

use std::time::Duration;

use backends::hostile::Lie;
use backends::hostile::keys::{self, Wrong};
use backends::net::lying::{self, NetLie, RxLie};
use backends::net::{Frame, Mischief, Netback, Nics};
use pv_interfaces::vif::{COMPLETION_OK, HASH_ALGORITHM_TOEPLITZ, OffloadOptions};
use xen_model::toolstack::{GuestSpec, VifSpec};

use super::director::Met;
use super::trial::{Outcome, TrialError};
use crate::boot::{self, Machine, Plan};
use crate::packages::Packages;
use crate::vif::client::{About, VifClient};
use crate::{vif, wait};

/// What the names of these behaviours begin with.
const PREFIX: &str = "vif:";
/// The packet at whose turn a lie is told.
const TURN: u64 = 20;
/// Rounds of frames, and frames in each.
const ROUNDS: u8 = 12;
const FRAMES: u8 = 16;
/// How long anything that must happen may take: longer than any wait of the drivers.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long frames of the hostile interface may take.
const LINGER: Duration = Duration::from_secs(2);
/// The bit of the honest interface's bytes.
const HONEST: u8 = 0x80;

const HOSTILE: u32 = 0;
const NEIGHBOUR: u32 = 1;

/// The keys that a network backend writes, and the ones of its frontend's directory that the toolstack does.
const KEYS: &[&str] = &[
    "feature-sg",
    "feature-gso-tcpv4",
    "feature-ipv6-csum-offload",
    "feature-no-csum-offload",
    "feature-rx-copy",
    "feature-split-event-channels",
    "feature-ctrl-ring",
    "feature-dynamic-multicast-control",
    "multi-queue-max-queues",
];
const FRONTEND_KEYS: &[&str] = &["mtu", "speed", "disconnect"];

/// What a backend does.
enum Behaviour {
    Lie(NetLie),
    Key(&'static str, Wrong),
    FrontendKey(&'static str, Wrong),
}

/// The names of all behaviours.
pub fn names() -> Vec<String> {
    let lies = lying::LIES.iter().map(|lie| format!("{PREFIX}{lie}"));
    let keys = KEYS.iter().chain(FRONTEND_KEYS);
    let keys = keys.map(|key| format!("{PREFIX}key:{key}"));
    lies.chain(keys).collect()
}

/// The behaviours of a name, each of which has its turn on an interface that comes for it.
fn behaviours(name: &str) -> Option<Vec<Behaviour>> {
    let name = name.strip_prefix(PREFIX)?;
    let Some(key) = name.strip_prefix("key:") else {
        return Some(vec![Behaviour::Lie(name.parse().ok()?)]);
    };
    let numbers = || keys::numbers().into_iter().map(|(_, wrong)| wrong);
    let of = |keys: &[&'static str]| keys.iter().find(|known| **known == key).copied();
    if let Some(key) = of(KEYS) {
        return Some(numbers().map(|wrong| Behaviour::Key(key, wrong)).collect());
    }
    let key = of(FRONTEND_KEYS)?;
    let all = numbers().map(|wrong| Behaviour::FrontendKey(key, wrong));
    Some(all.collect())
}

/// What goes on and on would keep a machine of virtual time from ever sleeping.
fn seed(behaviours: &[Behaviour]) -> Option<u64> {
    let endless =
        |it: &Behaviour| matches!(it, Behaviour::Lie(NetLie::Tx(Lie::Noise | Lie::Storm)));
    (!behaviours.iter().any(endless)).then_some(1)
}

impl Behaviour {
    /// Whether the interface must work again after it: all but what keeps the backend from serving anybody.
    fn passes(&self) -> bool {
        !matches!(
            self,
            Self::Key(..)
                | Self::FrontendKey(..)
                | Self::Lie(NetLie::Tx(
                    Lie::Silence | Lie::Mute | Lie::HoldRing | Lie::Noise | Lie::Storm
                ))
        )
    }

    /// Rounds of frames until it must work again: a packet without end takes a whole ring before it is one.
    fn rounds(&self) -> u8 {
        match self {
            Self::Lie(NetLie::Rx(RxLie::Endless)) => 2 * ROUNDS,
            _ => ROUNDS,
        }
    }

    /// Whether something may be left behind: grants that never end, and what keeps account of them.
    fn excuses(&self, finding: &str) -> bool {
        let keeps = matches!(
            self,
            Self::Lie(NetLie::Tx(Lie::HoldRing | Lie::Mute | Lie::HoldPages))
        );
        let kinds = [
            " bytes of pool ",
            " pages allocated ",
            "grant-leak: ",
            "mdl-map-leak: ",
        ];
        keeps && kinds.iter().any(|kind| finding.contains(kind))
    }
}

/// Lets a backend behave like that. Once in a process; `None` for a name that is no behaviour's.
pub fn run(name: &str, mut packages: Packages) -> Result<Option<Outcome>, TrialError> {
    let Some(behaviours) = behaviours(name) else {
        return Ok(None);
    };
    // The client is above the VIF interface itself.
    packages.leave_out("xennet");
    let machine = boot::start(
        Plan {
            cpus: 2,
            seed: seed(&behaviours),
            memory_mib: 128,
            packages: &packages,
            images: Vec::new(),
            trace: None,
            guest: GuestSpec::default(),
            configure: &|_, _| {},
        },
        None,
    )?;
    let mut worked = 0;
    let result = play(&machine, &behaviours, &mut worked);
    let mut failure = result.err();
    if failure.is_none() {
        let findings = machine.shut_down();
        let findings: Vec<_> = findings
            .into_iter()
            .filter(|finding| !behaviours.iter().any(|it| it.excuses(finding)))
            .collect();
        failure = (!findings.is_empty()).then(|| findings.join("\n"));
    }
    let count = behaviours.len();
    Ok(Some(Outcome {
        failure,
        device: format!("{worked} of {count} hostile interfaces worked in the end"),
        met: Met::default(),
    }))
}

fn device(number: u32) -> String {
    format!(r"XENVIF\VEN_XP&DEV_NET\{number}")
}

fn must(what: &str, is_so: impl FnMut() -> bool) -> Result<(), String> {
    match wait::until(PATIENCE, is_so) {
        true => Ok(()),
        false => Err(format!("not within {} s: {what}", PATIENCE.as_secs())),
    }
}

fn is_there(machine: &Machine, number: u32) -> Option<bool> {
    let mut rows = machine.devices().into_iter();
    let row = rows.find(|row| row.instance == device(number))?;
    Some(row.started)
}

fn play(machine: &Machine, behaviours: &[Behaviour], worked: &mut usize) -> Result<(), String> {
    let (driver, nics) = Netback::new();
    let dom0 = machine.dom0();
    dom0.add_driver(Box::new(driver));
    vif::driver::bind();
    dom0.attach_vif(VifSpec::new(NEIGHBOUR));
    must("the honest interface connects", || {
        nics.is_connected(NEIGHBOUR) && is_there(machine, NEIGHBOUR) == Some(true)
    })?;
    let mut honest = VifClient::open(&device(NEIGHBOUR), 10)?;
    honest.enable(OffloadOptions::IPV4_TCP_CHECKSUM)?;
    for behaviour in behaviours {
        let mut spec = VifSpec::new(HOSTILE);
        let mut mischief = Mischief::default();
        match behaviour {
            Behaviour::Lie(lie) => {
                let turn = if matches!(lie, NetLie::Control(_)) {
                    0
                } else {
                    TURN
                };
                mischief.lie = Some((turn, *lie));
            }
            Behaviour::Key(key, wrong) => {
                mischief.wrong_keys.push(((*key).to_owned(), wrong.clone()));
            }
            Behaviour::FrontendKey(key, Wrong::Text(text)) => {
                spec.frontend.push(((*key).to_owned(), text.clone()));
            }
            Behaviour::FrontendKey(_, Wrong::Missing) => {}
        }
        nics.misbehave(HOSTILE, mischief);
        dom0.attach_vif(spec);
        let works = with_neighbour(machine, &nics, &mut honest, behaviour.rounds())?;
        *worked += usize::from(works);
        if behaviour.passes() && !works {
            return Err("the hostile interface does not work again".to_owned());
        }
        dom0.detach_vif(HOSTILE);
        wait::until(Duration::from_secs(10), || {
            dom0.finish_vif_detach(HOSTILE, false)
        });
        dom0.finish_vif_detach(HOSTILE, true);
        must("the hostile interface's device goes", || {
            is_there(machine, HOSTILE).is_none()
        })?;
    }
    honest.disable();
    honest.release();
    dom0.detach_vif(NEIGHBOUR);
    dom0.finish_vif_detach(NEIGHBOUR, true);
    must("the honest interface's device goes", || {
        is_there(machine, NEIGHBOUR).is_none()
    })
}

/// Frames on both interfaces. Returns whether those of the hostile one went both ways in the end.
fn with_neighbour(
    machine: &Machine,
    nics: &Nics,
    honest: &mut VifClient,
    rounds: u8,
) -> Result<bool, String> {
    must("the hostile interface's device comes", || {
        is_there(machine, HOSTILE).is_some() && nt_host::pnp::settled()
    })?;
    let mut hostile = match is_there(machine, HOSTILE) {
        // A backend that cannot be served has a device that did not start.
        Some(true) => Some(VifClient::open(&device(HOSTILE), 10)?),
        _ => None,
    };
    if let Some(client) = &hostile {
        // Whether it can be enabled is the backend's choice; what it says of hashes as well.
        let _ = client.enable(OffloadOptions::IPV4_TCP_CHECKSUM);
        client.call(|table, this| {
            // SAFETY: the provider's method.
            unsafe { (table.receiver_set_hash_algorithm)(this, HASH_ALGORITHM_TOEPLITZ) }
        });
    }
    let mut works = false;
    for round in 0..rounds {
        nics.take(HOSTILE);
        nics.take(NEIGHBOUR);
        let first = match &mut hostile {
            Some(client) => {
                client.take();
                for frame in frames(HOSTILE, round) {
                    nics.send(machine.dom0(), HOSTILE, frame);
                }
                let frames = frames(HOSTILE, round).map(|frame| frame.bytes).collect();
                // While there is no connection they wait; one that is not enabled takes none.
                client.queue(frames, 700, About::default()).ok()
            }
            None => None,
        };
        neighbour(machine, nics, honest, round)?;
        if let (Some(client), Some(first)) = (&hostile, first) {
            let all = usize::from(FRAMES);
            let is_whole = || {
                let outcomes = client.outcomes(first);
                let sent = outcomes.values().filter(|it| **it == COMPLETION_OK);
                sent.count() == all && client.count() >= all
            };
            works = wait::until(LINGER, is_whole);
        }
        let got = nics.take(HOSTILE);
        if got
            .iter()
            .any(|frame| frame.bytes[42..].iter().any(|byte| byte & HONEST != 0))
        {
            return Err("the hostile backend has bytes of the honest interface".to_owned());
        }
    }
    if let Some(client) = hostile {
        client.disable();
        if client.out() != 0 {
            return Err(format!(
                "{} frames of the hostile interface are lost",
                client.out()
            ));
        }
        client.release();
    }
    Ok(works)
}

/// Frames on the honest interface, which must all be right.
fn neighbour(
    machine: &Machine,
    nics: &Nics,
    client: &mut VifClient,
    round: u8,
) -> Result<(), String> {
    client.take();
    let frames: Vec<_> = frames(NEIGHBOUR, round).collect();
    let mut bytes: Vec<_> = frames.iter().map(|frame| frame.bytes.clone()).collect();
    let status = client.send(bytes.clone(), 700, 0, 0)?;
    if status.iter().any(|status| *status != COMPLETION_OK) {
        return Err("frames of the honest interface were not sent".to_owned());
    }
    let mut sent: Vec<_> = nics
        .take(NEIGHBOUR)
        .into_iter()
        .map(|it| it.bytes)
        .collect();
    for frame in frames {
        nics.send(machine.dom0(), NEIGHBOUR, frame);
    }
    must("the honest interface's frames arrive", || {
        client.count() >= bytes.len()
    })?;
    let mut received: Vec<_> = client.take().into_iter().map(|it| it.bytes).collect();
    for list in [&mut bytes, &mut sent, &mut received] {
        list.sort_unstable();
    }
    match sent == bytes && received == bytes {
        true => Ok(()),
        false => Err("the honest interface has other frames".to_owned()),
    }
}

/// UDP datagrams to or from an interface, from a page's fraction to more than a page.
fn frames(number: u32, round: u8) -> impl Iterator<Item = Frame> {
    let bit = if number == NEIGHBOUR { HONEST } else { 0 };
    (0..FRAMES).map(move |index| {
        let data = 40 + 90 * usize::from(index);
        // Addresses and lengths without the bit that tells the two apart.
        let mut bytes = vec![0x00, 0x16, 0x3E, 0, 0, number as u8, 2, 0, 0, 0, 0, 1, 8, 0];
        let total = (20 + 8 + data) as u16;
        bytes.extend([0x45, 0]);
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([1, 1, 2, 2]);
        bytes.extend((8 + data as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(
            (0..data).map(|at| ((at as u8) ^ round.wrapping_mul(16) ^ index) & !HONEST | bit),
        );
        Frame {
            bytes,
            ..Frame::default()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_behaviours() {
        assert!(names().iter().all(|name| behaviours(name).is_some()));
        assert!(behaviours("vif:kindness").is_none());
        assert!(behaviours("vif:key:to-the-city").is_none());
        assert!(behaviours("forget").is_none());
    }
}
