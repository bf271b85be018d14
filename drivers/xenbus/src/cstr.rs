//! C strings that callers pass.

use core::ffi::{CStr, c_char};

/// A C string without its NUL; `None` for null.
///
/// # Safety
/// The string is null or NUL-terminated, and lives as long as the result.
pub unsafe fn cstr<'a>(text: *const c_char) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's duty.
    Some(unsafe { CStr::from_ptr(text) }.to_bytes())
}
