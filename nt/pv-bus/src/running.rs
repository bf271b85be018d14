//! State that exists while a subsystem runs, and the count of those who use it.
//!
//! Interrupts and clients at any IRQL look at it without a lock, so it is one pointer that is set at the start and taken
//! back at the stop. A subsystem that is still in use when its device goes to sleep is left as it is: leaking a page is
//! better than freeing one under its user.

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use nt::{NtStatus, Result, try_box};

/// The state of a subsystem, present between [`Running::start`] and [`Running::stop`].
#[derive(Debug)]
pub struct Running<T> {
    state: AtomicPtr<T>,
    _owned: PhantomData<Box<T>>,
}

impl<T: Send + Sync> Running<T> {
    /// Not started.
    pub const fn new() -> Self {
        Self {
            state: AtomicPtr::new(core::ptr::null_mut()),
            _owned: PhantomData,
        }
    }

    /// The state, if there is one. Any IRQL.
    pub fn get(&self) -> Option<&T> {
        // SAFETY: null or a box that `start` gave up; `stop` has the duty that no such reference is left.
        unsafe { self.state.load(Ordering::Acquire).as_ref() }
    }

    /// The state, or STATUS_DEVICE_NOT_READY.
    pub fn need(&self) -> Result<&T> {
        self.get().ok_or(NtStatus::DEVICE_NOT_READY)
    }

    /// Makes `state` visible. To be called while there is none.
    pub fn start(&self, state: T) -> Result<&T> {
        let state = Box::into_raw(try_box(state)?);
        self.state.store(state, Ordering::Release);
        self.need()
    }

    /// Takes the state back.
    ///
    /// # Safety
    /// Nobody uses a reference that [`Running::get`] gave: no client holds the subsystem, no interrupt or DPC is on its
    /// way to it.
    pub unsafe fn stop(&self) -> Option<Box<T>> {
        let state = self.state.swap(core::ptr::null_mut(), Ordering::AcqRel);
        if state.is_null() {
            return None;
        }
        // SAFETY: the pointer came from a box in `start`; the rest is the caller's duty.
        Some(unsafe { Box::from_raw(state) })
    }
}

impl<T: Send + Sync> Default for Running<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        let state = *self.state.get_mut();
        if !state.is_null() {
            // SAFETY: the pointer came from a box in `start`, and there is no other reference to `self`.
            drop(unsafe { Box::from_raw(state) });
        }
    }
}

/// How many clients hold a subsystem by its interface.
#[derive(Debug, Default)]
pub struct References(AtomicU32);

impl References {
    /// Nobody.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// `Acquire`. Any IRQL.
    pub fn acquire(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// `Release`. Tells whether there was a reference to give back. Any IRQL.
    pub fn release(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                count.checked_sub(1)
            })
            .is_ok()
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}
