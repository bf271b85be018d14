//! RANGE_SET: sets of 64-bit integers for clients.
//!
//! Every method's duty: `this` is a table that this driver filled in, a set is a handle that Create gave and Destroy has not
//! taken, and other pointers are what the table's documentation says.

use crate::bus::{context, give_back};
use crate::cstr::cstr;
use alloc::boxed::Box;
use core::ffi::c_char;
use nt::{NtStatus, Result, SpinLock, try_box};
use pv_interfaces::range_set::{RangeSet as Handle, RangeSetV1};
use pv_interfaces::{Interface, This};
use range_set::{Error, RangeSet};

/// A name must be shorter than this.
const NAME: usize = 128;

/// The call table.
pub const V1: RangeSetV1 = RangeSetV1 {
    header: Interface::EMPTY,
    acquire,
    release,
    create,
    put,
    pop,
    get,
    destroy,
};

fn status_of(error: Error) -> NtStatus {
    match error {
        Error::Malformed | Error::Overlap => NtStatus::INVALID_PARAMETER,
        Error::Absent => NtStatus::UNSUCCESSFUL,
        Error::Exhausted => NtStatus::INSUFFICIENT_RESOURCES,
        Error::NoMemory => NtStatus::NO_MEMORY,
    }
}

/// Whether a name that a client gives is a legal one.
///
/// # Safety
/// It is null or NUL-terminated.
pub unsafe fn check_name(name: *const c_char) -> Result<()> {
    // SAFETY: the caller's duty.
    match unsafe { cstr(name) } {
        Some(name) if name.len() < NAME => Ok(()),
        Some(_) => Err(NtStatus::INVALID_BUFFER_SIZE),
        None => Err(NtStatus::INVALID_PARAMETER),
    }
}

/// The set behind a handle.
///
/// # Safety
/// See the top.
unsafe fn set<'a>(handle: *mut Handle) -> &'a SpinLock<RangeSet> {
    // SAFETY: Create gave a box away, which Destroy takes back.
    unsafe { &*handle.cast() }
}

unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: see the top; the same in every method.
    unsafe { context(this) }.range_sets.acquire();
    NtStatus::SUCCESS.0
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see the top.
    give_back(&unsafe { context(this) }.range_sets);
}

unsafe extern "win64" fn create(_: This, name: *const c_char, out: *mut *mut Handle) -> i32 {
    // SAFETY: see the top.
    let set = unsafe { check_name(name) }.and_then(|()| try_box(SpinLock::new(RangeSet::new())));
    NtStatus::from(set.map(|set| {
        // SAFETY: an out parameter of the caller.
        unsafe { out.write(Box::into_raw(set).cast()) }
    }))
    .0
}

unsafe extern "win64" fn put(_: This, handle: *mut Handle, start: i64, count: u64) -> i32 {
    // SAFETY: see the top.
    let put = unsafe { set(handle) }.lock().put(start, count);
    NtStatus::from(put.map_err(status_of)).0
}

unsafe extern "win64" fn pop(_: This, handle: *mut Handle, count: u64, out: *mut i64) -> i32 {
    // SAFETY: see the top.
    let popped = unsafe { set(handle) }.lock().pop(count);
    NtStatus::from(popped.map_err(status_of).map(|start| {
        // SAFETY: an out parameter of the caller.
        unsafe { out.write(start) }
    }))
    .0
}

unsafe extern "win64" fn get(_: This, handle: *mut Handle, start: i64, count: u64) -> i32 {
    // SAFETY: see the top.
    let got = unsafe { set(handle) }.lock().get(start, count);
    NtStatus::from(got.map_err(status_of)).0
}

unsafe extern "win64" fn destroy(_: This, handle: *mut Handle) {
    // SAFETY: Create gave this box away, and the client does not use it any more.
    let set = unsafe { Box::from_raw(handle.cast::<SpinLock<RangeSet>>()) };
    if !set.lock().is_empty() {
        nt::warning!("a set is destroyed with items in it");
    }
}
