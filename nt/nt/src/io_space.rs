//! Device memory, and pages that other domains own, mapped into the kernel.

use crate::{NtStatus, Result};
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use nt_sys::imports::{MmMapIoSpace, MmUnmapIoSpace};
use nt_sys::{MmCached, MmNonCached};

/// How the processor may cache a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caching {
    /// As RAM.
    Cached,
    /// Each access reaches the device.
    Uncached,
}

/// A mapping of a physical range. Its contents may change at any time, so they are seen as atomics.
pub struct IoMapping {
    address: NonNull<u8>,
    bytes: usize,
    physical: u64,
}

// SAFETY: the mapping is reached through atomics only.
unsafe impl Send for IoMapping {}
// SAFETY: as above.
unsafe impl Sync for IoMapping {}

impl IoMapping {
    /// Maps `bytes` bytes from `physical` on. IRQL ≤ DISPATCH_LEVEL.
    ///
    /// # Safety
    /// The range is the caller's: device memory that was assigned to it, or pages that it shares with another domain.
    /// Nothing in the kernel holds references into it.
    pub unsafe fn map(physical: u64, bytes: usize, caching: Caching) -> Result<IoMapping> {
        let start = i64::try_from(physical).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        if bytes == 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let cache = match caching {
            Caching::Cached => MmCached,
            Caching::Uncached => MmNonCached,
        };
        // SAFETY: the range is the caller's to map.
        let address = unsafe { MmMapIoSpace(start, bytes, cache) };
        let address = NonNull::new(address.cast()).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        Ok(IoMapping {
            address,
            bytes,
            physical,
        })
    }

    /// The physical address.
    pub fn physical(&self) -> u64 {
        self.physical
    }

    /// The virtual address.
    pub fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether the mapping has no bytes; it never does.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The contents as bytes.
    pub fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: the mapping is that long, live as long as `self`, and reached through atomics only.
        unsafe { atomics(self.address, self.bytes) }
    }

    /// The contents as 32-bit words. Empty when the start is not aligned to them.
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is that long, live as long as `self`, and reached through atomics only.
        unsafe { atomics(self.address, self.bytes) }
    }

    /// The contents as 64-bit words. Empty when the start is not aligned to them.
    pub fn long_words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long, live as long as `self`, and reached through atomics only.
        unsafe { atomics(self.address, self.bytes) }
    }

    /// The contents as a structure of atomics.
    ///
    /// # Safety
    /// `T` is made of atomics only, so that any contents are valid and may change.
    pub unsafe fn as_shared<T: Sync>(&self) -> Option<&T> {
        let fits = size_of::<T>() <= self.bytes && self.address.cast::<T>().is_aligned();
        // SAFETY: the mapping is long enough and aligned; the rest is the caller's duty.
        fits.then(|| unsafe { self.address.cast::<T>().as_ref() })
    }
}

/// The whole `T`s in a range.
///
/// # Safety
/// The range is mapped for `'a` and reached through atomics only; `T` is an atomic.
pub(crate) unsafe fn atomics<'a, T>(start: NonNull<u8>, bytes: usize) -> &'a [T] {
    let first = start.cast::<T>();
    if !first.is_aligned() {
        return &[];
    }
    // SAFETY: aligned and as long as the range, which is the caller's to vouch for.
    unsafe { core::slice::from_raw_parts(first.as_ptr(), bytes / size_of::<T>()) }
}

impl Drop for IoMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and references into it borrow `self`.
        unsafe { MmUnmapIoSpace(self.address.as_ptr().cast(), self.bytes) };
    }
}

impl fmt::Debug for IoMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IoMapping({:#x}, {} bytes)", self.physical, self.bytes)
    }
}
