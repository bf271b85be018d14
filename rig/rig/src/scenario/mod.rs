//! Scenarios: scripted jobs over a seeded machine. The seed chooses the machine, what is done when, and every turn.
//!
//! ```text
//!   seed ─▶ machine: disks, what their backends offer ─▶ script, with verified I/O beside it ─▶ everything removed ─▶ verdict
//! ```
//! A verdict is a sentence or nothing; a bug check ends the process by itself.

pub mod explore;
mod load;
mod script;

use std::{
    ffi::CStr,
    fs::File,
    os::fd::{AsRawFd, FromRawFd},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use backends::block::BlockConfig;
use clap::ValueEnum;
use nt_host::trace::{Class, Event};

use crate::{
    boot::{self, Machine, Plan},
    image::Claim,
    packages::Packages,
    platform::seeded::Random,
    port_disk::{self, PortDisk},
    recorder, wait,
};

use load::Load;
use xen_model::toolstack::GuestSpec;

/// Size of a scenario's disk in bytes.
const DISK: u64 = 8 << 20;
/// RAM of the guest in MiB: enough for the drivers and what is under way, and soon made.
const MEMORY: u64 = 64;
/// How long anything that must happen may take, in the machine's time: longer than any wait of the drivers.
const PATIENCE: Duration = Duration::from_secs(150);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Devices start, their disks are read, everything is removed.
    Boot,
    /// Random verified I/O on one or two disks.
    Io,
    /// Disks come and go while others are in use.
    Hotplug,
    /// Everything is removed, asked for or by surprise, while I/O is under way or soon after.
    Unload,
    /// The guest is suspended and resumed, restored or not, under I/O.
    Suspend,
    /// The system sleeps and hibernates under I/O.
    Sleep,
}

impl Scenario {
    /// Its name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// A scenario with its seed.
pub struct Job<'a> {
    /// What is done.
    pub scenario: Scenario,
    /// By which choices.
    pub seed: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// The drivers.
    pub packages: &'a Packages,
    /// Where to record events, and which.
    pub trace: Option<(File, u32)>,
}

/// Runs it; the error is the verdict when all was not well. Once in a process.
pub fn run(job: Job<'_>) -> Result<(), String> {
    let verdict = Stage::set(job).and_then(|mut stage| {
        let result = script::play(&mut stage);
        // A failed machine is left as it is: what it would do next says less than its trace.
        result.and_then(|()| stage.end())
    });
    if let Err(why) = &verdict {
        nt_host::trace::emit(Class::Name, || Event::Mark { text: why });
    }
    let written = recorder::finish().map_err(|reason| format!("the trace: {reason}"));
    verdict.and(written)
}

/// A machine in use.
struct Stage {
    scenario: Scenario,
    machine: Machine,
    random: Random,
    loads: Vec<Load>,
    /// Contents of the disks, by index.
    images: Vec<File>,
    ended: bool,
}

impl Stage {
    /// Boots a machine with one disk, or two.
    fn set(job: Job<'_>) -> Result<Self, String> {
        // Not the numbers of the scheduler.
        let mut random = Random::new(job.seed ^ 0x7363_656e_6172_696f);
        let count = 1 + random.below(2) as u32;
        let images: Vec<_> = (0..count).map(|_| scratch()).collect::<Result<_, _>>()?;
        let claims = images.iter().map(claim).collect::<Result<_, _>>()?;
        let mut configs: Vec<_> = (0..count).map(|_| Offer::draw(&mut random)).collect();
        configs.reverse();
        let machine = boot::start(
            Plan {
                cpus: job.cpus,
                seed: Some(job.seed),
                memory_mib: MEMORY,
                packages: job.packages,
                images: claims,
                trace: job.trace,
                guest: GuestSpec::default(),
                configure: &|index, config| configs[index as usize % configs.len()].apply(config),
            },
            None,
        )
        .map_err(|error| error.to_string())?;
        let mut stage = Self {
            scenario: job.scenario,
            machine,
            random,
            loads: Vec::new(),
            images,
            ended: false,
        };
        stage.say("boot");
        for index in 0..count {
            stage.disk(index)?;
        }
        Ok(stage)
    }

    /// Marks a step in the trace.
    fn say(&self, what: &str) {
        log::debug!("{what}");
        nt_host::trace::emit(Class::Name, || Event::Mark { text: what });
    }

    /// Runs the machine, and the I/O on it, until `condition`, for `limit` at most. Whether it came.
    fn until(
        &mut self,
        limit: Duration,
        mut condition: impl FnMut(&Machine, &[Load]) -> bool,
    ) -> Result<bool, String> {
        let mut failure = None;
        let came = wait::until(limit, || {
            let stepped = self.loads.iter_mut().try_for_each(Load::step);
            failure = stepped.err();
            failure.is_some() || condition(&self.machine, &self.loads)
        });
        failure.map_or(Ok(came), Err)
    }

    /// As [`until`](Self::until), for what must come.
    fn must(
        &mut self,
        what: &str,
        condition: impl FnMut(&Machine, &[Load]) -> bool,
    ) -> Result<(), String> {
        if self.until(PATIENCE, condition)? {
            return Ok(());
        }
        let states: String = self
            .machine
            .devices()
            .iter()
            .map(|row| format!("\n  {row}"))
            .collect();
        let seconds = PATIENCE.as_secs();
        Err(format!("not within {seconds} s: {what}{states}"))
    }

    /// Lets up to `most` microseconds pass.
    fn pause(&mut self, most: u64) -> Result<(), String> {
        let time = Duration::from_micros(self.random.below(most));
        self.until(time, |_, _| false).map(|_| ())
    }

    /// Waits for disk `index`.
    fn disk(&mut self, index: u32) -> Result<Arc<PortDisk>, String> {
        self.must(&format!("disk {index} comes up"), |_, _| {
            port_disk::of_target(index).is_some() && nt_host::pnp::settled()
        })?;
        port_disk::of_target(index).ok_or_else(|| format!("disk {index} is gone again"))
    }

    /// Starts `requests` requests on disk `index`.
    fn load(&mut self, index: u32, requests: u64) -> Result<(), String> {
        let disk = self.disk(index)?;
        let seed = self.random.number();
        self.loads.push(Load::new(index, disk, seed, requests));
        Ok(())
    }

    /// Waits until the I/O is done, compares what it wrote with the images, and lets go of the disks.
    fn finish_loads(&mut self) -> Result<(), String> {
        self.must("the I/O ends", |_, loads| loads.iter().all(Load::is_done))?;
        for load in std::mem::take(&mut self.loads) {
            let image = self.images.get(load.index() as usize);
            load.compare(image)?;
        }
        Ok(())
    }

    /// Removes everything, and looks at what is left.
    fn end(mut self) -> Result<(), String> {
        if !self.ended {
            self.finish_loads()?;
        }
        self.say("end");
        let findings = self.machine.shut_down();
        if findings.is_empty() {
            return Ok(());
        }
        Err(format!("the verifier found: {}", findings.join("; ")))
    }
}

/// What a disk's backend offers, drawn from the seed.
#[derive(Clone, Copy, Debug)]
struct Offer {
    queues: Option<u32>,
    order: Option<u32>,
    persistent: bool,
    flush: bool,
    discard: bool,
    sector: u32,
}

impl Offer {
    fn draw(random: &mut Random) -> Self {
        let mut coin = || random.below(2) == 0;
        let (persistent, flush, discard, large) = (coin(), coin(), coin(), coin());
        Self {
            queues: [None, Some(1), Some(2), Some(4)][random.below(4) as usize],
            order: [None, Some(0), Some(1), Some(4)][random.below(4) as usize],
            persistent,
            flush,
            discard,
            sector: if large { 4096 } else { 512 },
        }
    }

    fn apply(self, config: &mut BlockConfig) {
        config.offer.max_queues = self.queues;
        config.offer.max_ring_page_order = self.order;
        config.offer.persistent = self.persistent;
        config.offer.flush = self.flush;
        config.offer.sector_size = self.sector;
        if !self.discard {
            config.offer.discard = None;
        }
        // Not the name of a file descriptor, which another run may number otherwise.
        config.vbd.params = "scratch".to_owned();
    }
}

/// An empty image in memory.
fn scratch() -> Result<File, String> {
    const NAME: &CStr = c"scratch";
    // SAFETY: the name is a C string.
    let file = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return Err(std::io::Error::last_os_error().to_string());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    let file = unsafe { File::from_raw_fd(file) };
    file.set_len(DISK).map_err(|error| error.to_string())?;
    Ok(file)
}

fn claim(image: &File) -> Result<Claim, String> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", image.as_raw_fd()));
    Claim::new(&path).map_err(|error| error.to_string())
}
