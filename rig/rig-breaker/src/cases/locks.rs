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
    ("releases-above-dispatch", |device| {
        let lock = &raw mut extension(device).lock;
        KeAcquireSpinLockRaiseToDpc(lock);
        KeReleaseSpinLock(lock, HIGH_LEVEL);
    }),
];
