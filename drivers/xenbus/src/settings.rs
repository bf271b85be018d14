//! What the registry says about this driver: `Services\xenbus\Parameters`.

use bus::{Class, Classes};
use core::ffi::c_char;
use nt::registry::Access;
use nt::{Key, NtStatus, Result};

const PARAMETERS: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Services\XENBUS\Parameters";

/// The key. PASSIVE_LEVEL, as everything here.
pub fn parameters() -> Result<Key> {
    Key::open(PARAMETERS, Access::Read)
}

/// A number, or `default` if it is not there.
fn number(name: &str, default: u32) -> u32 {
    parameters()
        .and_then(|key| key.dword(name))
        .unwrap_or(default)
}

/// Whether children are to be made.
pub fn enumerate() -> bool {
    number("Enumerate", 1) != 0
}

/// Whether processors shall have upcall vectors of their own.
pub fn use_upcall_vectors() -> bool {
    number("UseEvtchnUpcall", 1) != 0
}

/// The classes that may have children.
pub fn supported_classes() -> Result<Classes> {
    classes("SupportedClasses")
}

/// The classes that have a child whatever xenstore says.
pub fn synthetic_classes() -> Result<Classes> {
    classes("SyntheticClasses")
}

fn classes(name: &str) -> Result<Classes> {
    let mut classes = Classes::default();
    let names = match parameters()?.texts(name) {
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => return Ok(classes),
        names => names?,
    };
    for class in names.iter().filter_map(|name| Class::new(name.as_bytes())) {
        classes
            .add(class)
            .map_err(|bus::NoMemory| NtStatus::NO_MEMORY)?;
    }
    Ok(classes)
}

/// A setting of a class's child: whether something is allowed. It is unless the registry says no.
pub fn allows(class: &Class, name: &str) -> bool {
    let value = parameters()
        .and_then(|key| key.subkey(class.as_str(), Access::Read))
        .and_then(|key| key.dword(name));
    value.unwrap_or(1) != 0
}

/// Files a request for a reboot in the name of a module.
pub fn request_reboot(module: *const c_char) -> Result<()> {
    let key = parameters()?;
    // SAFETY: the key is open and the name NUL-terminated.
    NtStatus::check(unsafe { xen_api::ConfigRequestReboot(key.handle(), module) })
}
