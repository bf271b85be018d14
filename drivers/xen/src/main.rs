//! xen.sys
#![no_std]
#![no_main]
#![allow(non_snake_case)]

mod event_channel;
mod grant_table;
mod hvm;
mod hypercall;
mod memory;
mod sched;
mod status;
mod vcpu;
mod version;
