//! The run-time library: strings, memory, version, time, random numbers.

pub mod ansi;
pub mod context;
pub mod memory;
pub mod printf;
pub mod random;
pub mod system;
pub mod text;
pub mod unicode;
pub mod unwind;
