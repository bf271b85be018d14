//! Stopping the machine, and being called when something else has.

use crate::{NtStatus, Result, try_box};
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::fmt;
use core::ptr::null_mut;
use nt_sys::imports::{KeBugCheckEx, KeDeregisterBugCheckCallback, KeRegisterBugCheckCallback};
use nt_sys::{KBUGCHECK_CALLBACK_RECORD, LIST_ENTRY, PVOID};

/// The code of a fatal error of our drivers: text, file, line follow as parameters.
pub(crate) const FATAL: u32 = 0x0000_DEAD;

/// Stops the machine with `code` and its four parameters. Any IRQL.
pub fn bug_check(code: u32, parameters: [usize; 4]) -> ! {
    let [first, second, third, fourth] = parameters;
    // SAFETY: never returns.
    unsafe { KeBugCheckEx(code, first, second, third, fourth) }
}

#[repr(C)]
struct Registration {
    record: UnsafeCell<KBUGCHECK_CALLBACK_RECORD>,
    callback: fn(),
}

/// A function that is called at HIGH_LEVEL, alone on the machine, when it is about to stop.
///
/// It may take no lock (try only), allocate nothing and touch no pageable memory.
pub struct BugCheckCallback {
    registration: Box<Registration>,
}

// SAFETY: the record belongs to the kernel; the callback is a plain function.
unsafe impl Send for BugCheckCallback {}
// SAFETY: as above.
unsafe impl Sync for BugCheckCallback {}

impl BugCheckCallback {
    /// Registers `callback` under the name `component`.
    pub fn register(
        component: &'static core::ffi::CStr,
        callback: fn(),
    ) -> Result<BugCheckCallback> {
        let record = KBUGCHECK_CALLBACK_RECORD {
            Entry: LIST_ENTRY {
                Flink: null_mut(),
                Blink: null_mut(),
            },
            CallbackRoutine: None,
            Buffer: null_mut(),
            Length: 0,
            Component: null_mut(),
            Checksum: 0,
            State: nt_sys::BufferEmpty,
        };
        let registration = try_box(Registration {
            record: UnsafeCell::new(record),
            callback,
        })?;
        let context: *const Registration = &*registration;
        // The routine gets buffer and length back, so the "buffer" is what it needs to find its callback.
        // SAFETY: record, buffer and name live until the deregistration.
        let registered = unsafe {
            KeRegisterBugCheckCallback(
                registration.record.get(),
                run,
                context.cast_mut().cast(),
                size_of::<Registration>() as u32,
                component.as_ptr().cast(),
            )
        };
        if registered == 0 {
            return Err(NtStatus::UNSUCCESSFUL);
        }
        Ok(BugCheckCallback { registration })
    }
}

impl Drop for BugCheckCallback {
    fn drop(&mut self) {
        // SAFETY: the record is registered.
        unsafe { KeDeregisterBugCheckCallback(self.registration.record.get()) };
    }
}

impl fmt::Debug for BugCheckCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BugCheckCallback").finish_non_exhaustive()
    }
}

unsafe extern "win64" fn run(buffer: PVOID, _: u32) {
    // SAFETY: the buffer is the registration, which lives until it is withdrawn.
    let callback = unsafe { (*buffer.cast::<Registration>()).callback };
    callback();
}
