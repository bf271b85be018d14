//! Device objects, work items and what PnP demands. Cases without a body change what src/device.rs does.

use super::*;
use crate::device::create;

pub const CASES: &[Case] = &[
    ("attaches-to-no-device", |device| {
        IoAttachDeviceToDeviceStack(device, pool(512).cast());
    }),
    ("has-no-dispatch-routine", |device| {
        let irp = IoAllocateIrp(2, 0);
        IoGetNextIrpStackLocation(irp).MajorFunction = IRP_MJ_WRITE;
        IofCallDriver(device, irp);
    }),
    ("deletes-twice", |device| {
        // SAFETY: the device lives.
        let other = create(unsafe { (*device).DriverObject });
        ObfReferenceObject(other.cast());
        IoDeleteDevice(other);
        IoDeleteDevice(other);
    }),
    ("deletes-below-another", |device| {
        IoDeleteDevice(crate::device::extension(device).lower);
    }),
    ("detaches-nothing", |device| IoDetachDevice(device)),
    ("leaves-initializing", |_| ()),
    ("fails-remove", |_| ()),
    ("stays-attached", |_| ()),
    ("reports-no-device", |_| ()),
    ("connects-anothers-interrupt", |device| {
        let mut interrupt = null_mut();
        let mut wanted = Connect {
            version: 1, // CONNECT_FULLY_SPECIFIED
            pdo: crate::device::extension(device).lower,
            interrupt: &raw mut interrupt,
            routine: serve,
            context: null_mut(),
            lock: null_mut(),
            synchronize: 9,
            save: 0,
            shared: 0,
            vector: 0x99,
            irql: 9,
            mode: 1, // Latched
            processors: 1,
            group: 0,
        };
        IoConnectInterruptEx((&raw mut wanted).cast());
    }),
    ("queues-a-work-item-twice", |device| {
        let item = IoAllocateWorkItem(device);
        KfRaiseIrql(DISPATCH_LEVEL);
        IoQueueWorkItem(item, work, 1, null_mut());
        IoQueueWorkItem(item, work, 1, null_mut());
    }),
    ("frees-a-queued-work-item", |device| {
        let item = IoAllocateWorkItem(device);
        KfRaiseIrql(DISPATCH_LEVEL);
        IoQueueWorkItem(item, work, 1, null_mut());
        IoFreeWorkItem(item);
    }),
];

unsafe extern "system" fn work(_: *mut DEVICE_OBJECT, _: PVOID) {}

/// IO_CONNECT_INTERRUPT_PARAMETERS, fully specified (wdm.h).
#[repr(C)]
struct Connect {
    version: u32,
    pdo: *mut DEVICE_OBJECT,
    interrupt: *mut PVOID,
    routine: unsafe extern "system" fn(PVOID, PVOID) -> BOOLEAN,
    context: PVOID,
    lock: *mut KSPIN_LOCK,
    synchronize: KIRQL,
    save: BOOLEAN,
    shared: BOOLEAN,
    vector: u32,
    irql: KIRQL,
    mode: i32,
    processors: usize,
    group: u16,
}

unsafe extern "system" fn serve(_: PVOID, _: PVOID) -> BOOLEAN {
    0
}
