//! DEBUG v1: callbacks that dump a driver's state on the debug key (VIRQ_DEBUG) and on a bug check.

use crate::{AcquireFn, Boolean, Guid, Interface, NtStatus, ReleaseFn, This};
use core::ffi::{c_char, c_void};

/// GUID_XENBUS_DEBUG_INTERFACE.
pub const GUID: Guid = Guid::new(0x0DF600AE_6B20_4227_BF94_03DA9A26A114);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 1;
/// Newest version.
pub const VERSION_MAX: u16 = 1;

crate::opaque! {
    /// XENBUS_DEBUG_CALLBACK.
    DebugCallback
}

/// Argument, whether the machine is crashing. Always called at HIGH_LEVEL.
pub type DebugFunction = unsafe extern "win64" fn(*mut c_void, Boolean);
/// Prefix (copied, at most 31 characters), function, argument, out callback. IRQL ≤ DISPATCH_LEVEL.
pub type Register = unsafe extern "win64" fn(
    This,
    *const c_char,
    DebugFunction,
    *mut c_void,
    *mut *mut DebugCallback,
) -> NtStatus;
/// Format and arguments. Only inside a callback.
pub type Printf = unsafe extern "win64" fn(This, *const c_char, ...);
/// Runs one callback, or all when null, as not crashing. Any IRQL.
pub type Trigger = unsafe extern "win64" fn(This, *mut DebugCallback);
/// IRQL ≤ DISPATCH_LEVEL.
pub type Deregister = unsafe extern "win64" fn(This, *mut DebugCallback);

/// XENBUS_DEBUG_INTERFACE_V1.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct DebugV1 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub register: Register,
    pub printf: Printf,
    pub trigger: Trigger,
    pub deregister: Deregister,
}
crate::table!(DebugV1, "DEBUG", GUID, version 1, slots 6);
