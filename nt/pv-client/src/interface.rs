//! Finding an interface and holding it acquired.

use alloc::sync::Arc;
use core::ops::Deref;
use nt::{DeviceObject, NtStatus, Result};
use pv_interfaces::{AcquireFn, Interface, ReleaseFn, Table, This};

/// A call table with the two methods that all of them begin with.
pub trait Acquire: Table {
    /// `Acquire`.
    fn acquire_fn(&self) -> AcquireFn;
    /// `Release`.
    fn release_fn(&self) -> ReleaseFn;
}

macro_rules! acquire {
    ($($table:ty),*) => {
        $(impl Acquire for $table {
            fn acquire_fn(&self) -> AcquireFn {
                self.acquire
            }
            fn release_fn(&self) -> ReleaseFn {
                self.release
            }
        })*
    };
}
acquire!(
    pv_interfaces::store::StoreV2,
    pv_interfaces::evtchn::EvtchnV9,
    pv_interfaces::gnttab::GnttabV4,
    pv_interfaces::suspend::SuspendV1,
    pv_interfaces::debug::DebugV1,
    pv_interfaces::unplug::UnplugV3,
    pv_interfaces::emulated::EmulatedV2
);

/// An interface that a driver below offers. Nothing may be called before it is acquired.
#[derive(Clone, Copy, Debug)]
pub struct Offer<T> {
    table: T,
}

// SAFETY: the provider's state is made for callers on any processor.
unsafe impl<T> Send for Offer<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Offer<T> {}

impl<T: Acquire> Offer<T> {
    /// Asks the stack below `lower` for the interface. PASSIVE_LEVEL.
    pub fn query(lower: &DeviceObject) -> Result<Offer<T>> {
        nt::interface::query::<T>(lower).map(|table| Offer { table })
    }

    /// As [`Offer::query`]; `None` if nobody offers it, which drivers below say with various statuses.
    pub fn query_optional(lower: &DeviceObject) -> Option<Offer<T>> {
        Offer::query(lower).ok()
    }

    /// Acquires the interface. IRQL ≤ DISPATCH_LEVEL.
    pub fn acquire(&self) -> Result<Arc<Acquired<T>>> {
        // The copy is made first, so that a lack of memory cannot leave the interface acquired.
        let mut acquired = Arc::try_new(Acquired {
            table: self.table,
            held: false,
        })
        .map_err(|_| NtStatus::NO_MEMORY)?;
        // SAFETY: the table is one that its provider filled in, at its place for as long as it is held.
        NtStatus::check(unsafe { (self.table.acquire_fn())(acquired.this()) })?;
        if let Some(acquired) = Arc::get_mut(&mut acquired) {
            acquired.held = true;
        }
        Ok(acquired)
    }
}

/// An acquired interface; dropping the last reference releases it.
#[derive(Debug)]
pub struct Acquired<T: Acquire> {
    table: T,
    held: bool,
}

// SAFETY: the provider's state is made for callers on any processor.
unsafe impl<T: Acquire> Send for Acquired<T> {}
// SAFETY: as above.
unsafe impl<T: Acquire> Sync for Acquired<T> {}

impl<T: Acquire> Acquired<T> {
    /// The first argument of every method.
    pub(crate) fn this(&self) -> This {
        let header: *const Interface = self.table.header();
        header
    }
}

impl<T: Acquire> Deref for Acquired<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.table
    }
}

impl<T: Acquire> Drop for Acquired<T> {
    fn drop(&mut self) {
        if self.held {
            // SAFETY: acquired once, and everything made through it held a reference to this.
            unsafe { (self.table.release_fn())(self.this()) };
        }
    }
}
