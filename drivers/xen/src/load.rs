//! Loading, unloading, and the handshake with the drivers that import this library.

use crate::{config, crash, hypercall, keys, log, module, system, unplug, version};
use core::sync::atomic::{AtomicBool, Ordering};
use nt::va_list::c_bytes;
use nt::{NtStatus, VERSION};
use nt_sys::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};

/// The entry point of the image, which is a library: nothing to do.
#[unsafe(no_mangle)]
pub extern "win64" fn DriverEntry(_: *mut DRIVER_OBJECT, _: *mut UNICODE_STRING) -> NTSTATUS {
    NtStatus::SUCCESS.0
}

/// Called at PASSIVE_LEVEL when the first driver that imports this library is loaded.
#[unsafe(no_mangle)]
pub extern "win64" fn DllInitialize(_: *mut UNICODE_STRING) -> NTSTATUS {
    hypercall::initialise();
    let hook = !matches!(config::start_option("XEN:DBG_PRINT="), Ok(Some(value)) if value == "OFF");
    step("log", log::initialise(hook));
    step("registry", keys::initialise());
    log::add_channels();
    if !hypercall::is_xen() {
        nt::info!("not a Xen guest, staying inert");
    }
    if nt::system::safe_mode() {
        nt::info!("safe mode");
    }
    step("system", system::initialise());
    step("crash", crash::initialise());
    step("module", module::initialise());
    unplug::initialise();
    NtStatus::SUCCESS.0
}

/// What cannot be set up is missed, not fatal: its functions answer that they are not supported.
fn step(name: &str, result: nt::Result<()>) {
    if let Err(status) = result {
        nt::warning!("{name}: {status}");
    }
}

/// Called when the last driver that imports this library is gone.
#[unsafe(no_mangle)]
pub extern "win64" fn DllUnload() -> NTSTATUS {
    module::teardown();
    crash::teardown();
    system::teardown();
    log::teardown();
    NtStatus::SUCCESS.0
}

/// The handshake: a driver of another version is refused, and one on a machine without Xen is told so.
///
/// # Safety
/// `name` is null or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn XenTouch(
    name: *const u8,
    major: u32,
    minor: u32,
    micro: u32,
    build: u32,
) -> NTSTATUS {
    static TOUCHED: AtomicBool = AtomicBool::new(false);
    // SAFETY: the duty is the caller's.
    let name = unsafe { c_bytes(name) };
    let name = core::str::from_utf8(name).unwrap_or("?");
    if [major, minor, micro, build] != VERSION {
        nt::warning!(
            "{name} {major}.{minor}.{micro}.{build} needs another version than {}.{}.{}.{}: restart pending",
            VERSION[0],
            VERSION[1],
            VERSION[2],
            VERSION[3]
        );
        return nt_sys::STATUS_INCOMPATIBLE_DRIVER_BLOCKED;
    }
    match version::xen() {
        Ok((major, minor)) => {
            if !TOUCHED.swap(true, Ordering::Relaxed) {
                nt::info!("Xen {major}.{minor}");
            }
            NtStatus::SUCCESS.0
        }
        Err(_) => NtStatus::NOT_IMPLEMENTED.0,
    }
}
