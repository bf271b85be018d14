//! Which case to play: the text `Case` in the key `Parameters` of the driver's service.

use core::ptr::null_mut;

use crate::wdk::*;

/// Longest name of a case in characters.
const LONGEST: usize = 64;
const KEY_READ: u32 = 0x2_0019;
/// KeyValuePartialInformation (wdm.h: KEY_VALUE_INFORMATION_CLASS).
const PARTIAL: i32 = 2;

#[repr(C)]
struct Partial {
    _title: u32,
    _kind: u32,
    bytes: u32,
    text: [u16; LONGEST],
}

/// A string of the kernel over UTF-16 units.
fn string(units: &mut [u16], length: usize) -> UNICODE_STRING {
    UNICODE_STRING {
        Length: (length * 2) as u16,
        MaximumLength: (units.len() * 2) as u16,
        Buffer: units.as_mut_ptr(),
    }
}

/// Calls `take` with the name of the case as it stands in the registry.
pub fn read<R>(path: *mut UNICODE_STRING, take: impl FnOnce(&[u16]) -> R) -> R {
    let mut units = [0u16; 256];
    let mut full = string(&mut units, 0);
    RtlCopyUnicodeString(&raw mut full, path);
    RtlAppendUnicodeToString(&raw mut full, utf16(b"\\Parameters\0").as_ptr());
    let attributes = object_attributes(
        &raw const full,
        OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE,
        null_mut(),
    );
    let mut key: HANDLE = null_mut();
    let mut value = Partial {
        _title: 0,
        _kind: 0,
        bytes: 0,
        text: [0; LONGEST],
    };
    if nt_success(ZwOpenKey(&raw mut key, KEY_READ, &raw const attributes)) {
        let mut name = utf16(b"Case");
        let name = string(&mut name, 4);
        let mut used = 0;
        let room = size_of::<Partial>() as u32;
        ZwQueryValueKey(
            key,
            &raw const name,
            PARTIAL,
            (&raw mut value).cast(),
            room,
            &raw mut used,
        );
        ZwClose(key);
    }
    let length = (value.bytes as usize / 2).min(LONGEST);
    let text = &value.text[..length];
    take(text.strip_suffix(&[0]).unwrap_or(text))
}

fn utf16<const N: usize>(text: &[u8; N]) -> [u16; N] {
    text.map(u16::from)
}
