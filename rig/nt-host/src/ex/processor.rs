//! Processors that come: none does after boot, so a callback only hears of those that are there.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use nt_sys::{NTSTATUS, PROCESSOR_NUMBER, PVOID, STATUS_SUCCESS};

use crate::exports;
use crate::ke::{border, processor};
use crate::sync::Mutex;

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
/// What is registered: handle and routine.
static REGISTERED: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());
static NEXT: AtomicUsize = AtomicUsize::new(1);

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
        border::call(|| unsafe { routine(context, &raw mut change, status) });
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
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    REGISTERED.lock().push((id, routine as usize));
    id as PVOID
}

/// Microsoft Learn: KeDeregisterProcessorChangeCallback.
pub extern "win64" fn KeDeregisterProcessorChangeCallback(handle: PVOID) {
    REGISTERED.lock().retain(|(id, _)| *id != handle as usize);
}

/// Takes the callbacks away whose routines are in an image: the routines' addresses.
pub(crate) fn take_of(image: &Range<usize>) -> Vec<usize> {
    let mut registered = REGISTERED.lock();
    let own = registered.iter().map(|(_, routine)| *routine);
    let own = own.filter(|routine| image.contains(routine)).collect();
    registered.retain(|(_, routine)| !image.contains(routine));
    own
}

exports!(
    "ntoskrnl.exe":
    KeRegisterProcessorChangeCallback,
    KeDeregisterProcessorChangeCallback,
);
