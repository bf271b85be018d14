//! SUSPEND v1: callbacks around a suspend, resume or migration of the domain.

use crate::{AcquireFn, Guid, Interface, NtStatus, ReleaseFn, This};
use core::ffi::c_void;

/// GUID_XENBUS_SUSPEND_INTERFACE.
pub const GUID: Guid = Guid::new(0x0554F2AF_B510_4C71_AC03_1C503E394238);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 1;
/// Newest version.
pub const VERSION_MAX: u16 = 1;

crate::opaque! {
    /// XENBUS_SUSPEND_CALLBACK.
    SuspendCallback
}

/// XENBUS_SUSPEND_CALLBACK_TYPE: on CPU 0 at HIGH_LEVEL with interrupts off, every other CPU spinning.
pub const CALLBACK_EARLY: u32 = 1;
/// XENBUS_SUSPEND_CALLBACK_TYPE: on CPU 0 at DISPATCH_LEVEL, every other CPU captured.
pub const CALLBACK_LATE: u32 = 2;

/// Argument. May neither block nor allocate pageable memory nor wait for another CPU.
pub type SuspendFunction = unsafe extern "win64" fn(*mut c_void);
/// Type, function, argument, out callback. Callbacks run in the order of registration. IRQL ≤ DISPATCH_LEVEL.
pub type Register = unsafe extern "win64" fn(
    This,
    u32,
    SuspendFunction,
    *mut c_void,
    *mut *mut SuspendCallback,
) -> NtStatus;
/// IRQL ≤ DISPATCH_LEVEL.
pub type Deregister = unsafe extern "win64" fn(This, *mut SuspendCallback);
/// Suspends the domain and returns after its resumption, also when Xen cancelled. PASSIVE_LEVEL.
pub type Trigger = unsafe extern "win64" fn(This) -> NtStatus;
/// A number that changes whenever the domain was suspended and resumed. Any IRQL.
pub type GetCount = unsafe extern "win64" fn(This) -> u32;

/// XENBUS_SUSPEND_INTERFACE_V1.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct SuspendV1 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub register: Register,
    pub deregister: Deregister,
    pub trigger: Trigger,
    pub get_count: GetCount,
}
crate::table!(SuspendV1, "SUSPEND", GUID, version 1, slots 6);
