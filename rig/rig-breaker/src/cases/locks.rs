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

unsafe extern "system" fn keeps(_: *mut KDPC, _: PVOID, _: PVOID, _: PVOID) {
    KeAcquireSpinLockAtDpcLevel(lock());
}
