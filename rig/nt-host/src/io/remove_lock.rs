//! Remove locks: counts of what still uses a device, which its removal waits for.
//!
//! Tags are checked as in a checked build: a release must name what an acquisition named.

use alloc::collections::BTreeMap;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicI32, Ordering};

use nt_sys::{
    Executive, IO_REMOVE_LOCK, KernelMode, NTSTATUS, PVOID, STATUS_DELETE_PENDING, STATUS_SUCCESS,
    SynchronizationEvent,
};

use crate::exports;
use crate::ke::event::{KeInitializeEvent, KeSetEvent};
use crate::ke::wait::KeWaitForSingleObject;
use crate::sync::Mutex;
use crate::verifier::Rule;

/// How often each tag holds each lock.
static HELD: Mutex<BTreeMap<(usize, usize), u32>> = Mutex::new(BTreeMap::new());

/// # Safety
/// `lock` is a live remove lock.
unsafe fn count<'a>(lock: *mut IO_REMOVE_LOCK) -> &'a AtomicI32 {
    // SAFETY: the caller's promise; only an address is computed.
    let count = unsafe { &raw mut (*lock).IoCount };
    // SAFETY: the field is aligned and only accessed atomically.
    unsafe { AtomicI32::from_ptr(count) }
}

/// # Safety
/// `lock` is a live remove lock.
unsafe fn leave(lock: *mut IO_REMOVE_LOCK) -> i32 {
    // SAFETY: the caller's promise.
    let left = unsafe { count(lock) }
        .fetch_sub(1, Ordering::AcqRel)
        .wrapping_sub(1);
    if left < 0 {
        Rule::RemoveLock.breach(format_args!(
            "a remove lock is released more often than acquired"
        ));
    }
    if left == 0 {
        // SAFETY: the caller's promise; only an address is computed.
        let event = unsafe { &raw mut (*lock).RemoveEvent };
        // SAFETY: initialised with the lock.
        unsafe { KeSetEvent(event, 0, 0) };
    }
    left
}

fn untag(lock: *mut IO_REMOVE_LOCK, tag: PVOID) {
    let mut held = HELD.lock();
    let key = (lock as usize, tag as usize);
    match held.get_mut(&key) {
        Some(1) => drop(held.remove(&key)),
        Some(times) => *times = times.saturating_sub(1),
        None => {
            drop(held);
            Rule::RemoveLock.breach(format_args!(
                "a remove lock is released with tag {tag:p}, which does not hold it"
            ));
        }
    }
}

/// Microsoft Learn: IoInitializeRemoveLock.
///
/// # Safety
/// `lock` is memory for a lock.
pub unsafe extern "win64" fn IoInitializeRemoveLockEx(
    lock: *mut IO_REMOVE_LOCK,
    _tag: u32,
    _minutes: u32,
    _high_watermark: u32,
    _size: u32,
) {
    // SAFETY: the caller's promise.
    let fields = unsafe { &mut *lock };
    fields.Removed = 0;
    fields.IoCount = 1;
    // SAFETY: part of the lock.
    unsafe { KeInitializeEvent(&raw mut fields.RemoveEvent, SynchronizationEvent, 0) };
}

/// Microsoft Learn: IoAcquireRemoveLock.
///
/// # Safety
/// `lock` is a live remove lock.
pub unsafe extern "win64" fn IoAcquireRemoveLockEx(
    lock: *mut IO_REMOVE_LOCK,
    tag: PVOID,
    _file: *const u8,
    _line: u32,
    _size: u32,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    unsafe { count(lock) }.fetch_add(1, Ordering::AcqRel);
    // SAFETY: the caller's promise.
    if unsafe { (*lock).Removed } != 0 {
        // SAFETY: the caller's promise.
        unsafe { leave(lock) };
        return STATUS_DELETE_PENDING;
    }
    let mut held = HELD.lock();
    let times = held.entry((lock as usize, tag as usize)).or_default();
    *times = times.saturating_add(1);
    STATUS_SUCCESS
}

/// Microsoft Learn: IoReleaseRemoveLock.
///
/// # Safety
/// `lock` is a live remove lock that the caller acquired.
pub unsafe extern "win64" fn IoReleaseRemoveLockEx(
    lock: *mut IO_REMOVE_LOCK,
    tag: PVOID,
    _size: u32,
) {
    untag(lock, tag);
    // SAFETY: the caller's promise.
    unsafe { leave(lock) };
}

/// Microsoft Learn: IoReleaseRemoveLockAndWait.
///
/// # Safety
/// `lock` is a live remove lock that the caller acquired.
pub unsafe extern "win64" fn IoReleaseRemoveLockAndWaitEx(
    lock: *mut IO_REMOVE_LOCK,
    tag: PVOID,
    _size: u32,
) {
    untag(lock, tag);
    // SAFETY: the caller's promise.
    unsafe { (*lock).Removed = 1 };
    // SAFETY: the caller's promise. The caller's acquisition goes, then the lock's own count.
    unsafe { leave(lock) };
    // SAFETY: as above.
    if unsafe { leave(lock) } > 0 {
        // SAFETY: the caller's promise; only an address is computed.
        let event = unsafe { &raw mut (*lock).RemoveEvent };
        // SAFETY: initialised with the lock.
        unsafe { KeWaitForSingleObject(event.cast(), Executive, KernelMode, 0, null_mut()) };
    }
}

exports!("ntoskrnl.exe": IoInitializeRemoveLockEx, IoAcquireRemoveLockEx, IoReleaseRemoveLockEx,
    IoReleaseRemoveLockAndWaitEx);
