//! What NDIS puts into a miniport's driver object: AddDevice and one dispatch routine.

use alloc::collections::BTreeMap;
use core::ptr::null_mut;

use nt_host::io::device::{IoAttachDeviceToDeviceStack, IoCreateDevice, IoDeleteDevice};
use nt_host::io::incoming::Incoming;
use nt_host::pnp::{install as classes, node};
use nt_host::sync::Mutex;
use nt_sys::{
    DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, FILE_DEVICE_SECURE_OPEN, IRP, IRP_MJ_PNP,
    IRP_MJ_POWER, IRP_MJ_SYSTEM_CONTROL, NTSTATUS, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS, UNICODE_STRING,
};

use crate::adapter::Adapter;
use crate::{install, pnp, power, registration};

/// FILE_DEVICE_PHYSICAL_NETCARD (wdm.h).
const FILE_DEVICE_PHYSICAL_NETCARD: u32 = 0x17;

static DEVICES: Mutex<BTreeMap<usize, &'static Adapter>> = Mutex::new(BTreeMap::new());

/// Forgets a device object that is deleted.
pub fn forget(device: *mut DEVICE_OBJECT) {
    DEVICES.lock().remove(&(device as usize));
}

/// Makes the adapter's device and attaches it.
pub unsafe extern "win64" fn add_device(
    object: *mut DRIVER_OBJECT,
    pdo: *mut DEVICE_OBJECT,
) -> NTSTATUS {
    let found = node::by_pdo(pdo).and_then(node::get);
    let (Some(driver), Some(node)) = (registration::find(object), found) else {
        return STATUS_NO_SUCH_DEVICE;
    };
    let Some(software_key) = classes::software_key(&node.instance) else {
        return STATUS_NO_SUCH_DEVICE;
    };
    let name = install::adapter(&software_key, &node.instance);
    let path = alloc::format!("\\Device\\{name}");
    let mut units: alloc::vec::Vec<u16> = path.encode_utf16().collect();
    let bytes = (units.len() * 2) as u16;
    let name = UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: units.as_mut_ptr(),
    };
    let mut fdo = null_mut();
    // SAFETY: the miniport's driver object, a valid name, and a place for the result.
    let status = unsafe {
        IoCreateDevice(
            object,
            0,
            &raw const name,
            FILE_DEVICE_PHYSICAL_NETCARD,
            FILE_DEVICE_SECURE_OPEN,
            0,
            &raw mut fdo,
        )
    };
    if status != STATUS_SUCCESS {
        return status;
    }
    // SAFETY: both devices live.
    let lower = unsafe { IoAttachDeviceToDeviceStack(fdo, pdo) };
    let adapter = match lower.is_null() {
        true => None,
        false => Adapter::open_new(driver, [fdo, pdo, lower], node.instance, software_key),
    };
    let Some(adapter) = adapter else {
        if !lower.is_null() {
            // SAFETY: the device was attached just now.
            unsafe { nt_host::io::device::IoDetachDevice(lower) };
        }
        // SAFETY: the device was just made and nothing is attached to it.
        unsafe { IoDeleteDevice(fdo) };
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    DEVICES.lock().insert(fdo as usize, adapter);
    // SAFETY: the device was just made.
    unsafe { (*fdo).Flags &= !DO_DEVICE_INITIALIZING };
    STATUS_SUCCESS
}

/// Every request to an adapter's device.
pub unsafe extern "win64" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let request = unsafe { Incoming::new(irp) };
    let adapter = DEVICES.lock().get(&(device as usize)).copied();
    match (request.function().0, adapter) {
        (_, None) => request.complete(Err(STATUS_NO_SUCH_DEVICE)),
        (IRP_MJ_PNP, Some(adapter)) => pnp::adapter(adapter, request),
        (IRP_MJ_POWER, Some(adapter)) => power::adapter(adapter, request),
        (IRP_MJ_SYSTEM_CONTROL, Some(adapter)) => pnp::pass(adapter, request),
        _ => request.complete(Err(STATUS_INVALID_DEVICE_REQUEST)),
    }
}
