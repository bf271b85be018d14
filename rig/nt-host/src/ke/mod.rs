//! The kernel proper: virtual CPUs, IRQLs, threads, what they wait for, DPCs, timers, interrupts.
//!
//! Everything is cooperative. Driver code runs on a virtual CPU until it calls the executive; where a function lowers
//! the IRQL, or ends, it calls [`poll`], which delivers what is pending and allowed:
//!
//! ```text
//!   raise(cpu, vector) ─┐
//!   KeIpiGenericCall ───┤ bits in        poll: IPI > interrupts by IRQL > timers, DPCs > thread switch
//!   KeInsertQueueDpc ───┤ Processor::     │
//!   timers, ready ──────┘ pending ──kick──┘
//! ```

pub mod affinity;
pub mod backtrace;
pub mod border;
pub mod bridge;
pub mod bugcheck;
pub mod bugcheck_callback;
pub mod context;
pub mod dispatcher;
pub mod dpc;
pub mod event;
pub mod exception;
pub mod fault;
pub mod interrupt;
pub mod ipi;
pub mod irql;
pub mod mutex;
pub mod processor;
pub mod queued_lock;
pub mod raise;
pub mod rwlock;
pub mod scheduler;
pub mod spinlock;
pub mod stack;
pub mod thread;
pub mod time;
pub mod timer;

pub mod wait;

use core::sync::atomic::Ordering;

pub use dpc::inject;
pub use processor::processor_block;
pub use scheduler::{cpu_main, stop};

use crate::verifier;
use processor::{Processor, pending};

/// How many polls pass between two looks at the clock.
const POLLS_PER_CLOCK: u32 = 64;
/// How many deliveries one poll makes at most, so that the polling thread gets on under a storm of them.
const ROUNDS: u32 = 16;

/// Delivers what is pending and allowed at the current IRQL. Every exported function ends with it where that is cheap;
/// every loop that waits for another CPU calls it.
#[inline]
pub fn poll() {
    let cpu = processor::current();
    let polls = cpu.polls.load(Ordering::Relaxed).wrapping_add(1);
    cpu.polls.store(polls, Ordering::Relaxed);
    if cpu.pending.load(Ordering::Relaxed) != 0 || polls.is_multiple_of(POLLS_PER_CLOCK) {
        deliver(polls.is_multiple_of(POLLS_PER_CLOCK));
    }
}

/// As [`poll`], with a look at the clock: for a platform that interrupts driver code which has not polled for long.
pub fn interrupted() {
    deliver(true);
}

#[cold]
fn deliver(look_at_clock: bool) {
    let waiting = processor::current().pending.load(Ordering::Relaxed);
    let seeded = waiting & pending::CHOICE != 0;
    if seeded {
        crate::host::platform().call_ends();
        verifier::time::look(processor::current());
    }
    if waiting & pending::OVERTIME != 0 {
        verifier::time::overtime(processor::current());
    }
    let look_at_clock = look_at_clock || seeded;
    if look_at_clock {
        scheduler::tick(processor::current());
    }
    for _ in 0..ROUNDS {
        let cpu = processor::current();
        let waiting = cpu.pending.load(Ordering::Acquire);
        let irql = cpu.irql.load(Ordering::Relaxed);
        let mut delivered = (waiting & pending::IPI != 0 && ipi::deliver(cpu, irql))
            || (waiting & pending::INTERRUPT != 0 && interrupt::deliver(cpu, irql))
            || (waiting & (pending::DPC | pending::TIMER) != 0 && dpc::deliver(cpu, irql));
        // What is delivered may have made a better thread ready, and a stream of DPCs must not keep it waiting.
        let waiting = cpu.pending.load(Ordering::Acquire);
        delivered |= waiting & pending::RESCHEDULE != 0 && scheduler::preempt(cpu, irql);
        if !delivered {
            return;
        }
    }
}

/// Marks work for `cpu` and wakes it if it sleeps. Callable from any host thread.
fn request(cpu: &Processor, what: u32) {
    let before = cpu.pending.fetch_or(what, Ordering::AcqRel);
    if before & what != what {
        crate::host::platform().kick(cpu.number);
    }
}
