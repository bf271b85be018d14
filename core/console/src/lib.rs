//! The guest's end of the PV console: two byte rings in a page shared with the console daemon. public/io/console.h.
//!
//! The guest's own indices are kept here and only published. The daemon's are checked each time they are read; if one is
//! further ahead than its ring is long, that direction is taken as empty, or full: the console is a convenience, and
//! nothing must fail because of it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU8, Ordering};
use xen_abi::console::XenconsInterface;

/// The rings, as the guest uses them.
#[derive(Debug)]
pub struct Console<'p> {
    page: &'p XenconsInterface,
    in_cons: u32,
    out_prod: u32,
}

/// The byte of a ring at a free-running index.
fn byte(ring: &[AtomicU8], index: u32) -> Option<&AtomicU8> {
    ring.get((index as usize).checked_rem(ring.len())?)
}

impl<'p> Console<'p> {
    /// Goes on where the page says that the guest was.
    pub fn new(page: &'p XenconsInterface) -> Self {
        let mut console = Self {
            page,
            in_cons: 0,
            out_prod: 0,
        };
        console.resume();
        console
    }

    /// After a resume: takes over the indices in the page.
    pub fn resume(&mut self) {
        self.in_cons = self.page.in_cons.load(Ordering::Acquire);
        self.out_prod = self.page.out_prod.load(Ordering::Acquire);
    }

    /// Bytes that can be read.
    pub fn readable(&self) -> usize {
        let ready = self
            .page
            .in_prod
            .load(Ordering::Acquire)
            .wrapping_sub(self.in_cons) as usize;
        if ready > self.page.input.len() {
            0
        } else {
            ready
        }
    }

    /// Bytes that can be written.
    pub fn writable(&self) -> usize {
        let used = self
            .out_prod
            .wrapping_sub(self.page.out_cons.load(Ordering::Acquire)) as usize;
        self.page.output.len().saturating_sub(used)
    }

    /// Reads what there is into `bytes`, and returns how much that is.
    pub fn read(&mut self, bytes: &mut [u8]) -> usize {
        let count = self.readable().min(bytes.len());
        for place in bytes.iter_mut().take(count) {
            if let Some(value) = byte(&self.page.input, self.in_cons) {
                *place = value.load(Ordering::Relaxed);
            }
            self.in_cons = self.in_cons.wrapping_add(1);
        }
        self.page.in_cons.store(self.in_cons, Ordering::Release);
        count
    }

    /// Writes as much of `bytes` as fits, and returns how much that is.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let count = self.writable().min(bytes.len());
        for &value in bytes.iter().take(count) {
            if let Some(place) = byte(&self.page.output, self.out_prod) {
                place.store(value, Ordering::Relaxed);
            }
            self.out_prod = self.out_prod.wrapping_add(1);
        }
        self.page.out_prod.store(self.out_prod, Ordering::Release);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn page() -> Box<XenconsInterface> {
        Box::new(XenconsInterface {
            input: [const { AtomicU8::new(0) }; 1024],
            output: [const { AtomicU8::new(0) }; 2048],
            in_cons: 0.into(),
            in_prod: 0.into(),
            out_cons: 0.into(),
            out_prod: 0.into(),
        })
    }

    #[test]
    fn a_full_ring_takes_no_more_and_an_empty_one_gives_none() {
        let page = page();
        let mut console = Console::new(&page);
        assert_eq!(console.write(&[1; 3000]), 2048);
        assert_eq!(console.write(&[1]), 0);
        assert_eq!(console.read(&mut [0; 8]), 0);
    }

    #[test]
    fn indices_that_lie_move_nothing() {
        let page = page();
        let mut console = Console::new(&page);
        page.in_prod.store(1025, Ordering::SeqCst);
        page.out_cons.store(1, Ordering::SeqCst);
        assert_eq!((console.readable(), console.writable()), (0, 0));
        assert_eq!((console.read(&mut [0; 8]), console.write(&[0; 8])), (0, 0));
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order(start: u32, pieces in prop::collection::vec((0usize..3000, 0usize..3000), 1..40)) {
            let page = page();
            for index in [&page.in_cons, &page.in_prod, &page.out_cons, &page.out_prod] {
                index.store(start, Ordering::SeqCst);
            }
            let mut console = Console::new(&page);
            let (mut sent, mut next) = (VecDeque::new(), 0u8);
            for (write, read) in pieces {
                let bytes: Vec<u8> = (0..write).map(|i| next.wrapping_add(i as u8)).collect();
                let gone = console.write(&bytes);
                prop_assert_eq!(gone, write.min(2048 - sent.len()));
                sent.extend(&bytes[..gone]);
                next = next.wrapping_add(gone as u8);
                // The daemon.
                for _ in 0..read.min(sent.len()) {
                    let cons = page.out_cons.load(Ordering::SeqCst);
                    let value = page.output[cons as usize % 2048].load(Ordering::SeqCst);
                    prop_assert_eq!(Some(value), sent.pop_front());
                    page.out_cons.store(cons.wrapping_add(1), Ordering::SeqCst);
                }
            }
        }
    }
}
