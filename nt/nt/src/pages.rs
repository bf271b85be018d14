//! Whole pages of RAM, owned and mapped, with their frame numbers: what is shared with other domains.

use crate::io_space::atomics;
use crate::{NtStatus, Result};
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use nt_sys::imports::{
    ExFreePoolWithTag, MmAllocatePagesForMdlEx, MmFreePagesFromMdl, MmMapLockedPagesSpecifyCache,
    MmUnmapLockedPages,
};
use nt_sys::{
    KernelMode, MDL, MM_ALLOCATE_FULLY_REQUIRED, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS,
    MdlMappingNoExecute, MmCached, NormalPagePriority, PAGE_SIZE, PFN_NUMBER,
};

/// Zeroed pages, mapped one behind the other. Another domain may write them, so they are seen as atomics.
///
/// Dropping frees them. A page that a peer may still reach must not be dropped: [`Pages::leak`] it.
pub struct Pages {
    mdl: NonNull<MDL>,
    address: NonNull<u8>,
    count: usize,
}

// SAFETY: the pages are owned and reached through atomics only.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates `count` pages, anywhere. IRQL ≤ DISPATCH_LEVEL.
    pub fn allocate(count: usize) -> Result<Pages> {
        Pages::allocate_with(count, 0, 0)
    }

    /// Allocates `count` pages whose frame numbers follow each other. IRQL ≤ DISPATCH_LEVEL.
    pub fn allocate_contiguous(count: usize) -> Result<Pages> {
        let bytes = count
            .checked_mul(PAGE_SIZE)
            .and_then(|bytes| i64::try_from(bytes).ok());
        let chunk = bytes.ok_or(NtStatus::INVALID_PARAMETER)?;
        Pages::allocate_with(count, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS, chunk)
    }

    fn allocate_with(count: usize, flags: u32, skip: i64) -> Result<Pages> {
        let bytes = count
            .checked_mul(PAGE_SIZE)
            .ok_or(NtStatus::INVALID_PARAMETER)?;
        if count == 0 || u32::try_from(bytes).is_err() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        // SAFETY: no pointers; any physical address will do.
        let mdl = unsafe {
            MmAllocatePagesForMdlEx(
                0,
                i64::MAX,
                skip,
                bytes,
                MmCached,
                flags | MM_ALLOCATE_FULLY_REQUIRED,
            )
        };
        let mdl = NonNull::new(mdl).ok_or(NtStatus::NO_MEMORY)?;
        // SAFETY: the MDL is live and describes locked pages.
        let length = unsafe { mdl.as_ref() }.ByteCount as usize;
        let mapped = if length == bytes {
            // SAFETY: the MDL describes locked pages that are not mapped yet.
            unsafe {
                MmMapLockedPagesSpecifyCache(
                    mdl.as_ptr(),
                    KernelMode,
                    MmCached,
                    core::ptr::null_mut(),
                    0,
                    NormalPagePriority | MdlMappingNoExecute,
                )
            }
        } else {
            core::ptr::null_mut()
        };
        match NonNull::new(mapped.cast::<u8>()) {
            Some(address) => Ok(Pages {
                mdl,
                address,
                count,
            }),
            None => {
                // SAFETY: the pages are ours and not mapped.
                unsafe { free(mdl) };
                Err(NtStatus::NO_MEMORY)
            }
        }
    }

    /// Number of pages.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Length in bytes.
    fn bytes(&self) -> usize {
        self.count * PAGE_SIZE
    }

    /// The virtual address of the first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// The frame number of page `index`.
    pub fn pfn(&self, index: usize) -> Option<PFN_NUMBER> {
        self.pfns().get(index).copied()
    }

    /// The frame numbers of all pages.
    pub fn pfns(&self) -> &[PFN_NUMBER] {
        // SAFETY: the frame numbers follow the header of the MDL.
        let first = unsafe { self.mdl.as_ptr().add(1) }.cast::<PFN_NUMBER>();
        // SAFETY: an MDL over `count` whole pages holds that many, which nobody changes.
        unsafe { core::slice::from_raw_parts(first, self.count) }
    }

    /// The MDL that describes the pages, to lend them to another driver. Who lends sets it right again by
    /// [`Pages::show`] before anything else is done with the pages.
    pub fn mdl(&self) -> *mut MDL {
        self.mdl.as_ptr()
    }

    /// Has the MDL describe `length` bytes from `offset` on, of the first page, and the chain `next` behind it; all of the
    /// pages, where that is not within them.
    pub fn show(&mut self, offset: u32, length: u32, next: *mut MDL) {
        let whole = self.bytes();
        let end = (offset as usize).saturating_add(length as usize);
        let (offset, length) = match end <= whole && (offset as usize) < PAGE_SIZE {
            true => (offset, length),
            false => (0, whole as u32),
        };
        // SAFETY: the MDL is ours, and lent to nobody.
        let mdl = unsafe { self.mdl.as_mut() };
        mdl.ByteOffset = offset;
        mdl.ByteCount = length;
        mdl.MappedSystemVa = self.address.as_ptr().wrapping_add(offset as usize).cast();
        mdl.Next = next;
    }

    /// Has the MDL describe all of the pages, and nothing behind them.
    pub fn show_all(&mut self) {
        self.show(0, self.bytes() as u32, core::ptr::null_mut());
    }

    /// The contents as plain bytes.
    ///
    /// # Safety
    /// No other domain may reach the pages while the result lives.
    pub unsafe fn plain(&self) -> &[u8] {
        // SAFETY: the mapping is that long; the rest is the caller's duty.
        unsafe { core::slice::from_raw_parts(self.as_ptr(), self.bytes()) }
    }

    /// The contents as plain bytes, to be changed.
    ///
    /// # Safety
    /// No other domain may reach the pages while the result lives.
    pub unsafe fn plain_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.as_ptr(), self.bytes()) }
    }

    /// The contents as bytes.
    pub fn byte_cells(&self) -> &[AtomicU8] {
        // SAFETY: the mapping is that long, live as long as `self`, and reached through atomics only.
        unsafe { atomics(self.address, self.bytes()) }
    }

    /// The contents as 32-bit words.
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: as above.
        unsafe { atomics(self.address, self.bytes()) }
    }

    /// The contents as 64-bit words.
    pub fn long_words(&self) -> &[AtomicU64] {
        // SAFETY: as above.
        unsafe { atomics(self.address, self.bytes()) }
    }

    /// The start of the pages as a structure of atomics.
    ///
    /// # Safety
    /// `T` is made of atomics only, so that any contents are valid and may change.
    pub unsafe fn as_shared<T: Sync>(&self) -> Option<&T> {
        const { assert!(align_of::<T>() <= PAGE_SIZE) };
        // SAFETY: the mapping is long enough and page-aligned; the rest is the caller's duty.
        (size_of::<T>() <= self.bytes()).then(|| unsafe { self.address.cast::<T>().as_ref() })
    }

    /// Unmaps nothing and frees nothing, for pages that a peer will not let go.
    pub fn leak(self) {
        let _ = ManuallyDrop::new(self);
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and references into it borrow `self`.
        unsafe { MmUnmapLockedPages(self.address.as_ptr().cast(), self.mdl.as_ptr()) };
        // SAFETY: the pages are ours and not mapped any more.
        unsafe { free(self.mdl) };
    }
}

/// # Safety
/// `mdl` is from MmAllocatePagesForMdlEx, its pages are not mapped, and it is not used again.
unsafe fn free(mdl: NonNull<MDL>) {
    // SAFETY: the duty is the caller's.
    unsafe { MmFreePagesFromMdl(mdl.as_ptr()) };
    // MmFreePagesFromMdl leaves the MDL itself, a pool block, to be freed (Microsoft Learn).
    // SAFETY: as above.
    unsafe { ExFreePoolWithTag(mdl.as_ptr().cast(), 0) };
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({} at {:p})", self.count, self.address)
    }
}
