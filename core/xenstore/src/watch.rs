//! Watches: their tokens, and which of them are alive.

use crate::Error;
use alloc::vec::Vec;

/// Names a watch. A name is not used again soon, so a late event cannot reach a later watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchId {
    index: u16,
    generation: u16,
}

/// Length of a token: two words of four hexadecimal digits.
const TOKEN: usize = 8;

impl WatchId {
    /// The place of the watch in an owner's table: smaller than the number of watches that ever were alive at once.
    pub fn index(&self) -> usize {
        usize::from(self.index)
    }

    /// The token that xenstored sends with every event.
    pub(crate) fn token(&self) -> [u8; TOKEN] {
        let mut rest = (u32::from(self.index) << 16) | u32::from(self.generation);
        let mut token = [0; TOKEN];
        for place in token.iter_mut().rev() {
            let digit = (rest & 0xF) as u8;
            *place = if digit < 10 {
                b'0' | digit
            } else {
                b'A'.wrapping_add(digit).wrapping_sub(10)
            };
            rest >>= 4;
        }
        token
    }

    fn parse(token: &[u8]) -> Option<Self> {
        let token: &[u8; TOKEN] = token.try_into().ok()?;
        let text = core::str::from_utf8(token).ok()?;
        let both = u32::from_str_radix(text, 16).ok()?;
        let id = Self {
            index: (both >> 16) as u16,
            generation: (both & 0xFFFF) as u16,
        };
        // Only what `token` writes: no sign, no lower case.
        (id.token() == *token).then_some(id)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Active,
    /// Made before a resume: xenstored does not know it any more.
    Inactive,
}

#[derive(Debug)]
struct Entry {
    generation: u16,
    state: State,
}

/// All watches of a client.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    entries: Vec<Entry>,
}

impl Watches {
    pub fn open(&mut self) -> Result<WatchId, Error> {
        let index = match self.entries.iter().position(|e| e.state == State::Free) {
            Some(index) => index,
            None => {
                self.entries.try_reserve(1).map_err(|_| Error::NoMemory)?;
                self.entries.push(Entry {
                    generation: 0,
                    state: State::Free,
                });
                self.entries.len().saturating_sub(1)
            }
        };
        let short = u16::try_from(index).map_err(|_| Error::Busy)?;
        let entry = self.entries.get_mut(index).ok_or(Error::Busy)?;
        entry.generation = entry.generation.wrapping_add(1);
        entry.state = State::Active;
        Ok(WatchId {
            index: short,
            generation: entry.generation,
        })
    }

    pub fn close(&mut self, id: WatchId) {
        if let Some(entry) = self.find(id) {
            entry.state = State::Free;
        }
    }

    pub fn is_active(&mut self, id: WatchId) -> bool {
        self.find(id).is_some_and(|e| e.state == State::Active)
    }

    pub fn deactivate(&mut self) {
        for entry in self.entries.iter_mut().filter(|e| e.state == State::Active) {
            entry.state = State::Inactive;
        }
    }

    /// The watch to which the payload of an event belongs: path NUL token NUL. `None` for anything odd.
    pub fn fired(&mut self, payload: &[u8]) -> Option<WatchId> {
        let body = payload.strip_suffix(b"\0")?;
        let nul = body.iter().position(|&b| b == 0)?;
        let id = WatchId::parse(body.get(nul.checked_add(1)?..)?)?;
        self.is_active(id).then_some(id)
    }

    fn find(&mut self, id: WatchId) -> Option<&mut Entry> {
        self.entries
            .get_mut(id.index())
            .filter(|e| e.generation == id.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_reaches_its_watch_while_that_is_active() {
        let mut watches = Watches::default();
        let id = watches.open().unwrap();
        let event = [&b"device/vbd\0"[..], &id.token(), b"\0"].concat();
        assert_eq!(watches.fired(&event), Some(id));
        watches.deactivate();
        assert_eq!(watches.fired(&event), None);
        watches.close(id);
        let next = watches.open().unwrap();
        assert_eq!(next.index(), id.index());
        assert_eq!(watches.fired(&event), None);
    }

    proptest! {
        #[test]
        fn tokens_round_trip(index: u16, generation: u16) {
            let id = WatchId { index, generation };
            prop_assert_eq!(WatchId::parse(&id.token()), Some(id));
        }

        #[test]
        fn no_payload_does_harm(payload in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut watches = Watches::default();
            let id = watches.open().unwrap();
            let fired = watches.fired(&payload);
            prop_assert!(fired.is_none() || fired == Some(id));
        }
    }
}
