//! Xen's public ABI: structures and numbers, no logic.
#![no_std]
#![forbid(unsafe_code)]
