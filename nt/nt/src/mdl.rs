//! MDLs: chains of another driver's, read where they lie, and memory of one's own with such a description.

use crate::{NtStatus, Result};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ptr::NonNull;
use nt_sys::imports::{
    IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool, MmMapLockedPagesSpecifyCache,
};
use nt_sys::{
    FALSE, KernelMode, MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_SOURCE_IS_NONPAGED_POOL,
    MdlMappingNoExecute, MmCached, NormalPagePriority,
};

/// MDLs of a chain that are looked at. Longer ones are refused.
const LONGEST: usize = 1024;

/// A part of the memory of a chain of MDLs, all of it mapped.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    first: *const MDL,
    offset: usize,
    length: usize,
    _owner: PhantomData<&'a MDL>,
}

impl<'a> Chain<'a> {
    /// The `length` bytes that begin `offset` bytes into the chain at `first`. Maps what is not mapped yet; that ends with
    /// the MDL. IRQL ≤ DISPATCH_LEVEL.
    ///
    /// STATUS_INVALID_PARAMETER when the chain is shorter than that, or endless.
    ///
    /// # Safety
    /// Null or a chain of MDLs of locked pages, which stay as they are for `'a`.
    pub unsafe fn new(first: *mut MDL, offset: u32, length: u32) -> Result<Chain<'a>> {
        let (offset, length) = (offset as usize, length as usize);
        let end = offset
            .checked_add(length)
            .ok_or(NtStatus::INVALID_PARAMETER)?;
        let mut before = 0usize;
        let mut mdl = first;
        for _ in 0..LONGEST {
            // SAFETY: the caller's duty.
            let Some(fields) = (unsafe { mdl.as_mut() }) else {
                return Err(NtStatus::INVALID_PARAMETER);
            };
            before = before.saturating_add(fields.ByteCount as usize);
            if before > offset && fields.ByteCount != 0 {
                map(fields)?;
            }
            if before >= end {
                return Ok(Chain {
                    first,
                    offset,
                    length,
                    _owner: PhantomData,
                });
            }
            mdl = fields.Next;
        }
        Err(NtStatus::INVALID_PARAMETER)
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The bytes, piece by piece.
    pub fn pieces(&self) -> Pieces<'a> {
        Pieces {
            next: self.first,
            skip: self.offset,
            left: self.length,
            _owner: PhantomData,
        }
    }
}

/// Sees to it that an MDL's memory has an address (MmGetSystemAddressForMdlSafe).
fn map(mdl: &mut MDL) -> Result<()> {
    if mdl.MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0 {
        return Ok(());
    }
    // SAFETY: the MDL describes locked pages that are not mapped yet; the mapping ends when they are unlocked.
    let address = unsafe {
        MmMapLockedPagesSpecifyCache(
            mdl,
            KernelMode,
            MmCached,
            core::ptr::null_mut(),
            0,
            NormalPagePriority | MdlMappingNoExecute,
        )
    };
    if address.is_null() {
        Err(NtStatus::INSUFFICIENT_RESOURCES)
    } else {
        Ok(())
    }
}

/// The pieces of a [`Chain`].
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    next: *const MDL,
    skip: usize,
    left: usize,
    _owner: PhantomData<&'a MDL>,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while self.left != 0 {
            // SAFETY: `Chain::new` has seen that the chain goes so far, and its maker keeps it.
            let mdl = unsafe { self.next.as_ref() }?;
            self.next = mdl.Next;
            let bytes = mdl.ByteCount as usize;
            let Some(rest) = bytes.checked_sub(self.skip).filter(|rest| *rest != 0) else {
                self.skip = self.skip.saturating_sub(bytes);
                continue;
            };
            let length = rest.min(self.left);
            // SAFETY: within the MDL's mapping.
            let start = unsafe { mdl.MappedSystemVa.cast::<u8>().add(self.skip) };
            (self.skip, self.left) = (0, self.left - length);
            // SAFETY: the mapping is that long, and nobody writes to a packet that is under way.
            return Some(unsafe { core::slice::from_raw_parts(start, length) });
        }
        None
    }
}

/// Memory of this driver's own, with an MDL that describes it.
#[derive(Debug)]
pub struct Buffer {
    memory: Box<[u8]>,
    mdl: NonNull<MDL>,
}

// SAFETY: the MDL is the buffer's own.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Zeroed memory of `length` bytes, at least one. IRQL ≤ DISPATCH_LEVEL.
    pub fn new(length: usize) -> Result<Buffer> {
        let size = u32::try_from(length).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let mut memory = Vec::new();
        memory.try_reserve_exact(length)?;
        memory.resize(length, 0);
        let mut memory = memory.into_boxed_slice();
        let start = memory.as_mut_ptr().cast();
        // SAFETY: a block of non-paged pool; there is no IRP.
        let mdl = unsafe { IoAllocateMdl(start, size, FALSE, FALSE, core::ptr::null_mut()) };
        let mdl = NonNull::new(mdl).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        // SAFETY: a new MDL of non-paged pool.
        unsafe { MmBuildMdlForNonPagedPool(mdl.as_ptr()) };
        Ok(Buffer { memory, mdl })
    }

    /// The memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    /// The MDL, for as long as the buffer.
    pub fn mdl(&self) -> *mut MDL {
        self.mdl.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated once, and nobody uses it any more.
        unsafe { IoFreeMdl(self.mdl.as_ptr()) };
    }
}
