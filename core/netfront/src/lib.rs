//! The frontend of a network device: what it says to the backend in xenstore, and what goes through its rings.
//!
//! ```text
//!   link       carrier, speed, MTU, address
//!   features   backend's keys -> checked limits and features
//!   keys       what the frontend writes, and what it removes
//!   handshake  own state x backend state -> next step, with a deadline
//!   lifecycle  states of the frontend, and the way from one to another
//!   tx         packets -> requests and extras -> responses -> one outcome per packet
//!   rx         pages -> requests -> responses -> packets, of checked parts
//!   control    requests of the control ring, one at a time, with time limits
//!   hash       the hash that chooses queues, and how the backend is told of it
//!   multicast  addresses the backend must pass, and telling it
//!   filter     which received packets are wanted
//! ```
//!
//! The backend is not trusted. No I/O of its own: time comes in as numbers, grants through [`Grants`]. Nothing is
//! allocated once a ring exists. Source of the protocol: xen/public/io/netif.h.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

// `rx::exercise` names this crate as the fuzz target does that shares it.
#[cfg(test)]
extern crate self as netfront;

#[cfg(test)]
mod backend;
pub mod control;
pub mod features;
pub mod filter;
pub mod handshake;
pub mod hash;
pub mod keys;
pub mod lifecycle;
pub mod link;
pub mod multicast;
pub mod rx;
pub mod tx;

pub use packet::Mac as MacAddress;
pub use packet::flow::HashType;
pub use packet::gso::Gso;

use xen_abi::Gref;

/// Pages granted to the backend, as the rings need them.
pub trait Grants {
    /// A granted page. It may be dropped only by `revoke`.
    type Grant;
    /// The reference to tell the backend.
    fn gref(&self, grant: &Self::Grant) -> Gref;
    /// Ends a grant; it comes back if the backend still uses the page.
    fn revoke(&mut self, grant: Self::Grant) -> Result<(), Self::Grant>;
}

/// What is known of the checksums of a packet's TCP or UDP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing.
    #[default]
    Unknown,
    /// It need not be checked.
    Validated,
    /// It holds only the sum of the pseudo header. The data is good.
    Blank,
}

/// A packet's Toeplitz hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    /// What was hashed.
    pub kind: HashType,
    /// The hash.
    pub value: u32,
}

#[cfg(test)]
mod tests;
