//! One scenario in this process, with things going wrong, and what came of it.
//!
//! ```text
//!   boot:  ─ arm ─ devices start ─ disk checked ─ everything removed ─┐
//!   io:    devices start ─ arm ─ verified I/O ─ everything removed ───┼─► works | fails cleanly | FAILED
//!   nic, frames: the same with a network card, without a disk ────────┘
//! ```
//! A device may fail, with a reason that can be seen, and requests with it. The machine may not crash, hang, leak or
//! hand out wrong bytes; what the verifier finds ends the process by itself.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use nt_host::pnp;
use serde::{Deserialize, Serialize};

use super::director::{Director, Met};
use super::name::Fault;
use super::play::Play;
use crate::boot::{self, BootError, Machine, Plan};
use crate::disk::{Disk as _, Io, Op};
use crate::exchange::Exchange;
use crate::image::{Claim, ClaimError};
use crate::packages::{PackageError, Packages};
use crate::port_disk::{self, PortDisk};
use crate::{port_nic, wait};
use backends::net::Netback;
use xen_model::toolstack::{GuestSpec, VifSpec};

/// How long the disk may take to come up: several of the drivers' own longest waits, 30 s for a daemon.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long a failed device may take to be all that happens.
const CALM: Duration = Duration::from_millis(300);
/// How long requests may take, retries and resets included.
pub const REQUESTS: Duration = Duration::from_secs(60);
/// The disk's size in bytes.
const IMAGE: u64 = 16 << 20;
/// How long frames may take, with all that the drivers wait for.
const FRAMES_TAKE: Duration = Duration::from_secs(150);
/// Frames of a round.
const FRAMES: u64 = 60;
/// The card's number.
const CARD: u32 = 0;
/// Requests at a time.
const PIECES: u32 = 12;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Devices start, the disk is tried, everything is removed.
    Boot,
    /// The disk is written and read on a machine that has booted, then everything is removed.
    Io,
    /// Devices start, frames go both ways over a network card, everything is removed.
    Nic,
    /// Frames go both ways on a machine that has booted, then everything is removed.
    Frames,
}

impl Scenario {
    /// Whether there is a network card, and no disk.
    fn has_card(self) -> bool {
        matches!(self, Self::Nic | Self::Frames)
    }
}

/// What to try.
pub struct Trial {
    /// What is done.
    pub scenario: Scenario,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// The seed of every choice, in virtual time; `None` for host threads.
    pub seed: Option<u64>,
    /// Folder with the drivers.
    pub drivers: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Outcome {
    /// Why it is not as it should be.
    pub failure: Option<String>,
    /// What became of the disk, or of the card, for people.
    pub device: String,
    /// What could have gone wrong.
    pub met: Met,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The packages.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// The disk's image.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The disk's image.
    #[error("{}: {reason}", path.display())]
    Image {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The machine.
    #[error(transparent)]
    Boot(#[from] BootError),
}

/// An image that lives as long as the trial.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Image number `index` of this process.
    pub fn new(index: usize) -> Result<Self, TrialError> {
        let name = format!("winpv-trial-{}-{index}.img", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made = fs::File::create(&path).and_then(|file| file.set_len(IMAGE));
        made.map_err(|reason| TrialError::Image {
            path: path.clone(),
            reason,
        })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody misses it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Carries it out. Once in a process.
pub fn run(trial: Trial) -> Result<Outcome, TrialError> {
    let mut packages = Packages::read(&trial.drivers)?;
    packages.make_hasty();
    let has_card = trial.scenario.has_card();
    let scratch = (!has_card).then(|| Scratch::new(0)).transpose()?;
    let images = scratch.iter().map(|scratch| Claim::new(&scratch.0));
    let images = images.collect::<Result<_, _>>()?;
    let director = Director::new(trial.faults);
    if matches!(trial.scenario, Scenario::Boot | Scenario::Nic) {
        director.arm();
    }
    let machine = boot::start(
        Plan {
            cpus: trial.cpus,
            seed: trial.seed,
            memory_mib: 128,
            packages: &packages,
            images,
            guest: GuestSpec::default(),
            configure: &|_, _| (),
            trace: None,
        },
        Some(director),
    )?;
    let card = has_card.then(|| plug(&machine, trial.cpus));
    let mut stage = Stage {
        machine,
        director,
        card,
        notes: Vec::new(),
    };
    let result = match trial.scenario {
        Scenario::Boot => stage.disk_comes_up().and_then(|disk| {
            let Some(disk) = disk else { return Ok(()) };
            stage.write_and_read(&disk, 2)
        }),
        Scenario::Io => stage.io(),
        Scenario::Nic => stage.card_comes_up().and_then(|came| match came {
            true => stage.frames(FRAMES),
            false => Ok(()),
        }),
        Scenario::Frames => stage.card_comes_up().and_then(|came| {
            if !came {
                return Err("the card did not come up before anything went wrong".to_owned());
            }
            director.arm();
            stage.frames(3 * FRAMES)
        }),
    };
    Ok(stage.end(result))
}

/// Plugs a network card in.
fn plug(machine: &Machine, cpus: u32) -> Exchange {
    let dom0 = machine.dom0();
    let (driver, nics) = Netback::new();
    dom0.add_driver(Box::new(driver));
    if let Some(play) = machine.play() {
        play.concern_card(CARD, nics.clone());
    }
    let mut card = Exchange::new(CARD, dom0, &nics, cpus, u64::from(CARD));
    card.let_go();
    dom0.attach_vif(VifSpec::new(CARD));
    card
}

/// The machine while the scenario is under way.
struct Stage {
    machine: Machine,
    director: &'static Director,
    card: Option<Exchange>,
    /// What happened, for people.
    notes: Vec<String>,
}

impl Stage {
    /// Waits for the disk: none if a device has failed with a reason, or if it was taken away.
    fn disk_comes_up(&mut self) -> Result<Option<Arc<PortDisk>>, String> {
        let mut disk = None;
        self.come_up(|_| {
            disk = port_disk::all().into_iter().next();
            Ok(disk.is_some())
        })?;
        Ok(disk)
    }

    /// The same for the card: whether it can be used.
    fn card_comes_up(&mut self) -> Result<bool, String> {
        self.come_up(|card| {
            let Some(card) = card else { return Ok(false) };
            card.step()?;
            Ok(card.is_ready())
        })
    }

    /// Waits until a device `came`, or one has failed with a reason, or it was taken away. Whether it came.
    fn come_up(
        &mut self,
        mut came: impl FnMut(Option<&mut Exchange>) -> Result<bool, String>,
    ) -> Result<bool, String> {
        let mut failed: Option<(String, Duration)> = None;
        let mut is_there = Ok(false);
        let card = &mut self.card;
        let play = self.machine.play().ok_or("nobody plays")?;
        let ended = play.wait(PATIENCE, |play| {
            if !pnp::settled() {
                return false;
            }
            is_there = came(card.as_mut());
            let devices = pnp::tree();
            let row = devices.iter().find(|row| row.state.starts_with("failed"));
            let why = match row {
                Some(row) => Some(format!("{} {}", row.instance, row.state)),
                None if card.as_ref().is_some_and(Exchange::rests) => {
                    Some("the adapter stays paused".to_owned())
                }
                None => None,
            };
            failed = why.map(|why| failed.take().unwrap_or_else(|| (why, wait::now())));
            !matches!(is_there, Ok(false))
                || play.took_device()
                || failed
                    .as_ref()
                    .is_some_and(|(_, since)| wait::now() - *since > CALM)
        })?;
        let is_there = is_there?;
        if !is_there && let Some((why, _)) = failed {
            self.notes.push(why);
            return Ok(false);
        }
        if !ended {
            let states: String = pnp::tree().iter().map(|row| format!("\n  {row}")).collect();
            return Err(format!(
                "within {} s there was neither the device nor a failed one:{states}",
                PATIENCE.as_secs()
            ));
        }
        Ok(is_there)
    }

    /// Frames both ways, some of which may be lost. What hangs is an error.
    fn frames(&mut self, count: u64) -> Result<(), String> {
        let Some(card) = &mut self.card else {
            return Ok(());
        };
        card.more(count);
        let before = card.arrived();
        let play = self.machine.play().ok_or("nobody plays")?;
        let mut stepped = Ok(());
        let done = play.wait(FRAMES_TAKE, |_| {
            stepped = card.step();
            stepped.is_err() || card.is_done()
        })?;
        stepped?;
        if !done {
            return Err(format!(
                "not within {} s: {}",
                FRAMES_TAKE.as_secs(),
                card.open()
            ));
        }
        let after = card.arrived();
        let ways = [after[0] - before[0], after[1] - before[1]];
        if ways.contains(&0) {
            self.notes.push("no frame arrived one way".to_owned());
        }
        Ok(())
    }

    fn io(&mut self) -> Result<(), String> {
        let Some(disk) = self.disk_comes_up()? else {
            return Err("the disk did not come up before anything went wrong".to_owned());
        };
        self.director.arm();
        self.write_and_read(&disk, 6)
    }

    /// Verified I/O in rounds. What fails is noted; what succeeds must be right.
    fn write_and_read(&mut self, disk: &Arc<PortDisk>, rounds: u8) -> Result<(), String> {
        let info = disk.info();
        let apart = info.blocks / u64::from(PIECES);
        let most = (info.max_transfer / info.block_size).min(apart as u32);
        let mut failed = 0;
        for round in 0..rounds {
            // Pieces of all sizes, apart from each other.
            let sizes = [1, 7, 8, 64, most, 3];
            let pieces: Vec<_> = (0..PIECES)
                .map(|index| {
                    let size = sizes[(index as usize + usize::from(round)) % sizes.len()];
                    (u64::from(index) * apart, size)
                })
                .collect();
            let written = self.batch(disk, Op::Write, &pieces, round)?;
            failed += usize::from(self.batch(disk, Op::Flush, &[(0, 0)], round)? != [Got::Right]);
            let read = self.batch(disk, Op::Read, &pieces, round)?;
            for ((written, read), (block, _)) in written.iter().zip(&read).zip(&pieces) {
                if *written == Got::Right && matches!(read, Got::Wrong { .. }) {
                    return Err(format!("block {block} is not what was written"));
                }
                failed +=
                    usize::from(*written == Got::Nothing) + usize::from(*read == Got::Nothing);
            }
        }
        if failed > 0 {
            self.notes.push(format!("{failed} requests failed"));
        }
        Ok(())
    }

    /// Sends requests and waits for all of them; tells of each what came back.
    fn batch(
        &mut self,
        disk: &Arc<PortDisk>,
        op: Op,
        pieces: &[(u64, u32)],
        round: u8,
    ) -> Result<Vec<Got>, String> {
        let batch = Batch::send(disk, op, pieces, |index| {
            round.wrapping_mul(31) ^ index as u8 ^ 0x5A
        })?;
        let play = self.machine.play().ok_or("nobody plays")?;
        play.wait(REQUESTS, |_| batch.open() == 0)?;
        batch.take()
    }

    /// Whether frames go both ways once nothing goes wrong any more.
    fn card_works(&mut self) -> (String, Result<(), String>) {
        let is_ready = |card: &Option<Exchange>| card.as_ref().is_some_and(Exchange::is_ready);
        if port_nic::all().is_empty() {
            return ("no card".to_owned(), Ok(()));
        }
        let came = self.card_comes_up();
        let notes = std::mem::take(&mut self.notes);
        let result = came.and_then(|came| match came {
            true => self.frames(FRAMES),
            false => Ok(()),
        });
        let works = is_ready(&self.card) && self.notes.is_empty();
        self.notes = notes;
        let device = if works {
            "the card works"
        } else {
            "the card fails"
        };
        (device.to_owned(), result)
    }

    /// Whether the device does its work once nothing goes wrong any more, then the end of the machine.
    fn end(mut self, mut result: Result<(), String>) -> Outcome {
        self.director.disarm();
        let met = self.director.met();
        if let (Ok(()), Some(play)) = (&result, self.machine.play()) {
            result = play.wait(PATIENCE, Play::is_idle).map(|_| ());
        }
        let mut device = "no device".to_owned();
        if result.is_ok() && self.card.is_some() {
            (device, result) = self.card_works();
        } else if result.is_ok()
            && let Some(there) = port_disk::all().into_iter().next()
        {
            device = "the disk works".to_owned();
            result = self.batch(&there, Op::Write, &[(3, 1)], 99).map(|got| {
                if got != [Got::Right] {
                    device = "the disk fails".to_owned();
                }
            });
        }
        // A machine that hangs is not asked to take its devices down as well: its process ends.
        let findings = match result {
            Ok(()) => self.machine.shut_down(),
            Err(_) => Vec::new(),
        };
        // Its protocol has stayed until all was gone.
        drop(self.card);
        if !findings.is_empty() {
            result = Err(findings.join("\n"));
        }
        self.notes.insert(0, device);
        Outcome {
            failure: result.err(),
            device: self.notes.join("; "),
            met,
        }
    }
}

/// Requests under way.
pub struct Batch {
    op: Op,
    got: Arc<Mutex<Vec<Option<Got>>>>,
}

impl Batch {
    /// Sends them, each with its own byte.
    pub fn send(
        disk: &Arc<PortDisk>,
        op: Op,
        pieces: &[(u64, u32)],
        byte: impl Fn(usize) -> u8,
    ) -> Result<Self, String> {
        let got = Arc::new(Mutex::new(vec![None; pieces.len()]));
        for (index, &(block, blocks)) in pieces.iter().enumerate() {
            let pattern = byte(index);
            let bytes = blocks as usize * disk.info().block_size as usize;
            let mut buffer = match op {
                Op::Read | Op::Write => Some(disk.buffer(bytes).ok_or("no memory for a buffer")?),
                Op::Flush | Op::Unmap => None,
            };
            for piece in buffer.iter_mut().flat_map(|buffer| buffer.pieces()) {
                // What a read leaves alone is wrong.
                piece.fill(if op == Op::Write {
                    pattern
                } else {
                    pattern ^ 1
                });
            }
            let got = got.clone();
            disk.submit(Io {
                op,
                block,
                blocks,
                buffer,
                done: Box::new(move |result, mut buffer| {
                    let pieces = buffer.iter_mut().flat_map(|buffer| buffer.pieces());
                    let (mut right, mut all) = (true, 0);
                    for byte in pieces.flatten() {
                        right &= *byte == pattern;
                        all |= *byte;
                    }
                    let mut got = got.lock().unwrap_or_else(PoisonError::into_inner);
                    got[index] = Some(match (result, right) {
                        (Err(_), _) => Got::Nothing,
                        (Ok(()), true) => Got::Right,
                        (Ok(()), false) => Got::Wrong { bits: all },
                    });
                }),
            });
        }
        Ok(Self { op, got })
    }

    /// How many have not ended.
    pub fn open(&self) -> usize {
        let got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        got.iter().filter(|got| got.is_none()).count()
    }

    /// What came back of each, if they have all ended.
    pub fn take(self) -> Result<Vec<Got>, String> {
        let open = self.open();
        let got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        if open > 0 {
            return Err(format!(
                "{open} of {} requests ({:?}) did not end within {} s",
                got.len(),
                self.op,
                REQUESTS.as_secs()
            ));
        }
        Ok(got.iter().flatten().copied().collect())
    }
}

/// What a request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// It failed.
    Nothing,
    /// It succeeded, with other bytes than were written.
    Wrong {
        /// The bits that were set in any of them.
        bits: u8,
    },
    /// It succeeded.
    Right,
}
