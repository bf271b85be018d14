//! The records that queries of keys and values return: built whole, then delivered as far as the
//! caller's buffer goes. Layouts: wdm.h KEY_BASIC_INFORMATION and its kin.

use alloc::vec::Vec;

use nt_sys::{
    KeyBasicInformation, KeyFullInformation, KeyNodeInformation, KeyValueBasicInformation,
    KeyValueFullInformation, KeyValuePartialInformation, NTSTATUS, PVOID, STATUS_BUFFER_OVERFLOW,
    STATUS_BUFFER_TOO_SMALL, STATUS_SUCCESS,
};

use super::name::Name;
use super::tree::Key;
use super::value::Value;

/// KEY_INFORMATION_CLASS: KeyNameInformation.
const KEY_NAME_INFORMATION: i32 = 3;
/// KEY_VALUE_INFORMATION_CLASS: KeyValuePartialInformationAlign64.
const KEY_VALUE_PARTIAL_INFORMATION_ALIGN64: i32 = 4;

/// A record and the length of its fixed part, both in bytes.
pub struct Record {
    bytes: Vec<u8>,
    fixed: usize,
}

impl Record {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            fixed: 0,
        }
    }

    fn u32(mut self, number: usize) -> Self {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// The last-write time, which no key here keeps, and the title index.
    fn head(mut self) -> Self {
        self.bytes.extend_from_slice(&[0; 12]);
        self
    }

    /// What follows is of variable length.
    fn rest(mut self) -> Self {
        self.fixed = self.bytes.len();
        self
    }

    fn units(mut self, units: &[u16]) -> Self {
        self.bytes
            .extend(units.iter().copied().flat_map(u16::to_le_bytes));
        self
    }

    fn data(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        self
    }

    /// Copies as much as fits and tells the whole length (Microsoft Learn: ZwQueryValueKey's statuses).
    ///
    /// # Safety
    /// `out` is writable for `room` bytes and `needed` for a number.
    pub unsafe fn deliver(&self, out: PVOID, room: u32, needed: *mut u32) -> NTSTATUS {
        let whole = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        if !needed.is_null() {
            // SAFETY: the caller's promise.
            unsafe { needed.write_unaligned(whole) };
        }
        let room = room as usize;
        if room < self.fixed {
            return STATUS_BUFFER_TOO_SMALL;
        }
        let count = room.min(self.bytes.len());
        // SAFETY: the caller's promise; `count` does not exceed the room or the record.
        unsafe {
            out.cast::<u8>()
                .copy_from_nonoverlapping(self.bytes.as_ptr(), count)
        };
        if count < self.bytes.len() {
            STATUS_BUFFER_OVERFLOW
        } else {
            STATUS_SUCCESS
        }
    }
}

/// The record of a value, or none for a class that does not exist.
pub fn of_value(class: i32, name: &Name, value: &Value) -> Option<Record> {
    let (name, data) = (name.units(), value.data.as_slice());
    let bytes = name.len().saturating_mul(2);
    let kind = value.kind as usize;
    Some(match class {
        KeyValueBasicInformation => Record::new().u32(0).u32(kind).u32(bytes).rest().units(name),
        KeyValueFullInformation => {
            // The data begin on a multiple of four behind the name.
            let gap = bytes % 4;
            let offset = bytes.saturating_add(gap).saturating_add(20);
            let record = Record::new()
                .u32(0)
                .u32(kind)
                .u32(offset)
                .u32(data.len())
                .u32(bytes)
                .rest();
            record.units(name).data(&[0; 4][..gap]).data(data)
        }
        KeyValuePartialInformation => Record::new()
            .u32(0)
            .u32(kind)
            .u32(data.len())
            .rest()
            .data(data),
        KEY_VALUE_PARTIAL_INFORMATION_ALIGN64 => {
            Record::new().u32(kind).u32(data.len()).rest().data(data)
        }
        _ => return None,
    })
}

/// The record of a key whose path is given, or none for a class that does not exist.
pub fn of_key(class: i32, key: &Key, path: &str) -> Option<Record> {
    let (name, class_name) = (key.name().units(), key.class().units());
    let bytes = |units: &[u16]| units.len().saturating_mul(2);
    Some(match class {
        KeyBasicInformation => Record::new().head().u32(bytes(name)).rest().units(name),
        KeyNodeInformation => {
            let offset = bytes(name).saturating_add(24);
            let record = Record::new()
                .head()
                .u32(offset)
                .u32(bytes(class_name))
                .u32(bytes(name))
                .rest();
            record.units(name).units(class_name)
        }
        KeyFullInformation => {
            let longest_child = key
                .children()
                .map(|(name, _)| bytes(name.units()))
                .max()
                .unwrap_or(0);
            let longest_name = key
                .values()
                .iter()
                .map(|(name, _)| bytes(name.units()))
                .max()
                .unwrap_or(0);
            let longest_data = key
                .values()
                .iter()
                .map(|(_, value)| value.data.len())
                .max()
                .unwrap_or(0);
            let record = Record::new()
                .head()
                .u32(44)
                .u32(bytes(class_name))
                .u32(key.children().len());
            let record = record.u32(longest_child).u32(0).u32(key.values().len());
            record
                .u32(longest_name)
                .u32(longest_data)
                .rest()
                .units(class_name)
        }
        KEY_NAME_INFORMATION => {
            let path: Vec<u16> = path.encode_utf16().collect();
            Record::new().u32(bytes(&path)).rest().units(&path)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn deliver(record: &Record, room: usize) -> (NTSTATUS, u32, Vec<u8>) {
        let mut out = vec![0xcc; room];
        let mut needed = 0;
        // SAFETY: the buffer is `room` bytes long.
        let status = unsafe { record.deliver(out.as_mut_ptr().cast(), room as u32, &mut needed) };
        (status, needed, out)
    }

    #[test]
    fn a_short_buffer_gets_the_start_and_a_shorter_one_nothing() {
        let record = of_value(
            KeyValuePartialInformation,
            &Name::from("x"),
            &Value::dword(0x0102_0304),
        )
        .unwrap();
        assert_eq!(deliver(&record, 0).0, STATUS_BUFFER_TOO_SMALL);
        assert_eq!(
            deliver(&record, 11),
            (STATUS_BUFFER_TOO_SMALL, 16, vec![0xcc; 11])
        );
        let (status, needed, out) = deliver(&record, 14);
        assert_eq!(
            (status, needed, &out[12..]),
            (STATUS_BUFFER_OVERFLOW, 16, &[4, 3][..])
        );
        let (status, _, out) = deliver(&record, 20);
        assert_eq!(
            (status, &out[4..16]),
            (STATUS_SUCCESS, &[4, 0, 0, 0, 4, 0, 0, 0, 4, 3, 2, 1][..])
        );
    }

    #[test]
    fn full_information_says_where_its_data_are() {
        let record = of_value(
            KeyValueFullInformation,
            &Name::from("abc"),
            &Value::binary(&[9]),
        )
        .unwrap();
        let (status, needed, out) = deliver(&record, 64);
        assert_eq!((status, needed), (STATUS_SUCCESS, 29));
        let offset = u32::from_le_bytes(out[8..12].try_into().unwrap()) as usize;
        assert_eq!((offset, out[offset]), (28, 9));
    }

    #[test]
    fn an_unknown_class_has_no_record() {
        assert!(of_value(99, &Name::from("x"), &Value::dword(1)).is_none());
    }
}
