//! StorPortNotification: what a miniport tells the port driver.
//!
//! The function is variadic in C; on x64 every argument takes one slot, so it is declared with as many as
//! any notification has.

use nt_host::exports;
use nt_host::ke::bugcheck;
use nt_host::pnp::property::IoInvalidateDeviceRelations;
use nt_host::verifier::Rule;
use nt_sys::storport::{
    AcquireSpinLock, BusChangeDetected, EnablePassiveInitialization, HW_PASSIVE_INITIALIZE_ROUTINE,
    InitializeDpc, IssueDpc, LinkDown, LinkUp, NextLuRequest, NextRequest, QueryTickCount,
    ReleaseSpinLock, RequestComplete, ResetDetected,
};
use nt_sys::{BusRelations, DISPATCH_LEVEL, PVOID};

use crate::adapter::Adapter;
use crate::queue;

/// Microsoft Learn: StorPortNotification.
///
/// # Safety
/// The arguments are those of the notification.
pub unsafe extern "win64" fn StorPortNotification(
    kind: i32,
    extension: PVOID,
    first: PVOID,
    second: PVOID,
) {
    match kind {
        RequestComplete => queue::complete(first.cast(), "StorPortNotification(RequestComplete)"),
        // The port driver sends as many requests as the queue depth allows without being asked.
        NextRequest | NextLuRequest | LinkUp | LinkDown => {}
        ResetDetected => {
            let adapter = Adapter::of(extension, "StorPortNotification(ResetDetected)");
            adapter.watch.pause();
        }
        BusChangeDetected => {
            bugcheck::irql_at_most("StorPortNotification(BusChangeDetected)", DISPATCH_LEVEL);
            let adapter = Adapter::of(extension, "StorPortNotification(BusChangeDetected)");
            // SAFETY: the adapter's PDO lives as long as the adapter.
            unsafe { IoInvalidateDeviceRelations(adapter.pdo, BusRelations) };
        }
        EnablePassiveInitialization => {
            let adapter = Adapter::of(extension, "StorPortEnablePassiveInitialization");
            // SAFETY: either null or a routine of that type, which `Option` represents so.
            let routine = unsafe {
                core::mem::transmute::<PVOID, Option<HW_PASSIVE_INITIALIZE_ROUTINE>>(first)
            };
            let done = routine
                .map(|routine| adapter.set_passive(routine))
                .is_some();
            // SAFETY: the caller's place for the answer.
            unsafe { second.cast::<i32>().write(done.into()) };
        }
        QueryTickCount => {
            // SAFETY: the caller's place for the count, in units of the timer's increment.
            unsafe {
                first
                    .cast::<u64>()
                    .write(nt_host::ke::time::interrupt_time() / TICK)
            };
        }
        InitializeDpc | IssueDpc | AcquireSpinLock | ReleaseSpinLock => {
            Rule::NotificationType.breach(format_args!(
                "StorPortNotification {kind:#x} is not offered by this port driver"
            ));
        }
        _ => Rule::NotificationType.breach(format_args!(
            "StorPortNotification with unknown type {kind:#x}"
        )),
    }
}

/// 100 ns units of one tick (KeQueryTimeIncrement: 15.625 ms).
const TICK: u64 = 156_250;

exports!("storport.sys": StorPortNotification);
