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
    ("leaks-a-reference", |_| {
        ObfReferenceObject(current_thread());
    }),
    ("leaves-a-timer", |_| {
        let timer: *mut KTIMER = object();
        KeInitializeTimer(timer);
        KeSetTimer(timer, -10_000_000_000, null_mut());
    }),
    // src/device.rs: at its unload.
    ("leaves-a-dpc", |_| ()),
    ("leaves-a-work-item", |device| {
        // More than the system has threads for.
        for _ in 0..16 {
            IoQueueWorkItem(IoAllocateWorkItem(device), sleeping_work, 1, null_mut());
        }
    }),
    ("leaves-a-callback", |_| {
        KeRegisterProcessorChangeCallback(changes, null_mut(), 0);
    }),
];

/// Queues a DPC that cannot run yet.
pub fn queue_a_dpc() {
    let dpc: *mut KDPC = object();
    KeInitializeDpc(dpc, deferred, null_mut());
    KfRaiseIrql(DISPATCH_LEVEL);
    KeInsertQueueDpc(dpc, null_mut(), null_mut());
}

unsafe extern "system" fn deferred(_: *mut KDPC, _: PVOID, _: PVOID, _: PVOID) {}

unsafe extern "system" fn sleeping_work(_: *mut DEVICE_OBJECT, _: PVOID) {
    sleep(1_000_000);
}

unsafe extern "system" fn changes(_: PVOID, _: *const u32, _: *mut NTSTATUS) {}

unsafe extern "system" fn sleeps(_: PVOID) {
    sleep(1_000_000);
}

unsafe extern "system" fn ends(_: PVOID) {}
