//! Dumping state on the debug key and on a bug check.

use crate::{Acquired, CText};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ffi::c_void;
use core::fmt;
use core::ptr::NonNull;
use nt::{NtStatus, Result, try_box};
use pv_interfaces::Boolean;
use pv_interfaces::debug::{DebugCallback, DebugV1};

type Function = dyn Fn(&Printer<'_>) + Send + Sync;

struct Context {
    function: Box<Function>,
    table: Arc<Acquired<DebugV1>>,
}

/// A callback that prints a driver's state, until dropped.
pub struct Dump {
    callback: NonNull<DebugCallback>,
    context: Box<Context>,
}

// SAFETY: the registration is owned; the function is Send and Sync.
unsafe impl Send for Dump {}
// SAFETY: as above.
unsafe impl Sync for Dump {}

/// Prints lines from within a callback.
#[derive(Debug)]
pub struct Printer<'a> {
    table: &'a Acquired<DebugV1>,
}

impl Printer<'_> {
    /// Prints a line.
    pub fn line(&self, arguments: fmt::Arguments<'_>) {
        let text = CText::new(arguments);
        // SAFETY: called inside a callback only, since only callbacks have a printer; the format takes one string.
        unsafe { (self.table.printf)(self.table.this(), c"%s\n".as_ptr(), text.as_ptr()) };
    }
}

impl Dump {
    /// Has `function` called, at HIGH_LEVEL, perhaps with every other processor stopped: it may take no lock.
    /// IRQL ≤ DISPATCH_LEVEL.
    pub fn register(
        table: &Arc<Acquired<DebugV1>>,
        prefix: &CText,
        function: impl Fn(&Printer<'_>) + Send + Sync + 'static,
    ) -> Result<Dump> {
        let function: Box<Function> = try_box(function)?;
        let context = try_box(Context {
            function,
            table: table.clone(),
        })?;
        let argument: *const Context = &*context;
        let mut callback = core::ptr::null_mut();
        // SAFETY: function and argument fit each other and live until the drop; the out parameter is live.
        NtStatus::check(unsafe {
            (table.register)(
                table.this(),
                prefix.as_ptr(),
                run,
                argument.cast_mut().cast(),
                &mut callback,
            )
        })?;
        let callback = NonNull::new(callback).ok_or(NtStatus::UNSUCCESSFUL)?;
        Ok(Dump { callback, context })
    }
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dump").finish_non_exhaustive()
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        let table = &self.context.table;
        // SAFETY: registered with this table, and taken back once.
        unsafe { (table.deregister)(table.this(), self.callback.as_ptr()) };
    }
}

unsafe extern "win64" fn run(argument: *mut c_void, _crashing: Boolean) {
    // SAFETY: the argument is what `register` passed, until deregistered.
    let context = unsafe { &*argument.cast::<Context>() };
    (context.function)(&Printer {
        table: &context.table,
    });
}
