//! The rig as a library: the machine on Linux, the disks it shows, and what is done with them.

pub mod demo;
pub mod device;
pub mod disk;
pub mod image;
#[cfg(test)]
mod memory_disk;
pub mod nbd;
pub mod platform;
pub mod workload;
