//! What drivers ask the PnP manager of a device, and tell it: properties, keys, changed relations and states.

use alloc::string::String;
use alloc::vec::Vec;

use nt_sys::{
    BusRelations, DEVICE_OBJECT, DevicePropertyAddress, DevicePropertyBusNumber,
    DevicePropertyClassName, DevicePropertyDeviceDescription, DevicePropertyDriverKeyName,
    DevicePropertyEnumeratorName, DevicePropertyFriendlyName, DevicePropertyHardwareID,
    DevicePropertyLocationInformation, DevicePropertyPhysicalDeviceObjectName, HANDLE, NTSTATUS,
    PLUGPLAY_REGKEY_DEVICE, PLUGPLAY_REGKEY_DRIVER, PVOID, STATUS_BUFFER_TOO_SMALL,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
};

use super::node::{self, Node};
use super::{Event, install, post};
use crate::cm::{self, Value};
use crate::exports;
use crate::io::device;
use crate::verifier::Rule;

/// DEVICE_REGISTRY_PROPERTY's members that nt-sys has no use for (wdm.h).
const DEVICE_PROPERTY_COMPATIBLE_IDS: i32 = 2;
const DEVICE_PROPERTY_CLASS_GUID: i32 = 6;
const DEVICE_PROPERTY_MANUFACTURER: i32 = 8;
const DEVICE_PROPERTY_LEGACY_BUS_TYPE: i32 = 13;
const DEVICE_PROPERTY_UI_NUMBER: i32 = 17;

/// The node of a PDO that a driver names; anything else is a bug of the driver.
fn node_of(pdo: *mut DEVICE_OBJECT, function: &str) -> Option<Node> {
    if !device::is_device(pdo) {
        Rule::DeviceInvalid.breach(format_args!("{function}: {pdo:p} is no device object"));
    }
    node::by_pdo(pdo).and_then(node::get)
}

/// Microsoft Learn: IoGetDeviceProperty.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn IoGetDeviceProperty(
    pdo: *mut DEVICE_OBJECT,
    property: i32,
    room: u32,
    out: PVOID,
    needed: *mut u32,
) -> NTSTATUS {
    let Some(node) = node_of(pdo, "IoGetDeviceProperty") else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let key = install::device_key(&node.instance);
    let stored = |name: &str| cm::read(&key, name).map(|value| value.data);
    let text = |text: &str| Some(Value::sz(text).data);
    let number = |number: u32| Some(number.to_le_bytes().to_vec());
    let data: Option<Vec<u8>> = match property {
        DevicePropertyDeviceDescription => stored("DeviceDesc"),
        DevicePropertyHardwareID => stored("HardwareID"),
        DEVICE_PROPERTY_COMPATIBLE_IDS => stored("CompatibleIDs"),
        DevicePropertyClassName => stored("Class"),
        DEVICE_PROPERTY_CLASS_GUID => stored("ClassGUID"),
        DevicePropertyDriverKeyName => stored("Driver"),
        DEVICE_PROPERTY_MANUFACTURER => stored("Mfg"),
        DevicePropertyFriendlyName => stored("FriendlyName"),
        DevicePropertyLocationInformation => stored("LocationInformation"),
        DevicePropertyPhysicalDeviceObjectName => device::name(pdo).and_then(|name| text(&name)),
        DevicePropertyEnumeratorName => node.instance.split('\\').next().and_then(text),
        DEVICE_PROPERTY_LEGACY_BUS_TYPE => number(node.bus.0.cast_unsigned()),
        DevicePropertyBusNumber => number(node.bus.1),
        DevicePropertyAddress => number(node.address),
        DEVICE_PROPERTY_UI_NUMBER => None,
        _ => return STATUS_INVALID_PARAMETER,
    };
    let Some(data) = data else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    let whole = u32::try_from(data.len()).unwrap_or(u32::MAX);
    // SAFETY: the caller's promise.
    unsafe { needed.write(whole) };
    if room < whole {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // SAFETY: the caller's promise: `room` bytes, of which fewer are written.
    unsafe {
        out.cast::<u8>()
            .copy_from_nonoverlapping(data.as_ptr(), data.len())
    };
    STATUS_SUCCESS
}

/// Microsoft Learn: IoOpenDeviceRegistryKey.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn IoOpenDeviceRegistryKey(
    pdo: *mut DEVICE_OBJECT,
    kind: u32,
    access: u32,
    out: *mut HANDLE,
) -> NTSTATUS {
    let Some(node) = node_of(pdo, "IoOpenDeviceRegistryKey") else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let path: Option<String> = match kind {
        PLUGPLAY_REGKEY_DEVICE => Some(install::hardware_key(&node.instance)),
        PLUGPLAY_REGKEY_DRIVER => install::software_key(&node.instance),
        _ => return STATUS_INVALID_PARAMETER,
    };
    let Some(path) = path else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    let units: Vec<u16> = path.encode_utf16().collect();
    let Ok(id) = cm::with(|tree| tree.open(tree.root(), &units)) else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    let Some(handle) = cm::zw::open_handle(id, access) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(handle) };
    STATUS_SUCCESS
}

/// Microsoft Learn: IoInvalidateDeviceRelations.
///
/// # Safety
/// `pdo` is a live physical device object.
pub unsafe extern "win64" fn IoInvalidateDeviceRelations(pdo: *mut DEVICE_OBJECT, kind: i32) {
    if kind == BusRelations
        && let Some(id) = node::by_pdo(pdo)
    {
        post(Event::Relations(id));
    }
}

/// Microsoft Learn: IoInvalidateDeviceState.
///
/// # Safety
/// `pdo` is a live physical device object.
pub unsafe extern "win64" fn IoInvalidateDeviceState(pdo: *mut DEVICE_OBJECT) {
    if let Some(id) = node::by_pdo(pdo) {
        post(Event::State(id));
    }
}

/// Microsoft Learn: IoRequestDeviceEject.
///
/// # Safety
/// `pdo` is a live physical device object.
pub unsafe extern "win64" fn IoRequestDeviceEject(pdo: *mut DEVICE_OBJECT) {
    if let Some(id) = node::by_pdo(pdo) {
        post(Event::Eject(id));
    }
}

exports!("ntoskrnl.exe": IoGetDeviceProperty, IoOpenDeviceRegistryKey, IoInvalidateDeviceRelations,
    IoInvalidateDeviceState, IoRequestDeviceEject);
