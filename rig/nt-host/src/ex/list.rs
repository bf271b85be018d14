//! Doubly linked lists under a spin lock of the caller's (ExInterlocked…List). Callable at any IRQL: on Windows they
//! run with interrupts off; here nothing is delivered between taking the lock and releasing it.

use core::ptr::null_mut;

use nt_sys::{KSPIN_LOCK, LIST_ENTRY};

use crate::exports;
use crate::ke::spinlock;

/// # Safety
/// `lock` is a spin lock, valid as long as the list that it protects.
unsafe fn locked<R>(lock: *mut KSPIN_LOCK, body: impl FnOnce() -> R) -> R {
    // SAFETY: the caller's promise.
    unsafe { spinlock::acquire(lock) };
    let result = body();
    // SAFETY: acquired above.
    unsafe { spinlock::release(lock) };
    result
}

/// Puts `entry` between two neighbours.
///
/// # Safety
/// All three are valid; `before` and `after` are neighbours in a list.
unsafe fn link(before: *mut LIST_ENTRY, entry: *mut LIST_ENTRY, after: *mut LIST_ENTRY) {
    let value = LIST_ENTRY {
        Flink: after,
        Blink: before,
    };
    // SAFETY: the caller's promise.
    unsafe { entry.write(value) };
    // SAFETY: the caller's promise.
    unsafe { (*before).Flink = entry };
    // SAFETY: the caller's promise.
    unsafe { (*after).Blink = entry };
}

/// Microsoft Learn: ExInterlockedInsertTailList; the former last entry, null when the list was empty.
///
/// # Safety
/// `head` is a list that `lock` protects; `entry` is in no list.
pub unsafe extern "win64" fn ExInterlockedInsertTailList(
    head: *mut LIST_ENTRY,
    entry: *mut LIST_ENTRY,
    lock: *mut KSPIN_LOCK,
) -> *mut LIST_ENTRY {
    let insert = || {
        // SAFETY: the caller's promise.
        let last = unsafe { (*head).Blink };
        // SAFETY: the last entry and the head are neighbours.
        unsafe { link(last, entry, head) };
        if last == head { null_mut() } else { last }
    };
    // SAFETY: the caller's promise.
    unsafe { locked(lock, insert) }
}

/// Microsoft Learn: ExInterlockedInsertHeadList; the former first entry, null when the list was empty.
///
/// # Safety
/// `head` is a list that `lock` protects; `entry` is in no list.
pub unsafe extern "win64" fn ExInterlockedInsertHeadList(
    head: *mut LIST_ENTRY,
    entry: *mut LIST_ENTRY,
    lock: *mut KSPIN_LOCK,
) -> *mut LIST_ENTRY {
    let insert = || {
        // SAFETY: the caller's promise.
        let first = unsafe { (*head).Flink };
        // SAFETY: the head and the first entry are neighbours.
        unsafe { link(head, entry, first) };
        if first == head { null_mut() } else { first }
    };
    // SAFETY: the caller's promise.
    unsafe { locked(lock, insert) }
}

/// Microsoft Learn: ExInterlockedRemoveHeadList; null when the list is empty.
///
/// # Safety
/// `head` is a list that `lock` protects.
pub unsafe extern "win64" fn ExInterlockedRemoveHeadList(
    head: *mut LIST_ENTRY,
    lock: *mut KSPIN_LOCK,
) -> *mut LIST_ENTRY {
    let remove = || {
        // SAFETY: the caller's promise.
        let first = unsafe { (*head).Flink };
        if first == head {
            return null_mut();
        }
        // SAFETY: an entry of the list.
        let second = unsafe { (*first).Flink };
        // SAFETY: the caller's promise.
        unsafe { (*head).Flink = second };
        // SAFETY: an entry of the list, or its head.
        unsafe { (*second).Blink = head };
        first
    };
    // SAFETY: the caller's promise.
    unsafe { locked(lock, remove) }
}

exports!(
    "ntoskrnl.exe":
    ExInterlockedInsertTailList,
    ExInterlockedInsertHeadList,
    ExInterlockedRemoveHeadList,
);
