//! How long DPC routines and interrupt routines run, and how long spin locks are held.
//!
//! Microsoft's guidance is 100 us for a DPC (Learn, `KeQueryDpcWatchdogInformation`), 25 us for an interrupt routine
//! ("Determining the source of bug check 0x133"); Windows' own watchdog ends the machine after some 10 s of one DPC. The
//! rule here is between them: [`LIMIT`].
//!
//! ```text
//!   begin ── a stamp in the processor's slot ── end: longer than ever for its driver? a figure
//!                        │
//!   platform ── every few ms: the same stamp again, and the processor's thread has run meanwhile ── Watcher: the rule
//! ```
//! A busy host must not break the rule. So what counts is the time that the thread of a virtual CPU has run, by the
//! host's account, and of that at most [`MOST_A_LOOK`] between two looks, whatever kept the whole host from running. A
//! seeded machine has time of its own and is looked at as it polls.
//!
//! Figures come from the time stamp counter, less all the time in which the thread did not run: never too long.

use core::arch::x86_64::_rdtsc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::{Rule, locks};
use crate::host::platform;
use crate::ke::processor::{self, Processor, pending};
use crate::ke::{backtrace, bugcheck};
use crate::pe::modules;

/// Nanoseconds of its thread's time after which a routine, or the hold of a spin lock, breaks its rule: 100 ms.
const LIMIT: u64 = 100_000_000;
/// What one look of a [`Watcher`] counts at most, in nanoseconds: 4 ms.
const MOST_A_LOOK: u64 = 4_000_000;
/// Below this many units of [`clock`] (some 2 us) nothing is worth a figure.
const FLOOR: u64 = 4096;
/// The thread's time is read anew when it was read this many units of [`clock`] ago, or, if the processor slept since,
/// the shorter time.
const OLD: u64 = 1 << 21;
const OLD_AFTER_SLEEP: u64 = 1 << 17;

/// What should be short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// A DPC routine.
    Dpc,
    /// An interrupt routine.
    Interrupt,
    /// A spin lock that is held.
    Lock,
}

const KINDS: [Timed; 3] = [Timed::Dpc, Timed::Interrupt, Timed::Lock];

impl Timed {
    fn rule(self) -> Rule {
        match self {
            Self::Dpc => Rule::DpcTime,
            Self::Interrupt => Rule::InterruptTime,
            Self::Lock => Rule::LockTime,
        }
    }
}

/// What a processor does.
struct Slot {
    /// When it began, in units of [`clock`]; 0 for nothing.
    since: AtomicU64,
    /// The routine.
    routine: AtomicUsize,
}

impl Slot {
    const fn new() -> Self {
        Self {
            since: AtomicU64::new(0),
            routine: AtomicUsize::new(0),
        }
    }
}

/// A processor's part.
pub struct PerCpu {
    dpc: Slot,
    interrupt: Slot,
    /// The thread's time was this, in nanoseconds …
    ran: AtomicU64,
    /// … at this time of [`clock`].
    at: AtomicU64,
    slept: AtomicBool,
    /// What a watcher has found: a number in [`KINDS`] plus one, and the routine or the lock.
    found: AtomicUsize,
    found_what: AtomicUsize,
    /// The longest of each kind in nanoseconds, by the module's number.
    longest: [[AtomicU64; modules::MOST + 1]; KINDS.len()],
}

impl PerCpu {
    pub(crate) const fn new() -> Self {
        Self {
            dpc: Slot::new(),
            interrupt: Slot::new(),
            ran: AtomicU64::new(0),
            at: AtomicU64::new(0),
            slept: AtomicBool::new(false),
            found: AtomicUsize::new(0),
            found_what: AtomicUsize::new(0),
            longest: [const { [const { AtomicU64::new(0) }; modules::MOST + 1] }; KINDS.len()],
        }
    }

    fn slot(&self, kind: Timed) -> &Slot {
        match kind {
            Timed::Interrupt => &self.interrupt,
            Timed::Dpc | Timed::Lock => &self.dpc,
        }
    }
}

/// Time in a unit that is cheap to read: ticks of the time stamp counter, or a seeded machine's nanoseconds.
#[inline]
pub fn clock(cpu: &Processor) -> u64 {
    if is_seeded(cpu) {
        return platform().running_time().unwrap_or(0);
    }
    // SAFETY: every x64 processor has it, and nothing forbids its use here.
    unsafe { _rdtsc() }
}

fn is_seeded(cpu: &Processor) -> bool {
    cpu.pending.load(Relaxed) & pending::CHOICE != 0
}

/// Units of [`clock`] in nanoseconds.
fn nanoseconds(cpu: &Processor, units: u64) -> u64 {
    if is_seeded(cpu) {
        return units;
    }
    let wide = u128::from(units) * 1_000_000 / u128::from(platform().tsc_khz().max(1));
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// A routine begins that interrupts what ran before; what to give to [`end`].
#[inline]
pub fn begin(cpu: &Processor, kind: Timed, routine: usize) -> (u64, usize) {
    let slot = cpu.time.slot(kind);
    let outer = (slot.since.load(Relaxed), slot.routine.load(Relaxed));
    let now = stamp(cpu);
    slot.routine.store(routine, Relaxed);
    slot.since.store(now, Relaxed);
    outer
}

/// The routine has ended, and `outer` goes on.
#[inline]
pub fn end(cpu: &Processor, kind: Timed, outer: (u64, usize)) {
    let slot = cpu.time.slot(kind);
    let took = clock(cpu).wrapping_sub(slot.since.load(Relaxed));
    if took > FLOOR {
        let routine = slot.routine.load(Relaxed);
        let owner = modules::by_address(routine as u64).map_or(0, |module| module.id);
        lasted(cpu, kind, owner, took);
    }
    slot.routine.store(outer.1, Relaxed);
    slot.since.store(outer.0, Relaxed);
}

/// The time at which something begins.
#[inline]
pub fn stamp(cpu: &Processor) -> u64 {
    let now = clock(cpu);
    let old = match cpu.time.slept.load(Relaxed) {
        true => OLD_AFTER_SLEEP,
        false => OLD,
    };
    if now.wrapping_sub(cpu.time.at.load(Relaxed)) > old {
        read_running_time(cpu, now);
    }
    now
}

#[cold]
fn read_running_time(cpu: &Processor, now: u64) {
    cpu.time.at.store(now, Relaxed);
    cpu.time.slept.store(false, Relaxed);
    let ran = platform().running_time().unwrap_or(0);
    cpu.time.ran.store(ran, Relaxed);
}

/// The processor has slept.
#[inline]
pub fn slept(cpu: &Processor) {
    cpu.time.slept.store(true, Relaxed);
}

/// A lock of module `owner` was held since `since`.
#[inline]
pub fn held(cpu: &Processor, owner: u32, since: u64) {
    let took = clock(cpu).wrapping_sub(since);
    if took > FLOOR {
        lasted(cpu, Timed::Lock, owner, took);
    }
}

/// Something of module `owner` took so many units of [`clock`].
#[cold]
fn lasted(cpu: &Processor, kind: Timed, owner: u32, took: u64) {
    let Some(longest) = cpu.time.longest[kind as usize].get(owner as usize) else {
        return;
    };
    let took = nanoseconds(cpu, took);
    let record = longest.load(Relaxed);
    if took <= record {
        return;
    }
    let Some(ran) = platform().running_time() else {
        return;
    };
    let passed = nanoseconds(cpu, clock(cpu).wrapping_sub(cpu.time.at.load(Relaxed)));
    let lost = passed.saturating_sub(ran.saturating_sub(cpu.time.ran.load(Relaxed)));
    longest.store(record.max(took.saturating_sub(lost)), Relaxed);
}

/// The longest of a kind that was seen of a module, in nanoseconds.
pub fn longest(kind: Timed, module: u32) -> u64 {
    let cpus = processor::all().iter();
    let longest = cpus.filter_map(|cpu| cpu.time.longest[kind as usize].get(module as usize));
    longest.map(|time| time.load(Relaxed)).max().unwrap_or(0)
}

/// What is under way on a processor: the kind, when it began, the routine or the lock.
fn under_way(cpu: &Processor) -> impl Iterator<Item = (Timed, u64, usize)> {
    let routines = [Timed::Dpc, Timed::Interrupt].map(|kind| {
        let slot = cpu.time.slot(kind);
        (kind, slot.since.load(Relaxed), slot.routine.load(Relaxed))
    });
    let locks = locks::all_held(cpu).map(|(lock, since)| (Timed::Lock, since, lock));
    routines.into_iter().chain(locks)
}

/// What a processor was seen doing, look by look. A platform has one for each processor, and looks every few
/// milliseconds.
#[derive(Default)]
pub struct Watcher {
    /// Since when, and for how many nanoseconds it was seen to run.
    seen: [(u64, u64); 2 + locks::DEPTH],
}

impl Watcher {
    /// Looks at a processor whose thread has run for so many nanoseconds since the last look. Whether a rule is broken:
    /// then the processor reports it at its next poll, and needs to be interrupted if it does not poll.
    pub fn look(&mut self, number: u32, ran: u64) -> bool {
        let cpu = processor::processor_block(number);
        let mut seen = self.seen.iter_mut();
        for ((kind, since, what), seen) in under_way(cpu).zip(&mut seen) {
            *seen = match since != 0 && seen.0 == since {
                true => (since, seen.1 + ran.min(MOST_A_LOOK)),
                false => (since, 0),
            };
            if seen.1 > LIMIT && cpu.time.found.load(Relaxed) == 0 {
                cpu.time.found_what.store(what, Relaxed);
                cpu.time.found.store(kind as usize + 1, Relaxed);
                cpu.pending.fetch_or(pending::OVERTIME, Relaxed);
            }
        }
        seen.for_each(|seen| *seen = (0, 0));
        cpu.time.found.load(Relaxed) != 0
    }
}

/// The processor polls, and a watcher has found something.
#[cold]
pub fn overtime(cpu: &Processor) {
    let found = cpu.time.found.load(Relaxed);
    if let Some(kind) = found.checked_sub(1).and_then(|index| KINDS.get(index)) {
        breach(cpu, *kind, cpu.time.found_what.load(Relaxed));
    }
}

/// A processor of a seeded machine polls.
#[cold]
pub fn look(cpu: &Processor) {
    let now = clock(cpu);
    for (kind, since, what) in under_way(cpu) {
        if since != 0 && now.wrapping_sub(since) > LIMIT {
            breach(cpu, kind, what);
        }
    }
}

fn breach(cpu: &Processor, kind: Timed, what: usize) -> ! {
    const MILLISECONDS: u64 = LIMIT / 1_000_000;
    let mut stack = backtrace::of_here();
    let owner = match kind {
        Timed::Dpc | Timed::Interrupt => {
            stack.push(what as u64);
            modules::by_address(what as u64).map(|module| module.id)
        }
        Timed::Lock => locks::owner(cpu, what),
    };
    if let Some(owner) = owner {
        cpu.caller.store(owner, Relaxed);
    }
    let row = kind.rule().row();
    let say = |what: fmt::Arguments| {
        bugcheck::report(row.code, [0; 4], Some(row.rule), what, || {
            backtrace::describe(&stack)
        })
    };
    match kind {
        Timed::Dpc => say(format_args!("runs a DPC routine for {MILLISECONDS} ms")),
        Timed::Interrupt => say(format_args!(
            "runs an interrupt routine for {MILLISECONDS} ms"
        )),
        Timed::Lock => say(format_args!(
            "holds spin lock {what:#x} for {MILLISECONDS} ms"
        )),
    }
}
