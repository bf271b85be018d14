//! CONSOLE v1: the guest's PV console.

use crate::{AcquireFn, Boolean, Guid, Interface, NtStatus, ReleaseFn, This};
use core::ffi::{c_char, c_void};

/// GUID_XENBUS_CONSOLE_INTERFACE.
pub const GUID: Guid = Guid::new(0x04C4F738_034A_4268_BD20_A92AC90D4F82);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 1;
/// Newest version.
pub const VERSION_MAX: u16 = 1;

crate::opaque! {
    /// XENBUS_CONSOLE_WAKEUP.
    Wakeup
}

/// Whether the input ring has, or the output ring takes, at least one byte. Any IRQL.
pub type CanTransfer = unsafe extern "win64" fn(This) -> Boolean;
/// Moves up to `length` bytes without blocking and returns their number; 0 while disabled. Any IRQL.
pub type Transfer = unsafe extern "win64" fn(This, *mut c_char, u32) -> u32;
/// `PKEVENT` to set on every console event, out wake-up. IRQL ≤ DISPATCH_LEVEL.
pub type WakeupAdd = unsafe extern "win64" fn(This, *mut c_void, *mut *mut Wakeup) -> NtStatus;
/// IRQL ≤ DISPATCH_LEVEL.
pub type WakeupRemove = unsafe extern "win64" fn(This, *mut Wakeup);

/// XENBUS_CONSOLE_INTERFACE_V1. Acquire fails if the toolstack provides no console.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ConsoleV1 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub can_read: CanTransfer,
    pub read: Transfer,
    pub can_write: CanTransfer,
    pub write: Transfer,
    pub wakeup_add: WakeupAdd,
    pub wakeup_remove: WakeupRemove,
}
crate::table!(ConsoleV1, "CONSOLE", GUID, version 1, slots 8);
