//! What the executive asks of a hypervisor below it.

use alloc::string::String;

use crate::mm::frames::Frame;

/// A hypervisor that tells. On a real Xen nobody does.
pub trait Hypervisor: Sync {
    /// How another domain may use a frame among those that `is_freed` picks, as the end of a sentence: "frame 0x12,
    /// granted to …". `None` when nobody may.
    fn shared(&self, is_freed: &dyn Fn(Frame) -> bool) -> Option<String>;
}
