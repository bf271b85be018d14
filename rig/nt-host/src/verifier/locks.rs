//! Spin locks: what each processor holds, and in which order locks are taken.
//!
//! Whoever takes lock B while it holds lock A makes an edge A → B of a graph. A new edge that closes a circle is a
//! deadlock that only waits for its moment: the report has the stacks of both ends. An edge is looked at once; each
//! processor remembers those it has seen, so that a lock in its usual order costs a few instructions.
//!
//! Memory that is freed takes its locks' edges with it, since the next lock there is another.
//!
//! Spin locks of every kind come here: ordinary, queued, reader/writer, and those of interrupts. Whoever holds one runs
//! at its IRQL or above, so the processor stands for the thread.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use nt_sys::KIRQL;

use super::{Rule, time};
use crate::ke::backtrace;
use crate::ke::processor::{self, Processor};
use crate::sync::Mutex;

/// Locks that a processor holds at once; further ones are not followed.
pub const DEPTH: usize = 16;
/// Edges that a processor remembers.
const SEEN: usize = 64;

/// A lock that a processor holds.
struct Held {
    lock: AtomicUsize,
    /// The lowest IRQL at which it may be held.
    irql: AtomicU8,
    /// By which module.
    owner: AtomicU32,
    /// Since when, see [`all_held`].
    since: AtomicU64,
}

impl Held {
    const fn none() -> Self {
        Self {
            lock: AtomicUsize::new(0),
            irql: AtomicU8::new(0),
            owner: AtomicU32::new(0),
            since: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> usize {
        self.lock.load(Ordering::Relaxed)
    }

    fn irql(&self) -> KIRQL {
        self.irql.load(Ordering::Relaxed)
    }

    fn set(&self, lock: usize, irql: KIRQL) {
        self.lock.store(lock, Ordering::Relaxed);
        self.irql.store(irql, Ordering::Relaxed);
    }

    fn be(&self, other: &Self) {
        self.set(other.lock(), other.irql());
        let owner = other.owner.load(Ordering::Relaxed);
        self.owner.store(owner, Ordering::Relaxed);
        let since = other.since.load(Ordering::Relaxed);
        self.since.store(since, Ordering::Relaxed);
    }
}

/// A processor's part.
pub struct PerCpu {
    count: AtomicUsize,
    held: [Held; DEPTH],
    seen: [AtomicU64; SEEN],
}

impl PerCpu {
    pub(crate) const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            held: [const { Held::none() }; DEPTH],
            seen: [const { AtomicU64::new(0) }; SEEN],
        }
    }
}

/// Who took the second lock while it held the first: return addresses.
type Stack = Vec<u64>;

static EDGES: Mutex<BTreeMap<(usize, usize), Stack>> = Mutex::new(BTreeMap::new());
/// Counts what made remembered edges void.
static AGE: AtomicU64 = AtomicU64::new(1);

/// The processor has taken `lock`, which is held at `irql` or above. `waited`: it would have waited for it.
#[inline]
pub fn taken(cpu: &Processor, lock: usize, irql: KIRQL, waited: bool) {
    let locks = &cpu.locks;
    let count = locks.count.load(Ordering::Relaxed);
    if waited && let Some(last) = count.checked_sub(1) {
        let before = locks.held[last.min(DEPTH - 1)].lock();
        follow(locks, before, lock);
    }
    if let Some(place) = locks.held.get(count) {
        place.set(lock, irql);
        place.since.store(time::stamp(cpu), Ordering::Relaxed);
        let owner = cpu.caller.load(Ordering::Relaxed);
        place.owner.store(owner, Ordering::Relaxed);
    }
    locks.count.store(count + 1, Ordering::Relaxed);
}

/// The processor gives `lock` back.
#[inline]
pub fn given_back(cpu: &Processor, lock: usize) {
    let locks = &cpu.locks;
    let Some(left) = locks.count.load(Ordering::Relaxed).checked_sub(1) else {
        return;
    };
    locks.count.store(left, Ordering::Relaxed);
    let held = &locks.held[..(left + 1).min(DEPTH)];
    let Some(at) = held.iter().rposition(|held| held.lock() == lock) else {
        return;
    };
    let since = held[at].since.load(Ordering::Relaxed);
    if since != 0 {
        time::held(cpu, held[at].owner.load(Ordering::Relaxed), since);
    }
    for index in at + 1..held.len() {
        held[index - 1].be(&held[index]);
    }
}

/// The lock that was taken last is held for module `owner`, which did not take it itself.
#[inline]
pub fn is_for(cpu: &Processor, owner: u32) {
    let count = cpu.locks.count.load(Ordering::Relaxed);
    if let Some(held) = count.checked_sub(1).and_then(|at| cpu.locks.held.get(at)) {
        held.owner.store(owner, Ordering::Relaxed);
    }
}

/// The lock that was taken last is held around a routine of a driver, whose time is looked at itself.
#[inline]
pub fn is_of_routine(cpu: &Processor) {
    let count = cpu.locks.count.load(Ordering::Relaxed);
    if let Some(held) = count.checked_sub(1).and_then(|at| cpu.locks.held.get(at)) {
        held.since.store(0, Ordering::Relaxed);
    }
}

/// The locks that a processor holds, and since when, in units of [`time::clock`]; 0 for those whose time is their
/// routine's.
pub fn all_held(cpu: &Processor) -> impl Iterator<Item = (usize, u64)> {
    let count = cpu.locks.count.load(Ordering::Relaxed);
    let held = cpu.locks.held.iter().take(count);
    held.map(|held| (held.lock(), held.since.load(Ordering::Relaxed)))
}

/// The module that took a lock which a processor holds.
pub fn owner(cpu: &Processor, lock: usize) -> Option<u32> {
    let held = cpu.locks.held.iter().find(|held| held.lock() == lock)?;
    Some(held.owner.load(Ordering::Relaxed))
}

/// Whether the processor holds `lock`, as far as it is followed.
#[inline]
pub fn holds(cpu: &Processor, lock: usize) -> bool {
    let count = cpu.locks.count.load(Ordering::Relaxed).min(DEPTH);
    cpu.locks.held[..count]
        .iter()
        .any(|held| held.lock() == lock)
}

/// Whether every lock that the processor holds is followed.
pub fn follows_all(cpu: &Processor) -> bool {
    cpu.locks.count.load(Ordering::Relaxed) <= DEPTH
}

/// How many locks this processor holds: to give to [`check`] when a routine has returned.
#[inline]
pub fn held() -> usize {
    processor::current().locks.count.load(Ordering::Relaxed)
}

/// A routine of a driver has returned, which was called with `before` locks held.
#[inline]
pub fn check(before: usize, routine: usize, what: &str) {
    if held() > before {
        still_held(routine, what);
    }
}

#[cold]
fn still_held(routine: usize, what: &str) -> ! {
    let lock = last();
    Rule::LockHeldAtReturn.breach_of(
        routine,
        format_args!("returns from {what} with spin lock {lock:#x} held"),
    )
}

/// The IRQL falls to `irql`.
#[inline]
pub fn lowered(irql: KIRQL) {
    if held() != 0 {
        lowered_with_locks(irql);
    }
}

fn lowered_with_locks(irql: KIRQL) {
    let held = processor::current().locks.held.iter().take(held());
    if let Some(held) = held.rev().find(|held| held.irql() > irql) {
        let (lock, needed) = (held.lock(), held.irql());
        Rule::LockHeldBelowDispatch.breach(format_args!(
            "lowers the IRQL to {irql} with spin lock {lock:#x} held, which needs {needed}"
        ));
    }
}

fn last() -> usize {
    let index = held().clamp(1, DEPTH) - 1;
    processor::current().locks.held[index].lock()
}

fn follow(locks: &PerCpu, first: usize, second: usize) {
    let mixed = (first as u64).rotate_left(32) ^ second as u64 ^ AGE.load(Ordering::Relaxed) << 48;
    let mark = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let place = &locks.seen[(mark >> 58) as usize % SEEN];
    if place.load(Ordering::Relaxed) != mark {
        note(first, second);
        place.store(mark, Ordering::Relaxed);
    }
}

#[cold]
fn note(first: usize, second: usize) {
    let stack = backtrace::of_caller();
    let mut edges = EDGES.lock();
    if edges.contains_key(&(first, second)) {
        return;
    }
    if let Some(other) = way(&edges, second, first) {
        drop(edges);
        let lines = |stack: &Stack| backtrace::describe(stack).join("\n        ");
        Rule::LockOrder.breach(format_args!(
            "acquires spin lock {second:#x} while it holds {first:#x}; the other way round it was:\n        {}\n    now:",
            lines(&other),
        ));
    }
    edges.insert((first, second), stack);
}

/// The stack of the first edge on a way from one lock to another, if there is a way.
fn way(edges: &BTreeMap<(usize, usize), Stack>, from: usize, to: usize) -> Option<Stack> {
    let mut seen: Vec<usize> = Vec::new();
    let mut open: Vec<(usize, Option<&Stack>)> = alloc::vec![(from, None)];
    while let Some((lock, first)) = open.pop() {
        if lock == to {
            return first.cloned();
        }
        if seen.contains(&lock) {
            continue;
        }
        seen.push(lock);
        for (&(_, next), stack) in edges.range((lock, 0)..=(lock, usize::MAX)) {
            open.push((next, first.or(Some(stack))));
        }
    }
    None
}

/// `size` bytes at `address` are freed: locks there end, and none may be held.
pub fn freed(address: usize, size: usize) {
    let inside = |lock: usize| lock.wrapping_sub(address) < size;
    for cpu in processor::all() {
        let count = cpu.locks.count.load(Ordering::Relaxed).min(DEPTH);
        for held in cpu.locks.held.iter().take(count) {
            let lock = held.lock();
            if inside(lock) {
                Rule::LockFreed.breach(format_args!(
                    "frees memory with spin lock {lock:#x} in it, which processor {} holds",
                    cpu.number
                ));
            }
        }
    }
    let mut edges = EDGES.lock();
    if edges.is_empty() {
        return;
    }
    let before = edges.len();
    edges.retain(|&(first, second), _| !inside(first) && !inside(second));
    if edges.len() != before {
        AGE.fetch_add(1, Ordering::Relaxed);
    }
}
