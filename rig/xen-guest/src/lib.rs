//! What of the kernel does not depend on its machine: the boot module's archive, symbols, the job's language, the
//! pattern that writes leave on a disk.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod archive;
pub mod pattern;
pub mod step;
pub mod symbols;
