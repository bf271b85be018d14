//! Spin locks.

use super::*;
use crate::device::extension;

pub const CASES: &[Case] = &[
    ("acquires-twice", |device| {
        let lock = &raw mut extension(device).lock;
        KeAcquireSpinLockRaiseToDpc(lock);
        KeAcquireSpinLockAtDpcLevel(lock);
    }),
    ("acquires-an-uninitialized-lock", |_| {
        KeAcquireSpinLockRaiseToDpc(object());
    }),
    ("releases-what-it-does-not-hold", |device| {
        KfRaiseIrql(DISPATCH_LEVEL);
        KeReleaseSpinLock(&raw mut extension(device).lock, PASSIVE_LEVEL);
    }),
    ("waits-without-end-for-a-lock", |device| {
        // As if the other processor held it for ever.
        extension(device).lock = 2;
        KeAcquireSpinLockRaiseToDpc(&raw mut extension(device).lock);
    }),
    ("holds-a-lock-for-a-second", |_| {
        let lock = lock();
        let old = KeAcquireSpinLockRaiseToDpc(lock);
        KeStallExecutionProcessor(1_000_000);
        KeReleaseSpinLock(lock, old);
    }),
    ("acquires-in-two-orders", |_| {
        let (first, second) = (lock(), lock());
        for [outer, inner] in [[first, second], [second, first]] {
            let old = KeAcquireSpinLockRaiseToDpc(outer);
            KeAcquireSpinLockAtDpcLevel(inner);
            KeReleaseSpinLockFromDpcLevel(inner);
            KeReleaseSpinLock(outer, old);
        }
    }),
    ("keeps-a-lock-in-a-dpc", |_| defer(keeps)),
    ("lowers-with-a-lock", |_| {
        KeAcquireSpinLockRaiseToDpc(lock());
        KeLowerIrql(PASSIVE_LEVEL);
    }),
    ("frees-a-held-lock", |_| {
        let held = lock();
        KeAcquireSpinLockRaiseToDpc(held);
        ExFreePool(held.cast());
    }),
    ("acquires-a-queued-lock-twice", |_| {
        let lock = lock();
        let mut handles = [KLOCK_QUEUE_HANDLE::zeroed(), KLOCK_QUEUE_HANDLE::zeroed()];
        KeAcquireInStackQueuedSpinLock(lock, &raw mut handles[0]);
        KeAcquireInStackQueuedSpinLockAtDpcLevel(lock, &raw mut handles[1]);
    }),
    ("releases-a-queued-lock-twice", |_| {
        let mut handle = KLOCK_QUEUE_HANDLE::zeroed();
        KeAcquireInStackQueuedSpinLock(lock(), &raw mut handle);
        KeReleaseInStackQueuedSpinLockFromDpcLevel(&raw mut handle);
        KeReleaseInStackQueuedSpinLockFromDpcLevel(&raw mut handle);
    }),
    ("mixes-kinds-of-locks", |_| {
        let lock = lock();
        let mut handle = KLOCK_QUEUE_HANDLE::zeroed();
        KeAcquireInStackQueuedSpinLock(lock, &raw mut handle);
        KeReleaseSpinLock(lock, PASSIVE_LEVEL);
    }),
    ("reads-twice", |_| {
        let lock = rw_lock();
        let old = ExAcquireSpinLockShared(lock);
        ExAcquireSpinLockShared(lock);
        ExReleaseSpinLockShared(lock, old);
    }),
    ("reads-an-uninitialized-lock", |_| {
        ExAcquireSpinLockShared(object());
    }),
    ("releases-as-a-reader-what-it-writes", |_| {
        let lock = rw_lock();
        let old = ExAcquireSpinLockExclusive(lock);
        ExReleaseSpinLockShared(lock, old);
    }),
    ("releases-a-reader-above-dispatch", |_| {
        let lock = rw_lock();
        ExAcquireSpinLockShared(lock);
        ExReleaseSpinLockShared(lock, HIGH_LEVEL);
    }),
    ("mixes-orders-of-kinds", |_| {
        let (first, second) = (lock(), rw_lock());
        let old = KeAcquireSpinLockRaiseToDpc(first);
        let inside = ExAcquireSpinLockShared(second);
        ExReleaseSpinLockShared(second, inside);
        KeReleaseSpinLock(first, old);
        let mut handle = KLOCK_QUEUE_HANDLE::zeroed();
        ExAcquireSpinLockExclusive(second);
        KeAcquireInStackQueuedSpinLockAtDpcLevel(first, &raw mut handle);
    }),
    ("keeps-a-reader-in-a-dpc", |_| defer(reads)),
    ("releases-above-dispatch", |device| {
        let lock = &raw mut extension(device).lock;
        KeAcquireSpinLockRaiseToDpc(lock);
        KeReleaseSpinLock(lock, HIGH_LEVEL);
    }),
];

/// A lock in pool of its own.
fn lock() -> *mut KSPIN_LOCK {
    let lock = object();
    KeInitializeSpinLock(lock);
    lock
}

/// A reader/writer lock in pool of its own.
fn rw_lock() -> *mut i32 {
    let lock = object();
    // SAFETY: the memory was just allocated.
    unsafe { core::ptr::write(lock, 0) };
    lock
}

unsafe extern "system" fn reads(_: *mut KDPC, _: PVOID, _: PVOID, _: PVOID) {
    ExAcquireSpinLockShared(rw_lock());
}

unsafe extern "system" fn keeps(_: *mut KDPC, _: PVOID, _: PVOID, _: PVOID) {
    KeAcquireSpinLockAtDpcLevel(lock());
}
