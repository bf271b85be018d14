//! Comparing and reading 8-bit text: counted strings, C strings, characters; GUIDs from text.

use core::cmp::Ordering;

use nt_sys::{
    ANSI_STRING, BOOLEAN, GUID, NTSTATUS, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, UNICODE_STRING,
};

use super::{ansi, unicode};
use crate::exports;

/// The order of two texts as the kernel's functions tell it: below, at or above zero.
fn order(first: impl Iterator<Item = u8>, second: impl Iterator<Item = u8>, fold: bool) -> i32 {
    let fold = |byte: u8| match fold {
        true => byte.to_ascii_lowercase(),
        false => byte,
    };
    match first.map(fold).cmp(second.map(fold)) {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }
}

/// Microsoft Learn: RtlCompareString.
///
/// # Safety
/// Both strings are valid.
pub unsafe extern "win64" fn RtlCompareString(
    first: *const ANSI_STRING,
    second: *const ANSI_STRING,
    ignore_case: BOOLEAN,
) -> i32 {
    // SAFETY: the caller's promise.
    let first = unsafe { ansi::bytes(first) };
    // SAFETY: the caller's promise.
    let second = unsafe { ansi::bytes(second) };
    order(
        first.iter().copied(),
        second.iter().copied(),
        ignore_case != 0,
    )
}

/// Microsoft Learn: RtlEqualString.
///
/// # Safety
/// Both strings are valid.
pub unsafe extern "win64" fn RtlEqualString(
    first: *const ANSI_STRING,
    second: *const ANSI_STRING,
    ignore_case: BOOLEAN,
) -> BOOLEAN {
    // SAFETY: the caller's promise.
    BOOLEAN::from(unsafe { RtlCompareString(first, second, ignore_case) } == 0)
}

/// Microsoft Learn: _stricmp.
///
/// # Safety
/// Both strings end in NUL.
pub unsafe extern "win64" fn _stricmp(first: *const u8, second: *const u8) -> i32 {
    // SAFETY: the caller's promise.
    let first = unsafe { core::ffi::CStr::from_ptr(first.cast()) }.to_bytes();
    // SAFETY: the caller's promise.
    let second = unsafe { core::ffi::CStr::from_ptr(second.cast()) }.to_bytes();
    order(first.iter().copied(), second.iter().copied(), true)
}

/// Microsoft Learn: isalnum, in the C locale.
pub extern "win64" fn isalnum(character: i32) -> i32 {
    i32::from(u8::try_from(character).is_ok_and(|byte| byte.is_ascii_alphanumeric()))
}

/// Microsoft Learn: isprint, in the C locale.
pub extern "win64" fn isprint(character: i32) -> i32 {
    i32::from((0x20..0x7f).contains(&character))
}

/// Reads `{xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}`.
fn parse_guid(text: &str) -> Option<GUID> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let groups = [8, 13, 18, 23];
    let is_right = |(at, byte): (usize, u8)| match groups.contains(&at) {
        true => byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    if inner.len() != 36 || !inner.bytes().enumerate().all(is_right) {
        return None;
    }
    let digits = inner.bytes().filter(|&byte| byte != b'-');
    let value = digits.fold(0u128, |value, byte| {
        value << 4 | u128::from(char::from(byte).to_digit(16).unwrap_or(0))
    });
    Some(GUID::from_u128(value))
}

/// Microsoft Learn: RtlGUIDFromString.
///
/// # Safety
/// `string` is valid; `guid` is writable.
pub unsafe extern "win64" fn RtlGUIDFromString(
    string: *const UNICODE_STRING,
    guid: *mut GUID,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let text = unsafe { unicode::to_text(string) };
    let Some(value) = parse_guid(&text) else {
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: the caller's promise.
    unsafe { guid.write(value) };
    STATUS_SUCCESS
}

exports!(
    "ntoskrnl.exe":
    RtlCompareString,
    RtlEqualString,
    RtlGUIDFromString,
    _stricmp,
    isalnum,
    isprint,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_read_in_its_one_spelling() {
        let text = "{70941BF4-0073-11d1-A09E-00C04FC340B1}";
        let guid = parse_guid(text).unwrap();
        assert_eq!(
            guid,
            GUID::from_u128(0x70941BF4_0073_11D1_A09E_00C04FC340B1)
        );
        assert_eq!(parse_guid(&text[1..]), None);
        assert_eq!(parse_guid(&text.replace('-', "0")), None);
        assert_eq!(parse_guid(&text.replace('F', "G")), None);
    }

    #[test]
    fn case_counts_only_when_it_is_to() {
        let compare = |first: &core::ffi::CStr, second: &core::ffi::CStr| {
            // SAFETY: both end in NUL.
            unsafe { _stricmp(first.as_ptr().cast(), second.as_ptr().cast()) }
        };
        assert_eq!(compare(c"VBD", c"vbd"), 0);
        assert!(compare(c"vbd", c"VIF") < 0);
        assert!(compare(c"vbd2", c"VBD") > 0);
        assert_eq!(order(b"A".iter().copied(), b"a".iter().copied(), false), -1);
    }
}
