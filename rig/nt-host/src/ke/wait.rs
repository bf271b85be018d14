//! Waiting: for one object, for several, for time.
//!
//! A waiting thread's state is one word. It starts as [`WAITING`]; whoever changes it to an outcome by [`claim`] ends
//! the wait and owes the thread exactly one [`scheduler::ready`]. The thread itself may claim too, when it finds an
//! object signalled before it has gone to sleep.

use core::ffi::c_void;
use core::sync::atomic::Ordering;

use alloc::vec::Vec;
use nt_sys::{
    APC_LEVEL, BOOLEAN, DISPATCH_LEVEL, DISPATCHER_HEADER, KWAIT_BLOCK, LARGE_INTEGER,
    MAXIMUM_WAIT_OBJECTS, NTSTATUS, STATUS_SUCCESS, STATUS_TIMEOUT, THREAD_WAIT_OBJECTS,
};

use super::dispatcher::{Locked, Object, WaitBlock};
use super::thread::{self, Disposition, Thread};
use super::{bugcheck, irql, poll, scheduler, time, timer};
use crate::exports;
use crate::verifier::Rule;

/// Nobody has ended the wait yet.
const WAITING: u32 = u32::MAX;
/// One object of a wait for all became signalled: look again.
pub(super) const RETRY: u32 = u32::MAX - 1;
/// The time is over.
const TIMEOUT: u32 = u32::MAX - 2;

/// Ends `thread`'s wait with `outcome`; `false` when it has ended already.
pub(super) fn claim(thread: &Thread, outcome: u32) -> bool {
    thread
        .wait
        .compare_exchange(WAITING, outcome, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
}

/// Ends `thread`'s wait because its time is over, and makes it ready.
pub(super) fn time_out(thread: &Thread) {
    if claim(thread, TIMEOUT) {
        scheduler::ready(thread);
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// Until it happens.
    Never,
    /// Not at all: only look.
    Now,
    /// Until this interrupt time (100 ns units).
    At(u64),
}

impl Timeout {
    /// Reads the kernel's convention: null waits for ever, negative is relative, positive is system time.
    ///
    /// # Safety
    /// `timeout` is null or readable.
    unsafe fn read(timeout: *const LARGE_INTEGER) -> Self {
        // SAFETY: the caller's promise.
        match unsafe { timeout.as_ref() } {
            None => Self::Never,
            Some(0) => Self::Now,
            Some(&due) => Self::At(time::due_in_interrupt_time(due)),
        }
    }

    /// `amount` from now, in 100 ns units.
    pub fn after(amount: u64) -> Self {
        Self::At(time::interrupt_time().saturating_add(amount))
    }
}

/// Sleeps until someone claims the thread, or the time is over. The wait's state was [`WAITING`] before.
fn sleep(thread: &Thread, timeout: Timeout) {
    let timer = match timeout {
        Timeout::At(due) => Some(timer::wake_at(thread, due)),
        Timeout::Never | Timeout::Now => None,
    };
    scheduler::switch_out(Disposition::Blocked);
    if let Some(timer) = timer {
        timer::forget(timer);
    }
}

/// Waits until one of `objects` is signalled and takes its signal; its index, or `None` when the time is over.
/// `blocks` has room for a block per object.
fn wait_any(objects: &[Object], timeout: Timeout, blocks: &mut [WaitBlock]) -> Option<u32> {
    let thread = thread::current();
    thread.wait.store(WAITING, Ordering::Release);
    let blocks = blocks.as_mut_ptr();
    let mut linked = 0;
    let mut claimed = false;
    thread.waits_for(objects);
    for (index, object) in objects.iter().enumerate() {
        let mut object = object.lock();
        if object.is_signalled_for(thread) {
            claimed = claim(thread, index as u32);
            if claimed {
                object.consume(thread);
            }
            break;
        }
        // SAFETY: there is a block for each object, and it stays until it is unlinked below.
        unsafe { object.link(blocks.wrapping_add(index), thread, index as u32) };
        linked += 1;
    }
    claimed = claimed || (timeout == Timeout::Now && claim(thread, TIMEOUT));
    if !claimed {
        sleep(thread, timeout);
    }
    for (index, object) in objects[..linked].iter().enumerate() {
        let block = blocks.wrapping_add(index);
        // Who signals an object may free it.
        // SAFETY: linked above, and the wait has ended.
        if unsafe { Locked::is_linked(block) } {
            let mut object = object.lock();
            // SAFETY: as above.
            unsafe { object.unlink(block) };
        }
    }
    thread.waits_for(&[]);
    match thread.wait.load(Ordering::Acquire) {
        TIMEOUT => None,
        index => Some(index),
    }
}

/// Waits until all `objects` are signalled at once and takes their signals; `false` when the time is over.
fn wait_all(objects: &[Object], timeout: Timeout, blocks: &mut [WaitBlock]) -> bool {
    let thread = thread::current();
    let blocks = blocks.as_mut_ptr();
    let mut order: Vec<Object> = objects.to_vec();
    order.sort_unstable();
    order.dedup();
    loop {
        thread.wait.store(WAITING, Ordering::Release);
        thread.waits_for(&order);
        let mut locked: Vec<Locked> = order.iter().map(|object| object.lock()).collect();
        if locked.iter().all(|object| object.is_signalled_for(thread)) {
            locked.iter_mut().for_each(|object| object.consume(thread));
            thread.waits_for(&[]);
            return true;
        }
        for (index, object) in locked.iter_mut().enumerate() {
            // SAFETY: there is a block for each object, and it stays until it is unlinked below.
            unsafe { object.link(blocks.wrapping_add(index), thread, RETRY) };
        }
        drop(locked);
        if timeout != Timeout::Now || !claim(thread, TIMEOUT) {
            sleep(thread, timeout);
        }
        for (index, object) in order.iter().enumerate() {
            let mut object = object.lock();
            // SAFETY: as above.
            unsafe { object.unlink(blocks.wrapping_add(index)) };
        }
        thread.waits_for(&[]);
        if thread.wait.load(Ordering::Acquire) == TIMEOUT {
            return false;
        }
    }
}

/// Looks at an object without waiting; allowed at DISPATCH_LEVEL, where no thread may sleep.
fn try_take(object: Object) -> bool {
    let thread = thread::current();
    let mut object = object.lock();
    let signalled = object.is_signalled_for(thread);
    if signalled {
        object.consume(thread);
    }
    signalled
}

fn check_irql(function: &str, timeout: Timeout) {
    let limit = if timeout == Timeout::Now {
        DISPATCH_LEVEL
    } else {
        APC_LEVEL
    };
    bugcheck::irql_at_most(function, limit);
}

/// Waits for one object, from host code; `false` when the time is over.
pub fn wait_one(object: Object, timeout: Timeout) -> bool {
    let taken = match timeout {
        Timeout::Now => try_take(object),
        _ => wait_any(&[object], timeout, &mut [WaitBlock::new()]).is_some(),
    };
    poll();
    taken
}

/// Sleeps for `amount` (100 ns units), from host code.
pub fn delay(amount: u64) {
    let thread = thread::current();
    thread.wait.store(WAITING, Ordering::Release);
    sleep(thread, Timeout::after(amount));
    poll();
}

/// Microsoft Learn: KeWaitForSingleObject.
///
/// # Safety
/// `object` is an initialised dispatcher object that lives until the wait has ended; `timeout` is null or readable.
pub unsafe extern "win64" fn KeWaitForSingleObject(
    object: *mut c_void,
    _reason: i32,
    _mode: i8,
    _alertable: BOOLEAN,
    timeout: *const LARGE_INTEGER,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let timeout = unsafe { Timeout::read(timeout) };
    check_irql("KeWaitForSingleObject", timeout);
    if wait_one(Object::new(object.cast()), timeout) {
        STATUS_SUCCESS
    } else {
        STATUS_TIMEOUT
    }
}

/// Microsoft Learn: KeWaitForMultipleObjects.
///
/// # Safety
/// `objects` holds `count` pointers to initialised dispatcher objects that live until the wait has ended; `blocks` is
/// null or has room for `count`; `timeout` is null or readable.
pub unsafe extern "win64" fn KeWaitForMultipleObjects(
    count: u32,
    objects: *const *mut c_void,
    kind: i32,
    _reason: i32,
    _mode: i8,
    _alertable: BOOLEAN,
    timeout: *const LARGE_INTEGER,
    blocks: *mut KWAIT_BLOCK,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let timeout = unsafe { Timeout::read(timeout) };
    check_irql("KeWaitForMultipleObjects", timeout);
    let count = count as usize;
    let limit = if blocks.is_null() {
        THREAD_WAIT_OBJECTS
    } else {
        MAXIMUM_WAIT_OBJECTS
    };
    if count == 0 || count > limit {
        Rule::WaitTooMany.bug_check(
            [count as u64, 0, 0, 0],
            format_args!("KeWaitForMultipleObjects for {count} objects; {limit} is the limit here"),
        );
    }
    // SAFETY: the caller says that there are `count` pointers.
    let objects = unsafe { core::slice::from_raw_parts(objects, count) };
    let mut list = [Object::new(core::ptr::null_mut::<DISPATCHER_HEADER>()); MAXIMUM_WAIT_OBJECTS];
    for (slot, object) in list.iter_mut().zip(objects) {
        *slot = Object::new(object.cast());
    }
    let objects = &list[..count];
    let mut blocks = [const { WaitBlock::new() }; MAXIMUM_WAIT_OBJECTS];
    let status = if kind == nt_sys::WaitAll {
        wait_all(objects, timeout, &mut blocks).then_some(STATUS_SUCCESS)
    } else {
        wait_any(objects, timeout, &mut blocks).map(|index| STATUS_SUCCESS + index as i32)
    };
    poll();
    status.unwrap_or(STATUS_TIMEOUT)
}

/// Microsoft Learn: KeDelayExecutionThread.
///
/// # Safety
/// `interval` is readable.
pub unsafe extern "win64" fn KeDelayExecutionThread(
    _mode: i8,
    _alertable: BOOLEAN,
    interval: *const LARGE_INTEGER,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    match unsafe { Timeout::read(interval) } {
        Timeout::At(due) => {
            let thread = thread::current();
            thread.wait.store(WAITING, Ordering::Release);
            sleep(thread, Timeout::At(due));
        }
        Timeout::Never | Timeout::Now => scheduler::yield_now(),
    }
    debug_assert!(irql::current() <= APC_LEVEL);
    poll();
    STATUS_SUCCESS
}

exports!(
    "ntoskrnl.exe":
    KeWaitForSingleObject,
    KeWaitForMultipleObjects,
    KeDelayExecutionThread,
);
