//! The registry: keys and values below the service's own key, which are gone when the cases have ended.

use core::ptr::null_mut;

use crate::device;
use crate::suite::{Finding, Outcome, failed};
use crate::wdk::*;

const KEY_ALL_ACCESS: u32 = 0xF_003F;
const REG_OPTION_VOLATILE: u32 = 1;
const REG_CREATED_NEW_KEY: u32 = 1;
const REG_OPENED_EXISTING_KEY: u32 = 2;
const REG_SZ: u32 = 1;
const REG_BINARY: u32 = 3;
const REG_DWORD: u32 = 4;

// KEY_VALUE_INFORMATION_CLASS and KEY_INFORMATION_CLASS.
const VALUE_BASIC: i32 = 0;
const VALUE_FULL: i32 = 1;
const VALUE_PARTIAL: i32 = 2;
const KEY_BASIC: i32 = 0;
const KEY_FULL: i32 = 2;

/// A name in UTF-16.
struct Name([u16; 24], UNICODE_STRING);

impl Name {
    /// Calls with the counted string, which points into this very place.
    fn with<R>(text: &str, body: impl FnOnce(*const UNICODE_STRING) -> R) -> R {
        let mut name = Self(
            [0; 24],
            UNICODE_STRING {
                Length: 0,
                MaximumLength: 48,
                Buffer: null_mut(),
            },
        );
        for (place, unit) in name.0.iter_mut().zip(text.encode_utf16()) {
            *place = unit;
            name.1.Length += 2;
        }
        name.1.Buffer = name.0.as_mut_ptr();
        body(&raw const name.1)
    }
}

/// A key's handle, closed with its owner.
struct Key(HANDLE);

impl Drop for Key {
    fn drop(&mut self) {
        let _ = ZwClose(self.0);
    }
}

impl Key {
    fn create_with(&self, name: &str, options: u32) -> (NTSTATUS, Key, u32) {
        Name::with(name, |name| {
            let attributes =
                object_attributes(name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, self.0);
            let (mut key, mut disposition) = (null_mut(), 0);
            let status = ZwCreateKey(
                &raw mut key,
                KEY_ALL_ACCESS,
                &raw const attributes,
                0,
                core::ptr::null(),
                options,
                &raw mut disposition,
            );
            (status, Key(key), disposition)
        })
    }

    fn create(&self, name: &str) -> Result<Key, Finding> {
        match self.create_with(name, REG_OPTION_VOLATILE) {
            (STATUS_SUCCESS, key, _) => Ok(key),
            (status, key, _) => {
                core::mem::forget(key);
                Err(failed(format_args!("ZwCreateKey of {name}: {status:#x}")))
            }
        }
    }

    fn open(&self, name: &str) -> Result<Key, NTSTATUS> {
        Name::with(name, |name| {
            let attributes =
                object_attributes(name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, self.0);
            let mut key = null_mut();
            match ZwOpenKey(&raw mut key, KEY_ALL_ACCESS, &raw const attributes) {
                STATUS_SUCCESS => Ok(Key(key)),
                status => Err(status),
            }
        })
    }

    fn set(&self, name: &str, kind: u32, data: &[u8]) -> NTSTATUS {
        Name::with(name, |name| {
            ZwSetValueKey(
                self.0,
                name,
                0,
                kind,
                data.as_ptr() as PVOID,
                data.len() as u32,
            )
        })
    }

    fn query(&self, name: &str, class: i32, room: u32) -> Answer {
        let mut answer = Answer::new();
        answer.status = Name::with(name, |name| {
            ZwQueryValueKey(
                self.0,
                name,
                class,
                answer.pointer(),
                room,
                &raw mut answer.needed,
            )
        });
        answer
    }

    fn delete_value(&self, name: &str) -> NTSTATUS {
        Name::with(name, |name| ZwDeleteValueKey(self.0, name))
    }

    fn enumerate(&self, index: u32, class: i32, room: u32) -> Answer {
        let mut answer = Answer::new();
        answer.status = ZwEnumerateKey(
            self.0,
            index,
            class,
            answer.pointer(),
            room,
            &raw mut answer.needed,
        );
        answer
    }

    fn enumerate_values(&self, index: u32, class: i32, room: u32) -> Answer {
        let mut answer = Answer::new();
        answer.status = ZwEnumerateValueKey(
            self.0,
            index,
            class,
            answer.pointer(),
            room,
            &raw mut answer.needed,
        );
        answer
    }

    fn information(&self, class: i32, room: u32) -> Answer {
        let mut answer = Answer::new();
        answer.status = ZwQueryKey(
            self.0,
            class,
            answer.pointer(),
            room,
            &raw mut answer.needed,
        );
        answer
    }
}

/// What a query wrote.
struct Answer {
    words: [u32; 64],
    status: NTSTATUS,
    needed: u32,
}

impl Answer {
    const ROOM: u32 = 256;
    /// What the buffer has where nothing was written.
    const UNTOUCHED: u32 = 0xCDCD_CDCD;

    fn new() -> Self {
        Self {
            words: [Self::UNTOUCHED; 64],
            status: 0,
            needed: 0xDEAD,
        }
    }

    fn pointer(&mut self) -> PVOID {
        self.words.as_mut_ptr().cast()
    }

    fn bytes(&self, at: usize, length: usize) -> [u8; 32] {
        let mut out = [0; 32];
        let all = self.words.iter().flat_map(|word| word.to_le_bytes());
        for (place, byte) in out.iter_mut().zip(all.skip(at).take(length)) {
            *place = byte;
        }
        out
    }

    /// Whether the UTF-16 at an offset is this text.
    fn has_text(&self, at: usize, text: &str) -> bool {
        let bytes = self.bytes(at, text.len() * 2);
        text.bytes()
            .enumerate()
            .all(|(index, byte)| bytes[2 * index] == byte && bytes[2 * index + 1] == 0)
    }
}

/// Runs a case in a key of its own, which is removed with what the case made in it.
fn in_scratch(body: impl FnOnce(&Key) -> Outcome) -> Outcome {
    let service = device::service_key();
    let attributes = object_attributes(
        service,
        OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE,
        null_mut(),
    );
    let mut handle = null_mut();
    let status = ZwOpenKey(&raw mut handle, KEY_ALL_ACCESS, &raw const attributes);
    equal!(status, STATUS_SUCCESS, "ZwOpenKey of the service's key");
    let root = Key(handle);
    let scratch = root.create("Scratch")?;
    let outcome = body(&scratch);
    clear(&scratch, 4);
    let gone = ZwDeleteKey(scratch.0);
    outcome?;
    equal!(gone, STATUS_SUCCESS, "ZwDeleteKey of the case's own key");
    Ok(())
}

/// Deletes what is below a key.
fn clear(key: &Key, depth: u32) {
    if depth == 0 {
        return;
    }
    loop {
        let answer = key.enumerate(0, KEY_BASIC, Answer::ROOM);
        if answer.status != STATUS_SUCCESS {
            return;
        }
        let length = answer.words[3] as usize;
        let bytes = answer.bytes(16, length);
        let mut text = [0; 16];
        for (place, pair) in text.iter_mut().zip(bytes.chunks(2)) {
            *place = pair[0];
        }
        let Ok(name) = core::str::from_utf8(&text[..length / 2]) else {
            return;
        };
        let Ok(child) = key.open(name) else { return };
        clear(&child, depth - 1);
        if ZwDeleteKey(child.0) != STATUS_SUCCESS {
            return;
        }
    }
}

/// Learn, ZwCreateKey: Disposition says whether the key was there.
fn creating_says_whether_the_key_was_there() -> Outcome {
    in_scratch(|scratch| {
        let (status, _first, disposition) = scratch.create_with("Key", REG_OPTION_VOLATILE);
        equal!(
            (status, disposition),
            (STATUS_SUCCESS, REG_CREATED_NEW_KEY),
            "the first time"
        );
        let (status, _second, disposition) = scratch.create_with("Key", REG_OPTION_VOLATILE);
        equal!(
            (status, disposition),
            (STATUS_SUCCESS, REG_OPENED_EXISTING_KEY),
            "the second time"
        );
        Ok(())
    })
}

/// Learn, ZwOpenKey: STATUS_OBJECT_NAME_NOT_FOUND for a key that is not there. ZwCreateKey makes the last part only.
fn a_missing_key_is_not_found() -> Outcome {
    in_scratch(|scratch| {
        equal!(
            scratch.open("Missing").err(),
            Some(STATUS_OBJECT_NAME_NOT_FOUND),
            "ZwOpenKey"
        );
        equal!(
            scratch.open(r"Missing\Key").err(),
            Some(STATUS_OBJECT_NAME_NOT_FOUND),
            "ZwOpenKey of a path"
        );
        let (status, key, _) = scratch.create_with(r"Missing\Key", REG_OPTION_VOLATILE);
        if status != STATUS_SUCCESS {
            core::mem::forget(key);
        }
        equal!(
            status,
            STATUS_OBJECT_NAME_NOT_FOUND,
            "ZwCreateKey of a path"
        );
        Ok(())
    })
}

/// Learn, "Registry Key Object Routines": names have no case of their own, but keep the one they were made with.
fn names_are_found_in_any_case() -> Outcome {
    in_scratch(|scratch| {
        let key = scratch.create("MixedCase")?;
        check!(scratch.open("mIXEDcASE").is_ok(), "the key was not found");
        equal!(
            key.set("Value", REG_DWORD, &[1, 2, 3, 4]),
            STATUS_SUCCESS,
            "ZwSetValueKey"
        );
        equal!(
            key.query("vALUE", VALUE_PARTIAL, Answer::ROOM).status,
            STATUS_SUCCESS,
            "ZwQueryValueKey"
        );
        let answer = scratch.enumerate(0, KEY_BASIC, Answer::ROOM);
        check!(answer.has_text(16, "MixedCase"), "the name was changed");
        Ok(())
    })
}

/// Learn, KEY_VALUE_PARTIAL_INFORMATION, KEY_VALUE_BASIC_INFORMATION, KEY_VALUE_FULL_INFORMATION.
fn a_value_is_told_in_three_ways() -> Outcome {
    in_scratch(|scratch| {
        equal!(
            scratch.set("Name", REG_BINARY, &[1, 2, 3, 4, 5]),
            STATUS_SUCCESS,
            "ZwSetValueKey"
        );
        let partial = scratch.query("Name", VALUE_PARTIAL, Answer::ROOM);
        equal!(
            (partial.status, partial.needed),
            (STATUS_SUCCESS, 12 + 5),
            "partial: status and length"
        );
        equal!(
            (partial.words[1], partial.words[2]),
            (REG_BINARY, 5),
            "partial: type and data length"
        );
        equal!(
            &partial.bytes(12, 5)[..5],
            &[1, 2, 3, 4, 5],
            "partial: data"
        );
        let basic = scratch.query("Name", VALUE_BASIC, Answer::ROOM);
        equal!(
            (basic.status, basic.needed),
            (STATUS_SUCCESS, 12 + 8),
            "basic: status and length"
        );
        equal!(
            (basic.words[1], basic.words[2]),
            (REG_BINARY, 8),
            "basic: type and name length"
        );
        check!(basic.has_text(12, "Name"), "basic: the name is wrong");
        let full = scratch.query("Name", VALUE_FULL, Answer::ROOM);
        equal!(full.status, STATUS_SUCCESS, "full: status");
        let offset = full.words[2] as usize;
        equal!(
            (full.words[1], full.words[3], full.words[4]),
            (REG_BINARY, 5, 8),
            "full: type, data and name length"
        );
        check!(full.has_text(20, "Name"), "full: the name is wrong");
        check!((28..64).contains(&offset), "full: the data are at {offset}");
        equal!(&full.bytes(offset, 5)[..5], &[1, 2, 3, 4, 5], "full: data");
        equal!(full.needed as usize, offset + 5, "full: length");
        Ok(())
    })
}

/// Learn, ZwQueryValueKey: STATUS_BUFFER_TOO_SMALL when not even the fixed part fits; ResultLength says what is needed.
fn a_buffer_below_the_fixed_part_is_too_small() -> Outcome {
    in_scratch(|scratch| {
        scratch.set("Name", REG_BINARY, &[9; 10]);
        for room in [0, 4, 11] {
            let answer = scratch.query("Name", VALUE_PARTIAL, room);
            equal!(
                (answer.status, answer.needed),
                (STATUS_BUFFER_TOO_SMALL, 22),
                "with {room} bytes"
            );
        }
        Ok(())
    })
}

/// Learn, ZwQueryValueKey: STATUS_BUFFER_OVERFLOW when the fixed part fits and the data do not; nothing is written behind.
fn a_buffer_below_the_whole_overflows() -> Outcome {
    in_scratch(|scratch| {
        scratch.set("Name", REG_BINARY, &[9; 20]);
        let answer = scratch.query("Name", VALUE_PARTIAL, 16);
        equal!(
            (answer.status, answer.needed),
            (STATUS_BUFFER_OVERFLOW, 32),
            "status and length"
        );
        equal!(
            (answer.words[1], answer.words[2]),
            (REG_BINARY, 20),
            "type and data length"
        );
        equal!(
            answer.words[4],
            Answer::UNTOUCHED,
            "the word behind the buffer"
        );
        let exact = scratch.query("Name", VALUE_PARTIAL, 32);
        equal!(exact.status, STATUS_SUCCESS, "with exactly what is needed");
        Ok(())
    })
}

/// Learn, ZwQueryValueKey: STATUS_OBJECT_NAME_NOT_FOUND for a value that is not there.
fn a_missing_value_is_not_found() -> Outcome {
    in_scratch(|scratch| {
        let answer = scratch.query("Missing", VALUE_PARTIAL, Answer::ROOM);
        equal!(
            answer.status,
            STATUS_OBJECT_NAME_NOT_FOUND,
            "ZwQueryValueKey"
        );
        equal!(
            scratch.delete_value("Missing"),
            STATUS_OBJECT_NAME_NOT_FOUND,
            "ZwDeleteValueKey"
        );
        Ok(())
    })
}

/// Learn, ZwSetValueKey: replaces type and data of a value that is there; no data is a length of 0.
fn a_value_is_replaced() -> Outcome {
    in_scratch(|scratch| {
        scratch.set("Name", REG_BINARY, &[1; 20]);
        equal!(
            scratch.set("Name", REG_DWORD, &[7, 0, 0, 0]),
            STATUS_SUCCESS,
            "ZwSetValueKey"
        );
        let answer = scratch.query("Name", VALUE_PARTIAL, Answer::ROOM);
        equal!(
            (answer.words[1], answer.words[2], answer.words[3]),
            (REG_DWORD, 4, 7),
            "type, length and data"
        );
        equal!(
            scratch.set("Name", REG_SZ, &[]),
            STATUS_SUCCESS,
            "ZwSetValueKey without data"
        );
        let answer = scratch.query("Name", VALUE_PARTIAL, Answer::ROOM);
        equal!(
            (answer.status, answer.words[1], answer.words[2]),
            (STATUS_SUCCESS, REG_SZ, 0),
            "a value without data"
        );
        Ok(())
    })
}

/// Learn, ZwSetValueKey: an empty name is the key's unnamed value.
fn a_key_has_an_unnamed_value() -> Outcome {
    in_scratch(|scratch| {
        equal!(
            scratch.set("", REG_DWORD, &[1, 0, 0, 0]),
            STATUS_SUCCESS,
            "ZwSetValueKey"
        );
        let answer = scratch.query("", VALUE_BASIC, Answer::ROOM);
        equal!(
            (answer.status, answer.words[2]),
            (STATUS_SUCCESS, 0),
            "status and name length"
        );
        Ok(())
    })
}

/// Learn, ZwDeleteValueKey.
fn a_deleted_value_is_gone() -> Outcome {
    in_scratch(|scratch| {
        scratch.set("Name", REG_DWORD, &[1, 0, 0, 0]);
        equal!(
            scratch.delete_value("Name"),
            STATUS_SUCCESS,
            "ZwDeleteValueKey"
        );
        let answer = scratch.query("Name", VALUE_PARTIAL, Answer::ROOM);
        equal!(
            answer.status,
            STATUS_OBJECT_NAME_NOT_FOUND,
            "ZwQueryValueKey afterwards"
        );
        Ok(())
    })
}

/// Learn, ZwEnumerateKey: every subkey by index, then STATUS_NO_MORE_ENTRIES.
fn subkeys_are_enumerated() -> Outcome {
    in_scratch(|scratch| {
        for name in ["One", "Two", "Three"] {
            scratch.create(name)?;
        }
        let mut found = 0;
        for index in 0..3 {
            let answer = scratch.enumerate(index, KEY_BASIC, Answer::ROOM);
            equal!(answer.status, STATUS_SUCCESS, "entry {index}");
            equal!(
                answer.needed,
                16 + answer.words[3],
                "the length of entry {index}"
            );
            for (bit, name) in ["One", "Two", "Three"].into_iter().enumerate() {
                if answer.words[3] as usize == 2 * name.len() && answer.has_text(16, name) {
                    found |= 1 << bit;
                }
            }
        }
        equal!(found, 7, "the names found, a bit each");
        equal!(
            scratch.enumerate(3, KEY_BASIC, Answer::ROOM).status,
            STATUS_NO_MORE_ENTRIES,
            "entry 3"
        );
        equal!(
            scratch.enumerate(0, KEY_BASIC, 8).status,
            STATUS_BUFFER_TOO_SMALL,
            "with 8 bytes"
        );
        equal!(
            scratch.enumerate(0, KEY_BASIC, 18).status,
            STATUS_BUFFER_OVERFLOW,
            "with 18 bytes"
        );
        Ok(())
    })
}

/// Learn, ZwEnumerateValueKey: every value by index, then STATUS_NO_MORE_ENTRIES.
fn values_are_enumerated() -> Outcome {
    in_scratch(|scratch| {
        for (index, name) in ["A", "B", "C"].into_iter().enumerate() {
            scratch.set(name, REG_DWORD, &[index as u8 + 1, 0, 0, 0]);
        }
        let mut sum = 0;
        for index in 0..3 {
            let answer = scratch.enumerate_values(index, VALUE_PARTIAL, Answer::ROOM);
            equal!(
                (answer.status, answer.needed),
                (STATUS_SUCCESS, 16),
                "entry {index}: status and length"
            );
            sum |= 1 << answer.words[3];
        }
        equal!(sum, 0b1110, "the data found, a bit each");
        let end = scratch.enumerate_values(3, VALUE_PARTIAL, Answer::ROOM);
        equal!(end.status, STATUS_NO_MORE_ENTRIES, "entry 3");
        equal!(
            scratch.enumerate_values(0, VALUE_PARTIAL, 4).status,
            STATUS_BUFFER_TOO_SMALL,
            "with 4 bytes"
        );
        Ok(())
    })
}

/// Learn, KEY_FULL_INFORMATION: counts and the longest names and data, in bytes.
fn a_key_counts_what_it_holds() -> Outcome {
    in_scratch(|scratch| {
        scratch.create("Sub")?;
        scratch.create("Longer")?;
        scratch.set("Value", REG_BINARY, &[0; 33]);
        let answer = scratch.information(KEY_FULL, Answer::ROOM);
        equal!(answer.status, STATUS_SUCCESS, "ZwQueryKey");
        // LastWriteTime, TitleIndex, ClassOffset, ClassLength, SubKeys, MaxNameLen, MaxClassLen, Values, MaxValueNameLen, MaxValueDataLen.
        equal!(
            (answer.words[5], answer.words[6]),
            (2, 12),
            "subkeys and their longest name"
        );
        equal!(
            (answer.words[8], answer.words[9], answer.words[10]),
            (1, 10, 33),
            "values, longest name and data"
        );
        let short = scratch.information(KEY_FULL, 8);
        equal!(short.status, STATUS_BUFFER_TOO_SMALL, "with 8 bytes");
        Ok(())
    })
}

/// Learn, ZwDeleteKey: a key with subkeys stays; an open handle of a deleted key is of no use.
fn a_deleted_key_is_gone_for_its_handles() -> Outcome {
    in_scratch(|scratch| {
        let parent = scratch.create("Parent")?;
        let child = parent.create("Child")?;
        equal!(
            ZwDeleteKey(parent.0),
            STATUS_CANNOT_DELETE,
            "ZwDeleteKey of a key with a subkey"
        );
        equal!(
            ZwDeleteKey(child.0),
            STATUS_SUCCESS,
            "ZwDeleteKey of the subkey"
        );
        equal!(
            child.set("Value", REG_DWORD, &[0; 4]),
            STATUS_KEY_DELETED,
            "ZwSetValueKey of a deleted key"
        );
        equal!(
            parent.open("Child").err(),
            Some(STATUS_OBJECT_NAME_NOT_FOUND),
            "ZwOpenKey of a deleted key"
        );
        equal!(
            ZwDeleteKey(parent.0),
            STATUS_SUCCESS,
            "ZwDeleteKey of the parent"
        );
        Ok(())
    })
}

/// Learn, ZwCreateKey: below a volatile key there are volatile keys only (STATUS_CHILD_MUST_BE_VOLATILE).
fn a_volatile_key_has_volatile_subkeys() -> Outcome {
    /// MS-ERREF.
    const STATUS_CHILD_MUST_BE_VOLATILE: NTSTATUS = 0xC000_0181_u32 as i32;
    in_scratch(|scratch| {
        let volatile = scratch.create("Volatile")?;
        let (status, key, _) = volatile.create_with("Stable", 0);
        if status != STATUS_SUCCESS {
            core::mem::forget(key);
        }
        equal!(status, STATUS_CHILD_MUST_BE_VOLATILE, "ZwCreateKey");
        Ok(())
    })
}

/// Learn, ZwQueryValueKey: STATUS_INVALID_PARAMETER for a class that does not exist.
fn an_unknown_class_is_refused() -> Outcome {
    in_scratch(|scratch| {
        scratch.set("Name", REG_DWORD, &[0; 4]);
        equal!(
            scratch.query("Name", 77, Answer::ROOM).status,
            STATUS_INVALID_PARAMETER,
            "ZwQueryValueKey"
        );
        equal!(
            scratch.information(77, Answer::ROOM).status,
            STATUS_INVALID_PARAMETER,
            "ZwQueryKey"
        );
        Ok(())
    })
}

group!("registry":
    creating_says_whether_the_key_was_there,
    a_missing_key_is_not_found,
    names_are_found_in_any_case,
    a_value_is_told_in_three_ways,
    a_buffer_below_the_fixed_part_is_too_small,
    a_buffer_below_the_whole_overflows,
    a_missing_value_is_not_found,
    a_value_is_replaced,
    a_key_has_an_unnamed_value,
    a_deleted_value_is_gone,
    subkeys_are_enumerated,
    values_are_enumerated,
    a_key_counts_what_it_holds,
    a_deleted_key_is_gone_for_its_handles,
    a_volatile_key_has_volatile_subkeys,
    an_unknown_class_is_refused,
);
