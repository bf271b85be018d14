//! Counted UTF-16 strings.

use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::null_mut;

use nt_sys::{
    BOOLEAN, GUID, NTSTATUS, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL,
    STATUS_INVALID_PARAMETER, STATUS_NO_MEMORY, STATUS_SUCCESS, UNICODE_STRING,
};

use crate::exports;
use crate::ke::processor;
use crate::mm::pool;

const TAG: pool::Tag = *b"Strg";

/// The units of a counted string.
///
/// # Safety
/// `string` is readable and describes readable memory, which does not change while the result lives.
pub unsafe fn units<'a>(string: *const UNICODE_STRING) -> &'a [u16] {
    // SAFETY: the caller's promise.
    let UNICODE_STRING { Length, Buffer, .. } = unsafe { string.read_unaligned() };
    if Buffer.is_null() || Length < 2 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(Buffer, usize::from(Length / 2)) }
}

/// A counted string as text; what is no UTF-16 is replaced.
///
/// # Safety
/// As for [`units`].
pub unsafe fn to_text(string: *const UNICODE_STRING) -> String {
    // SAFETY: the caller's promise.
    String::from_utf16_lossy(unsafe { units(string) })
}

/// Length in units of a string that ends in NUL.
///
/// # Safety
/// `string` is readable up to its NUL.
pub unsafe fn length(string: *const u16) -> usize {
    let mut length = 0;
    // SAFETY: the caller's promise: no unit so far was NUL.
    while unsafe { string.wrapping_add(length).read() } != 0 {
        length += 1;
    }
    length
}

/// A fresh counted string in pool of `owner`, with a NUL behind it.
pub(crate) fn allocate(owner: u32, units: &[u16]) -> Option<UNICODE_STRING> {
    let size = u16::try_from(units.len() * 2 + 2).ok()?;
    let buffer = pool::allocate_for(owner, usize::from(size), TAG)?.cast::<u16>();
    let room = core::ptr::slice_from_raw_parts_mut(buffer.as_ptr(), units.len() + 1);
    // SAFETY: the allocation has room for the units and the NUL.
    let room = unsafe { &mut *room };
    room[..units.len()].copy_from_slice(units);
    room[units.len()] = 0;
    Some(UNICODE_STRING {
        Length: size - 2,
        MaximumLength: size,
        Buffer: buffer.as_ptr(),
    })
}

/// Copies `units` to the buffer of `string` behind `at` bytes; `false` when there is no room.
///
/// # Safety
/// `string` describes writable memory.
pub(super) unsafe fn store(string: &mut UNICODE_STRING, at: u16, units: &[u16]) -> bool {
    let Some(end) = u16::try_from(units.len() * 2)
        .ok()
        .and_then(|size| at.checked_add(size))
    else {
        return false;
    };
    if end > string.MaximumLength {
        return false;
    }
    let target = string.Buffer.wrapping_add(usize::from(at / 2));
    // SAFETY: the caller's promise, and the end is within the maximum length.
    unsafe { core::ptr::copy(units.as_ptr(), target, units.len()) };
    string.Length = end;
    if usize::from(end) + 2 <= usize::from(string.MaximumLength) {
        // SAFETY: there is room for a NUL behind the string.
        unsafe { target.wrapping_add(units.len()).write(0) };
    }
    true
}

/// Upper case of one unit, for the basic plane's one-to-one cases, as Windows' table has it.
pub fn upcase(unit: u16) -> u16 {
    let Some(character) = char::from_u32(u32::from(unit)) else {
        return unit;
    };
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => u16::try_from(u32::from(one)).unwrap_or(unit),
        _ => unit,
    }
}

/// Microsoft Learn: RtlInitUnicodeString.
///
/// # Safety
/// `target` is writable; `source` is null or ends in NUL.
pub unsafe extern "win64" fn RtlInitUnicodeString(target: *mut UNICODE_STRING, source: *const u16) {
    let units = match source.is_null() {
        true => 0,
        // SAFETY: the caller's promise.
        false => unsafe { length(source) },
    };
    let bytes = (units * 2).min(0xfffc) as u16;
    let maximum = if source.is_null() { 0 } else { bytes + 2 };
    let value = UNICODE_STRING {
        Length: bytes,
        MaximumLength: maximum,
        Buffer: source.cast_mut(),
    };
    // SAFETY: the caller's promise.
    unsafe { target.write(value) };
}

/// Microsoft Learn: RtlCopyUnicodeString; copies as much as fits.
///
/// # Safety
/// Both strings are valid; `source` may be null.
pub unsafe extern "win64" fn RtlCopyUnicodeString(
    target: *mut UNICODE_STRING,
    source: *const UNICODE_STRING,
) {
    // SAFETY: the caller's promise.
    let target = unsafe { &mut *target };
    target.Length = 0;
    if !source.is_null() {
        // SAFETY: the caller's promise.
        let units = unsafe { units(source) };
        let fits = units.len().min(usize::from(target.MaximumLength / 2));
        // SAFETY: the caller's promise.
        unsafe { store(target, 0, &units[..fits]) };
    }
}

/// Microsoft Learn: RtlAppendUnicodeToString.
///
/// # Safety
/// `target` is a valid string; `source` is null or ends in NUL.
pub unsafe extern "win64" fn RtlAppendUnicodeToString(
    target: *mut UNICODE_STRING,
    source: *const u16,
) -> NTSTATUS {
    if source.is_null() {
        return STATUS_SUCCESS;
    }
    // SAFETY: the caller's promise.
    let length = unsafe { length(source) };
    // SAFETY: the caller's promise.
    let units = unsafe { core::slice::from_raw_parts(source, length) };
    // SAFETY: the caller's promise.
    unsafe { append(target, units) }
}

/// Microsoft Learn: RtlAppendUnicodeStringToString.
///
/// # Safety
/// Both strings are valid.
pub unsafe extern "win64" fn RtlAppendUnicodeStringToString(
    target: *mut UNICODE_STRING,
    source: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let units = unsafe { units(source) };
    // SAFETY: the caller's promise.
    unsafe { append(target, units) }
}

/// # Safety
/// `target` is a valid string.
unsafe fn append(target: *mut UNICODE_STRING, units: &[u16]) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let target = unsafe { &mut *target };
    let at = target.Length;
    // SAFETY: the caller's promise.
    match unsafe { store(target, at, units) } {
        true => STATUS_SUCCESS,
        false => STATUS_BUFFER_TOO_SMALL,
    }
}

/// Microsoft Learn: RtlUpcaseUnicodeString.
///
/// # Safety
/// Both strings are valid; with `allocate`, `target` is only written.
pub unsafe extern "win64" fn RtlUpcaseUnicodeString(
    target: *mut UNICODE_STRING,
    source: *const UNICODE_STRING,
    allocate_target: BOOLEAN,
) -> NTSTATUS {
    let owner = processor::caller();
    // SAFETY: the caller's promise.
    let upper: Vec<u16> = unsafe { units(source) }
        .iter()
        .copied()
        .map(upcase)
        .collect();
    if allocate_target != 0 {
        let Some(fresh) = allocate(owner, &upper) else {
            return STATUS_NO_MEMORY;
        };
        // SAFETY: the caller's promise.
        unsafe { target.write(fresh) };
        return STATUS_SUCCESS;
    }
    // SAFETY: the caller's promise.
    let target = unsafe { &mut *target };
    // SAFETY: the caller's promise.
    match unsafe { store(target, 0, &upper) } {
        true => STATUS_SUCCESS,
        false => STATUS_BUFFER_OVERFLOW,
    }
}

/// Microsoft Learn: RtlCompareUnicodeString.
///
/// # Safety
/// Both strings are valid.
pub unsafe extern "win64" fn RtlCompareUnicodeString(
    first: *const UNICODE_STRING,
    second: *const UNICODE_STRING,
    ignore_case: BOOLEAN,
) -> i32 {
    let fold = |unit: &u16| {
        if ignore_case != 0 {
            upcase(*unit)
        } else {
            *unit
        }
    };
    // SAFETY: the caller's promise.
    let first = unsafe { units(first) }.iter().map(fold);
    // SAFETY: the caller's promise.
    let second = unsafe { units(second) }.iter().map(fold);
    first.cmp(second) as i32
}

/// Microsoft Learn: RtlEqualUnicodeString.
///
/// # Safety
/// Both strings are valid.
pub unsafe extern "win64" fn RtlEqualUnicodeString(
    first: *const UNICODE_STRING,
    second: *const UNICODE_STRING,
    ignore_case: BOOLEAN,
) -> BOOLEAN {
    // SAFETY: the caller's promise.
    BOOLEAN::from(unsafe { RtlCompareUnicodeString(first, second, ignore_case) } == 0)
}

/// Microsoft Learn: RtlUnicodeStringToInteger.
///
/// # Safety
/// `string` is valid; `value` is writable.
pub unsafe extern "win64" fn RtlUnicodeStringToInteger(
    string: *const UNICODE_STRING,
    base: u32,
    value: *mut u32,
) -> NTSTATUS {
    if ![0, 2, 8, 10, 16].contains(&base) {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { to_text(string) };
    // SAFETY: the caller's promise.
    unsafe { value.write(parse_integer(&text, base)) };
    STATUS_SUCCESS
}

/// Reads a number as the kernel does: blanks, a sign, a prefix where `base` is 0, digits until something else.
fn parse_integer(text: &str, base: u32) -> u32 {
    let text = text.trim_start_matches(|c: char| c <= ' ');
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2)];
    let (base, text) = match base {
        0 => prefixes
            .iter()
            .find_map(|&(prefix, base)| text.strip_prefix(prefix).map(|rest| (base, rest)))
            .unwrap_or((10, text)),
        base => (base, text),
    };
    let digits = text.chars().map_while(|c| c.to_digit(base));
    let value = digits.fold(0u32, |value, digit| {
        value.wrapping_mul(base).wrapping_add(digit)
    });
    if negative {
        value.wrapping_neg()
    } else {
        value
    }
}

/// A GUID with braces, in upper case.
pub(crate) fn guid_text(guid: &GUID) -> String {
    let d = guid.Data4;
    alloc::format!(
        "{{{:08X}-{:04X}-{:04X}-{:02X}{:02X}-{:02X}{:02X}{:02X}{:02X}{:02X}{:02X}}}",
        guid.Data1,
        guid.Data2,
        guid.Data3,
        d[0],
        d[1],
        d[2],
        d[3],
        d[4],
        d[5],
        d[6],
        d[7],
    )
}

/// Microsoft Learn: RtlStringFromGUID; freed with `RtlFreeUnicodeString`.
///
/// # Safety
/// `guid` is readable, `target` writable.
pub unsafe extern "win64" fn RtlStringFromGUID(
    guid: *const GUID,
    target: *mut UNICODE_STRING,
) -> NTSTATUS {
    let owner = processor::caller();
    // SAFETY: the caller's promise.
    let text = guid_text(unsafe { &*guid });
    let units: Vec<u16> = text.encode_utf16().collect();
    let Some(fresh) = allocate(owner, &units) else {
        return STATUS_NO_MEMORY;
    };
    // SAFETY: the caller's promise.
    unsafe { target.write(fresh) };
    STATUS_SUCCESS
}

/// Microsoft Learn: RtlFreeUnicodeString.
///
/// # Safety
/// `string` was allocated by one of these functions, or is empty.
pub unsafe extern "win64" fn RtlFreeUnicodeString(string: *mut UNICODE_STRING) {
    // SAFETY: the caller's promise.
    let buffer = unsafe { (*string).Buffer };
    if !buffer.is_null() {
        // SAFETY: the caller's promise.
        unsafe { pool::ExFreePool(buffer.cast()) };
    }
    // SAFETY: the caller's promise.
    unsafe {
        string.write(UNICODE_STRING {
            Length: 0,
            MaximumLength: 0,
            Buffer: null_mut(),
        })
    };
}

exports!(
    "ntoskrnl.exe":
    RtlInitUnicodeString,
    RtlCopyUnicodeString,
    RtlAppendUnicodeToString,
    RtlAppendUnicodeStringToString,
    RtlUpcaseUnicodeString,
    RtlCompareUnicodeString,
    RtlEqualUnicodeString,
    RtlUnicodeStringToInteger,
    RtlStringFromGUID,
    RtlFreeUnicodeString,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_reads_them() {
        assert_eq!(parse_integer("  42", 10), 42);
        assert_eq!(parse_integer("-1", 10), u32::MAX);
        assert_eq!(parse_integer("0x1F", 0), 31);
        assert_eq!(parse_integer("12three", 10), 12);
        assert_eq!(parse_integer("", 10), 0);
    }

    #[test]
    fn upper_case_leaves_what_has_no_single_unit() {
        assert_eq!(upcase(u16::from(b'a')), u16::from(b'A'));
        assert_eq!(upcase(0xe4), 0xc4);
        assert_eq!(upcase(0xdf), 0xdf);
        assert_eq!(upcase(0xd800), 0xd800);
    }

    #[test]
    fn appending_beyond_the_maximum_is_refused() {
        let mut buffer = [0u16; 4];
        let mut string = UNICODE_STRING {
            Length: 0,
            MaximumLength: 8,
            Buffer: buffer.as_mut_ptr(),
        };
        let three: Vec<u16> = "abc\0".encode_utf16().collect();
        // SAFETY: both strings live on this stack.
        let first = unsafe { RtlAppendUnicodeToString(&raw mut string, three.as_ptr()) };
        // SAFETY: as above.
        let second = unsafe { RtlAppendUnicodeToString(&raw mut string, three.as_ptr()) };
        assert_eq!(
            (first, second, string.Length),
            (STATUS_SUCCESS, STATUS_BUFFER_TOO_SMALL, 6)
        );
    }
}
