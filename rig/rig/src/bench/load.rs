//! Keeps a number of requests in flight: each one that ends is sent again at once, on the virtual CPU where it ended, as a
//! driver above a disk would do it. No host thread takes part while the load runs.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use nt_host::ke;
use storport_host::{Disk, DmaBuffer, Io, IoError};

use super::row::{Op, Row};
use crate::wait;

/// No load takes longer after its end was due, also one of large requests that are stepped through on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// The histogram's resolution: two significant digits, as HdrHistogram counts them.
const DIGITS: u8 = 2;
/// Where it ends, in ticks of the time stamp counter: minutes.
const LONGEST: u64 = 1 << 40;

/// When the load ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so long.
    Time(Duration),
    /// After so many requests.
    Requests(u64),
}

/// What a load came to.
pub struct Outcome {
    /// Requests that were done.
    pub requests: u64,
    /// From the first request to the end of the last one, in ticks of the time stamp counter.
    pub ticks: u64,
    /// Ticks from a request's submission to its end.
    pub latency: Histogram<u64>,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A request failed.
    #[error("a request failed: {0:?}")]
    Io(IoError),
    /// No memory for requests.
    #[error("no guest memory for {0} requests of {1} bytes")]
    NoMemory(u32, u32),
    /// The machine has no network card, or it did not come up.
    #[error("no network card came up")]
    NoCard,
    /// iperf3 does not run, or says that it failed.
    #[error("iperf3: {0}")]
    Iperf(String),
    /// Frames came back unsent.
    #[error("{0} frames were refused")]
    Refused(u64),
    /// No answer.
    #[error("{0} requests had no answer within ten minutes")]
    Stuck(u64),
    /// The disk is smaller than one request.
    #[error("the disk is too small")]
    Small,
}

/// What the requests of a load share.
struct Load {
    disk: Arc<Disk>,
    op: storport_host::Op,
    blocks: u32,
    /// Places of a request on the disk.
    places: u64,
    /// Requests that may still be sent; none is sent after it has reached 0.
    budget: AtomicU64,
    stop: AtomicBool,
    in_flight: AtomicU64,
    /// By virtual CPU.
    latency: Vec<Mutex<Histogram<u64>>>,
    done: AtomicU64,
    last: AtomicU64,
    failure: Mutex<Option<IoError>>,
    ended: mpsc::Sender<()>,
}

/// A request and the memory it uses again and again.
struct Lane {
    random: u64,
    buffer: DmaBuffer,
}

/// Runs a load on a disk of a machine with as many CPUs as the row says.
pub fn run(disk: &Arc<Disk>, row: &Row, until: Until) -> Result<Outcome, LoadError> {
    let block = disk.info().sector_size;
    let blocks = row.size.0 / block;
    let places = disk.info().sectors / u64::from(blocks.max(1));
    if blocks == 0 || places == 0 {
        return Err(LoadError::Small);
    }
    let budget = match until {
        Until::Time(_) => u64::MAX,
        Until::Requests(count) => count,
    };
    let (ended, end) = mpsc::channel();
    let lanes = u64::from(row.depth).min(budget);
    let load = Arc::new(Load {
        disk: Arc::clone(disk),
        op: match row.op {
            Op::Read => storport_host::Op::Read,
            Op::Write => storport_host::Op::Write,
        },
        blocks,
        places,
        budget: AtomicU64::new(budget),
        stop: AtomicBool::new(false),
        in_flight: AtomicU64::new(lanes),
        latency: (0..row.cpus).map(|_| Mutex::new(histogram())).collect(),
        done: AtomicU64::new(0),
        last: AtomicU64::new(0),
        failure: Mutex::new(None),
        ended,
    });
    let mut ready = Vec::new();
    for number in 0..lanes {
        let mut buffer = DmaBuffer::new(row.size.0 as usize)
            .ok_or(LoadError::NoMemory(row.depth, row.size.0))?;
        // Pages that are touched for the first time cost a fault each.
        buffer.clear();
        ready.push(Lane {
            random: number,
            buffer,
        });
    }
    let start = tsc();
    let cpus = row.cpus.max(1);
    for cpu in 0..cpus {
        let rest = ready.split_off(ready.len().div_ceil((cpus - cpu) as usize).min(ready.len()));
        let mine = std::mem::replace(&mut ready, rest);
        let load = Arc::clone(&load);
        ke::inject(
            cpu,
            Box::new(move || mine.into_iter().for_each(|lane| load.send(lane))),
        );
    }
    if let Until::Time(time) = until {
        wait::pass(time);
        load.stop.store(true, Ordering::Relaxed);
    }
    if wait::receive(&end, PATIENCE).is_none() {
        return Err(LoadError::Stuck(load.in_flight.load(Ordering::Relaxed)));
    }
    if let Some(error) = guard(&load.failure).take() {
        return Err(LoadError::Io(error));
    }
    let mut latency = histogram();
    for part in &load.latency {
        latency
            .add(&*guard(part))
            .expect("they have the same bounds");
    }
    Ok(Outcome {
        requests: load.done.load(Ordering::Acquire),
        ticks: load.last.load(Ordering::Acquire) - start,
        latency,
    })
}

impl Load {
    /// Sends a lane's next request, unless enough were sent.
    fn send(self: &Arc<Self>, mut lane: Lane) {
        let more = |budget: u64| budget.checked_sub(1);
        let order = Ordering::Relaxed;
        if self.budget.fetch_update(order, order, more).is_err() {
            self.leave();
            return;
        }
        lane.random = mix(lane.random);
        let place = lane.random % self.places;
        let load = Arc::clone(self);
        let submitted = tsc();
        let Lane { random, buffer } = lane;
        self.disk.submit(Io {
            op: self.op,
            lba: place * u64::from(self.blocks),
            blocks: self.blocks,
            buffer: Some(buffer),
            done: Box::new(move |result, buffer| load.done(random, submitted, result, buffer)),
        });
    }

    fn done(
        self: &Arc<Self>,
        random: u64,
        submitted: u64,
        result: Result<(), IoError>,
        buffer: Option<DmaBuffer>,
    ) {
        let now = tsc();
        let cpu = ke::processor::current().number as usize;
        if let Some(latency) = self.latency.get(cpu) {
            guard(latency).saturating_record(now.saturating_sub(submitted));
        }
        match (result, buffer) {
            (Ok(()), Some(buffer)) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                // Not looked at before a lane's first request has ended: each round has some.
                if self.stop.load(Ordering::Relaxed) {
                    self.leave();
                } else {
                    self.send(Lane { random, buffer });
                }
            }
            (result, _) => {
                *guard(&self.failure) = result.err().or(Some(IoError::Failed));
                self.stop.store(true, Ordering::Relaxed);
                self.leave();
            }
        }
    }

    /// A lane has ended.
    fn leave(&self) {
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.last.store(tsc(), Ordering::Release);
            // Whoever waited may have given up.
            let _ = self.ended.send(());
        }
    }
}

fn guard<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ticks, and nothing counted yet.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST, DIGITS).expect("the bounds and the digits are allowed")
}

/// Vigna's splitmix64: a lane's places follow from its number.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: Linux lets user code read the counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}
