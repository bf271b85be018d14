//! xen.sys: the support library of the PV drivers. An export driver: xenbus.sys imports it, nothing starts it.
//!
//! ```text
//!   load ─► DllInitialize ─► hypercall ─► log ─► registry keys ─► system ─► crash ─► module ─► unplug
//!   use  ─► the 64 functions of xen.def, each in the module that its name begins with
//! ```
//!
//! Loading never fails: a class filter that depends on this library would take its devices with it, on a machine
//! that is not a Xen guest as well. There the library stays inert, and says so when it is touched.
#![no_std]
#![no_main]
#![allow(non_snake_case)]

extern crate alloc;

mod config;
mod crash;
mod event_channel;
mod filters;
mod grant_table;
mod hvm;
mod hypercall;
mod keys;
mod load;
mod log;
mod memory;
mod module;
mod sched;
mod status;
mod system;
mod unplug;
mod vcpu;
mod version;

nt::driver_runtime!(b"XEN ");
