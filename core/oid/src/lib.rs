//! What a miniport of NDIS is asked and told about its adapter: object identifiers (OIDs), and the blocks of
//! parameters that come with them.
//!
//! ```text
//!   number, kind, buffer ─ request ─▶ Query ─ answer(Facts, buffer) ─▶ bytes written, bytes needed
//!                             │   └─▶ Set: filter, list, offload parameters, scaling …, checked
//!                             └─▶ Failure: status, bytes needed
//!
//!   keyword::Settings ─▶ offload::Offload ◀─ Set      ─▶ options for VIF, NDIS_OFFLOAD for NDIS
//!                        rss::State       ◀─ Set      ─▶ calls to VIF
//!                        vlan::Tagging    ◀─ Set      ─▶ tags of packets
//! ```
//!
//! Bytes in, values out, bytes out: nothing here calls anybody, allocates, or reads beyond a buffer, whatever a block
//! says its size is. Layouts are ntddndis.h's for x64, named by their offsets; the tests compare them with Microsoft's
//! metadata. What the objects mean is in Microsoft Learn, "Network OIDs".
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod block;
pub mod filter;
pub mod keyword;
pub mod number;
pub mod offload;
pub mod query;
mod request;
pub mod rss;
pub mod statistics;
mod status;
mod tasks;
pub mod vlan;

pub use query::{Answer, Facts, Query, Version};
pub use request::{Kind, Request, Set, request};
pub use status::{Failure, Status};
pub use tasks::Tasks;

// The tests name this crate as its users do: some of them are shared with the fuzz target.
#[cfg(test)]
extern crate self as oid;
#[cfg(test)]
mod tests;
