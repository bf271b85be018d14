//! The kernel's heap.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};

use nt_host::sync::Mutex;
use talc::{ErrOnOom, Span, Talc};

use super::DIRECT;
use crate::boot::Range;
use crate::cpu::without_interrupts;

struct Heap(Mutex<Talc<ErrOnOom>>);

#[global_allocator]
static HEAP: Heap = Heap(Mutex::new(Talc::new(ErrOnOom)));

// SAFETY: the library's allocator under a lock; what it hands out lies in the memory which `initialise` gave it.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise: the size is not zero.
        without_interrupts(|| unsafe { self.0.lock().malloc(layout) })
            .map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        if let Some(address) = NonNull::new(address) {
            // SAFETY: the caller's promise: `alloc` returned it for this layout.
            without_interrupts(|| unsafe { self.0.lock().free(address, layout) });
        }
    }
}

/// Gives the heap its memory.
///
/// # Safety
/// Nothing else uses the range, which shows at `DIRECT` and stays writable there.
pub unsafe fn initialise(range: Range) {
    let span = Span::new(
        (DIRECT + range.start) as *mut u8,
        (DIRECT + range.end) as *mut u8,
    );
    // SAFETY: the caller's promise.
    let claimed = unsafe { HEAP.0.lock().claim(span) };
    assert!(claimed.is_ok(), "the heap takes its memory");
}
