//! Pool that is freed wrongly, written where it must not be, or freed while the kernel still uses what is in it.

use core::sync::atomic::{AtomicPtr, Ordering};

use super::*;
use crate::device::{create, extension};

pub const CASES: &[Case] = &[
    ("allocates-no-bytes", |_| {
        pool(0);
    }),
    ("frees-no-pool", |_| {
        ExFreePool(pool(256).wrapping_add(64).cast())
    }),
    ("frees-twice", |_| {
        let memory: Pointer = pool(40).cast();
        ExFreePool(memory);
        ExFreePool(memory);
    }),
    ("frees-with-another-tag", |_| {
        ExFreePoolWithTag(pool(40).cast(), TAG + 1);
    }),
    ("writes-behind-its-pool", |_| {
        let memory = pool(40);
        // SAFETY: the byte belongs to the pool's red zone; that it is written is the case.
        unsafe { memory.add(40).write(1) };
        ExFreePool(memory.cast());
    }),
    ("writes-before-its-pool", |_| {
        let memory = pool(40);
        // SAFETY: the bytes belong to the pool's header; that they are written is the case.
        unsafe { memory.sub(16).cast::<u64>().write(1) };
        ExFreePool(memory.cast());
    }),
    ("frees-a-set-timer", |_| {
        let timer: *mut KTIMER = object();
        KeInitializeTimer(timer);
        KeSetTimer(timer, -10_000_000_000, null_mut());
        ExFreePool(timer.cast());
    }),
    ("frees-the-dpc-of-a-timer", |device| {
        // A timer of the device's.
        let timer = &raw mut extension(device).timer;
        let dpc: *mut KDPC = object();
        KeInitializeTimer(timer);
        KeInitializeDpc(dpc, nothing, null_mut());
        KeSetTimer(timer, -10_000_000_000, dpc);
        ExFreePool(dpc.cast());
    }),
    ("frees-a-queued-dpc", |_| {
        let dpc: *mut KDPC = object();
        KeInitializeDpc(dpc, nothing, null_mut());
        KfRaiseIrql(DISPATCH_LEVEL);
        KeInsertQueueDpc(dpc, null_mut(), null_mut());
        ExFreePool(dpc.cast());
    }),
    ("frees-an-event-with-a-waiter", |_| {
        let event: *mut KEVENT = object();
        KeInitializeEvent(event, NotificationEvent, 0);
        EVENT.store(event, Ordering::SeqCst);
        thread(waits);
        sleep(1000);
        ExFreePool(event.cast());
    }),
    ("deletes-a-device-with-a-waiter", |device| {
        // SAFETY: the device lives.
        let other = create(unsafe { (*device).DriverObject });
        let event = &raw mut extension(other).event;
        KeInitializeEvent(event, NotificationEvent, 0);
        EVENT.store(event, Ordering::SeqCst);
        thread(waits);
        sleep(1000);
        IoDeleteDevice(other);
    }),
    ("writes-what-it-freed", |_| {
        let memory = pool(2000);
        ExFreePool(memory.cast());
        // SAFETY: the memory stays mapped; that it is written is the case.
        unsafe { memory.add(5).write(0) };
        while !pool(2000).is_null() {}
    }),
];

static EVENT: AtomicPtr<KEVENT> = AtomicPtr::new(null_mut());

unsafe extern "system" fn waits(_: PVOID) {
    wait(EVENT.load(Ordering::SeqCst));
}

unsafe extern "system" fn nothing(_: *mut KDPC, _: PVOID, _: PVOID, _: PVOID) {}
