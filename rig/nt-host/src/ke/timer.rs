//! Timers (`KTIMER`) and the ends of timed waits: per CPU, ordered by due time.
//!
//! What expires is acted on under the queue's lock, so that a cancelled timer, or a thread whose wait has ended, is
//! not touched any more once the cancelling function has returned.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use nt_sys::{
    BOOLEAN, KDPC, KTIMER, LARGE_INTEGER, LIST_ENTRY, SynchronizationTimer,
    TimerNotificationObject, TimerSynchronizationObject,
};
use trace::{Class, Event};

use super::dispatcher::{self, Object};
use super::processor::{self, Processor, pending};
use super::thread::Thread;
use super::{dpc, poll, time, wait};
use crate::exports;
use crate::sync::Mutex;

/// Milliseconds in 100 ns units.
const MILLISECOND: u64 = 10_000;
const NEVER: u64 = u64::MAX;

/// When something is due (interrupt time), and a number that tells entries due at the same time apart.
type Key = (u64, u64);

#[derive(Clone, Copy)]
enum Entry {
    /// A timer, and the module that set it.
    Timer(*mut KTIMER, u32),
    Wait(*const Thread),
}
// SAFETY: the pointers are used under the queue's lock only, while what they point to is queued.
unsafe impl Send for Entry {}

/// A processor's timers.
pub struct PerCpu {
    queue: Mutex<BTreeMap<Key, Entry>>,
    /// The earliest due time in the queue.
    next: AtomicU64,
}

impl PerCpu {
    pub(super) const fn new() -> Self {
        Self {
            queue: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(NEVER),
        }
    }

    fn note_first(&self, queue: &BTreeMap<Key, Entry>) {
        let first = queue.first_key_value().map_or(NEVER, |(key, _)| key.0);
        self.next.store(first, Ordering::Release);
    }

    fn insert(&self, due: u64, entry: Entry) -> Key {
        let mut queue = self.queue.lock();
        let key = (due, SEQUENCE.fetch_add(1, Ordering::Relaxed));
        queue.insert(key, entry);
        self.note_first(&queue);
        key
    }
}

static SEQUENCE: AtomicU64 = AtomicU64::new(1);

/// Serialises setting and cancelling of `KTIMER`s, which change the CPU that a timer is queued on.
static CHANGING: Mutex<()> = Mutex::new(());

/// When the next entry of `cpu` is due.
pub(super) fn next_deadline(cpu: &Processor) -> Option<u64> {
    let next = cpu.timers.next.load(Ordering::Acquire);
    (next != NEVER).then_some(next)
}

/// The end of a timed wait, to give to [`forget`] when the wait is over.
pub(super) struct WaitTimer {
    cpu: u32,
    key: Key,
}

/// Ends `thread`'s wait at interrupt time `due`.
pub(super) fn wake_at(thread: &Thread, due: u64) -> WaitTimer {
    let cpu = processor::current();
    WaitTimer {
        cpu: cpu.number,
        key: cpu.timers.insert(due, Entry::Wait(thread)),
    }
}

/// The wait is over: its timer will not touch the thread any more.
pub(super) fn forget(timer: WaitTimer) {
    let timers = &processor::processor_block(timer.cpu).timers;
    let mut queue = timers.queue.lock();
    if queue.remove(&timer.key).is_some() {
        timers.note_first(&queue);
    }
}

/// Acts on everything that is due on `cpu`; DISPATCH_LEVEL on that CPU.
pub(super) fn expire(cpu: &Processor) {
    cpu.pending.fetch_and(!pending::TIMER, Ordering::AcqRel);
    if next_deadline(cpu).is_none_or(|due| due > time::interrupt_time()) {
        return;
    }
    let mut queue = cpu.timers.queue.lock();
    let now = time::interrupt_time();
    while let Some(entry) = queue.first_entry() {
        let due = entry.key().0;
        if due > now {
            break;
        }
        match entry.remove() {
            // SAFETY: the thread waits: `forget` removes the entry before its wait returns.
            Entry::Wait(thread) => wait::time_out(unsafe { &*thread }),
            Entry::Timer(timer, owner) => {
                if let Some(period) = fire(timer) {
                    let next = (due.saturating_add(period)).max(now);
                    let key = (next, SEQUENCE.fetch_add(1, Ordering::Relaxed));
                    queue.insert(key, Entry::Timer(timer, owner));
                    record(timer, key);
                }
            }
        }
    }
    cpu.timers.note_first(&queue);
}

/// Signals an expired timer and queues its DPC; its period (100 ns units) if it is periodic.
fn fire(timer: *mut KTIMER) -> Option<u64> {
    trace::emit(Class::Kernel, || Event::TimerFire {
        timer: crate::place::of_data(timer),
    });
    Object::new(timer.cast()).signal(1);
    // SAFETY: a queued timer stays valid until it is cancelled, which waits for the queue's lock.
    let KTIMER {
        Dpc: dpc,
        Period: period,
        ..
    } = unsafe { *timer };
    if !dpc.is_null() {
        dpc::insert(dpc, None);
    }
    (period != 0).then_some(u64::from(period) * MILLISECOND)
}

/// Takes the timers away that module `owner` set, that are in its image or whose DPC routine is: their addresses, with
/// the DPC routines' where there is one.
pub(crate) fn take_of(owner: u32, image: Range<usize>) -> Vec<(usize, usize)> {
    let mut taken = Vec::new();
    for cpu in processor::all() {
        let mut queue = cpu.timers.queue.lock();
        queue.retain(|_, entry| {
            let Entry::Timer(timer, by) = *entry else {
                return true;
            };
            let routine = routine_of(timer);
            let stays =
                by != owner && !image.contains(&(timer as usize)) && !image.contains(&routine);
            if !stays {
                taken.push((timer as usize, routine));
            }
            stays
        });
        cpu.timers.note_first(&queue);
    }
    taken
}

/// A timer in this memory that is set.
pub(crate) fn set_in(memory: &Range<usize>) -> Option<usize> {
    find(|timer| memory.contains(&(timer as usize)).then_some(timer as usize))
}

/// A timer that is set and has its DPC in this memory: both.
pub(crate) fn uses(memory: &Range<usize>) -> Option<(usize, usize)> {
    find(|timer| {
        // SAFETY: a queued timer stays valid until it is cancelled, which waits for the queue's lock.
        let dpc = unsafe { (*timer).Dpc } as usize;
        memory.contains(&dpc).then_some((timer as usize, dpc))
    })
}

fn find<R>(look: impl Fn(*mut KTIMER) -> Option<R>) -> Option<R> {
    processor::all().iter().find_map(|cpu| {
        next_deadline(cpu)?;
        let queue = cpu.timers.queue.lock();
        queue.values().find_map(|entry| match *entry {
            Entry::Timer(timer, _) => look(timer),
            Entry::Wait(_) => None,
        })
    })
}

/// The DPC routine of a timer that is set; 0 for none.
fn routine_of(timer: *mut KTIMER) -> usize {
    // SAFETY: a queued timer stays valid until it is cancelled, which waits for the queue's lock.
    let dpc = unsafe { (*timer).Dpc };
    // SAFETY: a timer's DPC is initialised, and stays so while the timer is set.
    let routine = unsafe { dpc.as_ref() }.and_then(|dpc| dpc.DeferredRoutine);
    routine.map_or(0, |routine| routine as usize)
}

/// Notes in the timer where it is queued; under the queue's lock.
fn record(timer: *mut KTIMER, key: Key) {
    // SAFETY: the timer is the caller's, and this field is the kernel's.
    unsafe { (*timer).DueTime = key.0 };
    let link = LIST_ENTRY {
        Flink: key.1 as *mut LIST_ENTRY,
        Blink: core::ptr::null_mut(),
    };
    // SAFETY: as above; the list entry only carries the sequence number.
    unsafe { (*timer).TimerListEntry = link };
}

/// Takes the timer off its queue; whether it was on one. Under [`CHANGING`].
fn dequeue(timer: *mut KTIMER) -> bool {
    // SAFETY: the timer is initialised; `Processor` changes under `CHANGING` only.
    let Some(cpu) = (unsafe { (*timer).Processor }).checked_sub(1) else {
        return false;
    };
    let timers = &processor::processor_block(cpu).timers;
    let mut queue = timers.queue.lock();
    // SAFETY: both fields change under the queue's lock only.
    let KTIMER {
        DueTime,
        TimerListEntry,
        ..
    } = unsafe { *timer };
    let key = (DueTime, TimerListEntry.Flink as u64);
    let queued = queue.remove(&key).is_some();
    if queued {
        timers.note_first(&queue);
    }
    queued
}

/// Microsoft Learn: KeInitializeTimerEx.
///
/// # Safety
/// `timer` is writable and not in use.
pub unsafe extern "win64" fn KeInitializeTimerEx(timer: *mut KTIMER, kind: i32) {
    let kind = if kind == SynchronizationTimer {
        TimerSynchronizationObject
    } else {
        TimerNotificationObject
    };
    let none = LIST_ENTRY {
        Flink: core::ptr::null_mut(),
        Blink: core::ptr::null_mut(),
    };
    let fresh = KTIMER {
        Header: dispatcher::header(kind, size_of::<KTIMER>(), 0),
        DueTime: 0,
        TimerListEntry: none,
        Dpc: core::ptr::null_mut(),
        Processor: 0,
        Period: 0,
    };
    // SAFETY: the caller's promise.
    unsafe { timer.write(fresh) };
    // SAFETY: the timer is fresh and at its final address.
    unsafe { dispatcher::init_list(Object::new(timer.cast())) };
}

/// Microsoft Learn: KeInitializeTimer.
///
/// # Safety
/// `timer` is writable and not in use.
pub unsafe extern "win64" fn KeInitializeTimer(timer: *mut KTIMER) {
    // SAFETY: the caller's promise.
    unsafe { KeInitializeTimerEx(timer, nt_sys::NotificationTimer) }
}

/// Microsoft Learn: KeSetTimerEx; whether the timer was set before.
///
/// # Safety
/// `timer` is an initialised timer that stays valid while it is set; `dpc` is null or an initialised DPC.
pub unsafe extern "win64" fn KeSetTimerEx(
    timer: *mut KTIMER,
    due: LARGE_INTEGER,
    period: i32,
    dpc: *mut KDPC,
) -> BOOLEAN {
    let owner = processor::caller();
    let due = time::due_in_interrupt_time(due);
    trace::emit(Class::Kernel, || Event::TimerSet {
        timer: crate::place::of_data(timer),
        due,
    });
    let was_set = {
        let _changing = CHANGING.lock();
        let was_set = dequeue(timer);
        Object::new(timer.cast()).reset();
        let cpu = processor::current();
        // SAFETY: the timer is on no queue, so it is ours.
        unsafe { (*timer).Dpc = dpc };
        // SAFETY: as above.
        unsafe { (*timer).Period = period.max(0) as u32 };
        // SAFETY: as above.
        unsafe { (*timer).Processor = cpu.number + 1 };
        let mut queue = cpu.timers.queue.lock();
        let key = (due, SEQUENCE.fetch_add(1, Ordering::Relaxed));
        record(timer, key);
        queue.insert(key, Entry::Timer(timer, owner));
        cpu.timers.note_first(&queue);
        was_set
    };
    poll();
    BOOLEAN::from(was_set)
}

/// Microsoft Learn: KeSetTimer.
///
/// # Safety
/// As for [`KeSetTimerEx`].
pub unsafe extern "win64" fn KeSetTimer(
    timer: *mut KTIMER,
    due: LARGE_INTEGER,
    dpc: *mut KDPC,
) -> BOOLEAN {
    // SAFETY: the caller's promise.
    unsafe { KeSetTimerEx(timer, due, 0, dpc) }
}

/// Microsoft Learn: KeCancelTimer; whether the timer was set.
///
/// # Safety
/// `timer` is an initialised timer.
pub unsafe extern "win64" fn KeCancelTimer(timer: *mut KTIMER) -> BOOLEAN {
    let was_set = {
        let _changing = CHANGING.lock();
        dequeue(timer)
    };
    poll();
    BOOLEAN::from(was_set)
}

/// Microsoft Learn: KeReadStateTimer.
///
/// # Safety
/// `timer` is an initialised timer.
pub unsafe extern "win64" fn KeReadStateTimer(timer: *mut KTIMER) -> BOOLEAN {
    BOOLEAN::from(Object::new(timer.cast()).state() > 0)
}

exports!(
    "ntoskrnl.exe":
    KeInitializeTimer,
    KeInitializeTimerEx,
    KeSetTimer,
    KeSetTimerEx,
    KeCancelTimer,
    KeReadStateTimer,
);
