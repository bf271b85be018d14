//! The grant table, version 1: which page another domain may touch, and how the guest takes that back.
//!
//! A reference is an owned value that is always in exactly one state, and only these steps exist:
//!
//! ```text
//!   References::allocate ─▶ Reference ──permit──▶ Grant ──revoke──▶ Reference ─▶ References::free
//!                                                 ▲   │ still in use
//!                                                 └───┴──▶ References::quarantine (never used again, counted)
//! ```
//!
//! A page whose grant could not be revoked is still the peer's to read or write, so whoever holds the [`Grant`] must
//! keep the page; there is no way from a `Grant` back to a free reference but a revocation that succeeded.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod entry;
mod references;

pub use entry::{Access, Grant, Granted, Reference, StillInUse, query};
pub use references::{Error, References};

/// Frames that hold references the drivers never hand out: 0 and 1 are the console and the store, and a crash dump's
/// driver uses some of the others without asking.
pub const RESERVED: u32 = 32;
