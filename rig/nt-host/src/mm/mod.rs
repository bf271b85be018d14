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

/// The module that has allocated a frame: as pool of a page or more, or for an MDL. 0 for the executive.
pub fn owner_of(frame: frames::Frame) -> Option<u32> {
    pool::owner_of(frame).or_else(|| mdl::owner_of(frame))
}
