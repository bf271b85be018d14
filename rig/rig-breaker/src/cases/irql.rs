//! Calls and returns at a wrong IRQL.

use super::*;
use crate::device::{complete, extension, send};

pub const CASES: &[Case] = &[
    ("calls-above-its-irql", |_| {
        KfRaiseIrql(DISPATCH_LEVEL);
        ZwClose(null_mut());
    }),
    ("calls-below-its-irql", |device| {
        KeAcquireSpinLockAtDpcLevel(&raw mut extension(device).lock);
    }),
    ("waits-at-dispatch", |_| {
        let mut event = KEVENT::zeroed();
        KeInitializeEvent(&raw mut event, NotificationEvent, 0);
        KfRaiseIrql(DISPATCH_LEVEL);
        KeWaitForSingleObject(
            (&raw mut event).cast(),
            Executive,
            KernelMode,
            0,
            core::ptr::null(),
        );
    }),
    ("allocates-paged-pool-at-dispatch", |_| {
        KfRaiseIrql(DISPATCH_LEVEL);
        ExAllocatePoolWithTag(PagedPool, 64, TAG);
    }),
    ("raises-down", |_| {
        KfRaiseIrql(DISPATCH_LEVEL);
        KfRaiseIrql(PASSIVE_LEVEL);
    }),
    ("lowers-up", |_| KeLowerIrql(DISPATCH_LEVEL)),
    ("lowers-in-a-dpc", |_| defer(lowers)),
    ("waits-in-a-dpc", |_| defer(waits)),
    ("stalls-in-a-dpc", |_| defer(stalls)),
    ("raises-in-a-dispatch-routine", |device| {
        send(device, raises);
    }),
    ("raises-in-a-work-item", |device| {
        IoQueueWorkItem(
            IoAllocateWorkItem(device),
            raised_work,
            1, // DelayedWorkQueue
            null_mut(),
        );
        sleep(1000);
    }),
    ("ends-a-thread-raised", |_| {
        thread(raised_thread);
        sleep(1000);
    }),
];

unsafe extern "system" fn lowers(_: *mut KDPC, _: PVOID, _: PVOID, _: PVOID) {
    KeLowerIrql(PASSIVE_LEVEL);
}

unsafe extern "system" fn stalls(_: *mut KDPC, _: PVOID, _: PVOID, _: PVOID) {
    KeStallExecutionProcessor(1_000_000);
}

unsafe extern "system" fn waits(_: *mut KDPC, _: PVOID, _: PVOID, _: PVOID) {
    KeLowerIrql(PASSIVE_LEVEL);
    sleep(1);
}

unsafe extern "system" fn raises(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let status = complete(irp, STATUS_SUCCESS);
    KfRaiseIrql(DISPATCH_LEVEL);
    status
}

unsafe extern "system" fn raised_work(_: *mut DEVICE_OBJECT, _: PVOID) {
    KfRaiseIrql(DISPATCH_LEVEL);
}

unsafe extern "system" fn raised_thread(_: PVOID) {
    KfRaiseIrql(APC_LEVEL);
}
