//! UNPLUG v1–v3: asking for emulated devices to be unplugged at the next boot.

use crate::{AcquireFn, Boolean, Guid, Interface, ReleaseFn, This};
use core::ffi::c_char;

/// GUID_XENBUS_UNPLUG_INTERFACE.
pub const GUID: Guid = Guid::new(0x73DB6517_3D06_4937_989F_199B7501E229);
/// Oldest version still answered.
pub const VERSION_MIN: u16 = 1;
/// Newest version.
pub const VERSION_MAX: u16 = 3;

/// XENBUS_UNPLUG_DEVICE_TYPE: emulated network cards.
pub const TYPE_NICS: u32 = 1;
/// XENBUS_UNPLUG_DEVICE_TYPE: emulated disks.
pub const TYPE_DISKS: u32 = 2;

/// Type, make (else withdraw) a request. PASSIVE_LEVEL.
pub type Request = unsafe extern "win64" fn(This, u32, Boolean);
/// Type: whether this boot unplugged it. PASSIVE_LEVEL.
pub type IsRequested = unsafe extern "win64" fn(This, u32) -> Boolean;
/// Whether the loader option asks for the emulated boot disk. PASSIVE_LEVEL.
pub type BootEmulated = unsafe extern "win64" fn(This) -> Boolean;
/// Files a request for a reboot in the name of a module. PASSIVE_LEVEL.
pub type Reboot = unsafe extern "win64" fn(This, *const c_char);

/// XENBUS_UNPLUG_INTERFACE_V1.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct UnplugV1 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub request: Request,
}
crate::table!(UnplugV1, "UNPLUG", GUID, version 1, slots 3);

/// XENBUS_UNPLUG_INTERFACE_V2: IsRequested.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct UnplugV2 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub request: Request,
    pub is_requested: IsRequested,
}
crate::table!(UnplugV2, "UNPLUG", GUID, version 2, slots 4);

/// XENBUS_UNPLUG_INTERFACE_V3: BootEmulated, Reboot.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct UnplugV3 {
    pub header: Interface,
    pub acquire: AcquireFn,
    pub release: ReleaseFn,
    pub request: Request,
    pub is_requested: IsRequested,
    pub boot_emulated: BootEmulated,
    pub reboot: Reboot,
}
crate::table!(UnplugV3, "UNPLUG", GUID, version 3, slots 6);
