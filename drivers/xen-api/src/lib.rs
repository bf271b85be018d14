//! xen.sys as its clients see it: the imports of the support library, and safe calls on top.
//!
//! The two drivers must be of one version; `XenTouch` refuses any other.
#![no_std]
#![cfg(windows)]

mod calls;
mod raw;

pub use calls::*;
pub use raw::*;
