//! MDLs and mappings.

use super::*;

/// LOCK_OPERATION: IoWriteAccess (wdm.h).
const WRITE_ACCESS: i32 = 1;

pub const CASES: &[Case] = &[
    ("frees-no-mdl", |_| IoFreeMdl(null_mut())),
    ("frees-a-mapped-mdl", |_| {
        let mdl = pages();
        map(mdl);
        MmFreePagesFromMdl(mdl);
    }),
    ("unmaps-what-is-not-mapped", |_| {
        let mdl = pages();
        let address = map(mdl);
        MmUnmapLockedPages(address, mdl);
        MmUnmapLockedPages(address, mdl);
    }),
    ("frees-pages-twice", |_| {
        let mdl = pages();
        MmFreePagesFromMdl(mdl);
        MmFreePagesFromMdl(mdl);
    }),
    ("frees-a-locked-mdl", |_| {
        let mdl = locked();
        IoFreeMdl(mdl);
    }),
    ("locks-an-mdl-twice", |_| {
        MmProbeAndLockPages(locked(), KernelMode, WRITE_ACCESS);
    }),
    ("frees-the-memory-of-a-locked-mdl", |_| {
        let buffer = pool(100);
        let own: *mut MDL = pool(MmSizeOfMdl(buffer.cast(), 100)).cast();
        // SAFETY: both are as large as an MDL for these pages; the copy has the header of a fresh one.
        unsafe { own.copy_from(IoAllocateMdl(buffer.cast(), 100, 0, 0, null_mut()), 1) };
        MmProbeAndLockPages(own, KernelMode, WRITE_ACCESS);
        ExFreePool(own.cast());
    }),
    ("unlocks-what-is-not-locked", |_| MmUnlockPages(pages())),
    ("unmaps-no-io-space", |_| {
        MmUnmapIoSpace(pool(4096).cast(), 4096)
    }),
];

pub fn pages() -> *mut MDL {
    MmAllocatePagesForMdlEx(0, -1, 0, PAGE_SIZE, MmCached, 0)
}

/// An MDL of some pool, whose pages are locked.
pub fn locked() -> *mut MDL {
    let mdl = IoAllocateMdl(pool(100).cast(), 100, 0, 0, null_mut());
    MmProbeAndLockPages(mdl, KernelMode, WRITE_ACCESS);
    mdl
}

pub fn map(mdl: *mut MDL) -> PVOID {
    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, null_mut(), 0, NormalPagePriority)
}
