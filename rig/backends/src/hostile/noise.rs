//! Shared memory that changes all the time: a guest that reads a value twice sees two.

use std::sync::atomic::{AtomicU32, Ordering};

/// A source of noise.
#[derive(Debug)]
pub struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Noise {
    /// The next number: Marsaglia's xorshift64.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Changes `changes` of the words `at` gives by index below `count`: a bit, a small number, or all of it.
    pub fn disturb<'a>(
        &mut self,
        count: usize,
        changes: usize,
        at: impl Fn(usize) -> &'a AtomicU32,
    ) {
        for _ in 0..changes {
            let number = self.number();
            let word = at((number >> 32) as usize % count.max(1));
            let old = word.load(Ordering::Relaxed);
            let new = match number % 4 {
                0 => old ^ 1 << (number >> 8 & 31),
                1 => old.wrapping_add(1),
                2 => number as u32 & 0xFF,
                _ => number as u32,
            };
            word.store(new, Ordering::Release);
        }
    }
}
