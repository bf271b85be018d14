//! A process with one booted machine, which measures what it is asked to: a line of JSON each way.
//!
//! Each measurement begins and ends with drivers that have nothing to do, so that what is counted between belongs to its
//! requests. The exact counts come from loads at full speed; the time in drivers and their instructions are measured in
//! loads of their own, since measuring those slows everything down.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use nt_host::{
    ke::{border, processor},
    pe::modules,
};
use serde::{Deserialize, Serialize};
use storport_host::Disk;
use xen_model::Counts;

use super::{
    load::{self, LoadError, Until},
    net::{self, iperf::Streams},
    result::{Copied, Exact, RateRound, Tally, TimeRound},
    row::{Backend, Row},
};
use crate::{
    boot::{self, BootError, Machine, Plan},
    image::{Claim, ClaimError},
    nic::{Nic, NicError},
    packages::{PackageError, Packages},
    placement,
    platform::step,
    wait,
};
use xen_model::toolstack::GuestSpec;

/// What a worker is asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Of requests to a disk.
    Disk(Row, Measure),
    /// Of frames through a network card.
    Net(net::row::Row, Measure),
    /// Of iperf3 through a network card, for so many seconds.
    Streams(Streams, u64),
}

/// What is measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Measure {
    /// Load for so many milliseconds: rate, latency, exact counts.
    Rate(u64),
    /// Load for so many milliseconds, telling driver and rig apart.
    Time(u64),
    /// So many requests, counting instructions.
    Instructions(u64),
}

/// A worker's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The machine has booted.
    Ready,
    /// To [`Measure::Rate`].
    Rate(RateRound),
    /// To [`Measure::Time`].
    Time(TimeRound),
    /// To [`Measure::Instructions`].
    Instructions(Exact),
    /// To [`Ask::Streams`]: bits a second.
    Streams(f64),
    /// It could not be done.
    Failed(String),
}

/// How the process of a worker is started.
#[derive(clap::Args, Clone, Debug)]
pub struct Worker {
    /// Folder with driver packages.
    #[arg(long)]
    drivers: PathBuf,
    /// Folder with those that it lacks.
    #[arg(long)]
    ours: PathBuf,
    /// Virtual CPUs.
    #[arg(long)]
    cpus: u32,
    /// The image behind the file backend, if there shall be one.
    #[arg(long)]
    image: Option<PathBuf>,
    /// Makes a seeded machine, in which the same drivers always do the same.
    #[arg(long)]
    seed: Option<u64>,
    /// Plugs a network card in, with a queue for each virtual CPU.
    #[arg(long)]
    nic: bool,
    /// The same, between two Linux network stacks.
    #[arg(long, conflicts_with = "nic")]
    stacks: bool,
}

/// Why a worker ends.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The packages.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ClaimError),
    /// The machine.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The other end.
    #[error("the measuring process: {0}")]
    Peer(#[from] io::Error),
    /// The network card.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The one between Linux network stacks.
    #[error(transparent)]
    Nic(#[from] NicError),
    /// What the verifier found.
    #[error("the verifier found: {}", .0.join("; "))]
    Findings(Vec<String>),
}

/// Sectors of the null disk: 1 GiB.
const NULL_SECTORS: u64 = 2 << 20;
/// RAM in MiB: 32 requests of 1 MiB, and the system.
const MEMORY: u64 = 256;
/// Requests for each one in flight, before instructions are counted.
const WARM: u64 = 4;
/// Frames of a card in flight, at most.
const NET_DEPTH: u64 = 128;
/// What the drivers may still have to do after the last answer.
const SETTLE: Duration = Duration::from_millis(2);

/// Boots, then answers until its input ends.
pub fn run(options: &Worker) -> Result<(), WorkerError> {
    // Seeded or not: where the host puts memory is no difference between two sets of drivers.
    placement::fix();
    let packages = Packages::read_over(&options.drivers, &options.ours)?;
    let mut images = vec![Claim::null(NULL_SECTORS)];
    if let Some(image) = &options.image {
        images.push(Claim::new(image)?);
    }
    let machine = boot::boot(Plan {
        cpus: options.cpus,
        memory_mib: MEMORY,
        packages: &packages,
        images,
        guest: GuestSpec::default(),
        configure: &|_, _| (),
        trace: None,
        seed: options.seed,
    })?;
    let mut disks = storport_host::disks();
    disks.sort_by_key(|disk| disk.target());
    let bench = Bench {
        tsc_khz: machine.dom0().xen().machine().tsc_khz() as f64,
        machine: &machine,
        disks,
        net: match options.nic {
            true => Some(net::load::Bed::new(&machine, options.cpus)?),
            false => None,
        },
        stacks: match options.stacks {
            true => Some(net::iperf::plug(&machine, options.cpus)?),
            false => None,
        },
    };
    say(&Answer::Ready)?;
    for line in io::stdin().lock().lines() {
        let ask = serde_json::from_str(&line?).map_err(io::Error::from)?;
        say(&bench
            .answer(ask)
            .unwrap_or_else(|error| Answer::Failed(error.to_string())))?;
    }
    if let Some(mut stacks) = bench.stacks {
        stacks.unplug(&machine)?;
    }
    drop(bench.net);
    let findings = machine.shut_down();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(WorkerError::Findings(findings))
    }
}

fn say(answer: &Answer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    out.flush()
}

struct Bench<'a> {
    machine: &'a Machine,
    disks: Vec<Arc<Disk>>,
    net: Option<net::load::Bed>,
    stacks: Option<Nic>,
    tsc_khz: f64,
}

/// Everything that is counted all the time.
struct Totals {
    xen: Counts,
    allocations: u64,
    interrupts: u64,
}

impl Bench<'_> {
    fn answer(&self, ask: Ask) -> Result<Answer, LoadError> {
        match ask {
            Ask::Disk(row, measure) => {
                let load = |until| self.load(&row, until);
                self.measure(measure, u64::from(row.depth), &load)
            }
            Ask::Net(row, measure) => {
                let bed = self.net.as_ref().ok_or(LoadError::NoCard)?;
                let load = |until| {
                    let outcome = bed.run(&row, until);
                    wait::pass(SETTLE);
                    outcome
                };
                self.measure(measure, NET_DEPTH, &load)
            }
            Ask::Streams(streams, seconds) => {
                let nic = self.stacks.as_ref().ok_or(LoadError::NoCard)?;
                Ok(Answer::Streams(streams.run(nic, seconds)?))
            }
        }
    }

    /// Measures a load that has so many requests in flight.
    fn measure(
        &self,
        measure: Measure,
        depth: u64,
        load: &dyn Fn(Until) -> Result<load::Outcome, LoadError>,
    ) -> Result<Answer, LoadError> {
        Ok(match measure {
            Measure::Rate(time) => {
                let before = self.totals();
                let outcome = load(Until::Time(Duration::from_millis(time)))?;
                let after = self.totals();
                let seconds = self.nanoseconds(outcome.ticks) / 1e9;
                let steps = outcome.latency.iter_recorded();
                Answer::Rate(RateRound {
                    requests: outcome.requests,
                    rate: outcome.requests as f64 / seconds,
                    tally: tally(&before, &after),
                    latency: steps
                        .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
                        .collect(),
                    ticks_per_microsecond: self.tsc_khz / 1e3,
                })
            }
            Measure::Time(time) => {
                border::start(false);
                let outcome = load(Until::Time(Duration::from_millis(time)));
                let times = border::stop();
                let requests = outcome?.requests.max(1) as f64;
                // Each stay on either side has one reading of the clock in it.
                let stays = times.crossings / 2;
                let measuring = stays.wrapping_mul(border::reading());
                let each = |ticks: u64| self.nanoseconds(ticks) / requests;
                Answer::Time(TimeRound {
                    driver: each(times.inside.saturating_sub(measuring)),
                    rig: each(times.outside.saturating_sub(measuring)),
                    idle: each(times.idle),
                    calls: stays as f64 / requests,
                })
            }
            Measure::Instructions(requests) => {
                // What the drivers allocate once, they allocate now.
                load(Until::Requests(WARM * depth))?;
                let before = self.totals();
                step::start();
                let outcome = load(Until::Requests(requests));
                let counts = step::stop();
                let requests = outcome?.requests.max(1) as f64;
                let tally = tally(&before, &self.totals()).for_each(requests);
                Answer::Instructions(self.by_function(&counts, requests, tally))
            }
        })
    }

    /// What so many requests took, a request.
    fn by_function(&self, counts: &[step::Count], requests: f64, tally: Tally) -> Exact {
        let mut sums: BTreeMap<String, (f64, Copied)> = BTreeMap::new();
        for count in counts {
            let (times, copied) = sums.entry(function(count)).or_default();
            *times += f64::from(count.times) / requests;
            copied.calls += f64::from(count.copies) / requests;
            copied.bytes += count.copied as f64 / requests;
        }
        let copiers = sums.iter().filter(|(_, (_, copied))| copied.calls != 0.0);
        let mut copiers: Vec<_> = copiers
            .map(|(name, (_, copied))| (name.clone(), *copied))
            .collect();
        copiers.sort_by(|(_, a), (_, b)| b.bytes.total_cmp(&a.bytes));
        let functions = sums.into_iter().map(|(name, (times, _))| (name, times));
        let mut functions: Vec<_> = functions.collect();
        functions.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        Exact {
            functions,
            copiers,
            tally,
        }
    }

    fn load(&self, row: &Row, until: Until) -> Result<load::Outcome, LoadError> {
        let index = usize::from(row.backend == Backend::File);
        let disk = self.disks.get(index).ok_or(LoadError::Small)?;
        let outcome = load::run(disk, row, until);
        wait::pass(SETTLE);
        outcome
    }

    fn totals(&self) -> Totals {
        let cpus = processor::all().iter().map(|cpu| &cpu.counters);
        let (allocations, interrupts) = cpus.fold((0, 0), |(allocations, interrupts), cpu| {
            (
                allocations + cpu.allocations.load(Relaxed),
                interrupts + cpu.interrupts.load(Relaxed),
            )
        });
        Totals {
            xen: self.machine.dom0().xen().counts(),
            allocations,
            interrupts,
        }
    }

    fn nanoseconds(&self, ticks: u64) -> f64 {
        ticks as f64 * 1e6 / self.tsc_khz
    }
}

/// `xenbus.sys!evtchn::send`
fn function(count: &step::Count) -> String {
    let Some(module) = modules::all().find(|module| module.id == count.module) else {
        return "?".to_owned();
    };
    let address = module.base() as u64 + u64::from(count.rva);
    let described = module.describe(address);
    match described.rsplit_once("+0x") {
        Some((function, _)) => function.to_owned(),
        None => described,
    }
}

fn tally(before: &Totals, after: &Totals) -> Tally {
    let xen = after.xen - before.xen;
    Tally {
        hypercalls: xen.hypercalls as f64,
        sends: xen.sends as f64,
        events: xen.events as f64,
        grants: (xen.maps + xen.unmaps) as f64,
        allocations: after.allocations.wrapping_sub(before.allocations) as f64,
        backend_copies: xen.copies as f64,
        backend_copied: xen.copied as f64,
        interrupts: after.interrupts.wrapping_sub(before.interrupts) as f64,
    }
}
