//! The client side of the interfaces that xenbus.sys and xenfilt.sys offer to the PV drivers.
//!
//! ```text
//!   query ──► Offer<T> (not acquired) ──acquire──► Arc<Acquired<T>> ──► watches, channels, caches, callbacks
//!                                                     released with the last of them
//! ```
//!
//! What a provider would bug-check on cannot be written here: an interface is released only after everything that was
//! made through it is gone, because each of these things keeps it acquired.
#![no_std]
#![cfg(windows)]
#![feature(allocator_api)]

extern crate alloc;

pub mod debug;
pub mod directories;
pub mod distribution;
pub mod evtchn;
pub mod gnttab;
mod interface;
pub mod store;
pub mod suspend;
mod text;
pub mod unplug;

pub use interface::{Acquire, Acquired, Offer};
pub use text::CText;
