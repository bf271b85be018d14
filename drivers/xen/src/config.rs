//! Settings that drivers of the family share: the active platform device, start options, reboot requests.
//!
//! Everything here runs at PASSIVE_LEVEL.

use crate::keys;
use alloc::string::String;
use nt::registry::{Access, CONTROL, Lifetime, SERVICES};
use nt::va_list::c_bytes;
use nt::{Key, NtStatus, PagedPool, Result};
use nt_sys::{ANSI_STRING, HANDLE, NTSTATUS};

/// What is remembered of the active device.
const DEVICE: &str = "ActiveDeviceID";
const INSTANCE: &str = "ActiveInstanceID";
const LOCATION: &str = "ActiveLocationInformation";

/// Where it is remembered. The filter driver reads it there; the key is made when the filter is not installed.
fn active_key() -> Result<Key> {
    keys::create(SERVICES, r"XENFILT\Parameters")
}

/// A caller's string.
///
/// # Safety
/// `text` is null or NUL-terminated, and valid for as long as `'a`.
unsafe fn text<'a>(text: *const u8) -> Result<&'a str> {
    // SAFETY: the duty is the caller's.
    core::str::from_utf8(unsafe { c_bytes(text) }).map_err(|_| NtStatus::INVALID_PARAMETER)
}

/// A NUL-terminated copy that the caller gives back to be freed.
fn copy(text: &str) -> Result<*mut u8> {
    let mut block = PagedPool::zeroed(text.len().saturating_add(1))?;
    for (slot, byte) in block.bytes_mut().iter_mut().zip(text.bytes()) {
        *slot = byte;
    }
    Ok(block.into_raw())
}

/// Reads what is remembered as `Active<key>`; free it with `ConfigFreeActive`.
///
/// # Safety
/// `key` is NUL-terminated, `value` valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn ConfigGetActive(key: *const u8, value: *mut *mut u8) -> NTSTATUS {
    // SAFETY: the duty is the caller's.
    let name = match unsafe { text(key) } {
        Ok("DeviceID") => DEVICE,
        Ok("InstanceID") => INSTANCE,
        Ok("LocationInformation") => LOCATION,
        _ => return NtStatus::INVALID_PARAMETER.0,
    };
    let found = keys::open(SERVICES, r"XENFILT\Parameters", Access::Read)
        .and_then(|key| key.text(name))
        .and_then(|text| copy(&text));
    if let Ok(found) = found {
        // SAFETY: the duty is the caller's.
        unsafe { value.write(found) };
    }
    NtStatus::of(&found).0
}

/// The three strings of a device.
///
/// # Safety
/// Each is null or NUL-terminated, and valid for as long as `'a`.
unsafe fn device<'a>(strings: [*const u8; 3]) -> Result<[(&'static str, &'a str); 3]> {
    let [device, instance, location] = strings;
    // SAFETY: the duty is the caller's.
    let device = unsafe { text(device) }?;
    // SAFETY: the duty is the caller's.
    let instance = unsafe { text(instance) }?;
    // SAFETY: the duty is the caller's.
    let location = unsafe { text(location) }?;
    Ok([(DEVICE, device), (INSTANCE, instance), (LOCATION, location)])
}

/// Remembers a device as the active one.
///
/// Packages with a vendor's own PCI device would refuse a legacy device here while that one exists; this package has
/// none.
///
/// # Safety
/// The strings are NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn ConfigSetActive(
    device_id: *const u8,
    instance_id: *const u8,
    location: *const u8,
) -> NTSTATUS {
    // SAFETY: the duty is the caller's.
    let values = unsafe { device([device_id, instance_id, location]) };
    let result = values.and_then(|values| {
        let key = active_key()?;
        values
            .iter()
            .try_for_each(|(name, value)| key.set_text(name, value))
    });
    NtStatus::from(result).0
}

/// Completes what is remembered of the active device: instance and location, where they are missing.
///
/// # Safety
/// The strings are NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn ConfigUpdateActive(
    device_id: *const u8,
    instance_id: *const u8,
    location: *const u8,
) -> NTSTATUS {
    // SAFETY: the duty is the caller's.
    let values = unsafe { device([device_id, instance_id, location]) };
    let result = values.and_then(|[_, instance, location]| {
        let key = active_key()?;
        [instance, location]
            .iter()
            .try_for_each(|(name, value)| match key.value(name) {
                Err(NtStatus::OBJECT_NAME_NOT_FOUND) => key.set_text(name, value),
                other => other.map(drop),
            })
    });
    NtStatus::from(result).0
}

/// Forgets the active device. Its location stays, which costs nothing and eases finding it again.
#[unsafe(no_mangle)]
pub extern "win64" fn ConfigClearActive() -> NTSTATUS {
    let result = active_key().and_then(|key| {
        [DEVICE, INSTANCE]
            .iter()
            .try_for_each(|name| match key.delete_value(name) {
                Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(()),
                other => other,
            })
    });
    NtStatus::from(result).0
}

/// Frees what `ConfigGetActive` gave.
///
/// # Safety
/// It came from there, or is null, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn ConfigFreeActive(value: *mut u8) {
    // SAFETY: the duty is the caller's.
    unsafe { PagedPool::free(value) };
}

/// Files a request for a restart in the name of `module`, for the monitor service to see.
///
/// # Safety
/// `parameters` is an open kernel handle of the driver's Parameters key, `module` NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn ConfigRequestReboot(
    parameters: HANDLE,
    module: *const u8,
) -> NTSTATUS {
    // SAFETY: the duty is the caller's.
    let parameters = unsafe { Key::borrow(parameters) };
    // SAFETY: the duty is the caller's.
    let module = unsafe { text(module) };
    let result = module.and_then(|module| {
        let requests = keys::create(r"\Registry\Machine", &parameters.text("RequestKey")?)?;
        requests
            .create_subkey(module, Lifetime::Volatile)?
            .set_dword("Reboot", 1)
    });
    NtStatus::from(result).0
}

/// The rest of the first of the loader's options that begins with `key`; the case counts.
pub fn start_option(key: &str) -> Result<Option<String>> {
    let options = Key::open(CONTROL, Access::Read)?.text("SystemStartOptions")?;
    #[expect(
        clippy::manual_pattern_char_comparison,
        reason = "the search for a char leaves a panic in the image"
    )]
    let Some(value) = options
        .split(|c| c == ' ')
        .find_map(|option| option.strip_prefix(key))
    else {
        return Ok(None);
    };
    let mut found = String::new();
    found.try_reserve(value.len())?;
    found.push_str(value);
    Ok(Some(found))
}

/// Finds a loader option; `key` ends with "=". Free the value with `ConfigFreeSzValue`.
///
/// # Safety
/// `key` is NUL-terminated, `value` valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn ConfigQuerySystemStartOption(
    key: *const u8,
    value: *mut *mut ANSI_STRING,
) -> NTSTATUS {
    // SAFETY: the duty is the caller's.
    let key = unsafe { text(key) };
    let found = key
        .and_then(start_option)
        .and_then(|found| found.ok_or(NtStatus::OBJECT_NAME_NOT_FOUND));
    let string = found.and_then(|found| counted(&found));
    if let Ok(string) = string {
        // SAFETY: the duty is the caller's.
        unsafe { value.write(string) };
    }
    NtStatus::of(&string).0
}

/// A counted string with its characters and a NUL behind it, in one block.
fn counted(text: &str) -> Result<*mut ANSI_STRING> {
    const HEAD: usize = size_of::<ANSI_STRING>();
    let length = u16::try_from(text.len()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    let capacity = length.checked_add(1).ok_or(NtStatus::INVALID_PARAMETER)?;
    let mut block = PagedPool::zeroed(HEAD + usize::from(capacity))?;
    for (slot, byte) in block.bytes_mut().iter_mut().skip(HEAD).zip(text.bytes()) {
        *slot = byte;
    }
    let start = block.into_raw();
    let string = ANSI_STRING {
        Length: length,
        MaximumLength: capacity,
        Buffer: start.wrapping_add(HEAD),
    };
    // SAFETY: the block is ours, starts with room for the header, and pool blocks are aligned for it.
    unsafe { start.cast::<ANSI_STRING>().write(string) };
    Ok(start.cast())
}

/// Frees what `ConfigQuerySystemStartOption` gave.
///
/// # Safety
/// It came from there, or is null, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn ConfigFreeSzValue(value: *mut ANSI_STRING) {
    // SAFETY: the duty is the caller's.
    unsafe { PagedPool::free(value.cast()) };
}
