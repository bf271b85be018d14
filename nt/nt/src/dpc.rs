//! Deferred procedure calls.

use crate::{NtStatus, Result, processor::ProcessorNumber, try_box};
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};
use nt_sys::imports::{
    KeFlushQueuedDpcs, KeInitializeDpc, KeInsertQueueDpc, KeRemoveQueueDpc, KeSetImportanceDpc,
    KeSetTargetProcessorDpcEx,
};
use nt_sys::{KDPC, PVOID};

/// What both DPCs and timers call.
pub(crate) type Callback = dyn Fn() + Send + Sync;

/// A function that runs at DISPATCH_LEVEL after it was queued.
///
/// Dropping one that was ever queued waits for a running one, so drop it at PASSIVE_LEVEL and not from within the
/// function itself.
pub struct Dpc {
    /// It may be running.
    queued: AtomicBool,
    // The order matters: the object's context points to the (boxed) callback.
    object: Box<UnsafeCell<MaybeUninit<KDPC>>>,
    _callback: Box<Box<Callback>>,
}

// SAFETY: the kernel synchronises access to the object; the callback is Send and Sync.
unsafe impl Send for Dpc {}
// SAFETY: as above.
unsafe impl Sync for Dpc {}

impl Dpc {
    /// A DPC that calls `callback`.
    pub fn new(callback: impl Fn() + Send + Sync + 'static) -> Result<Dpc> {
        let callback: Box<Callback> = try_box(callback)?;
        let callback = try_box(callback)?;
        let dpc = Dpc {
            queued: AtomicBool::new(false),
            object: try_box(UnsafeCell::new(MaybeUninit::uninit()))?,
            _callback: callback,
        };
        let context: *const Box<Callback> = &*dpc._callback;
        // SAFETY: the object's memory is its own; routine and context fit each other and live until the drop.
        unsafe { KeInitializeDpc(dpc.as_ptr(), run, context.cast_mut().cast()) };
        Ok(dpc)
    }

    pub(crate) fn as_ptr(&self) -> *mut KDPC {
        self.object.get().cast()
    }

    /// Queues the call; false when it is queued already. Any IRQL.
    pub fn queue(&self) -> bool {
        self.queued.store(true, Ordering::Release);
        // SAFETY: the object is initialised.
        unsafe {
            KeInsertQueueDpc(self.as_ptr(), core::ptr::null_mut(), core::ptr::null_mut()) != 0
        }
    }

    /// Takes a queued call back; false when there was none. Any IRQL.
    pub fn cancel(&self) -> bool {
        // SAFETY: the object is initialised.
        unsafe { KeRemoveQueueDpc(self.as_ptr()) != 0 }
    }

    /// Has the call run on `processor` from now on.
    pub fn set_target(&self, processor: ProcessorNumber) -> Result<()> {
        let mut number = processor.into();
        // SAFETY: the object is initialised, the number is only read.
        NtStatus::check(unsafe { KeSetTargetProcessorDpcEx(self.as_ptr(), &mut number) })
    }

    /// Has the call interrupt its processor at once and go to the head of the queue.
    pub fn set_high_importance(&self) {
        // SAFETY: the object is initialised.
        unsafe { KeSetImportanceDpc(self.as_ptr(), nt_sys::HighImportance) };
    }

    /// Waits until every DPC queued so far, on any processor, has run. PASSIVE_LEVEL.
    pub fn flush_all() {
        // SAFETY: no arguments.
        unsafe { KeFlushQueuedDpcs() };
    }
}

impl Drop for Dpc {
    fn drop(&mut self) {
        if !self.cancel() && *self.queued.get_mut() {
            Dpc::flush_all();
        }
    }
}

impl fmt::Debug for Dpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dpc").finish_non_exhaustive()
    }
}

unsafe extern "win64" fn run(_: *mut KDPC, context: PVOID, _: PVOID, _: PVOID) {
    // SAFETY: the context is what `Dpc::new` passed, and the drop waits for this call.
    let callback = unsafe { &*context.cast::<Box<Callback>>() };
    callback();
}
