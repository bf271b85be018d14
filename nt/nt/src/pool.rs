//! Pool memory: the global allocator, and boxes whose making can fail.

use crate::{NtStatus, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use nt_sys::imports::{ExAllocatePoolWithTag, ExFreePoolWithTag};
use nt_sys::{NonPagedPoolNx, PAGE_SIZE, PagedPool as PAGED_POOL};

/// Alignment of pool blocks smaller than a page, in bytes (wdm.h: MEMORY_ALLOCATION_ALIGNMENT).
const BLOCK_ALIGNMENT: usize = 16;

/// The global allocator of a driver: non-paged pool that cannot be executed, under the driver's tag.
///
/// IRQL ≤ DISPATCH_LEVEL. Declared by [`driver_runtime!`](crate::driver_runtime).
#[derive(Debug)]
pub struct PoolAllocator {
    tag: u32,
}

impl PoolAllocator {
    /// An allocator whose blocks carry `tag`, four characters as the debugger shows them.
    pub const fn new(tag: [u8; 4]) -> PoolAllocator {
        PoolAllocator {
            tag: u32::from_le_bytes(tag),
        }
    }
}

// SAFETY: pool blocks are unique, live until freed and, as `alloc` sees to, aligned as asked.
unsafe impl GlobalAlloc for PoolAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Blocks of a page and more are page-aligned, so a larger alignment is had by asking for a page.
        let bytes = match layout.align() {
            align if align <= BLOCK_ALIGNMENT => layout.size(),
            align if align <= PAGE_SIZE => layout.size().max(PAGE_SIZE),
            _ => return core::ptr::null_mut(),
        };
        // SAFETY: the size is not 0 (GlobalAlloc's duty of the caller).
        unsafe { ExAllocatePoolWithTag(NonPagedPoolNx, bytes, self.tag) }.cast()
    }

    unsafe fn dealloc(&self, pointer: *mut u8, _: Layout) {
        // SAFETY: `pointer` came from `alloc`, with this tag.
        unsafe { ExFreePoolWithTag(pointer.cast(), self.tag) }
    }
}

/// Boxes `value`, or fails with STATUS_NO_MEMORY.
pub fn try_box<T>(value: T) -> Result<Box<T>> {
    Box::try_new(value).map_err(|_| NtStatus::NO_MEMORY)
}

/// Puts `value` under shared ownership, or fails with STATUS_NO_MEMORY.
pub fn try_arc<T>(value: T) -> Result<Arc<T>> {
    Arc::try_new(value).map_err(|_| NtStatus::NO_MEMORY)
}

/// A zeroed block of paged pool, for what the PnP manager takes over and frees: IDs, texts, relations.
///
/// IRQL ≤ APC_LEVEL.
#[derive(Debug)]
pub struct PagedPool {
    start: NonNull<u8>,
    bytes: usize,
}

/// Tag of the blocks that the system frees.
const PAGED_TAG: u32 = u32::from_le_bytes(*b"PnpX");

impl PagedPool {
    /// Allocates `bytes` bytes (at least one), zeroed.
    pub fn zeroed(bytes: usize) -> Result<PagedPool> {
        let bytes = bytes.max(1);
        // SAFETY: the size is not 0.
        let start = unsafe { ExAllocatePoolWithTag(PAGED_POOL, bytes, PAGED_TAG) };
        let start = NonNull::new(start.cast::<u8>()).ok_or(NtStatus::NO_MEMORY)?;
        // SAFETY: the block is `bytes` long.
        unsafe { start.as_ptr().write_bytes(0, bytes) };
        Ok(PagedPool { start, bytes })
    }

    /// A copy of `units`.
    pub fn from_units(units: &[u16]) -> Result<PagedPool> {
        let mut block = PagedPool::zeroed(size_of_val(units))?;
        for (to, unit) in block.bytes_mut().chunks_exact_mut(2).zip(units) {
            to.copy_from_slice(&unit.to_le_bytes());
        }
        Ok(block)
    }

    /// The block's bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block is owned, `bytes` long and was zeroed.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// Takes back a block that was given away with [`PagedPool::into_raw`], and frees it. A null pointer is none.
    ///
    /// # Safety
    /// The block is not used any more.
    pub unsafe fn free(start: *mut u8) {
        if !start.is_null() {
            // SAFETY: the block has this tag, and is ours again.
            unsafe { ExFreePoolWithTag(start.cast(), PAGED_TAG) };
        }
    }

    /// Gives the block away; who receives it frees it.
    pub fn into_raw(self) -> *mut u8 {
        let start = self.start.as_ptr();
        core::mem::forget(self);
        start
    }
}

impl Drop for PagedPool {
    fn drop(&mut self) {
        // SAFETY: the block is owned and has this tag.
        unsafe { ExFreePoolWithTag(self.start.as_ptr().cast(), PAGED_TAG) }
    }
}
