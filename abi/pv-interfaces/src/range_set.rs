//! RANGE_SET v1: sets of 64-bit integers kept as disjoint ranges. All methods at IRQL ≤ DISPATCH_LEVEL.

use crate::{AcquireFn, Guid, Interface, NtStatus, ReleaseFn, This};
use core::ffi::c_char;

/// GUID_XENBUS_RANGE_SET_INTERFACE.
pub const GUID: Guid = Guid::new(0xEE7E78A2_6847_48C5_B123_BB012F0EABF4);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 1;
/// Newest version.
pub const VERSION_MAX: u16 = 1;

crate::opaque! {
    /// XENBUS_RANGE_SET.
    RangeSet
}

/// Name (fewer than 128 characters), out set.
pub type Create = unsafe extern "win64" fn(This, *const c_char, *mut *mut RangeSet) -> NtStatus;
/// Set, start, count: adds a range, which must not overlap.
pub type Put = unsafe extern "win64" fn(This, *mut RangeSet, i64, u64) -> NtStatus;
/// Set, count, out start: removes the lowest run of that many consecutive items.
pub type Pop = unsafe extern "win64" fn(This, *mut RangeSet, u64, *mut i64) -> NtStatus;
/// Set, start, count: removes exactly that range, which must be present.
pub type Get = unsafe extern "win64" fn(This, *mut RangeSet, i64, u64) -> NtStatus;
/// Frees an empty set.
pub type Destroy = unsafe extern "win64" fn(This, *mut RangeSet);

/// XENBUS_RANGE_SET_INTERFACE_V1.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct RangeSetV1 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub create: Create,
    pub put: Put,
    pub pop: Pop,
    pub get: Get,
    pub destroy: Destroy,
}
crate::table!(RangeSetV1, "RANGE_SET", GUID, version 1, slots 7);
