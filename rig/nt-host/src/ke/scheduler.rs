//! Which thread a virtual CPU runs.
//!
//! Each CPU has ready queues by priority and a loop on its host thread's own stack, [`cpu_main`]: deliver what is
//! pending, run the best ready thread until it switches back, sleep when there is none. A thread runs on its home CPU
//! only, so that nobody can resume it before it has left its stack.

use alloc::format;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use nt_sys::{DISPATCH_LEVEL, KIRQL};
use trace::{Class, Event};

use super::context;
use super::processor::{self, Processor, pending};
use super::stack::Stack;
use super::thread::{self, Disposition, Thread};
use super::{border, dpc, interrupt, ipi};
use crate::host::platform;
use crate::sync::Mutex;
use crate::verifier::{Rule, stack, time};

/// How long a thread runs while others of its priority are ready, in 100 ns units: 20 ms.
const QUANTUM: u64 = 200_000;
const PRIORITIES: usize = 32;

/// The scheduler's part of a processor block.
pub struct PerCpu {
    ready: Mutex<ReadyQueue>,
    /// Where the loop continues when a thread switches out.
    context: AtomicPtr<u8>,
    idle: AtomicPtr<Thread>,
    /// Priority of the running thread, -1 in the loop.
    priority: AtomicI32,
    /// When the running thread started, in interrupt time.
    since: AtomicU64,
    /// The running thread has used its time.
    expired: AtomicBool,
    /// End of the stack that DPCs run on.
    pub(super) dpc_stack: AtomicPtr<u8>,
}

impl PerCpu {
    pub(super) const fn new() -> Self {
        Self {
            ready: Mutex::new(ReadyQueue::new()),
            context: AtomicPtr::new(null_mut()),
            idle: AtomicPtr::new(null_mut()),
            priority: AtomicI32::new(-1),
            since: AtomicU64::new(0),
            expired: AtomicBool::new(false),
            dpc_stack: AtomicPtr::new(null_mut()),
        }
    }
}

/// Ready threads by priority, each queue first in, first out; linked through `Thread::next`.
struct ReadyQueue {
    heads: [*mut Thread; PRIORITIES],
    tails: [*mut Thread; PRIORITIES],
    occupied: u32,
}

// SAFETY: the queue is behind a lock, and threads may be touched from any host thread.
unsafe impl Send for ReadyQueue {}

impl ReadyQueue {
    const fn new() -> Self {
        Self {
            heads: [null_mut(); PRIORITIES],
            tails: [null_mut(); PRIORITIES],
            occupied: 0,
        }
    }

    fn best(&self) -> Option<usize> {
        self.occupied
            .checked_ilog2()
            .map(|priority| priority as usize)
    }

    fn push_front(&mut self, thread: &Thread, priority: usize) {
        let pointer: *mut Thread = core::ptr::from_ref(thread).cast_mut();
        let head = self.heads[priority];
        thread.next.store(head, Ordering::Relaxed);
        if head.is_null() {
            self.tails[priority] = pointer;
        }
        self.heads[priority] = pointer;
        self.occupied |= 1 << priority;
    }

    fn push(&mut self, thread: &Thread, priority: usize) {
        let pointer: *mut Thread = core::ptr::from_ref(thread).cast_mut();
        thread.next.store(null_mut(), Ordering::Relaxed);
        // SAFETY: a queued thread holds a reference to itself, so the tail lives.
        match unsafe { self.tails[priority].as_ref() } {
            Some(tail) => tail.next.store(pointer, Ordering::Relaxed),
            None => self.heads[priority] = pointer,
        }
        self.tails[priority] = pointer;
        self.occupied |= 1 << priority;
    }

    fn pop(&mut self) -> Option<&'static Thread> {
        let priority = self.best()?;
        // SAFETY: a queued thread holds a reference to itself, so the head lives.
        let thread: &'static Thread = unsafe { &*self.heads[priority] };
        self.heads[priority] = thread.next.swap(null_mut(), Ordering::Relaxed);
        if self.heads[priority].is_null() {
            self.tails[priority] = null_mut();
            self.occupied &= !(1 << priority);
        }
        Some(thread)
    }
}

static STOP: AtomicBool = AtomicBool::new(false);
static NEXT_HOME: AtomicU32 = AtomicU32::new(0);

/// Ends every [`cpu_main`] at its next turn; threads that still exist are left where they are.
pub fn stop() {
    STOP.store(true, Ordering::Release);
    for cpu in processor::all() {
        platform().kick(cpu.number);
    }
}

/// The home for the next new thread: CPUs in turn.
pub fn next_home() -> u32 {
    NEXT_HOME.fetch_add(1, Ordering::Relaxed) % processor::all().len().max(1) as u32
}

/// Runs virtual CPU `cpu` on the calling host thread until [`stop`]. The GS base points to the processor block.
///
/// # Panics
/// Without memory for the CPU's own stack.
pub fn cpu_main(cpu: u32) {
    let cpu = processor::processor_block(cpu);
    let idle = Thread::idle(cpu.number).expect("memory for an idle thread");
    cpu.scheduler
        .idle
        .store(core::ptr::from_ref(idle).cast_mut(), Ordering::Relaxed);
    cpu.current_thread
        .store(core::ptr::from_ref(idle).cast_mut(), Ordering::Relaxed);
    let stack = Stack::new().expect("memory for a DPC stack");
    cpu.scheduler
        .dpc_stack
        .store(stack.top(), Ordering::Relaxed);
    // The stack lives as long as the CPU; a stopped machine does not give it back.
    core::mem::forget(stack);
    while !STOP.load(Ordering::Acquire) {
        cpu.pending
            .fetch_and(!pending::RESCHEDULE, Ordering::AcqRel);
        while ipi::deliver(cpu, DISPATCH_LEVEL) || interrupt::deliver(cpu, DISPATCH_LEVEL) {}
        dpc::drain(cpu);
        let next = cpu.scheduler.ready.lock().pop();
        match next {
            Some(thread) => run(cpu, thread),
            None if cpu.has_work() => {}
            None => sleep(cpu),
        }
    }
}

/// Sleeps until there is something to do, after the hypervisor had its chance to interrupt.
fn sleep(cpu: &Processor) {
    platform().interrupt_done(cpu.number);
    if !cpu.has_work() {
        let deadline = super::timer::next_deadline(cpu);
        border::sleep(cpu, || platform().idle(cpu.number, deadline));
        time::slept(cpu);
    }
}

fn run(cpu: &'static Processor, thread: &'static Thread) {
    let scheduler = &cpu.scheduler;
    let pointer = core::ptr::from_ref(thread).cast_mut();
    cpu.current_thread.store(pointer, Ordering::Relaxed);
    scheduler
        .priority
        .store(thread.priority.load(Ordering::Relaxed), Ordering::Relaxed);
    scheduler
        .since
        .store(platform().interrupt_time(), Ordering::Relaxed);
    scheduler.expired.store(false, Ordering::Relaxed);
    cpu.irql
        .store(thread.irql.load(Ordering::Relaxed), Ordering::Relaxed);
    stack::start(cpu);
    let to = thread.context.load(Ordering::Relaxed);
    let number = u64::from(thread.number);
    trace::emit(Class::Kernel, || Event::Switch {
        from: 0,
        to: number,
    });
    // SAFETY: the thread came out of the ready queue of its home CPU, so it is suspended, and `to` is its context.
    unsafe { context::switch(scheduler.context.as_ptr(), to) };
    trace::emit(Class::Kernel, || Event::Switch {
        from: number,
        to: 0,
    });
    cpu.irql.store(DISPATCH_LEVEL, Ordering::Relaxed);
    scheduler.priority.store(-1, Ordering::Relaxed);
    cpu.current_thread
        .store(scheduler.idle.load(Ordering::Relaxed), Ordering::Relaxed);
    let disposition = thread.disposition.load(Ordering::Relaxed);
    if disposition == Disposition::Ready as u8 {
        ready(thread);
    } else if disposition == Disposition::Preempted as u8 {
        let priority = thread.priority.load(Ordering::Relaxed).clamp(0, 31);
        scheduler.ready.lock().push_front(thread, priority as usize);
    } else if disposition == Disposition::Ended as u8 {
        thread.finish();
    }
}

/// Leaves the current thread for the scheduler; returns when the thread is run again.
pub(super) fn switch_out(disposition: Disposition) {
    let cpu = processor::current();
    let thread = thread::current();
    if core::ptr::eq(thread, cpu.scheduler.idle.load(Ordering::Relaxed))
        || cpu.in_dpc.load(Ordering::Relaxed)
    {
        Rule::WaitInDpc.breach(format_args!("waits in a DPC or interrupt routine"));
    }
    thread
        .disposition
        .store(disposition as u8, Ordering::Relaxed);
    thread
        .irql
        .store(cpu.irql.load(Ordering::Relaxed), Ordering::Relaxed);
    let to = cpu.scheduler.context.load(Ordering::Relaxed);
    let account = stack::keep();
    // SAFETY: the loop is suspended in `run`, and `to` is where.
    unsafe { context::switch(thread.context.as_ptr(), to) };
    stack::resume(account);
}

/// Queues a suspended thread on its home CPU. Callable from any host thread.
pub(super) fn ready(thread: &Thread) {
    let cpu = processor::processor_block(thread.home.load(Ordering::Relaxed));
    let priority = thread.priority.load(Ordering::Relaxed).clamp(0, 31);
    cpu.scheduler.ready.lock().push(thread, priority as usize);
    if priority > cpu.scheduler.priority.load(Ordering::Acquire) {
        super::request(cpu, pending::RESCHEDULE);
    }
}

/// Switches to a better thread if there is one and the IRQL allows it; whether it did.
pub(super) fn preempt(cpu: &Processor, irql: KIRQL) -> bool {
    if irql >= DISPATCH_LEVEL {
        return false;
    }
    cpu.pending
        .fetch_and(!pending::RESCHEDULE, Ordering::AcqRel);
    let Some(best) = cpu.scheduler.ready.lock().best() else {
        return false;
    };
    let running = cpu.scheduler.priority.load(Ordering::Relaxed);
    let expired = cpu.scheduler.expired.load(Ordering::Relaxed);
    let disposition = match best as i32 - running {
        1.. if expired => Disposition::Ready,
        1.. => Disposition::Preempted,
        0 if expired => Disposition::Ready,
        _ => return false,
    };
    switch_out(disposition);
    true
}

/// Looks at the clock: timers that are due, and the end of the running thread's time.
pub(super) fn tick(cpu: &Processor) {
    let now = platform().interrupt_time();
    if super::timer::next_deadline(cpu).is_some_and(|due| due <= now) {
        cpu.pending.fetch_or(pending::TIMER, Ordering::AcqRel);
    }
    let since = cpu.scheduler.since.load(Ordering::Relaxed);
    if cpu.scheduler.priority.load(Ordering::Relaxed) >= 0 && now.saturating_sub(since) > QUANTUM {
        cpu.scheduler.since.store(now, Ordering::Relaxed);
        cpu.scheduler.expired.store(true, Ordering::Relaxed);
        cpu.pending.fetch_or(pending::RESCHEDULE, Ordering::AcqRel);
    }
}

/// The running thread's priority has changed: others may come before it now.
pub(super) fn reconsider(cpu: &Processor, priority: i32) {
    cpu.scheduler.priority.store(priority, Ordering::Release);
    cpu.pending.fetch_or(pending::RESCHEDULE, Ordering::AcqRel);
}

/// Lets every other ready thread of this priority run first. IRQL below DISPATCH_LEVEL.
pub fn yield_now() {
    switch_out(Disposition::Ready);
}

/// Makes the current thread continue on `cpu`. IRQL below DISPATCH_LEVEL.
pub(super) fn migrate(cpu: u32) {
    let thread = thread::current();
    if thread.home.swap(cpu, Ordering::Relaxed) != cpu {
        switch_out(Disposition::Ready);
    }
}

/// A line about each CPU for reports.
pub(super) fn describe(cpu: &Processor) -> alloc::string::String {
    let thread = cpu.current_thread.load(Ordering::Relaxed);
    format!(
        "cpu {}: IRQL {}, thread {thread:p}",
        cpu.number,
        cpu.irql.load(Ordering::Relaxed)
    )
}
