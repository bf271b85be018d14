//! storport.sys as a miniport sees it, and the disk class driver above it.
#![no_std]

extern crate alloc;

pub mod cdb;
pub mod info;
pub mod sense;
