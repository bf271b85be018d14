//! xenvif.sys: the bus of PV network devices.
//!
//! ```text
//!   driver ─▶ fdo (the VIF device of xenbus.sys) ─▶ session: STORE, SUSPEND, … of xenbus.sys
//!                └▶ scan: xenstore's `device/vif` ─▶ vif (one PDO for each interface)
//! ```
//!
//! What a bus and its children do alike for every bus is in `nt/pv-bus`.
#![no_std]
#![no_main]
#![cfg(windows)]

extern crate alloc;

mod driver;
mod fdo;
mod session;
mod settings;
mod vif;

nt::driver_runtime!(b"XVIF");
nt::driver_entry!(driver::start);
