//! In-stack queued spin locks: an ordinary lock's word, acquired through a handle on the caller's stack.
//!
//! On Windows the handles are the queue of those who wait. Here the one who finds the lock free gets it, as with ordinary
//! locks: who waits how long is the scheduler's choice on a seeded machine anyway.

use core::ptr::null_mut;

use nt_sys::{DISPATCH_LEVEL, KIRQL, KSPIN_LOCK};

use super::spinlock::{self, Kind};
use super::{irql, poll};
use crate::exports;
use crate::verifier::Rule;

/// `KLOCK_QUEUE_HANDLE` (wdm.h), its `KSPIN_LOCK_QUEUE` first.
#[repr(C)]
pub struct QueueHandle {
    next: *mut QueueHandle,
    lock: *mut KSPIN_LOCK,
    old: KIRQL,
}

/// Takes the lock at the current IRQL.
///
/// # Safety
/// `lock` points to an initialised spin lock, `handle` to memory for a handle.
unsafe fn acquire(lock: *mut KSPIN_LOCK, handle: *mut QueueHandle, old: KIRQL) {
    // SAFETY: the caller's promise.
    unsafe { spinlock::acquire_as(lock, Kind::Queued) };
    let held = QueueHandle {
        next: null_mut(),
        lock,
        old,
    };
    // SAFETY: the caller's promise.
    unsafe { handle.write(held) };
}

/// Releases the lock of a handle; the IRQL to go back to.
///
/// # Safety
/// `handle` points to a handle.
unsafe fn release(handle: *mut QueueHandle) -> KIRQL {
    // SAFETY: the caller's promise.
    let fields = unsafe { &mut *handle };
    let lock = core::mem::replace(&mut fields.lock, null_mut());
    if lock.is_null() {
        Rule::LockNotHeld.breach(format_args!(
            "releases a queued spin lock by handle {handle:p}, which holds none"
        ));
    }
    // SAFETY: the handle holds this lock.
    unsafe { spinlock::release_as(lock, Kind::Queued) };
    fields.old
}

/// Microsoft Learn: KeAcquireInStackQueuedSpinLock.
///
/// # Safety
/// `lock` points to an initialised spin lock, `handle` to memory for a handle.
pub unsafe extern "win64" fn KeAcquireInStackQueuedSpinLock(
    lock: *mut KSPIN_LOCK,
    handle: *mut QueueHandle,
) {
    let old = irql::set(DISPATCH_LEVEL);
    // SAFETY: the caller's promise.
    unsafe { acquire(lock, handle, old) };
}

/// Microsoft Learn: KeReleaseInStackQueuedSpinLock.
///
/// # Safety
/// `handle` is what the lock was acquired with.
pub unsafe extern "win64" fn KeReleaseInStackQueuedSpinLock(handle: *mut QueueHandle) {
    // SAFETY: the caller's promise.
    let old = unsafe { release(handle) };
    spinlock::check_release("KeReleaseInStackQueuedSpinLock", DISPATCH_LEVEL, old);
    spinlock::lower(old);
}

/// Microsoft Learn: KeAcquireInStackQueuedSpinLockAtDpcLevel.
///
/// # Safety
/// `lock` points to an initialised spin lock, `handle` to memory for a handle.
pub unsafe extern "win64" fn KeAcquireInStackQueuedSpinLockAtDpcLevel(
    lock: *mut KSPIN_LOCK,
    handle: *mut QueueHandle,
) {
    // SAFETY: the caller's promise.
    unsafe { acquire(lock, handle, irql::current()) };
}

/// Microsoft Learn: KeReleaseInStackQueuedSpinLockFromDpcLevel.
///
/// # Safety
/// `handle` is what the lock was acquired with.
pub unsafe extern "win64" fn KeReleaseInStackQueuedSpinLockFromDpcLevel(handle: *mut QueueHandle) {
    // SAFETY: the caller's promise.
    unsafe { release(handle) };
    poll();
}

exports!(
    "ntoskrnl.exe":
    KeAcquireInStackQueuedSpinLock,
    KeReleaseInStackQueuedSpinLock,
    KeAcquireInStackQueuedSpinLockAtDpcLevel,
    KeReleaseInStackQueuedSpinLockFromDpcLevel,
);
