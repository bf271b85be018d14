//! EMULATED v1–v3, provided by xenfilt: which emulated devices are present. All methods at IRQL ≤ DISPATCH_LEVEL.

use crate::{AcquireFn, Boolean, Guid, Interface, ReleaseFn, This};
use core::ffi::c_char;

/// GUID_XENFILT_EMULATED_INTERFACE.
pub const GUID: Guid = Guid::new(0x959027A1_FCCE_4E78_BCF4_637384F499C5);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 1;
/// Newest version.
pub const VERSION_MAX: u16 = 3;

/// XENBUS_EMULATED_ACTIVATION_STATUS: no precedence is configured.
pub const NEUTRAL: u32 = 0;
/// XENBUS_EMULATED_ACTIVATION_STATUS: this device is to be the active one.
pub const FORCE_ACTIVATED: u32 = 1;
/// XENBUS_EMULATED_ACTIVATION_STATUS: another device is to be the active one.
pub const FORCE_DEACTIVATED: u32 = 2;

/// Device ID (case-insensitive), optional instance ID.
pub type IsDevicePresentV1 =
    unsafe extern "win64" fn(This, *const c_char, *const c_char) -> Boolean;
/// Optional device ID (null matches the force-activated device), optional instance ID, optional out status.
pub type IsDevicePresentV3 =
    unsafe extern "win64" fn(This, *const c_char, *const c_char, *mut u32) -> Boolean;
/// Controller, target (taken as the disk index), lun.
pub type IsDiskPresentV1 = unsafe extern "win64" fn(This, u32, u32, u32) -> Boolean;
/// Disk index.
pub type IsDiskPresentV2 = unsafe extern "win64" fn(This, u32) -> Boolean;

/// XENFILT_EMULATED_INTERFACE_V1.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct EmulatedV1 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub is_device_present: IsDevicePresentV1,
    pub is_disk_present: IsDiskPresentV1,
}
crate::table!(EmulatedV1, "EMULATED", GUID, version 1, slots 4);

/// XENFILT_EMULATED_INTERFACE_V2: disks by index.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct EmulatedV2 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub is_device_present: IsDevicePresentV1,
    pub is_disk_present: IsDiskPresentV2,
}
crate::table!(EmulatedV2, "EMULATED", GUID, version 2, slots 4);

/// XENFILT_EMULATED_INTERFACE_V3: forced activation.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct EmulatedV3 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub is_device_present: IsDevicePresentV3,
    pub is_disk_present: IsDiskPresentV2,
}
crate::table!(EmulatedV3, "EMULATED", GUID, version 3, slots 4);
