//! MDLs and mappings.

use super::*;

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
    ("unmaps-no-io-space", |_| {
        MmUnmapIoSpace(pool(4096).cast(), 4096)
    }),
];

fn pages() -> *mut MDL {
    MmAllocatePagesForMdlEx(0, -1, 0, PAGE_SIZE, MmCached, 0)
}

fn map(mdl: *mut MDL) -> PVOID {
    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, null_mut(), 0, NormalPagePriority)
}
