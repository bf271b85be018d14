//! The bookkeeping of a slab allocator.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
