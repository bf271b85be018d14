//! The format of a trace file: words of 64 bits, little-endian.
//!
//! ```text
//!   file    "winpvtrc", version, number of CPUs, seed (all ones: none), 4 words of 0, then records
//!   record  kind:16 │ words that follow:16 │ CPU:8 (255: none) │ 0:24
//!           time in ns │ thread │ fields… │ text: length in bytes, bytes padded to words
//! ```
//! Records of one CPU are in order. A file made on several host threads is in order by chunks only: the reader sorts
//! by time. The words that follow include time and thread.

use alloc::vec::Vec;

use crate::Event;

/// The first word of a file.
pub const MAGIC: u64 = u64::from_le_bytes(*b"winpvtrc");
/// The second one.
pub const VERSION: u64 = 1;
/// Words before the first record.
pub const HEADER: usize = 8;
/// CPU of a record made by a thread that is no virtual CPU.
pub const NO_CPU: u8 = 255;
/// The longest text in bytes; longer ones are cut.
pub const LONGEST: usize = 1024;

/// The words of a file's start.
pub fn header(cpus: u32, seed: Option<u64>) -> [u64; HEADER] {
    let seed = seed.unwrap_or(u64::MAX);
    [MAGIC, VERSION, u64::from(cpus), seed, 0, 0, 0, 0]
}

/// Appends a record.
pub fn put(words: &mut Vec<u64>, event: &Event<'_>, time: u64, cpu: Option<u32>, thread: u64) {
    let start = words.len();
    words.extend([0, time, thread]);
    let (number, text) = event.take_apart(|field| words.push(field));
    if let Some(text) = text {
        let bytes = &text.as_bytes()[..text.floor_char_boundary(LONGEST)];
        words.push(bytes.len() as u64);
        words.extend(bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        }));
    }
    let count = (words.len() - start - 1) as u64;
    let cpu = cpu.map_or(NO_CPU, |cpu| cpu as u8);
    words[start] = u64::from(number) | count << 16 | u64::from(cpu) << 32;
}
