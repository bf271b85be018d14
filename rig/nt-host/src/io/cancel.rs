//! Cancelling IRPs: the cancel spin lock, and IoCancelIrp, which hands it to the cancel routine of whoever keeps the IRP.
//!
//! ```text
//!   IoCancelIrp: lock ── Cancel = TRUE, the routine taken out ──▶ routine(device, IRP): IoReleaseCancelSpinLock, completion
//! ```

use core::sync::atomic::{AtomicUsize, Ordering};

use nt_sys::{BOOLEAN, DRIVER_CANCEL, IRP, KIRQL};

use super::irp;
use crate::exports;
use crate::ke::border;
use crate::ke::spinlock::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};

static LOCK: AtomicUsize = AtomicUsize::new(0);

/// Microsoft Learn: IoAcquireCancelSpinLock.
///
/// # Safety
/// `old` is a place for an IRQL.
pub unsafe extern "win64" fn IoAcquireCancelSpinLock(old: *mut KIRQL) {
    // SAFETY: the system's own lock.
    let before = unsafe { KeAcquireSpinLockRaiseToDpc(LOCK.as_ptr()) };
    // SAFETY: the caller's promise.
    unsafe { old.write(before) };
}

/// Microsoft Learn: IoReleaseCancelSpinLock.
pub extern "win64" fn IoReleaseCancelSpinLock(old: KIRQL) {
    // SAFETY: the system's own lock; whether this CPU holds it, it checks itself.
    unsafe { KeReleaseSpinLock(LOCK.as_ptr(), old) };
}

/// Takes an IRP's cancel routine out, or puts another in (wdm.h: IoSetCancelRoutine).
///
/// # Safety
/// `irp` is a live IRP.
pub(super) unsafe fn exchange(
    irp: *mut IRP,
    routine: Option<DRIVER_CANCEL>,
) -> Option<DRIVER_CANCEL> {
    // SAFETY: the caller's promise; only an address is computed.
    let place = unsafe { &raw mut (*irp).CancelRoutine }.cast::<usize>();
    // SAFETY: a field of a live IRP, of a pointer's size and alignment, which drivers exchange atomically too.
    let word = unsafe { AtomicUsize::from_ptr(place) };
    let former = word.swap(
        routine.map_or(0, |routine| routine as usize),
        Ordering::SeqCst,
    );
    // SAFETY: the field holds a routine or null, which is what the type is.
    unsafe { core::mem::transmute::<usize, Option<DRIVER_CANCEL>>(former) }
}

/// Microsoft Learn: IoCancelIrp. Any IRQL up to DISPATCH_LEVEL.
///
/// # Safety
/// `irp` is a live IRP.
pub unsafe extern "win64" fn IoCancelIrp(irp: *mut IRP) -> BOOLEAN {
    irp::demand(irp, "IoCancelIrp");
    let mut old = 0;
    // SAFETY: a place on the stack.
    unsafe { IoAcquireCancelSpinLock(&raw mut old) };
    // SAFETY: just found to be an IRP.
    unsafe { irp::fields(irp) }.Cancel = 1;
    // SAFETY: as above.
    let Some(routine) = (unsafe { exchange(irp, None) }) else {
        IoReleaseCancelSpinLock(old);
        return 0;
    };
    // SAFETY: as above; an IRP with a cancel routine is at a driver.
    let device = unsafe { irp::location(irp) }.DeviceObject;
    // SAFETY: as above.
    unsafe { irp::fields(irp) }.CancelIrql = old;
    // SAFETY: the routine that the IRP's keeper set, called as documented: with the lock, which it releases.
    border::call(|| unsafe { routine(device, irp) });
    1
}

exports!("ntoskrnl.exe": IoAcquireCancelSpinLock, IoReleaseCancelSpinLock, IoCancelIrp);
