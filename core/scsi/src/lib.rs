//! The SCSI disk that Windows sees. The backend knows sectors only, so everything else is answered here.
//!
//! ```text
//!   CDB bytes --parse--> Command --execute(Disk, buffer)--> Outcome: answered, sense data, or block I/O to do
//! ```
//!
//! Pure functions: no state, no I/O, nothing is written beyond the buffer given, and no block range leaves here that
//! does not lie on the disk. Sources: SPC-4 and SBC-3 by section name; the identity strings are a contract with
//! installed systems (a changed serial number is a new disk to Windows).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod capacity;
mod cdb;
mod execute;
mod inquiry;
mod mode;
mod sense;
mod unmap;
mod vpd;

pub use cdb::{Command, parse};
pub use execute::{Extent, Outcome, execute};
pub use sense::Sense;
pub use unmap::{MAX_RANGES, Ranges};
pub use vpd::VpdPage;

/// What there is to know about a disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    /// SCSI target number; the default identity is made of it.
    pub target: u32,
    /// Size in logical blocks.
    pub blocks: u64,
    /// Logical block size in bytes, a power of two from 512 to 4096.
    pub block_size: u32,
    /// Physical block size in bytes, a power of two not below `block_size`.
    pub physical_block_size: u32,
    /// Whether the disk can do I/O now; if not, only commands about its identity are answered.
    pub ready: bool,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether the *medium* can be removed (not: the device can be unplugged).
    pub removable_medium: bool,
    /// Whether written data may be lost before the cache is synchronised.
    pub write_cache: bool,
    /// Whether blocks can be unmapped, and how.
    pub discard: Option<Discard>,
    /// Page 80 (serial number) as the toolstack wants it.
    pub serial_number: Option<&'a VpdPage>,
    /// Page 83 (device identification) as the toolstack wants it.
    pub identification: Option<&'a VpdPage>,
}

/// Granularity of unmapping, in bytes, as the backend states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// Unit the backend frees; 0 if unknown.
    pub granularity: u32,
    /// Offset of the first unit from the start of the disk.
    pub alignment: u32,
}

/// Copies as much of `answer` as the initiator asked for and has room for, clears the rest of the buffer, and gives the
/// number of bytes that are valid (SPC-4: "Allocation length": truncation is no error).
fn reply(answer: &[u8], allocation: usize, buffer: &mut [u8]) -> usize {
    let length = answer.len().min(allocation).min(buffer.len());
    for (to, from) in buffer
        .iter_mut()
        .zip(answer.iter().take(length).chain(core::iter::repeat(&0)))
    {
        *to = *from;
    }
    length
}

#[cfg(test)]
mod tests;
