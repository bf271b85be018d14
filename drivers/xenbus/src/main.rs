//! xenbus.sys: the function driver of the Xen platform device, and the bus of PV devices behind it.
//!
//! ```text
//!   driver ─▶ fdo (the platform device) ─▶ bus: SHARED_INFO, EVTCHN, GNTTAB, STORE, … ─▶ xen.sys ─▶ Xen
//!                └▶ scan: xenstore's `device` ─▶ child (one PDO for each class) ─▶ answers queries with bus' tables
//! ```
//!
//! Each subsystem's file holds its state and its call tables; the rules of the protocols are in `core/`.
#![no_std]
#![no_main]
#![cfg(windows)]

extern crate alloc;

mod active;
mod bus;
mod cache;
mod callbacks;
mod child;
mod console;
mod cstr;
mod debug;
mod driver;
mod evtchn;
mod fdo;
mod gnttab;
mod hole;
mod interrupt;
mod range_set;
mod settings;
mod shared_info;
mod store;
mod suspend;
mod unplug;

nt::driver_runtime!(b"XENB");
nt::driver_entry!(driver::start);
