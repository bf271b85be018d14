//! Which platform device is the active one.
//!
//! A machine may show several of its variants; only one may set up the bus. xenfilt decides if it is there; else the first
//! one that started stays the one, by its name in the registry.

use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use nt::irp::send_pnp;
use nt::{DeviceObject, NtStatus, Result};
use nt_sys::imports::ExFreePoolWithTag;
use nt_sys::{
    BusQueryDeviceID, BusQueryInstanceID, DeviceTextLocationInformation, IO_PARAMETERS,
    IO_QUERY_DEVICE_TEXT, IO_QUERY_ID, IRP_MN_QUERY_DEVICE_TEXT, IRP_MN_QUERY_ID,
};
use pv_interfaces::emulated::{EmulatedV3, FORCE_ACTIVATED, FORCE_DEACTIVATED, NEUTRAL};

/// The names of a device, each NUL-terminated.
struct Names {
    device: Vec<u8>,
    instance: Vec<u8>,
    location: Vec<u8>,
}

impl Names {
    fn of(physical: &DeviceObject) -> Result<Self> {
        Ok(Self {
            device: id(physical, BusQueryDeviceID)?,
            instance: id(physical, BusQueryInstanceID)?,
            location: location(physical)?,
        })
    }

    /// Writes the names into the registry as the active device's; `new` replaces what is there.
    fn record(&self, new: bool) -> Result<()> {
        let set = if new {
            xen_api::ConfigSetActive
        } else {
            xen_api::ConfigUpdateActive
        };
        // SAFETY: the names are NUL-terminated.
        NtStatus::check(unsafe {
            set(
                self.device.as_ptr().cast(),
                self.instance.as_ptr().cast(),
                self.location.as_ptr().cast(),
            )
        })
    }
}

/// Whether `physical` is the active platform device. PASSIVE_LEVEL.
///
/// # Errors
/// Of asking the device for its names.
pub fn is_active(physical: &DeviceObject) -> Result<bool> {
    let names = Names::of(physical)?;
    match forced(physical, &names)? {
        FORCE_ACTIVATED => {
            if let Err(status) = names.record(true) {
                nt::warning!("recording the active device: {status}");
            }
            return Ok(true);
        }
        FORCE_DEACTIVATED => return Ok(false),
        _ => {}
    }
    match recorded()? {
        None => match names.record(true) {
            Err(status @ (NtStatus::NO_MEMORY | NtStatus::INSUFFICIENT_RESOURCES)) => Err(status),
            outcome => Ok(outcome.is_ok()),
        },
        Some(active) => {
            let ours = names.device.strip_suffix(b"\0").unwrap_or_default();
            let same = active.eq_ignore_ascii_case(ours);
            if same && let Err(status) = names.record(false) {
                nt::warning!("updating the active device: {status}");
            }
            Ok(same)
        }
    }
}

/// No platform device is active any more.
pub fn clear() {
    if let Err(status) = NtStatus::check(xen_api::ConfigClearActive()) {
        nt::warning!("clearing the active device: {status}");
    }
}

/// What xenfilt says of the device; neutral without xenfilt.
fn forced(physical: &DeviceObject, names: &Names) -> Result<u32> {
    let emulated = match nt::interface::query::<EmulatedV3>(physical) {
        Err(NtStatus::NOT_SUPPORTED) => return Ok(NEUTRAL),
        emulated => emulated?,
    };
    // SAFETY: the provider filled the table in; the same below.
    NtStatus::check(unsafe { (emulated.acquire)(&raw const emulated.header) })?;
    let mut status = NEUTRAL;
    // SAFETY: the name is NUL-terminated, the out parameter live.
    let present = unsafe {
        (emulated.is_device_present)(
            &raw const emulated.header,
            names.device.as_ptr().cast(),
            core::ptr::null(),
            &mut status,
        )
    };
    // SAFETY: acquired above.
    unsafe { (emulated.release)(&raw const emulated.header) };
    if present == 0 {
        nt::warning!("the bus filter does not know this device");
    }
    Ok(status)
}

/// The device ID that the registry has for the active device.
fn recorded() -> Result<Option<Vec<u8>>> {
    let mut value: *mut c_char = core::ptr::null_mut();
    // SAFETY: the key is NUL-terminated, the out parameter live.
    let status = unsafe { xen_api::ConfigGetActive(c"DeviceID".as_ptr(), &mut value) };
    match NtStatus::check(status) {
        Err(status @ (NtStatus::NO_MEMORY | NtStatus::INSUFFICIENT_RESOURCES)) => {
            return Err(status);
        }
        Err(_) => return Ok(None),
        Ok(()) if value.is_null() => return Ok(None),
        Ok(()) => {}
    }
    // SAFETY: xen.sys gave a string.
    let text = unsafe { CStr::from_ptr(value) }.to_bytes();
    let mut copy = Vec::new();
    let room = copy.try_reserve_exact(text.len());
    if room.is_ok() {
        copy.extend_from_slice(text);
    }
    // SAFETY: the string is xen.sys' and not used any more.
    unsafe { xen_api::ConfigFreeActive(value) };
    room?;
    Ok(Some(copy))
}

fn id(physical: &DeviceObject, kind: i32) -> Result<Vec<u8>> {
    let (status, information) = send_pnp(physical, |stack| {
        stack.MinorFunction = IRP_MN_QUERY_ID;
        stack.Parameters = IO_PARAMETERS {
            QueryId: IO_QUERY_ID { IdType: kind },
        };
    });
    status.ok()?;
    take(information)
}

/// A bus need not tell a location.
fn location(physical: &DeviceObject) -> Result<Vec<u8>> {
    let (status, information) = send_pnp(physical, |stack| {
        stack.MinorFunction = IRP_MN_QUERY_DEVICE_TEXT;
        stack.Parameters = IO_PARAMETERS {
            QueryDeviceText: IO_QUERY_DEVICE_TEXT {
                DeviceTextType: DeviceTextLocationInformation,
                _Pad0: 0,
                LocaleId: 0,
            },
        };
    });
    if status.ok().is_err() {
        take(0)
    } else {
        take(information)
    }
}

/// Takes over a UTF-16 string that a bus driver allocated, as 8-bit characters with a NUL.
fn take(information: usize) -> Result<Vec<u8>> {
    let start = core::ptr::with_exposed_provenance_mut::<u16>(information);
    let mut text = Vec::new();
    let mut room = Ok(());
    if !start.is_null() {
        let mut at = start;
        loop {
            // SAFETY: the string ends with a NUL.
            let unit = unsafe { at.read_unaligned() };
            if unit == 0 {
                break;
            }
            room = text.try_reserve(2);
            if room.is_err() {
                break;
            }
            text.push(u8::try_from(unit).unwrap_or(b'?'));
            at = at.wrapping_add(1);
        }
        // SAFETY: the block became ours with the answer.
        unsafe { ExFreePoolWithTag(start.cast(), 0) };
    }
    room?;
    text.try_reserve(1)?;
    text.push(0);
    Ok(text)
}
