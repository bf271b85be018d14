//! System threads. A thread is joined before its handle is gone, so what it uses stays alive.

use crate::event::relative;
use crate::{NtStatus, Result, try_box};
use alloc::boxed::Box;
use core::ptr::NonNull;
use core::time::Duration;
use nt_sys::imports::{
    KeDelayExecutionThread, KeWaitForSingleObject, ObReferenceObjectByHandle, ObfDereferenceObject,
    PsCreateSystemThread, PsTerminateSystemThread, PsThreadType, ZwClose,
};
use nt_sys::{FALSE, KernelMode, PVOID};

/// A system thread. Dropping the handle joins the thread, so tell it to end first.
#[derive(Debug)]
pub struct Thread {
    object: NonNull<core::ffi::c_void>,
}

// SAFETY: the object is reference-counted and used through the kernel only.
unsafe impl Send for Thread {}
// SAFETY: as above.
unsafe impl Sync for Thread {}

impl Thread {
    /// Starts a thread that runs `body` at PASSIVE_LEVEL. To be called at PASSIVE_LEVEL.
    pub fn spawn<F: FnOnce() + Send + 'static>(body: F) -> Result<Thread> {
        let body = Box::into_raw(try_box(body)?);
        let mut handle = core::ptr::null_mut();
        // SAFETY: the routine takes over the box it is given.
        let status = NtStatus(unsafe {
            PsCreateSystemThread(
                &mut handle,
                nt_sys::THREAD_ALL_ACCESS,
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                run::<F>,
                body.cast(),
            )
        });
        if let Err(status) = status.ok() {
            // SAFETY: no thread was made, so the box is still ours.
            drop(unsafe { Box::from_raw(body) });
            return Err(status);
        }
        let mut object = core::ptr::null_mut();
        // SAFETY: reading an imported variable.
        let kind = unsafe { PsThreadType };
        // SAFETY: the handle is valid and of a thread; a kernel handle always resolves, so this cannot fail.
        let status = NtStatus(unsafe {
            ObReferenceObjectByHandle(
                handle,
                nt_sys::SYNCHRONIZE,
                kind,
                KernelMode,
                &mut object,
                core::ptr::null_mut(),
            )
        });
        // SAFETY: the handle is ours and not used any more.
        unsafe { ZwClose(handle) };
        match NonNull::new(object) {
            Some(object) if status.is_success() => Ok(Thread { object }),
            // The thread runs, but can never be joined: nothing it uses may go. There is no way on.
            _ => crate::bug_check(crate::bug_check::FATAL, [status.0 as usize, 0, 0, 0]),
        }
    }

    /// Waits for the thread's end and gives the handle up. PASSIVE_LEVEL, not from the thread itself.
    pub fn join(self) {
        drop(self);
    }

    /// Waits up to `timeout` for the thread's end; says whether it has ended.
    #[must_use]
    pub fn wait_for(&self, timeout: Duration) -> bool {
        self.wait(Some(relative(timeout))) == NtStatus::SUCCESS
    }

    fn wait(&self, timeout: Option<i64>) -> NtStatus {
        let timeout = timeout.as_ref().map_or(core::ptr::null(), |due| due);
        // SAFETY: the object is a referenced thread.
        NtStatus(unsafe {
            KeWaitForSingleObject(
                self.object.as_ptr(),
                nt_sys::Executive,
                KernelMode,
                FALSE,
                timeout,
            )
        })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = self.wait(None);
        // SAFETY: the reference is ours.
        unsafe { ObfDereferenceObject(self.object.as_ptr()) };
    }
}

/// Lets the current thread sleep. PASSIVE_LEVEL.
pub fn sleep(duration: Duration) {
    let interval = relative(duration);
    // SAFETY: the interval outlives the call.
    unsafe { KeDelayExecutionThread(KernelMode, FALSE, &interval) };
}

unsafe extern "win64" fn run<F: FnOnce()>(context: PVOID) {
    // SAFETY: the context is the box that `spawn` gave up to this thread alone.
    let body = unsafe { Box::from_raw(context.cast::<F>()) };
    body();
    // SAFETY: called by a system thread of its own accord, with nothing left to drop.
    unsafe { PsTerminateSystemThread(nt_sys::STATUS_SUCCESS) };
}
