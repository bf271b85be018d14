//! The indirection table: which processor each value of the hash, modulo the table's length, goes to.

use crate::status::{Failure, INVALID_DATA};
use pv_interfaces::vif::ProcessorNumber;

/// Entries that a table has at most, and what the attributes tell NDIS.
pub const MAX_ENTRIES: usize = 128;

/// `PROCESSOR_NUMBER` (miniport.h): group, number, a reserved byte.
const ENTRY: usize = 4;

/// A table; empty before there was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    entries: [ProcessorNumber; MAX_ENTRIES],
    length: usize,
}

const fn processor(group: u16, number: u8) -> ProcessorNumber {
    ProcessorNumber {
        group,
        number,
        reserved: 0,
    }
}

impl Table {
    /// No table.
    pub const EMPTY: Self = Self {
        entries: [processor(0, 0); MAX_ENTRIES],
        length: 0,
    };

    fn new(length: usize, entries: impl Iterator<Item = ProcessorNumber>) -> Result<Self, Failure> {
        if !length.is_power_of_two() || length > MAX_ENTRIES {
            return Err(INVALID_DATA);
        }
        let mut table = Self::EMPTY;
        table.length = length;
        for (place, entry) in table.entries.iter_mut().zip(entries) {
            *place = entry;
        }
        Ok(table)
    }

    /// An entry is a processor's group and number.
    pub(super) fn of_processors(bytes: &[u8]) -> Result<Self, Failure> {
        let (entries, rest) = bytes.as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return Err(INVALID_DATA);
        }
        let processors = entries
            .iter()
            .map(|[low, high, number, _]| processor(u16::from_le_bytes([*low, *high]), *number));
        Self::new(entries.len(), processors)
    }

    /// An entry is a processor's number.
    pub(super) fn of_numbers(bytes: &[u8]) -> Result<Self, Failure> {
        let processors = bytes.iter().map(|number| processor(0, *number));
        Self::new(bytes.len(), processors)
    }

    /// Its entries.
    pub fn entries(&self) -> &[ProcessorNumber] {
        self.entries.get(..self.length).unwrap_or(&[])
    }

    /// The same with no more processors than there are queues: those that appear first, in turn in place of the others
    /// (Learn, "NDIS_RECEIVE_SCALE_PARAMETERS": the driver picks a subset).
    pub fn reduced(&self, queues: u32) -> Self {
        let mut kept = [processor(0, 0); MAX_ENTRIES];
        let mut count = 0;
        let mut table = *self;
        for (index, entry) in table.entries.iter_mut().take(self.length).enumerate() {
            let known = kept.get(..count).unwrap_or(&[]);
            if known.contains(entry) {
                continue;
            }
            if count < queues as usize || count == 0 {
                if let Some(place) = kept.get_mut(count) {
                    *place = *entry;
                    count += 1;
                }
            } else if let Some(other) = known.get(index % count) {
                *entry = *other;
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(table: &Table) -> Vec<u8> {
        table.entries().iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn lengths_are_powers_of_two_and_not_too_many() {
        for length in 0..300_usize {
            let good = length.is_power_of_two() && length <= 128;
            let numbers: Vec<u8> = (0..length).map(|i| i as u8).collect();
            assert_eq!(Table::of_numbers(&numbers).is_ok(), good, "{length}");
            let bytes: Vec<u8> = numbers.iter().flat_map(|n| [3, 1, *n, 0]).collect();
            let table = Table::of_processors(&bytes);
            assert_eq!(table.is_ok(), good, "{length}");
            if let Ok(table) = table {
                assert_eq!(table.entries().len(), length);
                assert!(table.entries().iter().all(|entry| entry.group == 0x103));
                assert_eq!(super::tests::numbers(&table), numbers);
            }
            for more in 1..4 {
                let mut bytes = bytes.clone();
                bytes.resize(bytes.len() + more, 0);
                assert!(Table::of_processors(&bytes).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn processors_beyond_the_queues_give_way_to_those_before() {
        let table = Table::of_numbers(&[4, 6, 8, 4, 10, 6, 8, 12]).unwrap();
        assert_eq!(table.reduced(8), table);
        assert_eq!(table.reduced(5), table);
        assert_eq!(numbers(&table.reduced(2)), [4, 6, 4, 4, 4, 6, 4, 6]);
        assert_eq!(numbers(&table.reduced(1)), [4; 8]);
        assert_eq!(numbers(&table.reduced(0)), [4; 8]);
        assert_eq!(Table::EMPTY.reduced(2), Table::EMPTY);
    }

    #[test]
    fn a_reduced_table_has_as_many_processors_as_queues() {
        let bytes: Vec<u8> = (0..128).collect();
        let table = Table::of_numbers(&bytes).unwrap();
        for queues in 1..=128 {
            let mut left = numbers(&table.reduced(queues));
            left.sort_unstable();
            left.dedup();
            assert_eq!(left.len(), queues as usize);
        }
    }
}
