//! A library of what an evil or broken backend can do with the memory, channels and keys it has.
//!
//! | file | |
//! |---|---|
//! | [`lie`] | lies told on a ring, on an event channel, in a state: what every class of devices has |
//! | [`keys`] | values of keys that are wrong in every way a value can be |
//! | [`noise`] | memory that changes while the guest reads it |
//!
//! Nothing here is what a backend should do; it is what a driver must survive. A class of devices applies the parts to
//! its own rings and keys: `backends::block` is the first.

pub mod keys;
pub mod lie;
pub mod noise;

pub use keys::Wrong;
pub use lie::{Lie, Mischief, NotALie};
