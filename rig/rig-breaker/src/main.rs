//! rig-breaker.sys: breaks one rule of the rig's verifier, the one that its service key asks for.
//!
//! ```text
//!   DriverEntry: Parameters\Case ─▶ AddDevice, START of Root\RigBreaker ─▶ the case's function ─▶ (a bug check, or)
//!                                                                          REMOVE, DriverUnload ─▶ what it left behind
//! ```
//!
//! The declarations of the kernel, and what the linker asks for, are those of the self-test driver.
#![no_std]
#![no_main]
#![cfg(windows)]

#[path = "../../rig-selftest/src/guard.rs"]
mod guard;
#[path = "../../rig-selftest/src/wdk/mod.rs"]
#[allow(unused_imports, reason = "the self-test uses more of it")]
mod wdk;

mod cases;
mod device;
mod key;

use core::panic::PanicInfo;

use wdk::{DRIVER_OBJECT, KeBugCheckEx, NTSTATUS, UNICODE_STRING};

/// MANUALLY_INITIATED_CRASH1 (bugcodes.h): a driver's own decision.
const OWN_DECISION: u32 = 0xDEAD_DEAD;

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    KeBugCheckEx(OWN_DECISION, 0, 0, 0, 0)
}

// The compiler refers to this from any image that may use floating point.
#[unsafe(no_mangle)]
static _fltused: i32 = 0;

/// The image's entry point.
///
/// # Safety
/// Called by the I/O manager only.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn DriverEntry(
    driver: *mut DRIVER_OBJECT,
    path: *mut UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the I/O manager passes this driver's object and its key's path.
    unsafe { device::entry(driver, path) }
}
