//! A request as a driver of the host itself sees it: bus drivers here, port drivers in crates of their own.

use core::ptr::null_mut;

use nt_sys::{
    DEVICE_OBJECT, IO_PARAMETERS, IO_STACK_LOCATION, IRP, NTSTATUS, PVOID, SL_INVOKE_ON_CANCEL,
    SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS,
};

use super::complete::{self, IofCallDriver};
use super::irp;
use crate::ke::event::Event;
use crate::ke::wait::Timeout;

/// An IRP that a dispatch routine was given and has neither completed nor passed on.
pub struct Incoming(*mut IRP);

// SAFETY: an IRP may be completed or passed on by any thread; whoever has the value is the only one to do so.
unsafe impl Send for Incoming {}

impl Incoming {
    /// Takes hold of a dispatch routine's IRP.
    ///
    /// # Safety
    /// The caller is a dispatch routine, this is its IRP, and nothing else completes it or passes it on.
    pub unsafe fn new(irp: *mut IRP) -> Self {
        Self(irp)
    }

    /// The driver's own stack location.
    pub fn location(&self) -> IO_STACK_LOCATION {
        // SAFETY: the IRP is at this driver (`new`).
        *unsafe { irp::location(self.0) }
    }

    /// Major and minor function.
    pub fn function(&self) -> (u8, u8) {
        let location = self.location();
        (location.MajorFunction, location.MinorFunction)
    }

    /// The parameters of the function.
    pub fn parameters(&self) -> IO_PARAMETERS {
        self.location().Parameters
    }

    /// Status and information so far.
    pub fn outcome(&self) -> (NTSTATUS, usize) {
        // SAFETY: the IRP is at this driver (`new`).
        let fields = unsafe { irp::fields(self.0) };
        (fields.IoStatus.Status, fields.IoStatus.Information)
    }

    /// Sets status and information before the IRP is passed on.
    pub fn set(&self, status: NTSTATUS, information: usize) {
        // SAFETY: the IRP is at this driver (`new`).
        let fields = unsafe { irp::fields(self.0) };
        fields.IoStatus.Status = status;
        fields.IoStatus.Information = information;
    }

    /// Completes with a status, or with success and an answer; an answer of none is a lack of memory.
    /// Returns what the dispatch routine is to return.
    pub fn complete(self, outcome: Result<Option<usize>, NTSTATUS>) -> NTSTATUS {
        match outcome {
            Ok(Some(information)) => self.set(STATUS_SUCCESS, information),
            Ok(None) => self.set(STATUS_INSUFFICIENT_RESOURCES, 0),
            Err(status) => self.set(status, self.outcome().1),
        }
        self.finish()
    }

    /// Completes with the status and information it has.
    pub fn finish(self) -> NTSTATUS {
        let status = self.outcome().0;
        // SAFETY: the IRP is at this driver (`new`), which gives it up here.
        unsafe { complete::complete(self.0) };
        status
    }

    /// Marks the request pending; the dispatch routine is to return STATUS_PENDING.
    pub fn pend(&self) {
        // SAFETY: the IRP is at this driver (`new`).
        unsafe { irp::location(self.0) }.Control |= SL_PENDING_RETURNED;
    }

    /// Passes the request to the device below as it is.
    ///
    /// # Safety
    /// `lower` is the live device that this driver's is attached to.
    pub unsafe fn pass(self, lower: *mut DEVICE_OBJECT) -> NTSTATUS {
        let mut copy = self.location();
        if copy.Control & SL_PENDING_RETURNED != 0 {
            // A location that is marked pending stays with who marked it: the driver below may return any status.
            copy.Control = 0;
            copy.CompletionRoutine = None;
            copy.Context = null_mut();
            copy.DeviceObject = null_mut();
            // SAFETY: the device below is counted in the IRP's stack size.
            *unsafe { irp::next(self.0) } = copy;
        } else {
            // SAFETY: the IRP is at this driver (`new`).
            unsafe { irp::skip(self.0) };
        }
        // SAFETY: the caller's promise.
        unsafe { IofCallDriver(lower, self.0) }
    }

    /// Lets the device below have the request first, and takes it back when that is done. At PASSIVE_LEVEL.
    ///
    /// # Safety
    /// `lower` is the live device that this driver's is attached to.
    pub unsafe fn forward(&self, lower: *mut DEVICE_OBJECT) -> NTSTATUS {
        let done = Event::new(true);
        let mut copy = self.location();
        copy.Control = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
        copy.CompletionRoutine = Some(taken_back);
        copy.Context = (&raw const done).cast_mut().cast();
        copy.DeviceObject = null_mut();
        // SAFETY: the device below is counted in the IRP's stack size.
        *unsafe { irp::next(self.0) } = copy;
        // SAFETY: the caller's promise.
        let status = unsafe { IofCallDriver(lower, self.0) };
        if status == STATUS_PENDING {
            done.wait(Timeout::Never);
        }
        self.outcome().0
    }
}

unsafe extern "win64" fn taken_back(
    _device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: the IRP is at this routine's driver.
    if unsafe { irp::fields(irp) }.PendingReturned != 0 {
        // SAFETY: `forward` waits on this event, so it lives until it is set.
        unsafe { &*context.cast::<Event>() }.set();
    }
    STATUS_MORE_PROCESSING_REQUIRED
}
