//! SHARED_INFO v2–v4: the page shared with Xen: two-level event channel bits and the wall clock.

use crate::{AcquireFn, Boolean, Guid, Interface, ReleaseFn, This};
use core::ffi::c_void;

/// GUID_XENBUS_SHARED_INFO_INTERFACE.
pub const GUID: Guid = Guid::new(0x7E73C34F_1640_4649_A8F3_263BC930A004);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 2;
/// Newest version.
pub const VERSION_MAX: u16 = 4;

/// Argument, port: called for each pending and unmasked port.
pub type EventFunction = unsafe extern "win64" fn(*mut c_void, u32) -> Boolean;
/// NT processor index: whether a vcpu_info is known for it. Any IRQL.
pub type UpcallSupported = unsafe extern "win64" fn(This, u32) -> Boolean;
/// NT processor index: exchanges the upcall-pending flag with 0. Any IRQL.
pub type UpcallPending = unsafe extern "win64" fn(This, u32) -> Boolean;
/// NT processor index, function, argument: scans for events. In the upcall.
pub type EvtchnPoll = unsafe extern "win64" fn(This, u32, EventFunction, *mut c_void) -> Boolean;
/// Port: clears the pending, or sets the mask bit. Any IRQL.
pub type EvtchnBit = unsafe extern "win64" fn(This, u32);
/// Port: clears the mask bit and tells whether the pending bit is set. Any IRQL.
pub type EvtchnUnmask = unsafe extern "win64" fn(This, u32) -> Boolean;
/// Wall clock in 100 ns since 1601. Any IRQL.
pub type GetTimeV2 = unsafe extern "win64" fn(This) -> i64;
/// Out wall clock in 100 ns since 1601, optional out whether the clock keeps local time. IRQL ≤ DISPATCH_LEVEL.
pub type GetTimeV3 = unsafe extern "win64" fn(This, *mut i64, *mut Boolean);

/// XENBUS_SHARED_INFO_INTERFACE_V2.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct SharedInfoV2 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub upcall_pending: UpcallPending,
    pub evtchn_poll: EvtchnPoll,
    pub evtchn_ack: EvtchnBit,
    pub evtchn_mask: EvtchnBit,
    pub evtchn_unmask: EvtchnUnmask,
    pub get_time: GetTimeV2,
}
crate::table!(SharedInfoV2, "SHARED_INFO", GUID, version 2, slots 8);

/// XENBUS_SHARED_INFO_INTERFACE_V3: GetTime tells about local time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct SharedInfoV3 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub upcall_pending: UpcallPending,
    pub evtchn_poll: EvtchnPoll,
    pub evtchn_ack: EvtchnBit,
    pub evtchn_mask: EvtchnBit,
    pub evtchn_unmask: EvtchnUnmask,
    pub get_time: GetTimeV3,
}
crate::table!(SharedInfoV3, "SHARED_INFO", GUID, version 3, slots 8);

/// XENBUS_SHARED_INFO_INTERFACE_V4: UpcallSupported.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct SharedInfoV4 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub upcall_supported: UpcallSupported,
    pub upcall_pending: UpcallPending,
    pub evtchn_poll: EvtchnPoll,
    pub evtchn_ack: EvtchnBit,
    pub evtchn_mask: EvtchnBit,
    pub evtchn_unmask: EvtchnUnmask,
    pub get_time: GetTimeV3,
}
crate::table!(SharedInfoV4, "SHARED_INFO", GUID, version 4, slots 9);
