//! CACHE v1–v2: a slab allocator of constructed objects with per-CPU magazines. All methods at IRQL ≤ DISPATCH_LEVEL.

use crate::{AcquireFn, Boolean, Guid, Interface, NtStatus, ReleaseFn, This};
use core::ffi::{c_char, c_void};

/// GUID_XENBUS_CACHE_INTERFACE.
pub const GUID: Guid = Guid::new(0xA98DFD78_416A_4949_92A5_E084F2F4B44E);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 1;
/// Newest version.
pub const VERSION_MAX: u16 = 2;

crate::opaque! {
    /// XENBUS_CACHE.
    Cache
}

/// Constructs an object: argument, object (zeroed once, of the size given to Create).
pub type Ctor = unsafe extern "win64" fn(*mut c_void, *mut c_void) -> NtStatus;
/// Destructs an object: argument, object.
pub type Dtor = unsafe extern "win64" fn(*mut c_void, *mut c_void);
/// Takes or drops the client's lock: argument. Called at DISPATCH_LEVEL, must not change the IRQL.
pub type LockFn = unsafe extern "win64" fn(*mut c_void);

/// v1: name, size, reservation, ctor, dtor, acquire lock, release lock, argument, out cache.
pub type CreateV1 = unsafe extern "win64" fn(
    This,
    *const c_char,
    u32,
    u32,
    Ctor,
    Dtor,
    LockFn,
    LockFn,
    *mut c_void,
    *mut *mut Cache,
) -> NtStatus;
/// v2: name, size, reservation, cap (0 is unlimited), ctor, dtor, acquire lock, release lock, argument, out cache.
pub type CreateV2 = unsafe extern "win64" fn(
    This,
    *const c_char,
    u32,
    u32,
    u32,
    Ctor,
    Dtor,
    LockFn,
    LockFn,
    *mut c_void,
    *mut *mut Cache,
) -> NtStatus;
/// Cache, whether the caller already holds the client's lock. Null when there is no object to be had.
pub type Get = unsafe extern "win64" fn(This, *mut Cache, Boolean) -> *mut c_void;
/// Cache, object, whether the caller already holds the client's lock. The object stays constructed.
pub type Put = unsafe extern "win64" fn(This, *mut Cache, *mut c_void, Boolean);
/// Frees a cache to which every object has been returned.
pub type Destroy = unsafe extern "win64" fn(This, *mut Cache);

/// XENBUS_CACHE_INTERFACE_V1.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct CacheV1 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub create: CreateV1,
    pub get: Get,
    pub put: Put,
    pub destroy: Destroy,
}
crate::table!(CacheV1, "CACHE", GUID, version 1, slots 6);

/// XENBUS_CACHE_INTERFACE_V2: Create gains a cap.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct CacheV2 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub create: CreateV2,
    pub get: Get,
    pub put: Put,
    pub destroy: Destroy,
}
crate::table!(CacheV2, "CACHE", GUID, version 2, slots 6);
