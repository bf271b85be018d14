//! The frontend of a block device: what it says to the backend in xenstore, and what it sends through the ring.
//!
//! ```text
//!   vdev       virtual device number -> target number
//!   handshake  own state x backend state -> next step, with a deadline
//!   features   backend's keys -> checked limits, features, geometry
//!   keys       what the frontend writes
//!   cursor     scatter-gather list -> page-sized segments, some of them bounced
//!   queue      I/O -> requests -> responses -> one outcome per I/O
//! ```
//!
//! No I/O of its own: time comes in as numbers, pages and grants through [`queue::Host`]. Source of the protocol:
//! xen/public/io/blkif.h.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cursor;
pub mod features;
pub mod handshake;
pub mod keys;
pub mod queue;
mod vdev;

pub use vdev::VirtualDevice;
