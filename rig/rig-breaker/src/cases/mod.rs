//! The cases: each breaks one rule. rig/rig/tests/breach/ says which.

mod code;
mod devices;
mod irps;
mod irql;
pub mod leaks;
mod locks;
mod memory;
mod objects;
mod pool;
mod xen;

use core::ffi::c_void;
use core::ptr::null_mut;

use crate::wdk::*;

/// A case's name, and what it does when the device is started; at PASSIVE_LEVEL.
pub type Case = (&'static str, fn(*mut DEVICE_OBJECT));

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        irql::CASES,
        pool::CASES,
        objects::CASES,
        locks::CASES,
        irps::CASES,
        devices::CASES,
        code::CASES,
        memory::CASES,
        leaks::CASES,
        xen::CASES,
    ]
    .into_iter()
    .flatten()
}

/// The tag of this driver's pool: "Brkr".
const TAG: u32 = u32::from_le_bytes(*b"Brkr");

/// Nonpaged pool.
fn pool(bytes: usize) -> *mut u8 {
    ExAllocatePoolWithTag(NonPagedPoolNx, bytes, TAG).cast()
}

/// Nonpaged pool for an object, which a case leaves behind or frees.
pub fn object<T>() -> *mut T {
    pool(size_of::<T>()).cast()
}

/// Runs `routine` as a DPC on this processor now.
fn defer(routine: KDEFERRED_ROUTINE) {
    let dpc = object::<KDPC>();
    KeInitializeDpc(dpc, routine, null_mut());
    KeInsertQueueDpc(dpc, null_mut(), null_mut());
    KeFlushQueuedDpcs();
    ExFreePool(dpc.cast());
}

/// Starts a system thread; the handle stays open.
fn thread(routine: KSTART_ROUTINE) -> HANDLE {
    let mut handle = null_mut();
    PsCreateSystemThread(
        &raw mut handle,
        THREAD_ALL_ACCESS,
        core::ptr::null(),
        null_mut(),
        null_mut(),
        routine,
        null_mut(),
    );
    handle
}

/// Waits for an event without end.
fn wait(event: *mut KEVENT) {
    KeWaitForSingleObject(event.cast(), Executive, KernelMode, 0, core::ptr::null());
}

/// The running thread's object.
fn current_thread() -> PVOID {
    let thread: PVOID;
    // SAFETY: on x64 the current thread stands at gs:[0x188].
    unsafe { core::arch::asm!("mov {}, gs:[0x188]", out(reg) thread) };
    thread
}

/// Lets others run for so many milliseconds.
fn sleep(milliseconds: i64) {
    let interval = -10_000 * milliseconds;
    KeDelayExecutionThread(KernelMode, 0, &raw const interval);
}

type Pointer = *mut c_void;
