//! Event channels, two-level ABI: finding what is pending, and who waits for it.
//!
//! ```text
//!   vcpu_info.pending_sel ──bit n──▶ evtchn_pending[n] & !evtchn_mask[n] ──bit b──▶ port 64·n + b ──▶ Ports ──▶ slot
//! ```
//!
//! Everything works on references to the atomics that Xen shares, at any IRQL, without locks.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod ports;
mod two_level;

pub use ports::{NoMemory, Ports};
pub use two_level::{Cursor, TwoLevel};

/// Ports that the two-level ABI can name. public/event_channel.h: `EVTCHN_2L_NR_CHANNELS` on x86-64.
pub const PORTS: u32 = 64 * 64;
