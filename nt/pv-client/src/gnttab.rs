//! Granting pages to other domains.

use crate::{Acquired, CText};
use alloc::sync::Arc;
use core::ffi::c_void;
use core::ptr::NonNull;
use nt::{NtStatus, Result};
use nt_sys::FALSE;
use pv_interfaces::gnttab::{Entry, GnttabCache, GnttabV4};
use xen_abi::{DomId, Gref};

/// A cache of grant references. All methods at IRQL ≤ DISPATCH_LEVEL.
///
/// Grants keep it alive: it goes with the last of them.
#[derive(Debug)]
pub struct GrantCache {
    cache: NonNull<GnttabCache>,
    table: Arc<Acquired<GnttabV4>>,
    /// The lock that the provider's functions take around the cache.
    lock: Arc<Lock>,
}

// SAFETY: the cache's state is under its lock.
unsafe impl Send for GrantCache {}
// SAFETY: as above.
unsafe impl Sync for GrantCache {}

/// A spin lock which others take and drop through two callbacks, at DISPATCH_LEVEL.
#[derive(Debug)]
struct Lock {
    lock: core::cell::UnsafeCell<nt_sys::KSPIN_LOCK>,
}

// SAFETY: only the kernel's spin lock functions reach the value.
unsafe impl Send for Lock {}
// SAFETY: as above.
unsafe impl Sync for Lock {}

unsafe extern "win64" fn acquire(context: *mut c_void) {
    // SAFETY: the context is a `Lock` that lives as long as the cache.
    let lock = unsafe { &*context.cast::<Lock>() };
    // SAFETY: called at DISPATCH_LEVEL.
    unsafe { nt_sys::imports::KeAcquireSpinLockAtDpcLevel(lock.lock.get()) }
}

unsafe extern "win64" fn release(context: *mut c_void) {
    // SAFETY: as above.
    let lock = unsafe { &*context.cast::<Lock>() };
    // SAFETY: held by the caller.
    unsafe { nt_sys::imports::KeReleaseSpinLockFromDpcLevel(lock.lock.get()) }
}

/// A page that another domain has been granted. It does not end by being dropped: see [`GrantCache::revoke`].
#[derive(Debug)]
#[must_use = "a grant that is lost stays for ever"]
pub struct Grant {
    entry: NonNull<Entry>,
}

// SAFETY: the entry is owned, and may be given back on any processor.
unsafe impl Send for Grant {}
// SAFETY: it is only a name.
unsafe impl Sync for Grant {}

impl GrantCache {
    /// A cache that holds `reservation` references ready.
    pub fn new(
        table: &Arc<Acquired<GnttabV4>>,
        name: &CText,
        reservation: u32,
    ) -> Result<GrantCache> {
        let lock = nt::try_arc(Lock {
            lock: core::cell::UnsafeCell::new(0),
        })?;
        let mut cache = core::ptr::null_mut();
        // SAFETY: callbacks and argument fit each other and live as long as the cache; the out parameter is live.
        NtStatus::check(unsafe {
            (table.create_cache)(
                table.this(),
                name.as_ptr(),
                reservation,
                0,
                acquire,
                release,
                Arc::as_ptr(&lock).cast_mut().cast(),
                &mut cache,
            )
        })?;
        let cache = NonNull::new(cache).ok_or(NtStatus::UNSUCCESSFUL)?;
        Ok(GrantCache {
            cache,
            table: table.clone(),
            lock,
        })
    }

    /// Grants `domain` access to a page. The page must stay as long as the grant.
    pub fn permit(&self, domain: DomId, pfn: u64, read_only: bool) -> Result<Grant> {
        let mut entry = core::ptr::null_mut();
        // SAFETY: the cache is live, the out parameter too.
        NtStatus::check(unsafe {
            (self.table.permit_foreign_access)(
                self.table.this(),
                self.cache.as_ptr(),
                FALSE,
                domain.0,
                pfn,
                read_only.into(),
                &mut entry,
            )
        })?;
        NonNull::new(entry)
            .map(|entry| Grant { entry })
            .ok_or(NtStatus::UNSUCCESSFUL)
    }

    /// Ends a grant of this cache; it comes back if the other domain still uses the page.
    pub fn revoke(&self, grant: Grant) -> core::result::Result<(), Grant> {
        // SAFETY: the entry is this cache's and given back once.
        let status = NtStatus(unsafe {
            (self.table.revoke_foreign_access)(
                self.table.this(),
                self.cache.as_ptr(),
                FALSE,
                grant.entry.as_ptr(),
            )
        });
        if status.is_success() {
            Ok(())
        } else {
            Err(grant)
        }
    }

    /// The reference to tell the other domain. Any IRQL.
    pub fn reference(&self, grant: &Grant) -> Gref {
        // SAFETY: the entry is live.
        Gref(unsafe { (self.table.get_reference)(self.table.this(), grant.entry.as_ptr()) })
    }
}

impl Drop for GrantCache {
    fn drop(&mut self) {
        debug_assert_eq!(Arc::strong_count(&self.lock), 1);
        // SAFETY: the owner has revoked all its grants, or keeps the cache for ever.
        unsafe { (self.table.destroy_cache)(self.table.this(), self.cache.as_ptr()) };
    }
}
