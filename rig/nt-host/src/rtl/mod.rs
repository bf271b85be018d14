//! Run-time library: strings, memory, version, random numbers.

pub mod random;
