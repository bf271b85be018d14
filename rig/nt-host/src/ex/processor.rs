//! Processors that come: none does after boot, so a callback only hears of those that are there.

use alloc::boxed::Box;

use nt_sys::{NTSTATUS, PROCESSOR_NUMBER, PVOID, STATUS_SUCCESS};

use crate::exports;
use crate::ke::processor;

/// `KE_PROCESSOR_CHANGE_NOTIFY_CONTEXT` (wdm.h).
#[repr(C)]
pub struct ChangeContext {
    state: i32,
    number: u32,
    status: NTSTATUS,
    processor: PROCESSOR_NUMBER,
}

/// `PPROCESSOR_CALLBACK_FUNCTION`.
pub type Routine = unsafe extern "win64" fn(PVOID, *mut ChangeContext, *mut NTSTATUS);

/// `KE_PROCESSOR_CHANGE_ADD_EXISTING`.
const ADD_EXISTING: u32 = 1;
// KE_PROCESSOR_CHANGE_NOTIFY_STATE
const ADD_START: i32 = 0;
const ADD_COMPLETE: i32 = 1;
const ADD_FAILURE: i32 = 2;

/// Microsoft Learn: KeRegisterProcessorChangeCallback.
///
/// # Safety
/// `routine` may be called with `context`.
pub unsafe extern "win64" fn KeRegisterProcessorChangeCallback(
    routine: Routine,
    context: PVOID,
    flags: u32,
) -> PVOID {
    let mut status = STATUS_SUCCESS;
    let mut told = 0;
    let tell = |cpu: u32, state: i32, status: &mut NTSTATUS| {
        let mut change = ChangeContext {
            state,
            number: cpu,
            status: *status,
            processor: PROCESSOR_NUMBER {
                Group: 0,
                Number: cpu as u8,
                Reserved: 0,
            },
        };
        // SAFETY: the driver registers this routine and context.
        unsafe { routine(context, &raw mut change, status) };
    };
    let existing = processor::all().len() as u32 * u32::from(flags & ADD_EXISTING != 0);
    for cpu in 0..existing {
        tell(cpu, ADD_START, &mut status);
        if status < 0 {
            break;
        }
        told += 1;
    }
    let outcome = if status < 0 {
        ADD_FAILURE
    } else {
        ADD_COMPLETE
    };
    for cpu in 0..told {
        tell(cpu, outcome, &mut status);
    }
    if outcome == ADD_FAILURE {
        return core::ptr::null_mut();
    }
    Box::into_raw(Box::new(0u8)).cast()
}

/// Microsoft Learn: KeDeregisterProcessorChangeCallback.
///
/// # Safety
/// `handle` came from [`KeRegisterProcessorChangeCallback`].
pub unsafe extern "win64" fn KeDeregisterProcessorChangeCallback(handle: PVOID) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(handle.cast::<u8>()) });
}

exports!(
    "ntoskrnl.exe":
    KeRegisterProcessorChangeCallback,
    KeDeregisterProcessorChangeCallback,
);
