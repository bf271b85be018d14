//! The run-time library: strings, memory, version, time, random numbers.

pub mod ansi;
pub mod memory;
pub mod random;
pub mod system;
pub mod unicode;
