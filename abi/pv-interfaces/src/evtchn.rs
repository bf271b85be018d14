//! EVTCHN v5–v9: event channels. After a suspend every channel is inactive and its owner closes and opens it again.

use crate::{AcquireFn, Boolean, Guid, Interface, NtStatus, ReleaseFn, This};
use core::ffi::c_void;

/// GUID_XENBUS_EVTCHN_INTERFACE.
pub const GUID: Guid = Guid::new(0xBE2440AC_1098_4150_AF4D_452FADCEF923);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 5;
/// Newest version.
pub const VERSION_MAX: u16 = 9;

/// XENBUS_EVTCHN_TYPE: a port which the toolstack bound. Further arguments of Open: u32 local port, BOOLEAN mask.
pub const TYPE_FIXED: u32 = 1;
/// XENBUS_EVTCHN_TYPE: a new unbound port. Further arguments of Open: u16 remote domain, BOOLEAN mask.
pub const TYPE_UNBOUND: u32 = 2;
/// XENBUS_EVTCHN_TYPE: binds to a remote port. Further arguments of Open: u16 remote domain, u32 remote port,
/// BOOLEAN mask.
pub const TYPE_INTER_DOMAIN: u32 = 3;
/// XENBUS_EVTCHN_TYPE: a virtual interrupt. Further arguments of Open: u32 index; from v9 on also u16 processor
/// group and u8 number in the group.
pub const TYPE_VIRQ: u32 = 4;

crate::opaque! {
    /// XENBUS_EVTCHN_CHANNEL.
    Channel
}

/// `KSERVICE_ROUTINE`: null, argument. Runs at the device's interrupt level on the channel's CPU.
pub type ServiceRoutine = unsafe extern "win64" fn(*mut c_void, *mut c_void) -> Boolean;
/// Type, function, argument, then by type. Null when it fails. IRQL ≤ DISPATCH_LEVEL.
pub type Open =
    unsafe extern "win64" fn(This, u32, ServiceRoutine, *mut c_void, ...) -> *mut Channel;
/// Channel, processor group, number in the group. IRQL ≤ DISPATCH_LEVEL.
pub type Bind = unsafe extern "win64" fn(This, *mut Channel, u16, u8) -> NtStatus;
/// Channel, whether called from the channel's callback.
pub type UnmaskV4 = unsafe extern "win64" fn(This, *mut Channel, Boolean);
/// Channel, whether called from the channel's callback, force. TRUE when an event was pending and the caller has to
/// handle it.
pub type UnmaskV8 = unsafe extern "win64" fn(This, *mut Channel, Boolean, Boolean) -> Boolean;
/// v1 form: IRQL ≤ DISPATCH_LEVEL. v6 form: the caller is at DISPATCH_LEVEL or above.
pub type Send = unsafe extern "win64" fn(This, *mut Channel);
/// Runs the callback as if an event had arrived. IRQL ≤ DISPATCH_LEVEL.
pub type Trigger = unsafe extern "win64" fn(This, *mut Channel);
/// Events delivered so far. Any IRQL.
pub type GetCount = unsafe extern "win64" fn(This, *mut Channel) -> u32;
/// Channel, timeout (100 ns; null is for ever, negative is relative): until one more event than at the call.
pub type WaitV5 = unsafe extern "win64" fn(This, *mut Channel, *const i64) -> NtStatus;
/// Channel, count, timeout (100 ns; null is for ever, negative is relative): until GetCount has reached count.
pub type WaitV7 = unsafe extern "win64" fn(This, *mut Channel, u32, *const i64) -> NtStatus;
/// The local port's number. Any IRQL.
pub type GetPort = unsafe extern "win64" fn(This, *mut Channel) -> u32;
/// The handle is invalid at once; the callback may still be running. IRQL ≤ DISPATCH_LEVEL.
pub type Close = unsafe extern "win64" fn(This, *mut Channel);

/// XENBUS_EVTCHN_INTERFACE_V5.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct EvtchnV5 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub open: Open,
    pub bind: Bind,
    pub unmask: UnmaskV4,
    pub send: Send,
    pub trigger: Trigger,
    pub wait: WaitV5,
    pub get_port: GetPort,
    pub close: Close,
}
crate::table!(EvtchnV5, "EVTCHN", GUID, version 5, slots 10);

/// XENBUS_EVTCHN_INTERFACE_V6: Send asks for DISPATCH_LEVEL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct EvtchnV6 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub open: Open,
    pub bind: Bind,
    pub unmask: UnmaskV4,
    pub send: Send,
    pub trigger: Trigger,
    pub wait: WaitV5,
    pub get_port: GetPort,
    pub close: Close,
}
crate::table!(EvtchnV6, "EVTCHN", GUID, version 6, slots 10);

/// XENBUS_EVTCHN_INTERFACE_V7: waits for a count.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct EvtchnV7 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub open: Open,
    pub bind: Bind,
    pub unmask: UnmaskV4,
    pub send: Send,
    pub trigger: Trigger,
    pub get_count: GetCount,
    pub wait: WaitV7,
    pub get_port: GetPort,
    pub close: Close,
}
crate::table!(EvtchnV7, "EVTCHN", GUID, version 7, slots 11);

/// XENBUS_EVTCHN_INTERFACE_V8: Unmask reports a pending event.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct EvtchnV8 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub open: Open,
    pub bind: Bind,
    pub unmask: UnmaskV8,
    pub send: Send,
    pub trigger: Trigger,
    pub get_count: GetCount,
    pub wait: WaitV7,
    pub get_port: GetPort,
    pub close: Close,
}
crate::table!(EvtchnV8, "EVTCHN", GUID, version 8, slots 11);

/// XENBUS_EVTCHN_INTERFACE_V9: Open of a VIRQ takes a processor.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct EvtchnV9 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub open: Open,
    pub bind: Bind,
    pub unmask: UnmaskV8,
    pub send: Send,
    pub trigger: Trigger,
    pub get_count: GetCount,
    pub wait: WaitV7,
    pub get_port: GetPort,
    pub close: Close,
}
crate::table!(EvtchnV9, "EVTCHN", GUID, version 9, slots 11);
