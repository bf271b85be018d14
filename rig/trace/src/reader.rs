//! Reads a trace file.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::Event;
use crate::record::{HEADER, MAGIC, NO_CPU, VERSION};

/// A trace in memory.
pub struct Reader {
    words: Vec<u64>,
    /// Where each record starts, by time.
    order: Vec<usize>,
    names: BTreeMap<(u64, u64), String>,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since the machine started.
    pub time: u64,
    /// The virtual CPU, if it was one.
    pub cpu: Option<u32>,
    /// The thread's number.
    pub thread: u64,
    /// What happened.
    pub event: Event<'a>,
}

/// Why a file is no trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotATrace {
    /// It does not start as one.
    Magic,
    /// It has another version than this reader's.
    Version(u64),
    /// Its end is missing, or this byte is where no record can be.
    Damaged(usize),
}

impl fmt::Display for NotATrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => write!(f, "not a trace"),
            Self::Version(found) => {
                write!(f, "a trace of version {found}; this reader knows {VERSION}")
            }
            Self::Damaged(at) => write!(f, "damaged at byte {at}"),
        }
    }
}

impl core::error::Error for NotATrace {}

impl Reader {
    /// Reads the bytes of a file.
    pub fn new(bytes: &[u8]) -> Result<Self, NotATrace> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = chunks
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect();
        if words.first() != Some(&MAGIC) || words.len() < HEADER {
            return Err(NotATrace::Magic);
        }
        if words[1] != VERSION {
            return Err(NotATrace::Version(words[1]));
        }
        let mut order = Vec::new();
        let mut at = HEADER;
        while at < words.len() {
            let count = (words[at] >> 16 & 0xffff) as usize;
            if count < 2 || at + count >= words.len() {
                return Err(NotATrace::Damaged(at * 8));
            }
            order.push(at);
            at += 1 + count;
        }
        if !rest.is_empty() {
            return Err(NotATrace::Damaged(words.len() * 8));
        }
        // Stable: what happened at one time stays in its CPU's order.
        order.sort_by_key(|&at| words[at + 1]);
        let mut reader = Self {
            words,
            order,
            names: BTreeMap::new(),
        };
        let mut names = BTreeMap::new();
        for record in reader.records() {
            if let Event::Name { table, id, text } = record.event {
                names.insert((table, id), String::from(text));
            }
        }
        reader.names = names;
        Ok(reader)
    }

    /// Virtual CPUs of the machine.
    pub fn cpus(&self) -> u32 {
        self.words[2] as u32
    }

    /// The seed, if the machine ran by one.
    pub fn seed(&self) -> Option<u64> {
        Some(self.words[3]).filter(|&seed| seed != u64::MAX)
    }

    /// The records, by time.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.order.iter().map(|&at| self.record(at))
    }

    /// What number `id` of `table` is called.
    pub fn name(&self, table: u64, id: u64) -> Option<&str> {
        self.names.get(&(table, id)).map(String::as_str)
    }

    fn record(&self, at: usize) -> Record<'_> {
        let head = self.words[at];
        let count = (head >> 16 & 0xffff) as usize;
        let cpu = (head >> 32) as u8;
        let fields = &self.words[at + 3..at + 1 + count];
        Record {
            time: self.words[at + 1],
            cpu: (cpu != NO_CPU).then_some(u32::from(cpu)),
            thread: self.words[at + 2],
            event: Event::put_together(head as u16, fields, &text),
        }
    }
}

/// A text behind the fields: its length, its bytes.
fn text(words: &[u64]) -> Option<&str> {
    let (&length, words) = words.split_first()?;
    // SAFETY: any word is eight bytes; the slice lives as long as the words.
    let (_, bytes, _) = unsafe { words.align_to::<u8>() };
    core::str::from_utf8(bytes.get(..usize::try_from(length).ok()?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{header, put};

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn what_was_recorded_is_read_by_time() {
        let mut words = header(2, Some(7)).to_vec();
        let late = Event::RequestDone {
            request: 1,
            status: 0,
        };
        let name = Event::Name {
            table: 1,
            id: 3,
            text: "xenvbd.sys",
        };
        put(&mut words, &late, 20, Some(1), 5);
        put(&mut words, &name, 10, None, 0);
        let reader = Reader::new(&bytes(&words)).unwrap();
        let records: Vec<_> = reader.records().collect();
        assert_eq!((reader.cpus(), reader.seed()), (2, Some(7)));
        assert_eq!((records[0].event, records[0].cpu), (name, None));
        let expected = Record {
            time: 20,
            cpu: Some(1),
            thread: 5,
            event: late,
        };
        assert_eq!(records[1], expected);
        assert_eq!(reader.name(1, 3), Some("xenvbd.sys"));
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        for kind in crate::Kind::ALL {
            let fields: Vec<u64> = (1..=kind.fields.len() as u64).collect();
            let with_text = |_| Some("text");
            let event = Event::put_together(kind.number, &fields, &with_text);
            assert!(!matches!(event, Event::Unknown { .. }), "{kind:?}");
            let mut words = header(1, None).to_vec();
            put(&mut words, &event, 1, Some(0), 1);
            let reader = Reader::new(&bytes(&words)).unwrap();
            assert_eq!(reader.records().next().unwrap().event, event);
        }
    }

    #[test]
    fn damage_is_named() {
        assert_eq!(Reader::new(b"winpv").err(), Some(NotATrace::Magic));
        let mut words = header(1, None).to_vec();
        put(&mut words, &Event::Mark { text: "x" }, 1, None, 0);
        let whole = bytes(&words);
        assert!(Reader::new(&whole).is_ok());
        for end in HEADER * 8 + 1..whole.len() {
            let result = Reader::new(&whole[..end]);
            assert!(matches!(result, Err(NotATrace::Damaged(_))), "{end}");
        }
        words[1] = 9;
        assert_eq!(
            Reader::new(&bytes(&words)).err(),
            Some(NotATrace::Version(9))
        );
    }
}
