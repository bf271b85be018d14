//! Ethernet frames as a network driver has to understand them: where their headers are, what their checksums should be,
//! how a large one is cut into segments and how segments are put together.
//!
//! ```text
//!   frame: |····|··········|······|   bytes in fragments, never copied but for the headers
//!             │ parse
//!             ▼
//!   headers: [u8; MAX_HEADERS]  and  Layout: Ethernet, tag, LLC, IP, TCP or UDP, payload, padding
//!             │
//!             ├─ transmit              what is done before a frame goes to a backend, by means of
//!             │    vlan                an 802.1Q tag put in or taken out
//!             │    checksum, transport IPv4 header, TCP and UDP: blank, write, verify
//!             │    segment, gso        large sends: cut here, and for a backend that cuts them
//!             ├─ receive               what is done when one comes from there, and
//!             │    coalesce            segments of a flow that arrive in order become one
//!             └─ flow, toeplitz        which queue
//!   announce: gratuitous ARP and neighbour advertisements
//! ```
//!
//! Every byte may be hostile. Headers are copied before they are read, so nothing that was checked can change; what a
//! [`Layout`] says lies inside of the frame that it was made from. Pure functions, no memory is allocated.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod announce;
pub mod checksum;
pub mod coalesce;
mod ethernet;
mod field;
pub mod flow;
mod fragments;
pub mod gso;
mod ip;
mod layout;
mod parse;
pub mod receive;
pub mod segment;
pub mod tcp;
pub mod toeplitz;
pub mod transmit;
pub mod transport;
pub mod vlan;

pub use ethernet::{Kind, MIN_FRAME, Mac, Tci, padding};
pub use fragments::{Cursor, Pieces, length};
pub use ip::{Addresses, Ip, Version};
pub use layout::{Layout, Mismatch, Span, Transport};
pub use parse::{Extent, Fault, MAX_EXTENSION_BYTES, MAX_EXTENSIONS, MAX_HEADERS, Parsed, parse};

// The tests name this crate as its users do: some of them are shared with the fuzz target.
#[cfg(test)]
extern crate self as packet;
#[cfg(test)]
mod tests;
