//! Being told of a suspend and resume.

use crate::Acquired;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ffi::c_void;
use core::ptr::NonNull;
use nt::{NtStatus, Result, try_box};
use pv_interfaces::suspend::{CALLBACK_LATE, SuspendCallback, SuspendV1};

type Callback = dyn Fn() + Send + Sync;

/// A callback after each resume, until dropped.
pub struct Late {
    callback: NonNull<SuspendCallback>,
    table: Arc<Acquired<SuspendV1>>,
    _function: Box<Box<Callback>>,
}

// SAFETY: the registration is owned; the function is Send and Sync.
unsafe impl Send for Late {}
// SAFETY: as above.
unsafe impl Sync for Late {}

impl Late {
    /// Has `function` called after each resume: at DISPATCH_LEVEL, with all other processors held, so it may neither
    /// wait nor take long. IRQL ≤ DISPATCH_LEVEL.
    pub fn register(
        table: &Arc<Acquired<SuspendV1>>,
        function: impl Fn() + Send + Sync + 'static,
    ) -> Result<Late> {
        let function: Box<Callback> = try_box(function)?;
        let function = try_box(function)?;
        let context: *const Box<Callback> = &*function;
        let mut callback = core::ptr::null_mut();
        // SAFETY: function and context fit each other and live until the drop; the out parameter is live.
        NtStatus::check(unsafe {
            (table.register)(
                table.this(),
                CALLBACK_LATE,
                run,
                context.cast_mut().cast(),
                &mut callback,
            )
        })?;
        let callback = NonNull::new(callback).ok_or(NtStatus::UNSUCCESSFUL)?;
        Ok(Late {
            callback,
            table: table.clone(),
            _function: function,
        })
    }
}

impl core::fmt::Debug for Late {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Late").finish_non_exhaustive()
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        // SAFETY: registered with this table, and taken back once.
        unsafe { (self.table.deregister)(self.table.this(), self.callback.as_ptr()) };
    }
}

unsafe extern "win64" fn run(context: *mut c_void) {
    // SAFETY: the context is what `register` passed, until deregistered.
    let function = unsafe { &*context.cast::<Box<Callback>>() };
    function();
}
