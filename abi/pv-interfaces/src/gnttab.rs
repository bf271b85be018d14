//! GNTTAB v2–v4: granting pages to other domains, and mapping theirs.

use crate::cache::LockFn;
use crate::{AcquireFn, Boolean, Guid, Interface, NtStatus, ReleaseFn, This};
use core::ffi::{c_char, c_void};

/// GUID_XENBUS_GNTTAB_INTERFACE.
pub const GUID: Guid = Guid::new(0x763679C5_E5C2_4A6D_8B88_6BB02EC42D8E);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 2;
/// Newest version.
pub const VERSION_MAX: u16 = 4;

/// XENBUS_GNTTAB_CONSOLE_REFERENCE: the console ring's page.
pub const CONSOLE_REFERENCE: u32 = 0;
/// XENBUS_GNTTAB_STORE_REFERENCE: the xenstore ring's page.
pub const STORE_REFERENCE: u32 = 1;

crate::opaque! {
    /// XENBUS_GNTTAB_CACHE.
    GnttabCache
}
crate::opaque! {
    /// XENBUS_GNTTAB_ENTRY.
    Entry
}

/// Up to v3: name, reservation, acquire lock, release lock, argument, out cache. IRQL ≤ DISPATCH_LEVEL.
pub type CreateCacheV1 = unsafe extern "win64" fn(
    This,
    *const c_char,
    u32,
    LockFn,
    LockFn,
    *mut c_void,
    *mut *mut GnttabCache,
) -> NtStatus;
/// v4: name, reservation, cap (0 is unlimited), acquire lock, release lock, argument, out cache.
/// IRQL ≤ DISPATCH_LEVEL.
pub type CreateCacheV4 = unsafe extern "win64" fn(
    This,
    *const c_char,
    u32,
    u32,
    LockFn,
    LockFn,
    *mut c_void,
    *mut *mut GnttabCache,
) -> NtStatus;
/// Cache, whether the client's lock is held, domain, page frame number, read-only, out entry. IRQL ≤ DISPATCH_LEVEL.
pub type PermitForeignAccess = unsafe extern "win64" fn(
    This,
    *mut GnttabCache,
    Boolean,
    u16,
    u64,
    Boolean,
    *mut *mut Entry,
) -> NtStatus;
/// Cache, whether the client's lock is held, entry. A failure means that the other domain still uses the page; the
/// entry stays allocated. IRQL ≤ DISPATCH_LEVEL.
pub type RevokeForeignAccess =
    unsafe extern "win64" fn(This, *mut GnttabCache, Boolean, *mut Entry) -> NtStatus;
/// The grant reference of an entry. Any IRQL.
pub type GetReference = unsafe extern "win64" fn(This, *mut Entry) -> u32;
/// Reference, optional out page frame number, optional out read-only. Any IRQL.
pub type QueryReference = unsafe extern "win64" fn(This, u32, *mut u64, *mut Boolean) -> NtStatus;
/// IRQL ≤ DISPATCH_LEVEL.
pub type DestroyCache = unsafe extern "win64" fn(This, *mut GnttabCache);
/// Domain, number of pages, references, read-only, out guest-physical address. IRQL ≤ DISPATCH_LEVEL.
pub type MapForeignPages =
    unsafe extern "win64" fn(This, u16, u32, *const u32, Boolean, *mut u64) -> NtStatus;
/// Guest-physical address which MapForeignPages answered. IRQL ≤ DISPATCH_LEVEL.
pub type UnmapForeignPages = unsafe extern "win64" fn(This, u64) -> NtStatus;

/// XENBUS_GNTTAB_INTERFACE_V2.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct GnttabV2 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub create_cache: CreateCacheV1,
    pub permit_foreign_access: PermitForeignAccess,
    pub revoke_foreign_access: RevokeForeignAccess,
    pub get_reference: GetReference,
    pub destroy_cache: DestroyCache,
    pub map_foreign_pages: MapForeignPages,
    pub unmap_foreign_pages: UnmapForeignPages,
}
crate::table!(GnttabV2, "GNTTAB", GUID, version 2, slots 9);

/// XENBUS_GNTTAB_INTERFACE_V3: QueryReference.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct GnttabV3 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub create_cache: CreateCacheV1,
    pub permit_foreign_access: PermitForeignAccess,
    pub revoke_foreign_access: RevokeForeignAccess,
    pub get_reference: GetReference,
    pub query_reference: QueryReference,
    pub destroy_cache: DestroyCache,
    pub map_foreign_pages: MapForeignPages,
    pub unmap_foreign_pages: UnmapForeignPages,
}
crate::table!(GnttabV3, "GNTTAB", GUID, version 3, slots 10);

/// XENBUS_GNTTAB_INTERFACE_V4: CreateCache gains a cap.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct GnttabV4 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub create_cache: CreateCacheV4,
    pub permit_foreign_access: PermitForeignAccess,
    pub revoke_foreign_access: RevokeForeignAccess,
    pub get_reference: GetReference,
    pub query_reference: QueryReference,
    pub destroy_cache: DestroyCache,
    pub map_foreign_pages: MapForeignPages,
    pub unmap_foreign_pages: UnmapForeignPages,
}
crate::table!(GnttabV4, "GNTTAB", GUID, version 4, slots 10);
