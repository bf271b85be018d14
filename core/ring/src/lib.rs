//! A split-driver shared ring, frontend side.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
