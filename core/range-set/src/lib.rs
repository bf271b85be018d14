//! Sets of 64-bit integers kept as disjoint ranges.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
