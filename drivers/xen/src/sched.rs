//! Scheduling operations: shutting the guest down, yielding, the watchdog. public/sched.h.

use crate::hypercall::{call, operation};
use crate::status::of_hypercall;
use nt_sys::{NTSTATUS, STATUS_CANCELLED};
use xen_abi::hypercall::SCHED_OP;
use xen_abi::sched::{self, Shutdown, Watchdog};

/// Records why the guest is about to end, and lets it run on.
#[unsafe(no_mangle)]
pub extern "win64" fn SchedShutdownCode(reason: u32) -> NTSTATUS {
    // SAFETY: the structure is the command's; the same below.
    of_hypercall(unsafe { operation(SCHED_OP, sched::SHUTDOWN_CODE, &mut Shutdown { reason }) })
}

/// Ends or suspends the guest. A suspension returns after the resumption, or with STATUS_CANCELLED.
#[unsafe(no_mangle)]
pub extern "win64" fn SchedShutdown(reason: u32) -> NTSTATUS {
    // SAFETY: the structure is the command's.
    let result = unsafe { operation(SCHED_OP, sched::SHUTDOWN, &mut Shutdown { reason }) };
    if reason == sched::SHUTDOWN_SUSPEND && result == 1 {
        return STATUS_CANCELLED;
    }
    of_hypercall(result)
}

/// Lets another vCPU run. Any IRQL.
#[unsafe(no_mangle)]
pub extern "win64" fn SchedYield() {
    // SAFETY: the command has no argument.
    unsafe { call(SCHED_OP, [u64::from(sched::YIELD), 0, 0]) };
}

/// Arms a watchdog: the guest is shut down after so many seconds. Id 0 takes a new one, 0 seconds disarms.
///
/// # Safety
/// `id` must be valid for a read and a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn SchedWatchdog(id: *mut u32, seconds: u32) -> NTSTATUS {
    // SAFETY: the caller's duty.
    let old = unsafe { id.read() };
    let mut argument = Watchdog {
        id: old,
        timeout: seconds,
    };
    // SAFETY: the structure is the command's.
    let result = unsafe { operation(SCHED_OP, sched::WATCHDOG, &mut argument) };
    // A new watchdog's number is the result itself; 0 answers for one that was there.
    if let Ok(new @ 1..) = u32::try_from(result) {
        // SAFETY: the caller's duty.
        unsafe { id.write(new) };
    }
    of_hypercall(result)
}
