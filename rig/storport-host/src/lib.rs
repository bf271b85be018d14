//! storport.sys as a miniport sees it, and the disks behind it as their user sees them.
//!
//! ```text
//!   user ── Disk::submit ──> queue: SRBs, depth, retry, time-outs ──HwBuildIo, HwStartIo──> miniport
//!                                <──StorPortNotification(RequestComplete)──
//!   PnP manager ──IRPs──> adapter (FDO), units (disk PDOs), disk class driver
//! ```
//!
//! The miniport may put routines of its own before this driver's in the dispatch table, and sees the PnP
//! requests of its disks that way; so every request goes through the driver object's table.
#![no_std]
#![allow(
    non_snake_case,
    non_upper_case_globals,
    reason = "the names are those by which miniports and headers know them"
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod adapter;
mod buffer;
pub mod cdb;
mod class;
mod disk;
mod dispatch;
mod extended;
pub mod info;
mod lun;
mod notification;
mod pnp;
mod power;
mod queue;
mod registration;
pub mod sense;
mod slot;
mod unit;
mod watch;

pub use buffer::DmaBuffer;
pub use class::disks;
pub use disk::{Disk, Done, Io, IoError, Op};
pub use info::Info;
pub use registration::exports;
