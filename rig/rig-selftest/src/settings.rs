//! What to run: values below the service's `Parameters` key.
//!
//! | value | type | |
//! |---|---|---|
//! | `Words` | REG_SZ | words apart by spaces; cases whose group or name contains one are run; all without it |
//! | `SelfCheck` | REG_DWORD | 1: adds a case that must fail, to show that a failure is seen |
//! | `BugCheck` | REG_DWORD | 1: only a bug check, whose callbacks tell the verdicts |

use core::ptr::null_mut;

use crate::wdk::*;

const KEY_READ: u32 = 0x2_0019;
/// KEY_VALUE_INFORMATION_CLASS: KeyValuePartialInformation.
const PARTIAL: i32 = 2;
/// Bytes of a value that are read, with the 12 of the structure's head.
const ROOM: usize = 512;
const HEAD: usize = 12;

/// What was found.
pub struct Settings {
    text: [u8; ROOM],
    length: usize,
    pub self_check: bool,
    pub bug_check: bool,
}

impl Settings {
    /// Reads them; what is not there has its default.
    pub fn read(service: *const UNICODE_STRING) -> Self {
        let mut settings = Self {
            text: [0; ROOM],
            length: 0,
            self_check: false,
            bug_check: false,
        };
        let Some(root) = open(service, null_mut()) else {
            return settings;
        };
        if let Some(key) = open(&raw const *wide(&mut [0; 32], "Parameters"), root) {
            settings.words(key);
            let is_set = |name| matches!(value(key, name), (data, 4) if data[0] == 1);
            settings.self_check = is_set("SelfCheck");
            settings.bug_check = is_set("BugCheck");
            let _ = ZwClose(key);
        }
        let _ = ZwClose(root);
        settings
    }

    fn words(&mut self, key: HANDLE) {
        let (data, length) = value(key, "Words");
        for unit in data[..length].chunks_exact(2) {
            // Names of cases are ASCII.
            if unit[0] != 0 && unit[1] == 0 {
                self.text[self.length] = unit[0];
                self.length += 1;
            }
        }
    }

    /// The words, at most `N`.
    pub fn split<'a, const N: usize>(&'a self, out: &'a mut [&'a str; N]) -> &'a [&'a str] {
        let text = core::str::from_utf8(&self.text[..self.length]).unwrap_or_default();
        let mut count = 0;
        for word in text.split(' ').filter(|word| !word.is_empty()).take(N) {
            out[count] = word;
            count += 1;
        }
        &out[..count]
    }
}

/// A counted string over `units`, with the text in it.
struct Wide<'a>(UNICODE_STRING, core::marker::PhantomData<&'a ()>);

impl core::ops::Deref for Wide<'_> {
    type Target = UNICODE_STRING;
    fn deref(&self) -> &UNICODE_STRING {
        &self.0
    }
}

fn wide<'a>(units: &'a mut [u16; 32], text: &str) -> Wide<'a> {
    let mut length = 0;
    for (place, unit) in units.iter_mut().zip(text.encode_utf16()) {
        *place = unit;
        length += 2;
    }
    let string = UNICODE_STRING {
        Length: length,
        MaximumLength: 64,
        Buffer: units.as_mut_ptr(),
    };
    Wide(string, core::marker::PhantomData)
}

fn open(name: *const UNICODE_STRING, root: HANDLE) -> Option<HANDLE> {
    let attributes = object_attributes(name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, root);
    let mut key = null_mut();
    let status = ZwOpenKey(&raw mut key, KEY_READ, &raw const attributes);
    nt_success(status).then_some(key)
}

/// A value's data, and how long it is; nothing when it is not there.
fn value(key: HANDLE, name: &str) -> ([u8; ROOM], usize) {
    let mut record = [0u32; (ROOM + HEAD) / 4];
    let mut needed = 0;
    let mut units = [0; 32];
    let status = ZwQueryValueKey(
        key,
        &raw const *wide(&mut units, name),
        PARTIAL,
        record.as_mut_ptr().cast(),
        size_of_val(&record) as u32,
        &raw mut needed,
    );
    let mut data = [0; ROOM];
    if !nt_success(status) {
        return (data, 0);
    }
    // KEY_VALUE_PARTIAL_INFORMATION: title, type, length, data.
    let length = (record[2] as usize).min(ROOM);
    for (place, byte) in data
        .iter_mut()
        .zip(record[3..].iter().flat_map(|word| word.to_le_bytes()))
    {
        *place = byte;
    }
    (data, length)
}
