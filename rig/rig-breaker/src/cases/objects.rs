//! Wrong uses of events, mutexes, semaphores, threads and remove locks.

use super::*;

pub const CASES: &[Case] = &[
    ("sets-an-uninitialized-event", |_| {
        let mut event = KEVENT::zeroed();
        KeSetEvent(&raw mut event, 0, 0);
    }),
    ("waits-for-no-object", |_| {
        // An unknown type, signalled: type byte 0x55, SignalState 1.
        let mut nothing = KEVENT::zeroed();
        KeInitializeEvent(&raw mut nothing, NotificationEvent, 1);
        nothing.0[0] |= 0x55;
        wait(&raw mut nothing);
    }),
    ("waits-for-too-many", |_| {
        let objects = [null_mut::<c_void>(); 70];
        KeWaitForMultipleObjects(
            70,
            objects.as_ptr(),
            WaitAny,
            Executive,
            KernelMode,
            0,
            core::ptr::null(),
            null_mut(),
        );
    }),
    ("releases-a-mutex-of-nobody", |_| {
        let mut mutex = KMUTANT::zeroed();
        KeInitializeMutex(&raw mut mutex, 0);
        KeReleaseMutex(&raw mut mutex, 0);
    }),
    ("releases-a-semaphore-beyond-its-limit", |_| {
        let mut semaphore = KSEMAPHORE::zeroed();
        KeInitializeSemaphore(&raw mut semaphore, 0, 1);
        KeReleaseSemaphore(&raw mut semaphore, 0, 2, 0);
    }),
    ("overflows-its-stack", |_| {
        deep(0);
    }),
    ("uses-25-kilobytes-of-stack", |_| {
        calls_from_below(50);
    }),
    ("sets-priority-0", |_| {
        KeSetPriorityThread(current_thread(), 0);
    }),
    ("releases-a-remove-lock-too-often", |_| {
        let mut lock = IO_REMOVE_LOCK::zeroed();
        let size = size_of::<IO_REMOVE_LOCK>() as u32;
        IoInitializeRemoveLockEx(&raw mut lock, TAG, 0, 0, size);
        IoReleaseRemoveLockEx(&raw mut lock, null_mut(), size);
        IoReleaseRemoveLockEx(&raw mut lock, null_mut(), size);
    }),
];

/// Calls the kernel with so many frames of half a kilobyte on the stack.
fn calls_from_below(frames: u64) -> u64 {
    let frame = core::hint::black_box([frames; 64]);
    match frames {
        0 => ExFreePool(object::<u64>().cast()),
        _ => {
            calls_from_below(frames - 1);
        }
    }
    frame[0]
}

/// Needs more stack than there is.
#[expect(unconditional_recursion, reason = "the stack's end is its end")]
fn deep(level: u64) -> u64 {
    let frame = core::hint::black_box([level; 64]);
    deep(level + 1) + frame[0]
}
