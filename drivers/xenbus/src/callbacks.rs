//! A list of callbacks that clients register, in the order of registration.
//!
//! The list is read at HIGH_LEVEL and changed at DISPATCH_LEVEL or below. Pool memory comes and goes only below HIGH_LEVEL,
//! so a longer list is allocated before the lock is taken and a shorter one freed after.

use alloc::boxed::Box;
use alloc::vec::Vec;
use nt::spinlock::HighLockGuard;
use nt::{HighLock, Result, try_box};

/// The list. The address of an entry is its client's handle.
#[derive(Debug)]
pub struct Callbacks<T> {
    list: HighLock<Vec<Box<T>>>,
}

impl<T: Copy + Send> Callbacks<T> {
    /// Nothing registered.
    pub const fn new() -> Self {
        Self {
            list: HighLock::new(Vec::new()),
        }
    }

    /// Adds a callback and gives its handle. IRQL ≤ DISPATCH_LEVEL.
    pub fn register(&self, callback: T) -> Result<*const T> {
        let callback = try_box(callback)?;
        let handle: *const T = &raw const *callback;
        loop {
            let length = self.list.lock().len();
            let mut longer = Vec::new();
            longer.try_reserve_exact(length.saturating_add(1))?;
            let mut list = self.list.lock();
            if list.len() != length {
                drop(list);
                continue;
            }
            longer.append(&mut list);
            longer.push(callback);
            let shorter = core::mem::replace(&mut *list, longer);
            drop(list);
            drop(shorter);
            return Ok(handle);
        }
    }

    /// Takes a callback out. It does not run any more when this returns. IRQL ≤ DISPATCH_LEVEL.
    pub fn deregister(&self, handle: *const T) {
        let mut list = self.list.lock();
        let index = list
            .iter()
            .position(|entry| core::ptr::eq(&raw const **entry, handle));
        let removed = index.map(|index| list.remove(index));
        drop(list);
        if removed.is_none() {
            nt::error!("{handle:p} is not a registered callback");
        }
    }

    /// The list, at HIGH_LEVEL. Any IRQL.
    pub fn lock(&self) -> HighLockGuard<'_, Vec<Box<T>>> {
        self.list.lock()
    }

    /// The list, at HIGH_LEVEL, unless somebody else has it: for a bug check, which may have interrupted its holder.
    pub fn try_lock(&self) -> Option<HighLockGuard<'_, Vec<Box<T>>>> {
        self.list.try_lock()
    }

    /// A copy of the callback with this number. Any IRQL.
    pub fn nth(&self, index: usize) -> Option<T> {
        self.list.lock().get(index).map(|callback| **callback)
    }
}
