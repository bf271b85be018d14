//! Spin locks that own what they protect: `SpinLock` at DISPATCH_LEVEL, `HighLock` at HIGH_LEVEL.

use crate::{Irql, RaisedIrql};
use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};
use nt_sys::imports::{
    KeAcquireSpinLockAtDpcLevel, KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock,
    KeReleaseSpinLockFromDpcLevel,
};
use nt_sys::{KIRQL, KSPIN_LOCK};

/// A value under an executive spin lock. IRQL ≤ DISPATCH_LEVEL; the holder runs at DISPATCH_LEVEL.
pub struct SpinLock<T: ?Sized> {
    lock: UnsafeCell<KSPIN_LOCK>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock lets one processor at a time reach the value, which may change hands (Send).
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}
// SAFETY: a free lock is a number and a value that may be sent.
unsafe impl<T: ?Sized + Send> Send for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> SpinLock<T> {
        SpinLock {
            lock: UnsafeCell::new(0),
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Waits for the lock; the guard gives it back and restores the IRQL.
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        let level = if Irql::current() < Irql::DISPATCH {
            // SAFETY: the lock was initialised to 0 and lives as long as `self`; IRQL ≤ DISPATCH_LEVEL.
            Some(unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) })
        } else {
            // SAFETY: as above, at DISPATCH_LEVEL.
            unsafe { KeAcquireSpinLockAtDpcLevel(self.lock.get()) };
            None
        };
        SpinLockGuard {
            owner: self,
            level,
            _not_send: core::marker::PhantomData,
        }
    }

    /// As [`SpinLock::lock`] for who has raised the IRQL: a call less.
    pub fn lock_raised<'a>(&'a self, raised: &'a RaisedIrql) -> SpinLockGuard<'a, T> {
        if raised.level() < Irql::DISPATCH {
            return self.lock();
        }
        // SAFETY: as above, at DISPATCH_LEVEL or higher for as long as the guard.
        unsafe { KeAcquireSpinLockAtDpcLevel(self.lock.get()) };
        SpinLockGuard {
            owner: self,
            level: None,
            _not_send: core::marker::PhantomData,
        }
    }

    /// Reaches the value without locking, since nobody else can.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").finish_non_exhaustive()
    }
}

/// The right to the value of a [`SpinLock`].
pub struct SpinLockGuard<'a, T: ?Sized> {
    owner: &'a SpinLock<T>,
    level: Option<KIRQL>,
    _not_send: core::marker::PhantomData<*mut ()>,
}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, so no mutable reference exists elsewhere.
        unsafe { &*self.owner.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, so no other reference exists.
        unsafe { &mut *self.owner.value.get() }
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        match self.level {
            // SAFETY: this guard holds the lock and knows the level of before.
            Some(level) => unsafe { KeReleaseSpinLock(self.owner.lock.get(), level) },
            // SAFETY: this guard holds the lock and did not change the level.
            None => unsafe { KeReleaseSpinLockFromDpcLevel(self.owner.lock.get()) },
        }
    }
}

/// A value under a lock that may be taken at any IRQL; the holder runs at HIGH_LEVEL.
///
/// For what bug-check and interrupt code shares with the rest. Hold it for a few instructions only.
pub struct HighLock<T: ?Sized> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock lets one processor at a time reach the value, which may change hands (Send).
unsafe impl<T: ?Sized + Send> Sync for HighLock<T> {}

impl<T> HighLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> HighLock<T> {
        HighLock {
            held: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> HighLock<T> {
    /// Raises to HIGH_LEVEL and waits for the lock.
    pub fn lock(&self) -> HighLockGuard<'_, T> {
        let level = RaisedIrql::to(Irql::HIGH);
        while !self.try_take() {
            core::hint::spin_loop();
        }
        HighLockGuard {
            owner: self,
            _level: level,
        }
    }

    /// As [`HighLock::lock`] without waiting: for code that may have interrupted the holder, such as a bug check.
    pub fn try_lock(&self) -> Option<HighLockGuard<'_, T>> {
        let level = RaisedIrql::to(Irql::HIGH);
        self.try_take().then_some(HighLockGuard {
            owner: self,
            _level: level,
        })
    }

    fn try_take(&self) -> bool {
        self.held
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

impl<T: ?Sized> fmt::Debug for HighLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HighLock").finish_non_exhaustive()
    }
}

/// The right to the value of a [`HighLock`].
pub struct HighLockGuard<'a, T: ?Sized> {
    owner: &'a HighLock<T>,
    // Dropped after `Drop::drop` has freed the lock, so the level falls last.
    _level: RaisedIrql,
}

impl<T: ?Sized> Deref for HighLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, so no mutable reference exists elsewhere.
        unsafe { &*self.owner.value.get() }
    }
}

impl<T: ?Sized> DerefMut for HighLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, so no other reference exists.
        unsafe { &mut *self.owner.value.get() }
    }
}

impl<T: ?Sized> Drop for HighLockGuard<'_, T> {
    fn drop(&mut self) {
        self.owner.held.store(false, Ordering::Release);
    }
}
