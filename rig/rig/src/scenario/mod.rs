//! Scenarios: scripted jobs over a seeded machine. The seed chooses the machine, what is done when, and every turn.
//!
//! ```text
//!   seed ─▶ machine: disks, what their backends offer ─▶ script, with verified I/O beside it ─▶ everything removed ─▶ verdict
//! ```
//! A verdict is a sentence or nothing; a bug check ends the process by itself. Where faults are let in, a device may fail,
//! with a reason that can be seen, and requests with it; nothing may hang, leak, crash or hand out wrong bytes.

mod card;
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
use backends::net::Nics;
use clap::ValueEnum;
use nt_host::trace::{Class, Event};

use crate::{
    boot::{self, Machine, Plan},
    exchange::Exchange,
    faults::{
        director::{Director, Met},
        draw,
        name::Fault,
        play::{Order, Play},
    },
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
/// How long a failed device may take to be all that happens.
const CALM: Duration = Duration::from_millis(300);
/// Of what the seed draws faults, apart from the machine.
const FAULTS: u64 = 0x6661_756c_7473;
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
    /// The disk gets larger and smaller under I/O.
    Resize,
    /// Frames go both ways over a network card, or two, which pause, are suspended, sleep, come and go.
    Nic,
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
    /// The drivers; with faults, [hasty](Packages::make_hasty) ones.
    pub packages: &'a Packages,
    /// What goes wrong.
    pub wrong: Wrong,
    /// Where to record events, and which.
    pub trace: Option<(File, u32)>,
}

/// What goes wrong in a scenario.
#[derive(Clone, Debug, Default)]
pub struct Wrong {
    /// These faults.
    pub faults: Vec<Fault>,
    /// And some by the seed.
    pub drawn: bool,
}

impl Wrong {
    /// Whether something may.
    pub fn is_some(&self) -> bool {
        self.drawn || !self.faults.is_empty()
    }

    /// All of them, and whether they wait until the machine has booted.
    fn plan(&self, seed: u64) -> (Vec<Fault>, bool) {
        let mut random = Random::new(seed ^ FAULTS);
        let after_boot = self.drawn && random.below(2) == 0;
        let drawn = self.drawn.then(|| draw::draw(&mut random));
        let drawn = drawn.into_iter().flatten();
        (
            self.faults.iter().cloned().chain(drawn).collect(),
            after_boot,
        )
    }

    /// The names of all that may go wrong by this seed.
    pub fn names(&self, seed: u64) -> Vec<String> {
        let (faults, _) = self.plan(seed);
        faults.iter().map(Fault::to_string).collect()
    }
}

/// Runs it; the error is the verdict when all was not well. Once in a process. Returns what was met.
pub fn run(job: Job<'_>) -> Result<Met, String> {
    let verdict = Stage::set(job).and_then(|mut stage| {
        let director = stage.director;
        let result = script::play(&mut stage);
        // A failed machine is left as it is: what it would do next says less than its trace.
        let ended = result.and_then(|()| stage.end());
        ended.map(|()| director.met())
    });
    if let Err(why) = &verdict {
        nt_host::trace::emit(Class::Name, || Event::Mark { text: why });
    }
    let written = recorder::finish().map_err(|reason| format!("the trace: {reason}"));
    written.and(verdict)
}

/// What a step of a scenario waits for can be seen in this.
struct View<'a> {
    machine: &'a Machine,
    loads: &'a [Load],
    cards: &'a [Exchange],
}

impl View<'_> {
    fn io_is_done(&self) -> bool {
        self.loads.iter().all(Load::is_done)
    }
}

/// A machine in use.
struct Stage {
    scenario: Scenario,
    machine: Machine,
    director: &'static Director,
    /// Something may go wrong.
    faulty: bool,
    random: Random,
    loads: Vec<Load>,
    /// Frames on network cards, by number.
    cards: Vec<Exchange>,
    nics: Option<Nics>,
    cpus: u32,
    /// Contents of the disks, by index.
    images: Vec<File>,
    ended: bool,
}

impl Stage {
    /// Boots a machine with one disk, or two; with cards, or none and one.
    fn set(job: Job<'_>) -> Result<Self, String> {
        // Not the numbers of the scheduler.
        let mut random = Random::new(job.seed ^ 0x7363_656e_6172_696f);
        let with_cards = job.scenario == Scenario::Nic;
        let count = random.below(2) as u32 + u32::from(!with_cards);
        let images: Vec<_> = (0..count).map(|_| scratch()).collect::<Result<_, _>>()?;
        let claims = images.iter().map(claim).collect::<Result<_, _>>()?;
        let mut configs: Vec<_> = (0..count).map(|_| Offer::draw(&mut random)).collect();
        configs.reverse();
        let faulty = job.wrong.is_some();
        let (faults, after_boot) = job.wrong.plan(job.seed);
        let director = match faulty {
            true => Director::new(faults),
            false => Director::idle(),
        };
        if faulty && !after_boot {
            director.arm();
        }
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
            Some(director),
        )
        .map_err(|error| error.to_string())?;
        let mut stage = Self {
            scenario: job.scenario,
            machine,
            director,
            faulty,
            random,
            loads: Vec::new(),
            cards: Vec::new(),
            nics: None,
            cpus: job.cpus,
            images,
            ended: false,
        };
        stage.say("boot");
        if with_cards {
            stage.plug_cards();
        }
        for index in 0..count {
            stage.disk(index)?;
        }
        if faulty && after_boot {
            director.arm();
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
        mut condition: impl FnMut(&View) -> bool,
    ) -> Result<bool, String> {
        let mut failure = None;
        let play = self.machine.play();
        let came = wait::until(limit, || {
            let stepped = self.loads.iter_mut().try_for_each(Load::step);
            let moved = self.cards.iter_mut().try_for_each(Exchange::step);
            failure = stepped
                .and(moved)
                .err()
                .or_else(|| play.and_then(Play::failure));
            let view = View {
                machine: &self.machine,
                loads: &self.loads,
                cards: &self.cards,
            };
            failure.is_some() || condition(&view)
        });
        failure.map_or(Ok(came), Err)
    }

    /// As [`until`](Self::until), for what must come.
    fn must(&mut self, what: &str, condition: impl FnMut(&View) -> bool) -> Result<(), String> {
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
        let cards = self.cards.iter().map(|card| format!("\n  {}", card.open()));
        let cards: String = cards.collect();
        Err(format!("not within {seconds} s: {what}{states}{cards}"))
    }

    /// Lets up to `most` microseconds pass.
    fn pause(&mut self, most: u64) -> Result<(), String> {
        let time = Duration::from_micros(self.random.below(most));
        self.until(time, |_| false).map(|_| ())
    }

    /// Waits for what comes unless a fault keeps it away: whether it came. A device that has failed with a reason, or was
    /// taken away, is a reason not to.
    fn unless_failed(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&View) -> bool,
    ) -> Result<bool, String> {
        if !self.faulty {
            return self.must(what, condition).map(|()| true);
        }
        let mut came = false;
        let mut since = None;
        self.must(what, |view| {
            came = condition(view);
            let taken = view
                .machine
                .play()
                .is_some_and(|play| play.took_device() || play.took_platform());
            let failed = nt_host::pnp::settled()
                && (taken
                    || view.cards.iter().any(Exchange::rests)
                    || view
                        .machine
                        .devices()
                        .iter()
                        .any(|row| row.state.starts_with("failed")));
            if !failed {
                since = None;
            }
            let calm = failed && wait::now() - *since.get_or_insert_with(wait::now) > CALM;
            came || calm
        })?;
        Ok(came)
    }

    /// Waits for disk `index`; none where something keeps it away.
    fn disk(&mut self, index: u32) -> Result<Option<Arc<PortDisk>>, String> {
        let came = self.unless_failed(&format!("disk {index} comes up"), |_| {
            port_disk::of_target(index).is_some() && nt_host::pnp::settled()
        })?;
        let disk = port_disk::of_target(index);
        if disk.is_none() && came && !self.faulty {
            return Err(format!("disk {index} is gone again"));
        }
        Ok(disk)
    }

    /// Starts `requests` requests on disk `index`, if it is there.
    fn load(&mut self, index: u32, requests: u64) -> Result<(), String> {
        let disk = self.disk(index)?;
        let seed = self.random.number();
        if let Some(disk) = disk {
            let mut load = Load::new(index, disk, seed, requests);
            if self.faulty {
                load.let_go();
            }
            self.loads.push(load);
        }
        Ok(())
    }

    /// Has something done to the machine, and waits until it is.
    fn order(&mut self, order: Order) -> Result<(), String> {
        if let Some(play) = self.machine.play() {
            play.order(order);
        }
        self.must("what was ordered is done", |view| {
            view.machine.play().is_none_or(Play::is_idle)
        })
    }

    /// Waits until the I/O is done, compares what it wrote with the images, and lets go of the disks.
    fn finish_loads(&mut self) -> Result<(), String> {
        self.must("the I/O ends", |view| view.io_is_done())?;
        for load in std::mem::take(&mut self.loads) {
            let image = self.images.get(load.index() as usize);
            load.compare(image)?;
        }
        Ok(())
    }

    /// Removes everything, and looks at what is left.
    fn end(mut self) -> Result<(), String> {
        self.director.disarm();
        self.must("what was begun is done", |view| {
            view.machine.play().is_none_or(Play::is_idle)
        })?;
        if !self.ended {
            self.finish_loads()?;
            self.finish_cards()?;
        }
        self.say("end");
        // The cards' protocols stay until all is gone.
        let cards = std::mem::take(&mut self.cards);
        let findings = self.machine.shut_down();
        drop(cards);
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
