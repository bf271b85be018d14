//! Cancel-safe IRP queues: a driver's own queue, to which these routines bring the handshake with cancellation.
//!
//! | | inside of the driver's lock |
//! |---|---|
//! | insert | the driver inserts; marked pending; the cancel routine is set, unless the IRP was cancelled before |
//! | remove | the cancel routine is taken out: who gets it owns the IRP |
//! | cancel | the driver removes, and completes outside of the lock |
//!
//! `DriverContext[3]` of a queued IRP is the routines' own, as documented: its context, or else its queue; both begin with
//! their type.

use core::ptr::null_mut;

use nt_sys::{
    DEVICE_OBJECT, IO_CSQ, IO_CSQ_ACQUIRE_LOCK, IO_CSQ_COMPLETE_CANCELED_IRP, IO_CSQ_INSERT_IRP,
    IO_CSQ_INSERT_IRP_EX, IO_CSQ_IRP_CONTEXT, IO_CSQ_PEEK_NEXT_IRP, IO_CSQ_RELEASE_LOCK,
    IO_CSQ_REMOVE_IRP, IO_TYPE_CSQ, IO_TYPE_CSQ_EX, IO_TYPE_CSQ_IRP_CONTEXT, IRP, KIRQL, NTSTATUS,
    PVOID, SL_PENDING_RETURNED, STATUS_SUCCESS, nt_success,
};

use super::{cancel, irp};
use crate::exports;
use crate::ke::border;

/// Microsoft Learn: IoCsqInitialize.
///
/// # Safety
/// `csq` is memory for a queue; the routines keep their contracts.
pub unsafe extern "win64" fn IoCsqInitialize(
    csq: *mut IO_CSQ,
    insert: Option<IO_CSQ_INSERT_IRP>,
    remove: Option<IO_CSQ_REMOVE_IRP>,
    peek: Option<IO_CSQ_PEEK_NEXT_IRP>,
    acquire: Option<IO_CSQ_ACQUIRE_LOCK>,
    release: Option<IO_CSQ_RELEASE_LOCK>,
    complete: Option<IO_CSQ_COMPLETE_CANCELED_IRP>,
) -> NTSTATUS {
    let queue = IO_CSQ {
        Type: IO_TYPE_CSQ,
        CsqInsertIrp: insert,
        CsqRemoveIrp: remove,
        CsqPeekNextIrp: peek,
        CsqAcquireLock: acquire,
        CsqReleaseLock: release,
        CsqCompleteCanceledIrp: complete,
        ReservePointer: null_mut(),
    };
    // SAFETY: the caller's promise.
    unsafe { csq.write(queue) };
    STATUS_SUCCESS
}

/// Microsoft Learn: IoCsqInitializeEx.
///
/// # Safety
/// As for [`IoCsqInitialize`].
pub unsafe extern "win64" fn IoCsqInitializeEx(
    csq: *mut IO_CSQ,
    insert: Option<IO_CSQ_INSERT_IRP_EX>,
    remove: Option<IO_CSQ_REMOVE_IRP>,
    peek: Option<IO_CSQ_PEEK_NEXT_IRP>,
    acquire: Option<IO_CSQ_ACQUIRE_LOCK>,
    release: Option<IO_CSQ_RELEASE_LOCK>,
    complete: Option<IO_CSQ_COMPLETE_CANCELED_IRP>,
) -> NTSTATUS {
    // SAFETY: a pointer to a function either way; the type says of which kind it is.
    let insert = unsafe {
        core::mem::transmute::<Option<IO_CSQ_INSERT_IRP_EX>, Option<IO_CSQ_INSERT_IRP>>(insert)
    };
    // SAFETY: the caller's promise.
    unsafe { IoCsqInitialize(csq, insert, remove, peek, acquire, release, complete) };
    // SAFETY: as above.
    unsafe { (*csq).Type = IO_TYPE_CSQ_EX };
    STATUS_SUCCESS
}

/// A driver's queue.
#[derive(Clone, Copy)]
struct Queue(*mut IO_CSQ);

impl Queue {
    /// # Safety
    /// The queue was initialised.
    unsafe fn routines(self) -> IO_CSQ {
        // SAFETY: the caller's promise.
        unsafe { self.0.read() }
    }

    /// # Safety
    /// The queue was initialised.
    unsafe fn lock(self) -> KIRQL {
        let mut irql = 0;
        // SAFETY: the caller's promise.
        if let Some(acquire) = unsafe { self.routines() }.CsqAcquireLock {
            // SAFETY: the driver's own routine, called as documented.
            border::call(|| unsafe { acquire(self.0, &raw mut irql) });
        }
        irql
    }

    /// # Safety
    /// The queue's lock is held.
    unsafe fn unlock(self, irql: KIRQL) {
        // SAFETY: the caller's promise.
        if let Some(release) = unsafe { self.routines() }.CsqReleaseLock {
            // SAFETY: the driver's own routine, called as documented.
            border::call(|| unsafe { release(self.0, irql) });
        }
    }

    /// # Safety
    /// The queue's lock is held.
    unsafe fn peek(self, after: *mut IRP, context: PVOID) -> *mut IRP {
        // SAFETY: the caller's promise.
        match unsafe { self.routines() }.CsqPeekNextIrp {
            // SAFETY: the driver's own routine, called as documented.
            Some(peek) => border::call(|| unsafe { peek(self.0, after, context) }),
            None => null_mut(),
        }
    }

    /// Takes an IRP out, which leads to nothing any more.
    ///
    /// # Safety
    /// The queue's lock is held, and the IRP is in the queue.
    unsafe fn remove(self, irp: *mut IRP) {
        // SAFETY: the caller's promise.
        if let Some(remove) = unsafe { self.routines() }.CsqRemoveIrp {
            // SAFETY: the driver's own routine, called as documented.
            border::call(|| unsafe { remove(self.0, irp) });
        }
        // SAFETY: the caller's promise.
        let own = unsafe { own(irp) };
        let context = core::mem::replace(own, null_mut()).cast::<IO_CSQ_IRP_CONTEXT>();
        // SAFETY: what insertion left there begins with its type.
        if !context.is_null() && unsafe { (*context).Type } == IO_TYPE_CSQ_IRP_CONTEXT {
            // SAFETY: as above: it is a context.
            unsafe { (*context).Irp = null_mut() };
        }
    }

    /// # Safety
    /// The queue was initialised; the IRP was cancelled and is in it no longer.
    unsafe fn complete(self, irp: *mut IRP) {
        // SAFETY: the caller's promise.
        if let Some(complete) = unsafe { self.routines() }.CsqCompleteCanceledIrp {
            // SAFETY: the driver's own routine, called as documented.
            border::call(|| unsafe { complete(self.0, irp) });
        }
    }
}

/// The word of an IRP that is these routines' own.
///
/// # Safety
/// `irp` is a live IRP.
unsafe fn own<'a>(irp: *mut IRP) -> &'a mut PVOID {
    // SAFETY: the caller's promise; only an address is computed.
    let tail = unsafe { &raw mut (*irp).Tail };
    // The four words of DriverContext are the tail's first.
    let place = tail.cast::<PVOID>().wrapping_add(3);
    // SAFETY: a field of a live IRP, which only the holder of the queue's lock uses.
    unsafe { &mut *place }
}

/// Microsoft Learn: IoCsqInsertIrp.
///
/// # Safety
/// As for [`IoCsqInsertIrpEx`].
pub unsafe extern "win64" fn IoCsqInsertIrp(
    csq: *mut IO_CSQ,
    irp: *mut IRP,
    context: *mut IO_CSQ_IRP_CONTEXT,
) {
    // SAFETY: the caller's promise.
    unsafe { IoCsqInsertIrpEx(csq, irp, context, null_mut()) };
}

/// Microsoft Learn: IoCsqInsertIrpEx. An IRP that was cancelled before is completed by the driver's routine; a queue that
/// refuses it leaves it with the caller.
///
/// # Safety
/// The queue was initialised, `irp` is at the caller, `context` is null or lives until the IRP leaves the queue.
pub unsafe extern "win64" fn IoCsqInsertIrpEx(
    csq: *mut IO_CSQ,
    irp: *mut IRP,
    context: *mut IO_CSQ_IRP_CONTEXT,
    insert_context: PVOID,
) -> NTSTATUS {
    irp::demand(irp, "IoCsqInsertIrpEx");
    let queue = Queue(csq);
    // SAFETY: the caller's promise.
    let routines = unsafe { queue.routines() };
    // SAFETY: as above.
    let irql = unsafe { queue.lock() };
    // SAFETY: just found to be an IRP.
    let own = unsafe { own(irp) };
    *own = csq.cast();
    if !context.is_null() {
        let fresh = IO_CSQ_IRP_CONTEXT {
            Type: IO_TYPE_CSQ_IRP_CONTEXT,
            Irp: irp,
            Csq: csq,
        };
        // SAFETY: the caller's promise.
        unsafe { context.write(fresh) };
        *own = context.cast();
    }
    let mut status = STATUS_SUCCESS;
    if let Some(insert) = routines.CsqInsertIrp {
        if routines.Type == IO_TYPE_CSQ_EX {
            // SAFETY: the type says that it is such a routine.
            let insert =
                unsafe { core::mem::transmute::<IO_CSQ_INSERT_IRP, IO_CSQ_INSERT_IRP_EX>(insert) };
            // SAFETY: the driver's own routine, called as documented.
            status = border::call(|| unsafe { insert(csq, irp, insert_context) });
        } else {
            // SAFETY: as above.
            border::call(|| unsafe { insert(csq, irp) });
        }
    }
    if !nt_success(status) {
        *own = null_mut();
        // SAFETY: taken above.
        unsafe { queue.unlock(irql) };
        return status;
    }
    // SAFETY: the IRP is at the caller.
    unsafe { irp::location(irp) }.Control |= SL_PENDING_RETURNED;
    // SAFETY: just found to be an IRP.
    unsafe { cancel::exchange(irp, Some(cancelled)) };
    // SAFETY: as above.
    let late = unsafe { irp::fields(irp) }.Cancel != 0;
    // Whoever takes the routine out owns the IRP: this one, or a cancellation that is under way and waits for the lock.
    // SAFETY: as above.
    if late && unsafe { cancel::exchange(irp, None) }.is_some() {
        // SAFETY: the lock is held, and the IRP was just inserted.
        unsafe { queue.remove(irp) };
        // SAFETY: taken above.
        unsafe { queue.unlock(irql) };
        // SAFETY: it is in the queue no longer.
        unsafe { queue.complete(irp) };
        return status;
    }
    // SAFETY: taken above.
    unsafe { queue.unlock(irql) };
    status
}

/// Microsoft Learn: IoCsqRemoveIrp.
///
/// # Safety
/// The queue was initialised, and `context` was given to an insertion.
pub unsafe extern "win64" fn IoCsqRemoveIrp(
    csq: *mut IO_CSQ,
    context: *mut IO_CSQ_IRP_CONTEXT,
) -> *mut IRP {
    let queue = Queue(csq);
    // SAFETY: the caller's promise.
    let irql = unsafe { queue.lock() };
    // SAFETY: the caller's promise.
    let irp = unsafe { (*context).Irp };
    // SAFETY: a context names an IRP of the queue, or none.
    let is_mine = !irp.is_null() && unsafe { cancel::exchange(irp, None) }.is_some();
    if is_mine {
        // SAFETY: the lock is held, and the IRP is in the queue.
        unsafe { queue.remove(irp) };
    }
    // SAFETY: taken above.
    unsafe { queue.unlock(irql) };
    if is_mine { irp } else { null_mut() }
}

/// Microsoft Learn: IoCsqRemoveNextIrp.
///
/// # Safety
/// The queue was initialised.
pub unsafe extern "win64" fn IoCsqRemoveNextIrp(csq: *mut IO_CSQ, context: PVOID) -> *mut IRP {
    let queue = Queue(csq);
    // SAFETY: the caller's promise.
    let irql = unsafe { queue.lock() };
    let mut irp = null_mut();
    loop {
        // SAFETY: the lock is held.
        irp = unsafe { queue.peek(irp, context) };
        if irp.is_null() {
            break;
        }
        // One without its routine is being cancelled: the next.
        // SAFETY: an IRP of the queue.
        if unsafe { cancel::exchange(irp, None) }.is_some() {
            // SAFETY: the lock is held, and the IRP is in the queue.
            unsafe { queue.remove(irp) };
            break;
        }
    }
    // SAFETY: taken above.
    unsafe { queue.unlock(irql) };
    irp
}

/// The cancel routine of every IRP in a queue.
unsafe extern "win64" fn cancelled(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: a cancel routine's own IRP.
    let irql = unsafe { irp::fields(irp) }.CancelIrql;
    cancel::IoReleaseCancelSpinLock(irql);
    // SAFETY: as above.
    let own = *unsafe { own(irp) };
    let context = own.cast::<IO_CSQ_IRP_CONTEXT>();
    // SAFETY: the routine was set by an insertion, which left a context or a queue there; both begin with their type.
    let queue = match unsafe { (*context).Type } {
        // SAFETY: the type says that it is a context.
        IO_TYPE_CSQ_IRP_CONTEXT => Queue(unsafe { (*context).Csq }),
        _ => Queue(own.cast()),
    };
    // SAFETY: the queue of an IRP that is in it.
    let irql = unsafe { queue.lock() };
    // SAFETY: the lock is held; nobody else removes an IRP without its routine.
    unsafe { queue.remove(irp) };
    // SAFETY: taken above.
    unsafe { queue.unlock(irql) };
    // SAFETY: it is in the queue no longer.
    unsafe { queue.complete(irp) };
}

exports!("ntoskrnl.exe": IoCsqInitialize, IoCsqInitializeEx, IoCsqInsertIrp, IoCsqInsertIrpEx, IoCsqRemoveIrp,
    IoCsqRemoveNextIrp);
