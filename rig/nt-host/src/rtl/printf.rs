//! The kernel's bounded `printf` functions (Microsoft Learn: "_snprintf, _vsnprintf" and their wide kin).

use alloc::string::String;
use alloc::vec::Vec;
use core::arch::naked_asm;

use crate::dbg::format::{self, Arguments};
use crate::exports;
use crate::rtl::unicode;

/// Stores as much of `text` as fits, with a NUL where there is room for one. Its length, or -1 when it was cut.
///
/// # Safety
/// `out` is null with a `room` of 0, or has room for `room` characters.
unsafe fn store<T: Copy + Default>(out: *mut T, room: usize, text: &[T]) -> i32 {
    let stored = text.len().min(room);
    // SAFETY: the caller's promise, and `stored` is within it.
    unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), out, stored) };
    if stored < room {
        // SAFETY: there is room for one more.
        unsafe { out.wrapping_add(stored).write(T::default()) };
    }
    match room != 0 && text.len() > room {
        true => -1,
        false => text.len() as i32,
    }
}

/// # Safety
/// `pattern` ends in NUL, and `list` has what it asks for.
unsafe fn narrow(pattern: *const u8, list: *const u64) -> Vec<u8> {
    // SAFETY: the caller's promise.
    let pattern = unsafe { core::ffi::CStr::from_ptr(pattern.cast()) };
    // SAFETY: the caller's promise.
    let mut arguments = unsafe { Arguments::new(list) };
    // SAFETY: the caller's promise.
    let text = unsafe { format::format(pattern.to_bytes(), &mut arguments) };
    // The system's 8-bit code page is Latin-1.
    text.chars()
        .map(|character| u8::try_from(character).unwrap_or(b'?'))
        .collect()
}

/// Microsoft Learn: _vsnprintf.
///
/// # Safety
/// `out` has room for `room` characters; `pattern` ends in NUL, and `list` has what it asks for.
pub unsafe extern "win64" fn _vsnprintf(
    out: *mut u8,
    room: usize,
    pattern: *const u8,
    list: *const u64,
) -> i32 {
    // SAFETY: the caller's promise.
    let text = unsafe { narrow(pattern, list) };
    // SAFETY: the caller's promise.
    unsafe { store(out, room, &text) }
}

/// Microsoft Learn: _snprintf, which is variadic: the fourth argument goes to its home slot, so that all lie in a row.
///
/// # Safety
/// As for [`_vsnprintf`].
#[unsafe(naked)]
pub unsafe extern "win64" fn _snprintf(_out: *mut u8, _room: usize, _pattern: *const u8) -> i32 {
    naked_asm!(
        "mov [rsp + 32], r9",
        "lea r9, [rsp + 32]",
        "jmp {target}",
        target = sym _vsnprintf,
    )
}

/// A wide function's format as one for a narrow function: `%s` and `%c` are of the function's own width unless a prefix
/// says otherwise.
fn narrowed(pattern: &[u16]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut units = pattern
        .iter()
        .map(|&unit| u8::try_from(unit).unwrap_or(b'?'));
    while let Some(byte) = units.next() {
        out.push(byte);
        if byte != b'%' {
            continue;
        }
        let mut sized = false;
        for byte in units.by_ref() {
            let is_last =
                byte == b'%' || (byte.is_ascii_alphabetic() && !b"hlwIzt".contains(&byte));
            sized |= b"hlw".contains(&byte);
            let swap = is_last && !sized && b"sScC".contains(&byte);
            out.push(if swap { byte ^ 0x20 } else { byte });
            if is_last {
                break;
            }
        }
    }
    out
}

/// Microsoft Learn: _vsnwprintf.
///
/// # Safety
/// As for [`_vsnprintf`], in units of 16 bits.
pub unsafe extern "win64" fn _vsnwprintf(
    out: *mut u16,
    room: usize,
    pattern: *const u16,
    list: *const u64,
) -> i32 {
    // SAFETY: the caller's promise.
    let length = unsafe { unicode::length(pattern) };
    // SAFETY: the caller's promise.
    let pattern = narrowed(unsafe { core::slice::from_raw_parts(pattern, length) });
    // SAFETY: the caller's promise.
    let mut arguments = unsafe { Arguments::new(list) };
    // SAFETY: the caller's promise.
    let text: String = unsafe { format::format(&pattern, &mut arguments) };
    let units: Vec<u16> = text.encode_utf16().collect();
    // SAFETY: the caller's promise.
    unsafe { store(out, room, &units) }
}

exports!("ntoskrnl.exe": _vsnprintf, _snprintf, _vsnwprintf);

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow_in<const N: usize>(pattern: &core::ffi::CStr, list: &[u64]) -> ([u8; N], i32) {
        let mut out = [0xaa; N];
        // SAFETY: the buffer's own size; each test gives what its pattern asks for.
        let length =
            unsafe { _vsnprintf(out.as_mut_ptr(), N, pattern.as_ptr().cast(), list.as_ptr()) };
        (out, length)
    }

    #[test]
    fn a_text_that_fits_gets_its_nul() {
        assert_eq!(narrow_in::<6>(c"%u-%x", &[12, 255]), (*b"12-ff\0", 5));
    }

    #[test]
    fn a_text_that_just_fits_has_no_nul_and_a_longer_one_is_cut() {
        assert_eq!(narrow_in::<5>(c"%u-%x", &[12, 255]), (*b"12-ff", 5));
        assert_eq!(narrow_in::<4>(c"%u-%x", &[12, 255]), (*b"12-f", -1));
    }

    #[test]
    fn without_room_the_length_is_told() {
        let list = [12u64];
        let pattern = c"%05d".as_ptr().cast();
        // SAFETY: no room; one argument, as the pattern asks.
        let length = unsafe { _vsnprintf(core::ptr::null_mut(), 0, pattern, list.as_ptr()) };
        assert_eq!(length, 5);
    }

    #[test]
    fn in_a_wide_function_a_plain_string_is_wide() {
        let pattern: Vec<u16> = "%s/%S/%hs\0".encode_utf16().collect();
        let wide: Vec<u16> = "wide\0".encode_utf16().collect();
        let list = [
            wide.as_ptr() as u64,
            c"narrow".as_ptr() as u64,
            c"short".as_ptr() as u64,
        ];
        let mut out = [0u16; 32];
        // SAFETY: the buffer's own size; three strings, as the pattern asks.
        let length = unsafe { _vsnwprintf(out.as_mut_ptr(), 32, pattern.as_ptr(), list.as_ptr()) };
        let text = String::from_utf16_lossy(&out[..length as usize]);
        assert_eq!(text, "wide/narrow/short");
    }
}
