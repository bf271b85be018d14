//! One way's data: a stream in which every byte follows from its place, so that whatever arrives can be looked at alone,
//! however it was cut, coalesced or overtaken. What was sent is remembered until it arrives, once.

use std::{collections::BTreeMap, time::Duration};

/// See the module.
pub struct Stream {
    key: u8,
    next: u32,
    /// What has not arrived, by its place.
    open: BTreeMap<u32, Part>,
}

#[derive(Clone, Copy)]
struct Part {
    length: u32,
    /// It must arrive.
    due: bool,
    since: Duration,
}

impl Stream {
    /// A stream whose bytes are another one's with another key.
    pub fn new(key: u8) -> Self {
        Self {
            key,
            next: 0,
            open: BTreeMap::new(),
        }
    }

    fn byte(&self, at: u32) -> u8 {
        (at.wrapping_mul(0x9E37_79B1) >> 23) as u8 ^ self.key
    }

    /// The next bytes, sent now: where they are, and they.
    pub fn send(&mut self, length: usize, now: Duration) -> (u32, Vec<u8>) {
        let at = self.next;
        let data = (at..).take(length).map(|at| self.byte(at)).collect();
        let length = length as u32;
        self.next += length;
        let part = Part {
            length,
            due: true,
            since: now,
        };
        self.open.insert(at, part);
        (at, data)
    }

    /// Bytes have arrived that say that they are from `at` on.
    pub fn arrived(&mut self, at: u32, data: &[u8]) -> Result<(), String> {
        let wrong = (at..).zip(data).find(|(at, byte)| self.byte(*at) != **byte);
        if let Some((place, _)) = wrong {
            return Err(format!(
                "{} bytes from {at} on are not what was sent: the one at {place}",
                data.len()
            ));
        }
        let (mut from, end) = (at, at + data.len() as u32);
        while from < end {
            let found = self.open.range(..=from).next_back();
            let found = found.map(|(start, part)| (*start, *part));
            let Some((start, part)) = found.filter(|(start, part)| start + part.length > from)
            else {
                return Err(format!(
                    "bytes from {from} to {end} arrived twice, or were never sent"
                ));
            };
            let until = end.min(start + part.length);
            self.open.remove(&start);
            for (start, end) in [(start, from), (until, start + part.length)] {
                if start < end {
                    let length = end - start;
                    self.open.insert(start, Part { length, ..part });
                }
            }
            from = until;
        }
        Ok(())
    }

    /// What was sent until then need not arrive any more. It may.
    pub fn forgive(&mut self, until: Duration) {
        let old = self.open.values_mut().filter(|part| part.since <= until);
        old.for_each(|part| part.due = false);
    }

    /// These bytes need not arrive any more.
    pub fn forgive_range(&mut self, at: u32, length: usize) {
        let parts = self.open.range_mut(at..at + length as u32);
        parts.for_each(|(_, part)| part.due = false);
    }

    /// How many parts are to arrive.
    pub fn due(&self) -> usize {
        self.open.values().filter(|part| part.due).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_sent_arrives_once_in_any_pieces() {
        let mut stream = Stream::new(7);
        let (first, a) = stream.send(100, NOW);
        let (second, b) = stream.send(50, NOW);
        assert_eq!((first, second, stream.due()), (0, 100, 2));
        let all = [a, b].concat();
        stream.arrived(30, &all[30..120]).unwrap();
        assert_eq!(stream.due(), 2);
        stream.arrived(0, &all[..30]).unwrap();
        stream.arrived(120, &all[120..]).unwrap();
        assert_eq!(stream.due(), 0);
        assert!(stream.arrived(20, &all[20..40]).is_err());
        assert!(stream.arrived(150, &[0]).is_err());
    }

    #[test]
    fn other_bytes_are_found() {
        let mut stream = Stream::new(0);
        let (at, mut data) = stream.send(64, NOW);
        data[63] ^= 1;
        assert!(stream.arrived(at, &data).is_err());
        assert_ne!(
            Stream::new(1).send(64, NOW).1,
            Stream::new(2).send(64, NOW).1
        );
    }

    #[test]
    fn what_is_forgiven_may_still_arrive() {
        let mut stream = Stream::new(0);
        let (at, data) = stream.send(10, NOW);
        stream.send(10, NOW * 2);
        stream.forgive(NOW);
        assert_eq!(stream.due(), 1);
        stream.arrived(at, &data).unwrap();
        stream.forgive_range(10, 10);
        assert_eq!(stream.due(), 0);
    }
}
