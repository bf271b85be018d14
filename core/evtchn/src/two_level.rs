//! The scan for pending ports, and the bits of one port.

use core::sync::atomic::{AtomicU64, Ordering};
use xen_abi::Port;
use xen_abi::shared_info::SharedInfo;

const WORD_BITS: u32 = u64::BITS;

/// Where the next scan of one vCPU starts, so that a busy low port cannot starve the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The word after the port that was delivered last begins here.
    word: u32,
    /// The bit in it.
    bit: u32,
}

impl Cursor {
    /// The cursor as a number, for keeping it in an atomic.
    pub fn to_bits(self) -> u32 {
        self.word.wrapping_mul(WORD_BITS).wrapping_add(self.bit)
    }

    /// The cursor that became a number.
    pub fn from_bits(bits: u32) -> Self {
        Self {
            word: (bits / WORD_BITS) % WORD_BITS,
            bit: bits % WORD_BITS,
        }
    }
}

/// The pending and mask bits of all ports.
#[derive(Clone, Copy, Debug)]
pub struct TwoLevel<'s> {
    pending: &'s [AtomicU64; 64],
    mask: &'s [AtomicU64; 64],
}

impl<'s> TwoLevel<'s> {
    /// The bits in the shared info page.
    pub fn new(shared: &'s SharedInfo) -> Self {
        Self {
            pending: &shared.evtchn_pending,
            mask: &shared.evtchn_mask,
        }
    }

    fn locate(words: &'s [AtomicU64; 64], port: Port) -> Option<(&'s AtomicU64, u64)> {
        let word = words.get((port.0 / WORD_BITS) as usize)?;
        Some((word, 1u64 << (port.0 % WORD_BITS)))
    }

    /// Takes note that an event was seen. A port beyond the ABI's range has no bits.
    pub fn ack(&self, port: Port) {
        if let Some((word, bit)) = Self::locate(self.pending, port) {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// Holds events of the port back. Tells whether they were held back before.
    pub fn mask(&self, port: Port) -> bool {
        Self::locate(self.mask, port)
            .is_some_and(|(word, bit)| word.fetch_or(bit, Ordering::SeqCst) & bit != 0)
    }

    /// Lets events of the port through, and tells whether one is pending. Such an event does not raise an upcall by
    /// itself any more: the caller handles it or has Xen deliver it again.
    pub fn unmask(&self, port: Port) -> bool {
        if let Some((word, bit)) = Self::locate(self.mask, port) {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
        self.is_pending(port)
    }

    /// Whether an event is pending, masked or not.
    pub fn is_pending(&self, port: Port) -> bool {
        Self::locate(self.pending, port)
            .is_some_and(|(word, bit)| word.load(Ordering::SeqCst) & bit != 0)
    }

    /// Holds all events back. For a fresh page: channels unmask their own.
    pub fn mask_all(&self) {
        for word in self.mask {
            word.store(u64::MAX, Ordering::SeqCst);
        }
    }

    /// Calls `deliver` for each port that is pending and not masked, once, and returns whether any call returned `true`.
    ///
    /// `selector` is the vCPU's `evtchn_pending_sel`; it is taken whole, so events that arrive during the scan raise the
    /// upcall again. `deliver` acks the port if it is its affair; otherwise the port stays pending for another vCPU.
    pub fn scan(
        &self,
        selector: &AtomicU64,
        cursor: &mut Cursor,
        mut deliver: impl FnMut(Port) -> bool,
    ) -> bool {
        let selected = selector.swap(0, Ordering::SeqCst);
        let first = *cursor;
        let mut done = false;
        // The first word is visited twice: from the cursor's bit on, and at the end below it.
        for step in 0..=WORD_BITS {
            let n = first.word.wrapping_add(step) % WORD_BITS;
            if selected & (1 << n) == 0 {
                continue;
            }
            let from_cursor = u64::MAX << (first.bit % WORD_BITS);
            let part = match step {
                0 => from_cursor,
                WORD_BITS => !from_cursor,
                _ => u64::MAX,
            };
            let (Some(pending), Some(mask)) =
                (self.pending.get(n as usize), self.mask.get(n as usize))
            else {
                continue;
            };
            let mut ready = pending.load(Ordering::SeqCst) & !mask.load(Ordering::SeqCst) & part;
            while ready != 0 {
                let b = ready.trailing_zeros();
                ready &= ready.wrapping_sub(1);
                done |= deliver(Port(n.wrapping_mul(WORD_BITS).wrapping_add(b)));
                *cursor = match b.wrapping_add(1) {
                    WORD_BITS => Cursor {
                        word: n.wrapping_add(1) % WORD_BITS,
                        bit: 0,
                    },
                    bit => Cursor { word: n, bit },
                };
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    struct Page {
        pending: [AtomicU64; 64],
        mask: [AtomicU64; 64],
        selector: AtomicU64,
    }

    impl Page {
        fn new() -> Self {
            Self {
                pending: [const { AtomicU64::new(0) }; 64],
                mask: [const { AtomicU64::new(0) }; 64],
                selector: AtomicU64::new(0),
            }
        }

        fn bits(&self) -> TwoLevel<'_> {
            TwoLevel {
                pending: &self.pending,
                mask: &self.mask,
            }
        }

        /// What Xen does for an event. xen/common/event_2l.c, in our own words.
        fn send(&self, port: Port) {
            let word = (port.0 / 64) as usize;
            self.pending[word].fetch_or(1 << (port.0 % 64), Ordering::SeqCst);
            if self.mask[word].load(Ordering::SeqCst) & (1 << (port.0 % 64)) == 0 {
                self.selector.fetch_or(1 << word, Ordering::SeqCst);
            }
        }
    }

    #[test]
    fn ports_beyond_the_range_have_no_bits() {
        let page = Page::new();
        for port in [Port(4096), Port(u32::MAX)] {
            page.bits().ack(port);
            assert!(!page.bits().mask(port));
            assert!(!page.bits().unmask(port));
        }
    }

    #[test]
    fn unmasking_tells_of_an_event_that_came_meanwhile() {
        let page = Page::new();
        page.bits().mask(Port(70));
        page.send(Port(70));
        assert_eq!(page.selector.load(Ordering::SeqCst), 0);
        assert!(page.bits().unmask(Port(70)));
        page.bits().ack(Port(70));
        assert!(!page.bits().unmask(Port(70)));
    }

    #[test]
    fn a_busy_low_port_does_not_starve_a_high_one() {
        let page = Page::new();
        let mut cursor = Cursor::default();
        let mut first = Vec::new();
        for _ in 0..2 {
            page.send(Port(1));
            page.send(Port(2));
            let mut seen = None;
            page.bits().scan(&page.selector, &mut cursor, |port| {
                if seen.is_none() {
                    seen = Some(port);
                    page.bits().ack(port);
                }
                true
            });
            first.push(seen.unwrap());
            // Both were offered, only the first was acked; start after it next time.
            cursor = Cursor {
                word: 0,
                bit: first[0].0 + 1,
            };
        }
        assert_eq!(first, [Port(1), Port(2)]);
    }

    proptest! {
        #[test]
        fn each_pending_unmasked_port_is_delivered_once(
            sent in prop::collection::btree_set(0u32..4096, 0..100),
            masked in prop::collection::btree_set(0u32..4096, 0..100),
            word in 0u32..64, bit in 0u32..64,
        ) {
            let page = Page::new();
            for &port in &masked { page.bits().mask(Port(port)); }
            for &port in &sent { page.send(Port(port)); }
            let mut seen = Vec::new();
            let mut cursor = Cursor { word, bit };
            page.bits().scan(&page.selector, &mut cursor, |port| {
                page.bits().ack(port);
                seen.push(port.0);
                true
            });
            let unique: BTreeSet<u32> = seen.iter().copied().collect();
            prop_assert_eq!(unique.len(), seen.len());
            prop_assert_eq!(unique, sent.difference(&masked).copied().collect());
            prop_assert_eq!(Cursor::from_bits(cursor.to_bits()), cursor);
            if let Some(&last) = seen.last() {
                prop_assert_eq!((cursor.word * 64 + cursor.bit) % 4096, (last + 1) % 4096);
            }
        }
    }
}
