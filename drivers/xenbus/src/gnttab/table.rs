//! The call tables of GNTTAB, versions 2 to 4.
//!
//! Every method's duty: `this` is a table that this driver filled in, caches and entries are handles that the table gave,
//! and other pointers are what the table's documentation says.

use super::{Entry, GrantCache};
use crate::bus::{context, give_back};
use crate::range_set::check_name;
use alloc::boxed::Box;
use core::ffi::{c_char, c_void};
use core::ptr::NonNull;
use gnttab::Access;
use nt::{NtStatus, Result};
use pv_interfaces::cache::LockFn;
use pv_interfaces::gnttab::{
    Entry as EntryHandle, GnttabCache as Handle, GnttabV2, GnttabV3, GnttabV4,
};
use pv_interfaces::{Interface, This};
use xen_abi::{DomId, Gref};

/// The call table of version 2.
pub const V2: GnttabV2 = GnttabV2 {
    header: Interface::EMPTY,
    acquire,
    release,
    create_cache: create_cache_v1,
    permit_foreign_access,
    revoke_foreign_access,
    get_reference,
    destroy_cache,
    map_foreign_pages,
    unmap_foreign_pages,
};
/// The call table of version 3.
pub const V3: GnttabV3 = GnttabV3 {
    header: Interface::EMPTY,
    acquire,
    release,
    create_cache: create_cache_v1,
    permit_foreign_access,
    revoke_foreign_access,
    get_reference,
    query_reference,
    destroy_cache,
    map_foreign_pages,
    unmap_foreign_pages,
};
/// The call table of version 4.
pub const V4: GnttabV4 = GnttabV4 {
    header: Interface::EMPTY,
    acquire,
    release,
    create_cache: create_cache_v4,
    permit_foreign_access,
    revoke_foreign_access,
    get_reference,
    query_reference,
    destroy_cache,
    map_foreign_pages,
    unmap_foreign_pages,
};

fn raw(result: Result<()>) -> i32 {
    NtStatus::from(result).0
}

/// The cache behind a handle.
///
/// # Safety
/// See the top.
unsafe fn grants<'a>(handle: *mut Handle) -> &'a GrantCache {
    // SAFETY: CreateCache gave a box away, which DestroyCache takes back.
    unsafe { &*handle.cast() }
}

unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: see the top; the same in every method.
    let gnttab = &unsafe { context(this) }.gnttab;
    raw(gnttab.running.need().map(|_| gnttab.references.acquire()))
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see the top.
    give_back(&unsafe { context(this) }.gnttab.references);
}

unsafe extern "win64" fn create_cache_v1(
    this: This,
    name: *const c_char,
    reservation: u32,
    acquire_lock: LockFn,
    release_lock: LockFn,
    argument: *mut c_void,
    out: *mut *mut Handle,
) -> i32 {
    // SAFETY: see the top.
    unsafe {
        create_cache_v4(
            this,
            name,
            reservation,
            0,
            acquire_lock,
            release_lock,
            argument,
            out,
        )
    }
}

unsafe extern "win64" fn create_cache_v4(
    this: This,
    name: *const c_char,
    reservation: u32,
    cap: u32,
    acquire_lock: LockFn,
    release_lock: LockFn,
    argument: *mut c_void,
    out: *mut *mut Handle,
) -> i32 {
    // SAFETY: see the top.
    let bus = unsafe { context(this) };
    // SAFETY: see the top.
    let grants = unsafe { check_name(name) }.and_then(|()| {
        GrantCache::new(bus, reservation, cap, acquire_lock, release_lock, argument)
    });
    raw(grants.map(|grants| {
        // SAFETY: an out parameter of the caller.
        unsafe { out.write(Box::into_raw(grants).cast()) }
    }))
}

unsafe extern "win64" fn permit_foreign_access(
    _: This,
    handle: *mut Handle,
    locked: u8,
    domain: u16,
    pfn: u64,
    read_only: u8,
    out: *mut *mut EntryHandle,
) -> i32 {
    let access = if read_only != 0 {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    // SAFETY: see the top.
    let permitted = unsafe { grants(handle) }.permit(locked != 0, DomId(domain), pfn, access);
    raw(permitted.map(|entry| {
        // SAFETY: an out parameter of the caller.
        unsafe { out.write(entry.as_ptr().cast()) }
    }))
}

unsafe extern "win64" fn revoke_foreign_access(
    _: This,
    handle: *mut Handle,
    _locked: u8,
    entry: *mut EntryHandle,
) -> i32 {
    let Some(entry) = NonNull::new(entry.cast::<Entry>()) else {
        return NtStatus::INVALID_PARAMETER.0;
    };
    // SAFETY: see the top.
    let grants = unsafe { grants(handle) };
    // SAFETY: see the top.
    raw(unsafe { grants.revoke(entry) })
}

unsafe extern "win64" fn get_reference(_: This, entry: *mut EntryHandle) -> u32 {
    // SAFETY: see the top; the number does not change while the client holds the entry.
    unsafe { (*entry.cast::<Entry>()).gref.0 }
}

unsafe extern "win64" fn query_reference(
    this: This,
    reference: u32,
    pfn: *mut u64,
    read_only: *mut u8,
) -> i32 {
    // SAFETY: see the top.
    let granted = unsafe { context(this) }.gnttab.query(Gref(reference));
    raw(granted.map(|granted| {
        if !pfn.is_null() {
            // SAFETY: an out parameter of the caller.
            unsafe { pfn.write(granted.map_or(0, |granted| granted.frame.into())) };
        }
        if !read_only.is_null() {
            let only = granted.is_some_and(|granted| granted.access == Access::ReadOnly);
            // SAFETY: an out parameter of the caller.
            unsafe { read_only.write(only.into()) };
        }
    }))
}

unsafe extern "win64" fn destroy_cache(this: This, handle: *mut Handle) {
    // SAFETY: see the top.
    let bus = unsafe { context(this) };
    // SAFETY: CreateCache gave this box away, and the client does not use it any more.
    let mut grants = unsafe { Box::from_raw(handle.cast::<GrantCache>()) };
    if grants
        .cache
        .take()
        .is_some_and(|cache| !bus.caches.destroy(cache))
    {
        // Entries that are still out refer to it.
        let _kept = Box::into_raw(grants);
    }
}

unsafe extern "win64" fn map_foreign_pages(
    this: This,
    domain: u16,
    count: u32,
    references: *const u32,
    read_only: u8,
    address: *mut u64,
) -> i32 {
    if references.is_null() || count == 0 {
        return NtStatus::INVALID_PARAMETER.0;
    }
    // SAFETY: see the top.
    let references = unsafe { core::slice::from_raw_parts(references, count as usize) };
    // SAFETY: see the top.
    let gnttab = &unsafe { context(this) }.gnttab;
    raw(gnttab
        .map_foreign(DomId(domain), references, read_only != 0)
        .map(|first| {
            // SAFETY: an out parameter of the caller.
            unsafe { address.write(first) }
        }))
}

unsafe extern "win64" fn unmap_foreign_pages(this: This, address: u64) -> i32 {
    // SAFETY: see the top.
    raw(unsafe { context(this) }.gnttab.unmap_foreign(address))
}
