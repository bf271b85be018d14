//! Grant table version 1.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
