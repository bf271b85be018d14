//! The xenstore client of a guest: requests, watches and transactions over the shared ring, as a state machine.
//!
//! ```text
//!   submit ─▶ slot ─▶ queue ─▶ request ring ─▶ xenstored
//!   outcome ◀─ slot ◀──────── reply ring ◀──┘      (poll moves the bytes and reports replies and watch events)
//! ```
//!
//! A request is named by a slot and a sequence number, and a reply counts only if it names a request that was sent. What
//! xenstored writes is copied out of the ring and checked before it is used; a stream that makes no sense breaks the
//! client, not the guest. After a resume, requests that were under way are sent again, while transactions and watches
//! are inactive until their owners renew them.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod error;
mod path;
mod receiver;
mod request;
mod ring;
mod value;
mod watch;

pub use client::{Client, Event, Progress, SLOTS, Ticket, Transaction};
pub use error::{Broken, Error};
pub use path::Path;
pub use request::{Mask, Operation, Permission};
pub use value::{Text, Value};
pub use watch::WatchId;

/// The names in the reply to a directory request.
pub fn names(reply: &[u8]) -> impl Iterator<Item = &[u8]> {
    reply.split(|&b| b == 0).filter(|name| !name.is_empty())
}
