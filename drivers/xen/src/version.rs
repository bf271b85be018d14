//! What Xen says about itself. public/version.h.

use crate::hypercall::call;
use crate::status::of_hypercall;
use nt_sys::{NTSTATUS, STATUS_SUCCESS};
use xen_abi::hypercall::XEN_VERSION;
use xen_abi::version::{EXTRAVERSION, EXTRAVERSION_LEN, VERSION};

/// Xen's major and minor version.
///
/// # Errors
/// STATUS_NOT_IMPLEMENTED on a machine without Xen.
pub fn xen() -> Result<(u32, u32), NTSTATUS> {
    // SAFETY: the command has no argument.
    let result = unsafe { call(XEN_VERSION, [u64::from(VERSION), 0, 0]) };
    match u32::try_from(result) {
        Ok(version) => Ok((version >> 16, version & 0xFFFF)),
        Err(_) => Err(of_hypercall(result)),
    }
}

/// Xen's version.
///
/// # Safety
/// Both pointers must be valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn XenVersion(major: *mut u32, minor: *mut u32) -> NTSTATUS {
    match xen() {
        Ok((a, b)) => {
            // SAFETY: the caller's duty.
            unsafe { major.write(a) };
            // SAFETY: the caller's duty.
            unsafe { minor.write(b) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// What follows Xen's version numbers, NUL-terminated.
///
/// # Safety
/// `extra` must be valid for a write of 16 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn XenVersionExtra(extra: *mut u8) -> NTSTATUS {
    let mut text = [0u8; EXTRAVERSION_LEN];
    let address = text.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: the command writes 16 bytes, which is the array.
    let result = unsafe { call(XEN_VERSION, [u64::from(EXTRAVERSION), address, 0]) };
    let status = of_hypercall(result);
    if nt_sys::nt_success(status) {
        if let Some(last) = text.last_mut() {
            *last = 0;
        }
        // SAFETY: the caller's duty.
        unsafe { extra.cast::<[u8; EXTRAVERSION_LEN]>().write(text) };
    }
    status
}
