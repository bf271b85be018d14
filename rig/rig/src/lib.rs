//! The rig as a library: the machine on Linux, the disks it shows, and what is done with them.

pub mod disk;
pub mod nbd;
pub mod platform;
