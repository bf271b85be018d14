//! Listening to what the PV drivers print to the kernel's debug output.
//!
//! The two kernel functions this needs are exported but not documented, so they are looked up, and missed in peace.

use super::{flush, queue};
use core::ffi::c_void;
use nt::{Dpc, Global, Result, try_box};
use nt_sys::{
    ANSI_STRING, BOOLEAN, DPFLTR_ERROR_LEVEL, DPFLTR_IHVDRIVER_ID, DPFLTR_INFO_LEVEL, FALSE,
    NTSTATUS, TRUE,
};

/// `DbgSetDebugPrintCallback(Callback, Enable)`.
type SetCallback = unsafe extern "win64" fn(Callback, BOOLEAN) -> NTSTATUS;
/// `DbgSetDebugFilterState(Component, Level, State)`.
type SetFilter = unsafe extern "win64" fn(u32, u32, BOOLEAN) -> NTSTATUS;
type Callback = unsafe extern "win64" fn(*const ANSI_STRING, u32, u32);

struct Hook {
    set_callback: SetCallback,
    /// Sends the lines at DISPATCH_LEVEL: the printer may be anywhere.
    flush: Dpc,
}

static HOOK: Global<Hook> = Global::new();

/// Lines of other drivers, and lines of no content, are not ours to log.
const PREFIX: &[u8] = b"xen";

pub fn initialise() -> Result<()> {
    let Some(set_callback) = nt::system::export("DbgSetDebugPrintCallback") else {
        return Ok(());
    };
    if let Some(set_filter) = nt::system::export("DbgSetDebugFilterState") {
        // SAFETY: this is the type of the kernel function of that name.
        let set_filter =
            unsafe { core::mem::transmute::<*mut c_void, SetFilter>(set_filter.as_ptr()) };
        for level in DPFLTR_ERROR_LEVEL..=DPFLTR_INFO_LEVEL {
            // SAFETY: numbers only.
            unsafe { set_filter(DPFLTR_IHVDRIVER_ID, level, TRUE) };
        }
    }
    // SAFETY: this is the type of the kernel function of that name.
    let set_callback =
        unsafe { core::mem::transmute::<*mut c_void, SetCallback>(set_callback.as_ptr()) };
    let hook = try_box(Hook {
        set_callback,
        flush: Dpc::new(flush)?,
    })?;
    // Loaded once, so the place is free.
    let _ = HOOK.set(hook);
    resume();
    Ok(())
}

/// Registers the callback with the kernel.
pub fn resume() {
    enable(TRUE);
}

fn enable(on: BOOLEAN) {
    if let Some(hook) = HOOK.get() {
        // SAFETY: the callback is a function of this image, which stays until it is taken back.
        unsafe { (hook.set_callback)(printed, on) };
    }
}

pub fn teardown() {
    enable(FALSE);
    // SAFETY: the callback is gone, which was the only user.
    drop(unsafe { HOOK.take() });
}

unsafe extern "win64" fn printed(text: *const ANSI_STRING, _: u32, level: u32) {
    // SAFETY: the kernel passes a counted string, or null.
    let Some(text) = (unsafe { text.as_ref() }) else {
        return;
    };
    if text.Buffer.is_null() {
        return;
    }
    // SAFETY: the string is as long as it says.
    let text = unsafe { core::slice::from_raw_parts(text.Buffer.cast_const(), text.Length.into()) };
    if text.len() > PREFIX.len() && text.starts_with(PREFIX) {
        queue(1u32.checked_shl(level).unwrap_or(0), text);
        if let Some(hook) = HOOK.get() {
            hook.flush.queue();
        }
    }
}
