//! What the PV bus shows of itself: which children there are, what they are called, and in which state a device is.
//!
//! Decisions only. The names are ASCII by construction, so that turning them into UTF-16 is a matter of widening.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod class;
mod container;
mod distribution;
mod identity;
mod names;
mod state;
mod vif;

pub use class::{Class, Classes};
pub use distribution::Distribution;
pub use identity::{Identity, MAX_DEVICE_ID, Platform};
pub use names::{Name, Names};
pub use state::{PnpState, State};
pub use vif::{VifIdentity, VifNumber};

/// No memory for a name or a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl From<alloc::collections::TryReserveError> for NoMemory {
    fn from(_: alloc::collections::TryReserveError) -> Self {
        Self
    }
}

/// Appends to a buffer of bytes; fails instead of aborting when memory is short.
pub(crate) struct Text<'b>(pub &'b mut alloc::vec::Vec<u8>);

impl core::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0
            .try_reserve(text.len())
            .map_err(|_| core::fmt::Error)?;
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
