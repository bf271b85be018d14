//! The remove lock: IRP_MN_REMOVE_DEVICE waits until no request is inside.

use crate::{NtStatus, Result, try_box};
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use nt_sys::IO_REMOVE_LOCK;
use nt_sys::imports::{
    IoAcquireRemoveLockEx, IoInitializeRemoveLockEx, IoReleaseRemoveLockAndWaitEx,
    IoReleaseRemoveLockEx,
};

const SIZE: u32 = size_of::<IO_REMOVE_LOCK>() as u32;
const TAG: u32 = u32::from_le_bytes(*b"RmLk");

/// A device's remove lock.
pub struct RemoveLock {
    object: Box<UnsafeCell<MaybeUninit<IO_REMOVE_LOCK>>>,
}

// SAFETY: the kernel synchronises access to the lock.
unsafe impl Send for RemoveLock {}
// SAFETY: as above.
unsafe impl Sync for RemoveLock {}

impl RemoveLock {
    /// A free lock.
    pub fn new() -> Result<RemoveLock> {
        let lock = RemoveLock {
            object: try_box(UnsafeCell::new(MaybeUninit::uninit()))?,
        };
        // SAFETY: the memory is the lock's own and does not move.
        unsafe { IoInitializeRemoveLockEx(lock.as_ptr(), TAG, 0, 0, SIZE) };
        Ok(lock)
    }

    fn as_ptr(&self) -> *mut IO_REMOVE_LOCK {
        self.object.get().cast()
    }

    /// Keeps the device from being removed until [`RemoveLock::release`]. IRQL ≤ DISPATCH_LEVEL.
    ///
    /// STATUS_DELETE_PENDING once removal has begun.
    pub fn acquire(&self) -> Result<()> {
        // SAFETY: the lock is initialised; tag, file and line are for checked builds.
        NtStatus::check(unsafe {
            IoAcquireRemoveLockEx(self.as_ptr(), null_mut(), c"".as_ptr().cast(), 0, SIZE)
        })
    }

    /// Undoes one `acquire`. IRQL ≤ DISPATCH_LEVEL.
    pub fn release(&self) {
        // SAFETY: the lock is initialised; the matching acquire is the caller's.
        unsafe { IoReleaseRemoveLockEx(self.as_ptr(), null_mut(), SIZE) };
    }

    /// Undoes the caller's `acquire`, lets nobody in any more and waits until all are out. PASSIVE_LEVEL.
    pub fn release_and_wait(&self) {
        // SAFETY: the lock is initialised; the matching acquire is the caller's.
        unsafe { IoReleaseRemoveLockAndWaitEx(self.as_ptr(), null_mut(), SIZE) };
    }
}

impl fmt::Debug for RemoveLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoveLock").finish_non_exhaustive()
    }
}
