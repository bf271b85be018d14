//! The executive's own spin lock.
//!
//! The executive is cooperative: a fiber is switched only where it asks to wait, and interrupts are delivered only
//! where a function polls for them. A lock is therefore safe on any fiber and on any host thread as long as its holder
//! neither waits nor polls; no function that may do so takes a guard.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// Data behind a spin lock, usable from fibers and from host threads.
pub struct Mutex<T: ?Sized> {
    locked: AtomicBool,
    data: UnsafeCell<T>,
}

// SAFETY: the lock hands out one reference at a time, so sharing it only moves the data between threads.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free lock around `data`.
    pub const fn new(data: T) -> Self {
        Self {
            locked: AtomicBool::new(false),
            data: UnsafeCell::new(data),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, spinning until it is free. The holder must not wait, poll or run driver code.
    pub fn lock(&self) -> Guard<'_, T> {
        while self.locked.swap(true, Ordering::Acquire) {
            while self.locked.load(Ordering::Relaxed) {
                crate::host::relax();
            }
        }
        Guard { lock: self }
    }

    /// Takes the lock only if it is free.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        (!self.locked.swap(true, Ordering::Acquire)).then_some(Guard { lock: self })
    }
}

/// Holds a [`Mutex`] until dropped.
pub struct Guard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
}

impl<T: ?Sized> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock, so no other reference exists.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and `&mut self` makes this the only reference.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.lock.locked.store(false, Ordering::Release);
    }
}

/// A value set once and read from anywhere afterwards.
pub struct Once<T: 'static> {
    value: Mutex<Option<&'static T>>,
    ready: core::sync::atomic::AtomicPtr<T>,
}

impl<T: Sync + 'static> Once<T> {
    /// An unset value.
    pub const fn new() -> Self {
        Self {
            value: Mutex::new(None),
            ready: core::sync::atomic::AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Sets the value; `false` (and the value dropped) when it was set before.
    pub fn set(&self, value: T) -> bool {
        let mut slot = self.value.lock();
        if slot.is_some() {
            return false;
        }
        let value: &'static mut T = alloc::boxed::Box::leak(alloc::boxed::Box::new(value));
        self.ready.store(value, Ordering::Release);
        *slot = Some(value);
        true
    }

    /// The value, once set.
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: the pointer is null or points to the leaked value stored by `set`.
        unsafe { self.ready.load(Ordering::Acquire).as_ref() }
    }
}

impl<T: Sync + 'static> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_not_given_twice() {
        let lock = Mutex::new(1);
        let guard = lock.lock();
        assert!(lock.try_lock().is_none());
        drop(guard);
        assert_eq!(*lock.try_lock().unwrap(), 1);
    }

    #[test]
    fn a_value_is_set_once() {
        let once = Once::new();
        assert_eq!(once.get(), None);
        assert!(once.set(1));
        assert!(!once.set(2));
        assert_eq!(once.get(), Some(&1));
    }
}
