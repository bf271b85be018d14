//! The frontend's end of a Xen shared ring, and the table that gives requests their ids.
//!
//! ```text
//!            frontend writes            backend writes
//!   header   req_prod  rsp_event  ...   req_event  rsp_prod
//!   entries  [ request | response ] x 2^n, one slot for both
//! ```
//!
//! The other end is not trusted: its indices are checked before use, entries are copied out whole before anybody looks
//! at them, and a response counts only if its id is outstanding. Layout and rules: xen/public/io/ring.h.
#![cfg_attr(not(any(test, feature = "loom")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod front;
mod slots;

pub use front::{Broken, FrontRing, Full, HEADER_BYTES, capacity};
pub use slots::{Slots, UnknownId};

#[cfg(not(feature = "loom"))]
mod sync {
    pub(crate) use core::sync::atomic::{AtomicU32, Ordering, fence};
}
#[cfg(feature = "loom")]
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};
}
