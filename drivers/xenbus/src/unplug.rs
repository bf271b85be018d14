//! UNPLUG: asking for emulated devices to be unplugged at the next boot, and for that boot.
//!
//! Every method's duty: `this` is a table that this driver filled in, and strings are NUL-terminated.

use crate::bus::{context, give_back};
use crate::settings;
use core::ffi::c_char;
use nt::NtStatus;
use nt_sys::ANSI_STRING;
use pv_interfaces::unplug::{TYPE_DISKS, TYPE_NICS, UnplugV1, UnplugV2, UnplugV3};
use pv_interfaces::{Interface, This};
use xen_api::{UNPLUG_DISKS, UNPLUG_NICS};

/// The call table of version 1.
pub const V1: UnplugV1 = UnplugV1 {
    header: Interface::EMPTY,
    acquire,
    release,
    request,
};
/// The call table of version 2.
pub const V2: UnplugV2 = UnplugV2 {
    header: Interface::EMPTY,
    acquire,
    release,
    request,
    is_requested,
};
/// The call table of version 3.
pub const V3: UnplugV3 = UnplugV3 {
    header: Interface::EMPTY,
    acquire,
    release,
    request,
    is_requested,
    boot_emulated,
    reboot,
};

/// xen.sys' number of a device type, which is not the interface's.
fn kind(device_type: u32) -> Option<u32> {
    match device_type {
        TYPE_DISKS => Some(UNPLUG_DISKS),
        TYPE_NICS => Some(UNPLUG_NICS),
        _ => None,
    }
}

unsafe extern "win64" fn acquire(this: This) -> i32 {
    // SAFETY: see the top; the same in every method.
    unsafe { context(this) }.unplug.acquire();
    NtStatus::SUCCESS.0
}

unsafe extern "win64" fn release(this: This) {
    // SAFETY: see the top.
    give_back(&unsafe { context(this) }.unplug);
}

unsafe extern "win64" fn request(_: This, device_type: u32, make: u8) {
    let Some(kind) = kind(device_type) else {
        return;
    };
    let status = if make != 0 {
        xen_api::UnplugIncrementValue(kind)
    } else {
        xen_api::UnplugDecrementValue(kind)
    };
    if let Err(status) = NtStatus::check(status) {
        nt::warning!("request {kind}, {make}: {status}");
    }
}

unsafe extern "win64" fn is_requested(_: This, device_type: u32) -> u8 {
    kind(device_type)
        .is_some_and(|kind| xen_api::UnplugGetRequest(kind) != 0)
        .into()
}

unsafe extern "win64" fn boot_emulated(_: This) -> u8 {
    const KEY: &core::ffi::CStr = c"XEN:BOOT_EMULATED=";
    let mut option: *mut ANSI_STRING = core::ptr::null_mut();
    // SAFETY: the key is NUL-terminated, the out parameter live.
    let status = unsafe { xen_api::ConfigQuerySystemStartOption(KEY.as_ptr(), &mut option) };
    if NtStatus::check(status).is_err() || option.is_null() {
        return 0;
    }
    // SAFETY: xen.sys gave the string.
    let text = unsafe { *option };
    let value = if text.Buffer.is_null() {
        &[]
    } else {
        // SAFETY: the string is that long.
        unsafe { core::slice::from_raw_parts(text.Buffer, text.Length.into()) }
    };
    // What was found may be the whole token or what stands behind the key.
    let answer = value.strip_prefix(KEY.to_bytes()).unwrap_or(value) == b"TRUE";
    // SAFETY: the string is xen.sys' and not used any more.
    unsafe { xen_api::ConfigFreeSzValue(option) };
    answer.into()
}

unsafe extern "win64" fn reboot(_: This, module: *const c_char) {
    if let Err(status) = settings::request_reboot(module) {
        nt::warning!("requesting a reboot: {status}");
    }
}
