//! What many cases need: time, waiting, threads, pool that is given back, cells that DPCs and cases share.

use core::ffi::c_void;
use core::ops::{Deref, DerefMut};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::suite::{Finding, failed};
use crate::wdk::*;

/// 100 ns units.
pub const MILLISECOND: i64 = 10_000;
/// How long a case waits for what must happen before it calls it lost.
pub const PATIENCE: i64 = 10_000 * MILLISECOND;

/// The tag of every pool block.
pub const TAG: u32 = u32::from_le_bytes(*b"Slft");

/// Interrupt time in 100 ns units.
pub fn now() -> i64 {
    KeQueryInterruptTime() as i64
}

/// Sleeps.
pub fn sleep(milliseconds: i64) {
    let interval = -milliseconds * MILLISECOND;
    // Ends by its time alone, not being alertable.
    let _ = KeDelayExecutionThread(KernelMode, 0, &raw const interval);
}

/// Waits for a dispatcher object: `None` without an end, `Some(0)` not at all, else so many 100 ns units.
pub fn wait(object: *mut impl Sized, limit: Option<i64>) -> NTSTATUS {
    let timeout = limit.map(|limit| -limit);
    let timeout = timeout
        .as_ref()
        .map_or(core::ptr::null(), core::ptr::from_ref);
    KeWaitForSingleObject(object.cast(), Executive, KernelMode, 0, timeout)
}

/// Waits until the condition holds, as long as there is patience.
pub fn until(condition: impl Fn() -> bool, what: &str) -> Result<(), Finding> {
    let end = now() + PATIENCE;
    while !condition() {
        if now() > end {
            return Err(failed(format_args!("{what}: did not happen")));
        }
        sleep(1);
    }
    Ok(())
}

/// The machine must have so many processors.
pub fn need_cpus(count: u32) -> Result<(), Finding> {
    match KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS) >= count {
        true => Ok(()),
        false => Err(Finding::Skipped("needs more processors")),
    }
}

/// The processor this runs on.
pub fn cpu() -> u32 {
    KeGetCurrentProcessorNumberEx(null_mut())
}

/// Runs `body` bound to a processor.
pub fn on_cpu<R>(index: u32, body: impl FnOnce() -> R) -> R {
    let affinity = GROUP_AFFINITY {
        Mask: 1 << index,
        Group: 0,
        Reserved: [0; 3],
    };
    let mut previous = affinity;
    KeSetSystemGroupAffinityThread(&raw const affinity, &raw mut previous);
    let result = body();
    KeRevertToUserGroupAffinityThread(&raw const previous);
    result
}

/// A zeroed value in non-paged pool, freed with its owner.
pub struct Pool<T>(*mut T);

impl<T> Pool<T> {
    /// `T` is made of what zeroes are valid for: kernel objects, atomics, numbers.
    pub fn zeroed() -> Result<Self, Finding> {
        let block = ExAllocatePoolWithTag(NonPagedPoolNx, size_of::<T>(), TAG).cast::<T>();
        if block.is_null() {
            return Err(failed(format_args!("no pool for {} bytes", size_of::<T>())));
        }
        // SAFETY: fresh memory of that size.
        unsafe { block.write_bytes(0, 1) };
        Ok(Self(block))
    }

    /// Leaves the block to the caller, who frees it.
    pub fn into_raw(self) -> *mut T {
        let block = self.0;
        core::mem::forget(self);
        block
    }

    pub fn context(&self) -> PVOID {
        self.0.cast()
    }
}

impl<T> Deref for Pool<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: allocated by `zeroed`, freed on drop.
        unsafe { &*self.0 }
    }
}

impl<T> DerefMut for Pool<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.0 }
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        ExFreePoolWithTag(self.0.cast(), TAG);
    }
}

/// A reference to what a routine was given as its context.
///
/// # Safety
/// `context` is the address of a `T` that lives.
pub unsafe fn context<'a, T>(context: PVOID) -> &'a T {
    // SAFETY: the caller's promise.
    unsafe { &*context.cast::<T>() }
}

/// A system thread that runs a routine to its end.
pub struct Thread(PVOID);

impl Thread {
    pub fn start(routine: KSTART_ROUTINE, context: *mut c_void) -> Result<Self, Finding> {
        let mut handle = null_mut();
        let attributes = object_attributes(core::ptr::null(), OBJ_KERNEL_HANDLE, null_mut());
        let status = PsCreateSystemThread(
            &raw mut handle,
            THREAD_ALL_ACCESS,
            &raw const attributes,
            null_mut(),
            null_mut(),
            routine,
            context,
        );
        if !nt_success(status) {
            return Err(failed(format_args!("PsCreateSystemThread: {status:#x}")));
        }
        let mut object = null_mut();
        let status = ObReferenceObjectByHandle(
            handle,
            THREAD_ALL_ACCESS,
            null_mut(),
            KernelMode,
            &raw mut object,
            null_mut(),
        );
        let _ = ZwClose(handle);
        if !nt_success(status) {
            return Err(failed(format_args!(
                "ObReferenceObjectByHandle: {status:#x}"
            )));
        }
        Ok(Self(object))
    }

    /// The thread object.
    pub fn object(&self) -> PVOID {
        self.0
    }

    /// Waits for its end.
    pub fn join(self) -> NTSTATUS {
        wait(self.0, None)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // The routine uses its context until it has ended.
        let _ = wait(self.0, None);
        ObfDereferenceObject(self.0);
    }
}

/// An event that a case and its routines share.
pub struct Signal(KEVENT);

impl Signal {
    /// Makes it usable at its final place.
    pub fn init(&mut self, kind: i32) {
        KeInitializeEvent(&raw mut self.0, kind, 0);
    }

    pub fn raw(&self) -> *mut KEVENT {
        (&raw const self.0).cast_mut()
    }

    pub fn set(&self) {
        KeSetEvent(self.raw(), 0, 0);
    }

    /// Whether it was set within the time a case has patience for.
    pub fn arrives(&self) -> bool {
        wait(self.raw(), Some(PATIENCE)) == STATUS_SUCCESS
    }
}

/// A number that routines write and cases read.
pub fn read(cell: &AtomicU32) -> u32 {
    cell.load(Ordering::SeqCst)
}

pub fn write(cell: &AtomicU32, value: u32) {
    cell.store(value, Ordering::SeqCst);
}

pub fn add(cell: &AtomicU32) -> u32 {
    cell.fetch_add(1, Ordering::SeqCst)
}

/// Spins at any IRQL until the flag is set; a case that could spin for ever has a machine that is wrong anyway.
pub fn spin_until(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        KeStallExecutionProcessor(1);
    }
}
