//! Deferred procedure calls: what runs at DISPATCH_LEVEL as soon as the IRQL allows, on a stack of its own.
//!
//! Besides `KDPC`s a processor has a queue of host code ([`inject`]), which the rig uses to bring work from other host
//! threads onto a virtual CPU. It runs after the DPCs that are queued already.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use nt_sys::{
    BOOLEAN, DISPATCH_LEVEL, DpcObject, HighImportance, KDEFERRED_ROUTINE, KDPC, KIRQL, LIST_ENTRY,
    MediumImportance, NTSTATUS, PROCESSOR_NUMBER, PVOID, ThreadedDpcObject,
};
use trace::{Class, Event};

use super::event;
use super::processor::{self, Counters, Processor, pending};
use super::wait::Timeout;
use super::{affinity, border, context, irql, poll, timer};
use crate::exports;
use crate::sync::Mutex;
use crate::verifier::time::{self, Timed};
use crate::verifier::{Rule, code, locks, stack};

type Injected = Box<dyn FnOnce() + Send>;

/// How many DPCs run before the scheduler looks at threads again.
const BATCH: u32 = 64;

/// A processor's queues.
pub struct PerCpu {
    dpcs: Mutex<Queue>,
    injected: Mutex<VecDeque<Injected>>,
}

impl PerCpu {
    pub(super) const fn new() -> Self {
        Self {
            dpcs: Mutex::new(Queue {
                first: null_mut(),
                last: null_mut(),
            }),
            injected: Mutex::new(VecDeque::new()),
        }
    }
}

/// DPCs linked both ways through `DpcListEntry`, null at the ends.
struct Queue {
    first: *mut KDPC,
    last: *mut KDPC,
}
// SAFETY: the queue is behind a lock; queued DPCs stay valid until they have run or been removed.
unsafe impl Send for Queue {}

/// The link fields of `dpc`.
///
/// # Safety
/// `dpc` is valid; its queue's lock is held.
unsafe fn link<'a>(dpc: *mut KDPC) -> &'a mut LIST_ENTRY {
    // SAFETY: the caller's promise.
    unsafe { &mut (*dpc).DpcListEntry }
}

/// The queue a DPC is on: the processor block, or null.
///
/// # Safety
/// `dpc` is valid.
unsafe fn queued_on<'a>(dpc: *mut KDPC) -> &'a AtomicPtr<Processor> {
    // SAFETY: the caller's promise.
    let data = unsafe { &raw mut (*dpc).DpcData };
    // SAFETY: the field is aligned and only accessed atomically.
    unsafe { AtomicPtr::from_ptr(data.cast()) }
}

impl Queue {
    fn push(&mut self, dpc: *mut KDPC, at_front: bool) {
        let (before, after) = if at_front {
            (null_mut(), self.first)
        } else {
            (self.last, null_mut())
        };
        // SAFETY: the caller queues a valid DPC under the lock.
        *unsafe { link(dpc) } = LIST_ENTRY {
            Flink: after.cast(),
            Blink: before.cast(),
        };
        self.join(before, dpc, dpc, after);
    }

    /// Makes `first` follow `before` and `after` follow `last`, where null stands for the ends of the queue.
    fn join(&mut self, before: *mut KDPC, first: *mut KDPC, last: *mut KDPC, after: *mut KDPC) {
        if before.is_null() {
            self.first = first;
        } else {
            // SAFETY: `before` is queued here, so it is valid.
            unsafe { link(before) }.Flink = first.cast();
        }
        if after.is_null() {
            self.last = last;
        } else {
            // SAFETY: `after` is queued here, so it is valid.
            unsafe { link(after) }.Blink = last.cast();
        }
    }

    fn remove(&mut self, dpc: *mut KDPC) {
        // SAFETY: the DPC is queued here.
        let LIST_ENTRY { Flink, Blink } = *unsafe { link(dpc) };
        self.join(Blink.cast(), Flink.cast(), Blink.cast(), Flink.cast());
        // SAFETY: as above.
        unsafe { queued_on(dpc) }.store(null_mut(), Ordering::Release);
    }

    fn pop(&mut self) -> Option<KDPC> {
        let dpc = self.first;
        if dpc.is_null() {
            return None;
        }
        // SAFETY: the DPC is queued here; its owner may reuse it once it is off the queue, hence the copy.
        let copy = unsafe { dpc.read() };
        self.remove(dpc);
        Some(copy)
    }
}

/// Queues a DPC; `false` when it is queued already. `arguments` replace its system arguments.
pub(super) fn insert(dpc: *mut KDPC, arguments: Option<(PVOID, PVOID)>) -> bool {
    // SAFETY: the caller passes an initialised DPC; its target is set before it is queued.
    let KDPC {
        Number: target,
        Importance: importance,
        DeferredRoutine: routine,
        ..
    } = unsafe { *dpc };
    let cpu = match target.checked_sub(1) {
        Some(number) => processor::processor_block(u32::from(number)),
        None => processor::current(),
    };
    {
        let mut queue = cpu.dpcs.dpcs.lock();
        // SAFETY: the DPC is initialised.
        let on = unsafe { queued_on(dpc) };
        let this = core::ptr::from_ref(cpu).cast_mut();
        if on
            .compare_exchange(null_mut(), this, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return false;
        }
        if let Some((first, second)) = arguments {
            // SAFETY: the DPC is claimed by us and not queued yet.
            unsafe { (*dpc).SystemArgument1 = first };
            // SAFETY: as above.
            unsafe { (*dpc).SystemArgument2 = second };
        }
        queue.push(dpc, i32::from(importance) == HighImportance);
    }
    trace::emit(Class::Kernel, || {
        let (driver, rva) = routine_of(routine);
        let on = u64::from(cpu.number);
        Event::DpcQueue { driver, rva, on }
    });
    super::request(cpu, pending::DPC);
    true
}

/// A queued DPC in this memory.
pub(crate) fn queued_in(memory: &Range<usize>) -> Option<usize> {
    processor::all().iter().find_map(|cpu| {
        let queue = cpu.dpcs.dpcs.lock();
        let mut next = queue.first;
        // SAFETY: a queued DPC is valid, and the lock is held.
        while let Some(dpc) = unsafe { next.as_ref() } {
            if memory.contains(&(next as usize)) {
                return Some(next as usize);
            }
            next = dpc.DpcListEntry.Flink.cast();
        }
        None
    })
}

/// Takes the queued DPCs away whose routines are in an image: the routines' addresses.
pub(crate) fn take_of(image: Range<usize>) -> Vec<usize> {
    let mut taken = Vec::new();
    for cpu in processor::all() {
        let mut queue = cpu.dpcs.dpcs.lock();
        let mut next = queue.first;
        // SAFETY: a queued DPC is valid, and the lock is held.
        while let Some(dpc) = unsafe { next.as_ref() } {
            let this = next;
            next = dpc.DpcListEntry.Flink.cast();
            let routine = dpc.DeferredRoutine.map_or(0, |routine| routine as usize);
            if image.contains(&routine) {
                taken.push(routine);
                queue.remove(this);
            }
        }
    }
    taken
}

/// Runs `body` at DISPATCH_LEVEL on virtual CPU `cpu`. Callable from any host thread.
pub fn inject(cpu: u32, body: Box<dyn FnOnce() + Send>) {
    let cpu = processor::processor_block(cpu);
    cpu.dpcs.injected.lock().push_back(body);
    super::request(cpu, pending::DPC);
}

/// Runs timers and DPCs if the IRQL allows; whether it did.
pub(super) fn deliver(cpu: &Processor, level: KIRQL) -> bool {
    if level >= DISPATCH_LEVEL {
        return false;
    }
    irql::set(DISPATCH_LEVEL);
    drain(cpu);
    irql::set(level);
    true
}

/// Runs timers and DPCs; DISPATCH_LEVEL on `cpu`, outside a DPC.
pub(super) fn drain(cpu: &Processor) {
    timer::expire(cpu);
    if cpu.pending.fetch_and(!pending::DPC, Ordering::AcqRel) & pending::DPC == 0 {
        return;
    }
    let top = cpu.scheduler.dpc_stack.load(Ordering::Relaxed);
    cpu.in_dpc.store(true, Ordering::Relaxed);
    let argument = core::ptr::from_ref(cpu).cast_mut().cast();
    // SAFETY: the DPC stack belongs to this CPU, and DPCs do not nest.
    stack::apart(cpu, || unsafe {
        context::call_on(top, run_batch, argument)
    });
    cpu.in_dpc.store(false, Ordering::Relaxed);
}

extern "sysv64" fn run_batch(cpu: *mut u8) {
    // SAFETY: `drain` passes its processor block.
    let cpu = unsafe { &*cpu.cast::<Processor>() };
    for _ in 0..BATCH {
        let next = cpu.dpcs.dpcs.lock().pop();
        if let Some(dpc) = next {
            run(&dpc);
            continue;
        }
        let injected = cpu.dpcs.injected.lock().pop_front();
        match injected {
            Some(body) => body(),
            None => return,
        }
    }
    cpu.pending.fetch_or(pending::DPC, Ordering::AcqRel);
}

/// Where a routine is, for a trace.
fn routine_of(routine: Option<KDEFERRED_ROUTINE>) -> (u64, u64) {
    crate::place::of_code(routine.map_or(0, |routine| routine as usize as u64))
}

fn run(dpc: &KDPC) {
    if let Some(routine) = dpc.DeferredRoutine {
        let mut copy = *dpc;
        let at = &raw mut copy;
        Counters::count(&processor::current().counters.dpcs);
        trace::emit(Class::Kernel, || {
            let (driver, rva) = routine_of(Some(routine));
            Event::DpcRun { driver, rva }
        });
        let locks = locks::held();
        let outer = time::begin(processor::current(), Timed::Dpc, routine as usize);
        // SAFETY: the driver gave this routine and its arguments to KeInitializeDpc and KeInsertQueueDpc.
        border::call(|| unsafe {
            routine(
                at,
                dpc.DeferredContext,
                dpc.SystemArgument1,
                dpc.SystemArgument2,
            )
        });
        time::end(processor::current(), Timed::Dpc, outer);
        trace::emit(Class::Kernel, || {
            let (driver, rva) = routine_of(Some(routine));
            Event::DpcEnd { driver, rva }
        });
        locks::check(locks, routine as usize, "a DPC routine");
        let after = irql::current();
        if after != DISPATCH_LEVEL {
            Rule::IrqlAfterDpc.breach_of(
                routine as usize,
                format_args!("returns from a DPC routine at IRQL {after}"),
            );
        }
    }
}

/// # Safety
/// `dpc` is writable and not in use.
unsafe fn initialize(dpc: *mut KDPC, kind: u8, routine: Option<KDEFERRED_ROUTINE>, context: PVOID) {
    let fresh = KDPC {
        Type: kind,
        Importance: MediumImportance as u8,
        Number: 0,
        DpcListEntry: LIST_ENTRY {
            Flink: null_mut(),
            Blink: null_mut(),
        },
        DeferredRoutine: routine,
        DeferredContext: context,
        SystemArgument1: null_mut(),
        SystemArgument2: null_mut(),
        DpcData: null_mut(),
    };
    // SAFETY: the caller's promise.
    unsafe { dpc.write(fresh) };
}

/// Microsoft Learn: KeInitializeDpc.
///
/// # Safety
/// `dpc` is writable and not in use.
pub unsafe extern "win64" fn KeInitializeDpc(
    dpc: *mut KDPC,
    routine: Option<KDEFERRED_ROUTINE>,
    context: PVOID,
) {
    code::demand_nonpageable(
        routine.map_or(0, |routine| routine as usize),
        "KeInitializeDpc",
    );
    // SAFETY: the caller's promise.
    unsafe { initialize(dpc, DpcObject, routine, context) };
}

/// Microsoft Learn: KeInitializeThreadedDpc. Threaded DPCs run as ordinary ones, as Windows does where they are
/// disabled.
///
/// # Safety
/// `dpc` is writable and not in use.
pub unsafe extern "win64" fn KeInitializeThreadedDpc(
    dpc: *mut KDPC,
    routine: Option<KDEFERRED_ROUTINE>,
    context: PVOID,
) {
    // SAFETY: the caller's promise.
    unsafe { initialize(dpc, ThreadedDpcObject, routine, context) };
}

/// Microsoft Learn: KeInsertQueueDpc.
///
/// # Safety
/// `dpc` is an initialised DPC that stays valid until it has run or been removed.
pub unsafe extern "win64" fn KeInsertQueueDpc(
    dpc: *mut KDPC,
    first: PVOID,
    second: PVOID,
) -> BOOLEAN {
    let inserted = insert(dpc, Some((first, second)));
    poll();
    BOOLEAN::from(inserted)
}

/// Microsoft Learn: KeRemoveQueueDpc.
///
/// # Safety
/// `dpc` is an initialised DPC.
pub unsafe extern "win64" fn KeRemoveQueueDpc(dpc: *mut KDPC) -> BOOLEAN {
    // SAFETY: the caller's promise.
    let on = unsafe { queued_on(dpc) };
    loop {
        let queued = on.load(Ordering::Acquire);
        // SAFETY: processor blocks live forever.
        let Some(cpu) = (unsafe { queued.as_ref() }) else {
            return 0;
        };
        let mut queue = cpu.dpcs.dpcs.lock();
        if on.load(Ordering::Acquire) == queued {
            queue.remove(dpc);
            return 1;
        }
    }
}

/// Microsoft Learn: KeSetTargetProcessorDpcEx.
///
/// # Safety
/// `dpc` is an initialised DPC that is not queued; `number` is readable.
pub unsafe extern "win64" fn KeSetTargetProcessorDpcEx(
    dpc: *mut KDPC,
    number: *const PROCESSOR_NUMBER,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let number = unsafe { number.read() };
    match affinity::index_of(number) {
        Some(index) => {
            // SAFETY: the caller's promise.
            unsafe { (*dpc).Number = index as u16 + 1 };
            nt_sys::STATUS_SUCCESS
        }
        None => nt_sys::STATUS_INVALID_PARAMETER,
    }
}

/// Microsoft Learn: KeSetImportanceDpc.
///
/// # Safety
/// `dpc` is an initialised DPC that is not queued.
pub unsafe extern "win64" fn KeSetImportanceDpc(dpc: *mut KDPC, importance: i32) {
    // SAFETY: the caller's promise.
    unsafe { (*dpc).Importance = importance as u8 };
}

/// Microsoft Learn: KeFlushQueuedDpcs; returns when every DPC queued so far has run on every CPU.
pub extern "win64" fn KeFlushQueuedDpcs() {
    let cpus = processor::all();
    let left = Arc::new((AtomicU32::new(cpus.len() as u32), event::Event::new(true)));
    for cpu in cpus {
        let left = left.clone();
        inject(
            cpu.number,
            Box::new(move || {
                if left.0.fetch_sub(1, Ordering::AcqRel) == 1 {
                    left.1.set();
                }
            }),
        );
    }
    poll();
    left.1.wait(Timeout::Never);
}

exports!(
    "ntoskrnl.exe":
    KeInitializeDpc,
    KeInitializeThreadedDpc,
    KeInsertQueueDpc,
    KeRemoveQueueDpc,
    KeSetTargetProcessorDpcEx,
    KeSetImportanceDpc,
    KeFlushQueuedDpcs,
);
