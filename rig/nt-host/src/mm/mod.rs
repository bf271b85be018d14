//! Memory: frames of guest RAM, pool, MDLs, I/O space.
//!
//! ```text
//!   pool ── pages ──┐
//!   MDLs, stacks, images ──> frames (which RAM frames are free) ──> Platform (mappings, protections)
//! ```

pub mod address;
pub mod frames;
pub mod hotplug;
pub mod mdl;
pub mod pool;

pub use crate::platform::PAGE_SIZE;
