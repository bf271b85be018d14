//! Kernel stacks: RAM with a guard page below.

use core::ptr::NonNull;

use crate::host::platform;
use crate::mm::frames;
use crate::platform::{PAGE_SIZE, Protection};

/// Pages of a stack, without the guard page. Windows gives a driver 24 KiB; the rest is for the executive's own
/// frames, which are larger than Windows' in a debug build.
const PAGES: usize = 16;

/// A stack in guest RAM; an access below it faults.
pub struct Stack {
    guard: frames::Frame,
}

impl Stack {
    /// A stack, or `None` without memory.
    pub fn new() -> Option<Self> {
        let guard = frames::allocate(PAGES as u64 + 1)?;
        // SAFETY: the frame was just allocated; nothing uses it.
        unsafe { platform().protect(frames::address(guard), 1, Protection::None) };
        let stack = Self { guard };
        // What former users left would look like return addresses to a stack walk.
        // SAFETY: the frames behind the guard page were just allocated.
        unsafe { stack.base().write_bytes(0, PAGES * PAGE_SIZE) };
        Some(stack)
    }

    /// Its end, where the first push goes below.
    pub fn top(&self) -> *mut u8 {
        // SAFETY: the stack's frames follow the guard page in the physical view.
        unsafe { self.base().add(PAGES * PAGE_SIZE) }.as_ptr()
    }

    fn base(&self) -> NonNull<u8> {
        frames::address(self.guard + 1)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the frame is the stack's own.
        unsafe { platform().protect(frames::address(self.guard), 1, Protection::ReadWrite) };
        frames::free(self.guard, PAGES as u64 + 1);
    }
}
