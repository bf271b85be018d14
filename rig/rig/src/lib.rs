//! The rig as a library: the machine on Linux, the disks it shows, and what is done with them.

pub mod bench;
pub mod boot;
pub mod cli;
pub mod debugger;
pub mod demo;
pub mod device;
pub mod disk;
pub mod exchange;
pub mod faults;
pub mod hypervisor;
pub mod image;
pub mod interrupt;
pub mod interrupter;
pub mod logger;
#[cfg(test)]
mod memory_disk;
pub mod nbd;
pub mod nic;
pub mod packages;
pub mod placement;
pub mod platform;
pub mod port_disk;
pub mod port_nic;
pub mod recorder;
pub mod report;
pub mod rules;
pub mod run;
pub mod scenario;
pub mod selftest;
pub mod view;
pub mod vif;
pub mod wait;
pub mod workload;
