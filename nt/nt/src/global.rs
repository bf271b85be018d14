//! A driver's state that is made when it is loaded and used from anywhere, at any IRQL.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

/// A static that is empty until [`Global::set`].
pub struct Global<T: 'static> {
    value: AtomicPtr<T>,
    _owner: PhantomData<T>,
}

// SAFETY: what is shared are `&T`.
unsafe impl<T: Send + Sync> Sync for Global<T> {}

impl<T: Send + Sync> Global<T> {
    /// An empty one.
    pub const fn new() -> Global<T> {
        Global {
            value: AtomicPtr::new(null_mut()),
            _owner: PhantomData,
        }
    }

    /// Fills it, once; gives the value back if it was full.
    pub fn set(&self, value: Box<T>) -> core::result::Result<&T, Box<T>> {
        let raw = Box::into_raw(value);
        match self
            .value
            .compare_exchange(null_mut(), raw, Ordering::AcqRel, Ordering::Acquire)
        {
            // SAFETY: the value lives until `take`, whose caller vouches for all borrows.
            Ok(_) => Ok(unsafe { &*raw }),
            // SAFETY: the value was not published.
            Err(_) => Err(unsafe { Box::from_raw(raw) }),
        }
    }

    /// The value, if there is one. Any IRQL.
    pub fn get(&self) -> Option<&T> {
        // SAFETY: null or a value that lives until `take`, whose caller vouches for all borrows.
        unsafe { self.value.load(Ordering::Acquire).as_ref() }
    }

    /// Empties it.
    ///
    /// # Safety
    /// Nobody uses what `get` or `set` gave.
    pub unsafe fn take(&self) -> Option<Box<T>> {
        let raw = self.value.swap(null_mut(), Ordering::AcqRel);
        // SAFETY: a value that is there came from a box, and is not borrowed.
        (!raw.is_null()).then(|| unsafe { Box::from_raw(raw) })
    }
}

impl<T: Send + Sync> Default for Global<T> {
    fn default() -> Self {
        Global::new()
    }
}

impl<T> fmt::Debug for Global<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Global").finish_non_exhaustive()
    }
}
