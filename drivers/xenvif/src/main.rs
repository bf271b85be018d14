//! xenvif.sys: the bus of PV network devices.
//!
//! ```text
//!   driver ─▶ fdo (the VIF device of xenbus.sys) ─▶ session: STORE, SUSPEND, … of xenbus.sys
//!                └▶ scan: xenstore's `device/vif` ─▶ vif (one PDO for each interface) ─▶ frontend (a thread)
//!                                                     └▶ table: the VIF interface          └▶ link ─▶ backend
//!                                                             client ◀── tx, deliver ◀── queue (a DPC) ─▶ rings
//! ```
//!
//! What a bus and its children do alike for every bus is in `nt/pv-bus`; the protocol is in `core/netfront`, what
//! frames are in `core/packet`.
#![no_std]
#![no_main]
#![cfg(windows)]

extern crate alloc;

mod addresses;
mod client;
mod control;
mod deliver;
mod driver;
mod fdo;
mod frontend;
mod grants;
mod hash;
mod link;
mod mac;
mod migration;
mod pool;
mod queue;
mod rx;
mod session;
mod settings;
mod statistics;
mod table;
mod tx;
mod vif;

nt::driver_runtime!(b"XVIF");
nt::driver_entry!(driver::start);
