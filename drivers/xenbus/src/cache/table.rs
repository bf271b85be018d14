//! The call tables of CACHE, versions 1 and 2.
//!
//! Every method's duty: `this` is a table that this driver filled in, a cache is a handle that Create gave and Destroy has
//! not taken, an object is one that Get gave, and other pointers are what the table's documentation says.

use super::{Cache, Client};
use crate::bus::{context, give_back};
use crate::range_set::check_name;
use alloc::sync::Arc;
use core::ffi::{c_char, c_void};
use nt::NtStatus;
use pv_interfaces::cache::{Cache as Handle, CacheV1, CacheV2, Ctor, Dtor, LockFn};
use pv_interfaces::{Interface, This};

/// The call table of version 1.
pub const V1: CacheV1 = CacheV1 {
    header: Interface::EMPTY,
    acquire,
    release,
    create: create_v1,
    get,
    put,
    destroy,
};
/// The call table of version 2.
pub const V2: CacheV2 = CacheV2 {
    header: Interface::EMPTY,
    acquire,
    release,
    create: create_v2,
    get,
    put,
    destroy,
};

unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: see the top; the same in every method.
    unsafe { context(this) }.caches.references.acquire();
    NtStatus::SUCCESS.0
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see the top.
    give_back(&unsafe { context(this) }.caches.references);
}

unsafe extern "win64" fn create_v1(
    this: This,
    name: *const c_char,
    size: u32,
    reservation: u32,
    construct: Ctor,
    destruct: Dtor,
    acquire_lock: LockFn,
    release_lock: LockFn,
    argument: *mut c_void,
    out: *mut *mut Handle,
) -> i32 {
    // SAFETY: see the top.
    unsafe {
        create_v2(
            this,
            name,
            size,
            reservation,
            0,
            construct,
            destruct,
            acquire_lock,
            release_lock,
            argument,
            out,
        )
    }
}

unsafe extern "win64" fn create_v2(
    this: This,
    name: *const c_char,
    size: u32,
    reservation: u32,
    cap: u32,
    construct: Ctor,
    destruct: Dtor,
    acquire_lock: LockFn,
    release_lock: LockFn,
    argument: *mut c_void,
    out: *mut *mut Handle,
) -> i32 {
    let client = Client {
        construct,
        destruct,
        acquire_lock,
        release_lock,
        argument,
    };
    // SAFETY: see the top.
    let caches = &unsafe { context(this) }.caches;
    // SAFETY: see the top.
    let cache =
        unsafe { check_name(name) }.and_then(|()| caches.create(size, reservation, cap, client));
    NtStatus::from(cache.map(|cache| {
        // SAFETY: an out parameter of the caller.
        unsafe { out.write(Arc::into_raw(cache).cast_mut().cast()) }
    }))
    .0
}

/// The cache behind a handle.
///
/// # Safety
/// See the top.
unsafe fn cache<'a>(handle: *mut Handle) -> &'a Cache {
    // SAFETY: Create gave a reference away, which Destroy takes back.
    unsafe { &*handle.cast() }
}

unsafe extern "win64" fn get(_: This, handle: *mut Handle, locked: u8) -> *mut c_void {
    // SAFETY: see the top.
    let object = unsafe { cache(handle) }.get(locked != 0);
    object.map_or(core::ptr::null_mut(), core::ptr::NonNull::as_ptr)
}

unsafe extern "win64" fn put(_: This, handle: *mut Handle, object: *mut c_void, _locked: u8) {
    // SAFETY: see the top.
    let cache = unsafe { cache(handle) };
    // SAFETY: see the top.
    unsafe { cache.put(object) };
}

unsafe extern "win64" fn destroy(this: This, handle: *mut Handle) {
    // SAFETY: Create gave this reference away, and the client does not use it any more.
    let cache = unsafe { Arc::from_raw(handle.cast_const().cast::<Cache>()) };
    // SAFETY: see the top.
    unsafe { context(this) }.caches.destroy(cache);
}
