//! What is left behind when the driver is unloaded.

use super::memory::{locked, map, pages};
use super::*;

pub const CASES: &[Case] = &[
    ("leaves-nothing", |_| ()),
    ("leaks-io-space", |_| {
        MmMapIoSpace(0x10_0000, 4096, MmNonCached);
    }),
    ("leaks-pages", |_| {
        MmAllocatePagesForMdlEx(0, -1, 0, PAGE_SIZE, MmCached, 0);
    }),
    ("leaks-an-mdl", |_| {
        IoAllocateMdl(null_mut(), 100, 0, 0, null_mut());
    }),
    ("leaves-pages-locked", |_| {
        locked();
    }),
    ("leaves-pages-mapped", |_| {
        map(pages());
    }),
    ("leaks-a-thread", |_| {
        ZwClose(thread(sleeps));
    }),
    ("leaks-a-handle", |_| {
        thread(ends);
    }),
    ("leaks-pool", |_| {
        pool(100);
    }),
];

unsafe extern "system" fn sleeps(_: PVOID) {
    sleep(1_000_000);
}

unsafe extern "system" fn ends(_: PVOID) {}
