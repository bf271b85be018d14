//! rig-selftest.sys: checks a kernel, function by function, against what Microsoft documents.
//!
//! ```text
//!   DriverEntry ─▶ AddDevice, START of Root\RigSelfTest ─▶ a system thread ─▶ suite: the cases of each group
//!                        └▶ child: devices that the driver reports as a bus and drives as a function driver
//! ```
//!
//! It shares no declaration with the drivers or with the rig, and nothing in it knows what it runs on: the rig, the same
//! executive on Xen, or Windows itself, where a debugger shows what it prints.
#![no_std]
#![no_main]
#![cfg(windows)]
#![allow(
    clippy::result_large_err,
    clippy::large_enum_variant,
    reason = "a finding has its text with it: the allocator is what is looked at"
)]

#[macro_use]
mod suite;

mod cases;
mod child;
mod device;
mod guard;
mod settings;
mod signal;
mod sleep;
mod stage;
mod support;
mod try_blocks;
mod wdk;

use core::panic::PanicInfo;

use wdk::{DRIVER_OBJECT, KeBugCheckEx, NTSTATUS, UNICODE_STRING};

/// MANUALLY_INITIATED_CRASH1 (bugcodes.h): a driver's own decision.
const OWN_DECISION: u32 = 0xDEAD_DEAD;

#[panic_handler]
fn panic(information: &PanicInfo) -> ! {
    suite::say(format_args!("{information}"));
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
