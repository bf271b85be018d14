//! Counted 8-bit strings. The system's 8-bit code page is Latin-1 here; other characters become `?`.

use alloc::vec::Vec;
use core::ptr::null_mut;

use nt_sys::{
    ANSI_STRING, BOOLEAN, NTSTATUS, STATUS_BUFFER_OVERFLOW, STATUS_NO_MEMORY, STATUS_SUCCESS,
    UNICODE_STRING,
};

use super::unicode;
use crate::exports;
use crate::ke::processor;
use crate::mm::pool;

/// The characters of a counted string.
///
/// # Safety
/// `string` is readable and describes readable memory, which does not change while the result lives.
pub unsafe fn bytes<'a>(string: *const ANSI_STRING) -> &'a [u8] {
    // SAFETY: the caller's promise.
    let ANSI_STRING { Length, Buffer, .. } = unsafe { string.read_unaligned() };
    if Buffer.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(Buffer, usize::from(Length)) }
}

/// Microsoft Learn: RtlInitAnsiString.
///
/// # Safety
/// `target` is writable; `source` is null or ends in NUL.
pub unsafe extern "win64" fn RtlInitAnsiString(target: *mut ANSI_STRING, source: *const u8) {
    let length = match source.is_null() {
        true => 0,
        // SAFETY: the caller's promise.
        false => unsafe { core::ffi::CStr::from_ptr(source.cast()) }.count_bytes(),
    };
    let length = length.min(0xfffe) as u16;
    let maximum = if source.is_null() { 0 } else { length + 1 };
    let value = ANSI_STRING {
        Length: length,
        MaximumLength: maximum,
        Buffer: source.cast_mut(),
    };
    // SAFETY: the caller's promise.
    unsafe { target.write(value) };
}

/// Microsoft Learn: RtlAnsiStringToUnicodeString.
///
/// # Safety
/// Both strings are valid; with `allocate`, `target` is only written.
pub unsafe extern "win64" fn RtlAnsiStringToUnicodeString(
    target: *mut UNICODE_STRING,
    source: *const ANSI_STRING,
    allocate: BOOLEAN,
) -> NTSTATUS {
    let owner = processor::caller();
    // SAFETY: the caller's promise.
    let units: Vec<u16> = unsafe { bytes(source) }
        .iter()
        .copied()
        .map(u16::from)
        .collect();
    if allocate != 0 {
        let Some(fresh) = unicode::allocate(owner, &units) else {
            return STATUS_NO_MEMORY;
        };
        // SAFETY: the caller's promise.
        unsafe { target.write(fresh) };
        return STATUS_SUCCESS;
    }
    // SAFETY: the caller's promise.
    let target = unsafe { &mut *target };
    // SAFETY: the caller's promise.
    match unsafe { unicode::store(target, 0, &units) } {
        true => STATUS_SUCCESS,
        false => STATUS_BUFFER_OVERFLOW,
    }
}

/// Microsoft Learn: RtlUnicodeStringToAnsiString.
///
/// # Safety
/// Both strings are valid; with `allocate`, `target` is only written.
pub unsafe extern "win64" fn RtlUnicodeStringToAnsiString(
    target: *mut ANSI_STRING,
    source: *const UNICODE_STRING,
    allocate: BOOLEAN,
) -> NTSTATUS {
    let owner = processor::caller();
    // SAFETY: the caller's promise.
    let units = unsafe { unicode::units(source) };
    let text: Vec<u8> = units
        .iter()
        .map(|&unit| u8::try_from(unit).unwrap_or(b'?'))
        .chain([0])
        .collect();
    let length = (text.len() - 1) as u16;
    let mut result = match allocate {
        // SAFETY: the caller's promise.
        0 => unsafe { target.read() },
        _ => ANSI_STRING {
            Length: 0,
            MaximumLength: length + 1,
            Buffer: null_mut(),
        },
    };
    if allocate != 0 {
        let Some(buffer) = pool::allocate_for(owner, text.len(), *b"Strg") else {
            return STATUS_NO_MEMORY;
        };
        result.Buffer = buffer.as_ptr();
    }
    if usize::from(result.MaximumLength) < text.len() {
        return STATUS_BUFFER_OVERFLOW;
    }
    result.Length = length;
    // SAFETY: the buffer has room for the text and its NUL.
    unsafe { core::ptr::copy(text.as_ptr(), result.Buffer, text.len()) };
    // SAFETY: the caller's promise.
    unsafe { target.write(result) };
    STATUS_SUCCESS
}

/// Microsoft Learn: RtlFreeAnsiString.
///
/// # Safety
/// `string` was allocated by one of these functions, or is empty.
pub unsafe extern "win64" fn RtlFreeAnsiString(string: *mut ANSI_STRING) {
    // SAFETY: the caller's promise.
    let buffer = unsafe { (*string).Buffer };
    if !buffer.is_null() {
        // SAFETY: the caller's promise.
        unsafe { pool::ExFreePool(buffer.cast()) };
    }
    // SAFETY: the caller's promise.
    unsafe {
        string.write(ANSI_STRING {
            Length: 0,
            MaximumLength: 0,
            Buffer: null_mut(),
        })
    };
}

exports!(
    "ntoskrnl.exe":
    RtlInitAnsiString,
    RtlAnsiStringToUnicodeString,
    RtlUnicodeStringToAnsiString,
    RtlFreeAnsiString,
);
