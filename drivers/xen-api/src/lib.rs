//! xen.sys as its clients see it: the imports of the support library.
//!
//! The two drivers must be of one version; `XenTouch` refuses any other.
#![no_std]
#![cfg(windows)]

mod raw;

pub use raw::*;
