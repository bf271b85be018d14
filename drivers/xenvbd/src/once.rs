//! A place that is filled once and then read without a lock.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Empty, or a boxed value that stays until the place goes.
pub(crate) struct Once<T> {
    value: AtomicPtr<T>,
}

// SAFETY: the value is shared between processors (Sync) and dropped on any (Send).
unsafe impl<T: Send + Sync> Sync for Once<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Send for Once<T> {}

impl<T> Once<T> {
    /// An empty place.
    pub(crate) const fn new() -> Self {
        Once {
            value: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// The value.
    pub(crate) fn get(&self) -> Option<&T> {
        // SAFETY: null, or the box that `set` gave up, which stays until `self` is dropped.
        unsafe { self.value.load(Ordering::Acquire).as_ref() }
    }

    /// Fills the place; the value comes back if it is filled already.
    pub(crate) fn set(&self, value: Box<T>) -> Result<(), Box<T>> {
        let value = Box::into_raw(value);
        let empty = core::ptr::null_mut();
        match self
            .value
            .compare_exchange(empty, value, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => Ok(()),
            // SAFETY: the box was not taken in, so it is still ours.
            Err(_) => Err(unsafe { Box::from_raw(value) }),
        }
    }
}

impl<T> Drop for Once<T> {
    fn drop(&mut self) {
        let value = *self.value.get_mut();
        if !value.is_null() {
            // SAFETY: the box that `set` gave up, taken back once.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}
