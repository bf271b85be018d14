//! A storport miniport of a test program: how it is made known and what its adapter is. The test has its requests.
//!
//! ```text
//!   test ── register(build_io, start_io) ──▶ storport ◀── PnP: function(), bound by its IDs
//!        ◀── SRBs ── HwBuildIo, HwStartIo ───┘
//! ```

use std::ptr::null_mut;

use nt_host::cm::{self, Value};
use nt_host::pnp::PciFunction;
use nt_host::pnp::packages::{Inbox, add_inbox};
use nt_sys::storport::{
    HW_INITIALIZATION_DATA, PORT_CONFIGURATION_INFORMATION, SCSI_REQUEST_BLOCK, SP_RETURN_FOUND,
    STOR_MAP_NON_READ_WRITE_BUFFERS,
};
use nt_sys::{BOOLEAN, DRIVER_OBJECT, PCIBus, PVOID};

/// HwResetBus.
pub type Reset = unsafe extern "win64" fn(PVOID, u32) -> BOOLEAN;
/// HwBuildIo and HwStartIo.
pub type Routine = unsafe extern "win64" fn(PVOID, *mut SCSI_REQUEST_BLOCK) -> BOOLEAN;

pub type StorPortSetDeviceQueueDepth = unsafe extern "win64" fn(PVOID, u8, u8, u8, u32) -> BOOLEAN;
type StorPortInitialize = unsafe extern "win64" fn(
    *mut DRIVER_OBJECT,
    PVOID,
    *const HW_INITIALIZATION_DATA,
    PVOID,
) -> i32;
type StorPortNotification = unsafe extern "win64" fn(i32, PVOID, PVOID, PVOID);

/// A function as an import would get it.
///
/// # Safety
/// The export has that type.
pub unsafe fn import<F: Copy>(name: &str) -> F {
    let export = nt_host::export::find("storport.sys", name).expect("an export");
    // SAFETY: the caller's promise.
    unsafe { std::mem::transmute_copy(&export.address) }
}

/// Makes the miniport; on an NT thread.
pub fn register(build_io: Routine, start_io: Routine, reset_bus: Reset) {
    // SCSI's bus type for a miniport is part of its INF.
    cm::write(
        &format!(r"{}\miniport\Parameters\PnpInterface", cm::SERVICES),
        "5",
        Value::dword(1),
    );
    let object = nt_host::io::driver::create_host("miniport");
    // SAFETY: all zero is valid for numbers and missing routines.
    let mut data: HW_INITIALIZATION_DATA = unsafe { std::mem::zeroed() };
    data.HwInitializationDataSize = size_of::<HW_INITIALIZATION_DATA>() as u32;
    data.AdapterInterfaceType = PCIBus;
    data.HwInitialize = Some(initialize);
    data.HwFindAdapter = Some(find_adapter);
    data.HwResetBus = Some(reset_bus);
    data.HwBuildIo = Some(build_io);
    data.HwStartIo = Some(start_io);
    data.DeviceExtensionSize = 64;
    data.SrbExtensionSize = 64;
    data.MapBuffers = STOR_MAP_NON_READ_WRITE_BUFFERS;
    // SAFETY: the function's own type.
    let initialize: StorPortInitialize = unsafe { import("StorPortInitialize") };
    // SAFETY: the driver object and the data live.
    let status = unsafe { initialize(object, null_mut(), &raw const data, null_mut()) };
    assert_eq!(status, 0);
    add_inbox(Inbox {
        id: r"PCI\VEN_1234&DEV_0001",
        service: "miniport",
        class: "SCSIAdapter",
        class_guid: "{4d36e97b-e325-11ce-bfc1-08002be10318}",
        description: "Test adapter",
    });
}

/// The PCI function that the miniport drives.
pub fn function() -> PciFunction {
    let mut config = [0; 256];
    config[..4].copy_from_slice(&[0x34, 0x12, 0x01, 0]);
    PciFunction {
        bus: 0,
        slot: 3 << 3,
        config,
        space: None,
        io_bar: None,
        mem_bar: None,
        gsi: 0,
        messages: None,
    }
}

/// Tells the port driver; `argument` is an SRB where the notification is about one.
pub fn notify(kind: i32, extension: PVOID, argument: PVOID) {
    // SAFETY: the function's own type.
    let notify: StorPortNotification = unsafe { import("StorPortNotification") };
    // SAFETY: the arguments of this notification, or what the case is about.
    unsafe { notify(kind, extension, argument, null_mut()) };
}

unsafe extern "win64" fn initialize(_extension: PVOID) -> BOOLEAN {
    1
}

unsafe extern "win64" fn find_adapter(
    _extension: PVOID,
    _context: PVOID,
    _bus: PVOID,
    _argument: *mut u8,
    config: *mut PORT_CONFIGURATION_INFORMATION,
    _again: *mut BOOLEAN,
) -> u32 {
    // SAFETY: the configuration of the port driver.
    let config = unsafe { &mut *config };
    config.MaximumTransferLength = 128 * 1024;
    config.NumberOfPhysicalBreaks = 31;
    config.NumberOfBuses = 1;
    config.MaximumNumberOfTargets = 8;
    config.MaximumNumberOfLogicalUnits = 1;
    SP_RETURN_FOUND
}
