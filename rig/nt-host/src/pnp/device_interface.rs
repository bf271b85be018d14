//! Device interfaces: what a driver offers to programs under a class's GUID, and whether it does so now.
//!
//! ```text
//!   \??\PCI#VEN_5853&…#3&267a616a&0&10#{guid}[\reference]      the symbolic link: instance path with # for \, class, reference
//!   Control\DeviceClasses\{guid}\##?#PCI#VEN_…#{guid}          its key; `#[reference]` below it has "Device Parameters"
//! ```

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use nt_sys::{
    DEVICE_OBJECT, GUID, HANDLE, NTSTATUS, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_EXISTS,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS, UNICODE_STRING,
};

use super::node;
use crate::cm::zw::units;
use crate::cm::{self, CONTROL_SET, Value};
use crate::exports;
use crate::ke::processor;
use crate::mm::pool;
use crate::rtl::unicode;
use crate::sync::Mutex;

/// IoGetDeviceInterfaces: also those that are not enabled (wdm.h).
const DEVICE_INTERFACE_INCLUDE_NONACTIVE: u32 = 1;

/// A registered interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The symbolic link by which programs open it.
    pub link: String,
    /// Its class, with braces.
    pub class: String,
    /// Instance path of the device.
    pub instance: String,
    /// Whether it is offered now.
    pub enabled: bool,
    reference: String,
}

static INTERFACES: Mutex<Vec<Interface>> = Mutex::new(Vec::new());

/// Every interface that was registered, in order.
pub fn all() -> Vec<Interface> {
    INTERFACES.lock().clone()
}

impl Interface {
    fn key(&self) -> String {
        let device = self.instance.replace('\\', "#");
        format!(
            "{CONTROL_SET}\\Control\\DeviceClasses\\{0}\\##?#{device}#{0}",
            self.class
        )
    }

    /// The key of this reference, which has the parameters.
    fn own_key(&self) -> String {
        format!("{}\\#{}", self.key(), self.reference)
    }
}

/// # Safety
/// `guid` is readable.
unsafe fn class_of(guid: *const GUID) -> String {
    // SAFETY: the caller's promise.
    unicode::guid_text(unsafe { &*guid }).to_ascii_lowercase()
}

/// # Safety
/// `string` is null or a valid string.
unsafe fn text_of(string: *const UNICODE_STRING) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    String::from_utf16_lossy(unsafe { units(string) })
}

/// Microsoft Learn: IoRegisterDeviceInterface; the link is freed with RtlFreeUnicodeString. Registering again finds what
/// was registered.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn IoRegisterDeviceInterface(
    pdo: *mut DEVICE_OBJECT,
    class: *const GUID,
    reference: *const UNICODE_STRING,
    out: *mut UNICODE_STRING,
) -> NTSTATUS {
    let owner = processor::caller();
    let Some(node) = node::by_pdo(pdo).and_then(node::get) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    // SAFETY: the caller's promise.
    let (class, reference) = (unsafe { class_of(class) }, unsafe { text_of(reference) });
    if reference.contains(['\\', '/']) {
        return STATUS_INVALID_PARAMETER;
    }
    let device = node.instance.replace('\\', "#");
    let tail = match reference.is_empty() {
        true => String::new(),
        false => format!("\\{reference}"),
    };
    let fresh = Interface {
        link: format!("\\??\\{device}#{class}{tail}"),
        class,
        instance: node.instance,
        enabled: false,
        reference,
    };
    let link: Vec<u16> = fresh.link.encode_utf16().collect();
    let Some(string) = unicode::allocate(owner, &link) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    cm::write(&fresh.key(), "DeviceInstance", Value::sz(&fresh.instance));
    cm::write(&fresh.own_key(), "SymbolicLink", Value::sz(&fresh.link));
    let mut interfaces = INTERFACES.lock();
    if !interfaces
        .iter()
        .any(|other| same(&other.link, &fresh.link))
    {
        interfaces.push(fresh);
    }
    drop(interfaces);
    // SAFETY: the caller's promise.
    unsafe { out.write(string) };
    STATUS_SUCCESS
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Microsoft Learn: IoSetDeviceInterfaceState.
///
/// # Safety
/// `link` is a valid string.
pub unsafe extern "win64" fn IoSetDeviceInterfaceState(
    link: *const UNICODE_STRING,
    enable: u8,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let link = unsafe { text_of(link) };
    let mut interfaces = INTERFACES.lock();
    let Some(interface) = interfaces.iter_mut().find(|own| same(&own.link, &link)) else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    let before = core::mem::replace(&mut interface.enabled, enable != 0);
    let key = interface.own_key();
    drop(interfaces);
    let control = format!("{key}\\Control");
    cm::write(&control, "Linked", Value::dword(u32::from(enable != 0)));
    match (before, enable != 0) {
        (true, true) => STATUS_OBJECT_NAME_EXISTS,
        (false, false) => STATUS_OBJECT_NAME_NOT_FOUND,
        _ => STATUS_SUCCESS,
    }
}

/// Microsoft Learn: IoGetDeviceInterfaces; the list is freed with ExFreePool.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn IoGetDeviceInterfaces(
    class: *const GUID,
    pdo: *mut DEVICE_OBJECT,
    flags: u32,
    out: *mut *mut u16,
) -> NTSTATUS {
    let owner = processor::caller();
    // SAFETY: the caller's promise.
    let class = unsafe { class_of(class) };
    let device = match pdo.is_null() {
        true => None,
        false => match node::by_pdo(pdo).and_then(node::get) {
            Some(node) => Some(node.instance),
            None => return STATUS_INVALID_DEVICE_REQUEST,
        },
    };
    let wanted = |interface: &&Interface| {
        interface.class == class
            && (interface.enabled || flags & DEVICE_INTERFACE_INCLUDE_NONACTIVE != 0)
            && device
                .as_ref()
                .is_none_or(|device| same(device, &interface.instance))
    };
    let mut list = Vec::new();
    for interface in INTERFACES.lock().iter().filter(wanted) {
        list.extend(interface.link.encode_utf16().chain([0]));
    }
    list.push(0);
    let bytes = list.len().saturating_mul(2);
    let Some(memory) = pool::allocate_for(owner, bytes, *b"IoDi") else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    let memory = memory.cast::<u16>();
    // SAFETY: fresh memory with room for the list.
    unsafe {
        memory
            .as_ptr()
            .copy_from_nonoverlapping(list.as_ptr(), list.len())
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(memory.as_ptr()) };
    STATUS_SUCCESS
}

/// Microsoft Learn: IoOpenDeviceInterfaceRegistryKey.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn IoOpenDeviceInterfaceRegistryKey(
    link: *const UNICODE_STRING,
    access: u32,
    out: *mut HANDLE,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let link = unsafe { text_of(link) };
    let key = INTERFACES
        .lock()
        .iter()
        .find(|own| same(&own.link, &link))
        .map(Interface::own_key);
    let Some(key) = key else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    let path = format!("{key}\\Device Parameters");
    cm::create(&path);
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

/// Ends what a removed device offered, whatever its driver has left enabled.
pub(super) fn disable_all(instance: &str) {
    for interface in INTERFACES.lock().iter_mut() {
        if same(&interface.instance, instance) {
            interface.enabled = false;
        }
    }
}

exports!("ntoskrnl.exe": IoRegisterDeviceInterface, IoSetDeviceInterfaceState, IoGetDeviceInterfaces,
    IoOpenDeviceInterfaceRegistryKey);
