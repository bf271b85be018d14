//! IRPs, from both sides: a dispatch routine that does wrong, and a maker that does.

use core::sync::atomic::Ordering;

use super::*;
use crate::device::{READ_ROUTINE, complete, pass, send};

pub const CASES: &[Case] = &[
    ("passes-on-what-is-no-irp", |device| {
        IofCallDriver(device, pool(512).cast());
    }),
    ("completes-twice", |device| {
        READ_ROUTINE.store(twice as *const () as usize, Ordering::SeqCst);
        let irp = IoAllocateIrp(2, 0);
        IoGetNextIrpStackLocation(irp).MajorFunction = IRP_MJ_READ;
        IoSetCompletionRoutine(irp, keeps, null_mut(), ALWAYS);
        IofCallDriver(device, irp);
    }),
    ("completes-with-pending", |device| {
        send(device, with_pending);
    }),
    ("returns-pending-unmarked", |device| {
        send(device, unmarked);
    }),
    ("marks-and-does-not-return-pending", |device| {
        send(device, marked);
    }),
    ("forgets-an-irp", |device| {
        send(device, forgets);
    }),
    ("does-not-keep-its-irp", |device| {
        let irp = IoAllocateIrp(2, 0);
        let next = IoGetNextIrpStackLocation(irp);
        next.MajorFunction = IRP_MJ_SYSTEM_CONTROL;
        IofCallDriver(device, irp);
    }),
    ("sends-without-a-location", |device| {
        let irp = IoAllocateIrp(1, 0);
        IoSetNextIrpStackLocation(irp);
        IofCallDriver(device, irp);
    }),
    ("completes-a-cancelable-irp", |device| {
        send(device, cancelable);
    }),
    ("reads-a-completed-irp", |device| {
        send(device, reads_after);
    }),
    ("marks-a-completed-irp", |device| {
        send(device, marks_after);
    }),
    ("writes-an-irp-that-it-passed-on", |device| {
        send(device, writes_after);
    }),
    ("marks-a-completed-irp-that-its-maker-keeps", |device| {
        READ_ROUTINE.store(marks_after as *const () as usize, Ordering::SeqCst);
        let irp = IoAllocateIrp(1, 0);
        IoGetNextIrpStackLocation(irp).MajorFunction = IRP_MJ_READ;
        IoSetCompletionRoutine(irp, keeps, null_mut(), ALWAYS);
        IofCallDriver(device, irp);
        IoFreeIrp(irp);
    }),
    ("keeps-an-irp", |device| {
        send(device, never);
    }),
    ("frees-an-irp-in-use", |device| {
        send(device, frees);
    }),
];

unsafe extern "system" fn twice(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    complete(irp, STATUS_SUCCESS);
    complete(irp, STATUS_SUCCESS)
}

unsafe extern "system" fn reads_after(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    complete(irp, STATUS_SUCCESS);
    fields(irp).IoStatus.Status
}

unsafe extern "system" fn marks_after(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    complete(irp, STATUS_SUCCESS);
    IoMarkIrpPending(irp);
    STATUS_SUCCESS
}

unsafe extern "system" fn writes_after(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the same arguments.
    let status = unsafe { pass(device, irp) };
    fields(irp).IoStatus.Information = 1;
    status
}

unsafe extern "system" fn keeps(_: *mut DEVICE_OBJECT, _: *mut IRP, _: PVOID) -> NTSTATUS {
    STATUS_MORE_PROCESSING_REQUIRED
}

unsafe extern "system" fn with_pending(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    complete(irp, STATUS_PENDING)
}

unsafe extern "system" fn unmarked(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    complete(irp, STATUS_SUCCESS);
    STATUS_PENDING
}

unsafe extern "system" fn marked(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    IoMarkIrpPending(irp);
    complete(irp, STATUS_SUCCESS)
}

unsafe extern "system" fn forgets(_: *mut DEVICE_OBJECT, _: *mut IRP) -> NTSTATUS {
    STATUS_SUCCESS
}

unsafe extern "system" fn frees(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    IoFreeIrp(irp);
    STATUS_SUCCESS
}

unsafe extern "system" fn cancelable(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    fields(irp).CancelRoutine = Some(cancel);
    complete(irp, STATUS_SUCCESS)
}

unsafe extern "system" fn cancel(_: *mut DEVICE_OBJECT, _: *mut IRP) {}

unsafe extern "system" fn never(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    IoMarkIrpPending(irp);
    STATUS_PENDING
}
