//! Requests of the host's own: an IRP to the top of a stack, and the wait for its end.

use core::mem::MaybeUninit;
use core::ptr::null_mut;

use nt_sys::{
    DEVICE_OBJECT, Executive, IO_STACK_LOCATION, IO_STATUS_BLOCK, IRP_MJ_PNP, KEVENT, KernelMode,
    NTSTATUS, NotificationEvent, STATUS_INSUFFICIENT_RESOURCES, STATUS_PENDING,
};

use super::complete::IofCallDriver;
use super::{device, irp};
use crate::ke::event::KeInitializeEvent;
use crate::ke::wait::KeWaitForSingleObject;
use crate::ob;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// IoStatus.Status.
    pub status: NTSTATUS,
    /// IoStatus.Information.
    pub information: usize,
}

/// Sends a request to the top of the stack of `target` and waits. At PASSIVE_LEVEL.
///
/// `initial` is the status the IRP starts with: STATUS_NOT_SUPPORTED for PnP and power requests.
///
/// # Safety
/// `target` is a live device object; `fill` makes the location valid for the request.
pub unsafe fn send(
    target: *mut DEVICE_OBJECT,
    major: u8,
    minor: u8,
    initial: NTSTATUS,
    fill: impl FnOnce(&mut IO_STACK_LOCATION),
) -> Outcome {
    // SAFETY: the caller's promise.
    let top = unsafe { device::attached_reference(target) };
    // SAFETY: the top was just referenced; the caller's promise for the rest.
    let outcome = unsafe { send_to(top, major, minor, initial, 0, fill) };
    // SAFETY: drops the reference just taken.
    unsafe { ob::give_up(top.cast()) };
    outcome
}

/// As [`send`], but to this very device, and with a first Information.
///
/// # Safety
/// As for [`send`].
pub unsafe fn send_to(
    target: *mut DEVICE_OBJECT,
    major: u8,
    minor: u8,
    initial: NTSTATUS,
    information: usize,
    fill: impl FnOnce(&mut IO_STACK_LOCATION),
) -> Outcome {
    let mut event = MaybeUninit::<KEVENT>::uninit();
    let event = event.as_mut_ptr();
    // SAFETY: room for an event on this thread's own stack.
    unsafe { KeInitializeEvent(event, NotificationEvent, 0) };
    let mut status = IO_STATUS_BLOCK {
        Status: initial,
        _Pad: 0,
        Information: 0,
    };
    let out = &raw mut status;
    // SAFETY: event and status live until the request has ended, which is waited for below.
    let irp = unsafe {
        irp::IoBuildSynchronousFsdRequest(
            IRP_MJ_PNP.into(),
            target,
            null_mut(),
            0,
            null_mut(),
            event,
            out,
        )
    };
    if irp.is_null() {
        return Outcome {
            status: STATUS_INSUFFICIENT_RESOURCES,
            information: 0,
        };
    }
    // SAFETY: the IRP was just made.
    let fields = unsafe { irp::fields(irp) };
    fields.IoStatus.Status = initial;
    fields.IoStatus.Information = information;
    // SAFETY: the IRP was just made with at least one location.
    let next = unsafe { irp::next(irp) };
    next.MajorFunction = major;
    next.MinorFunction = minor;
    fill(next);
    // SAFETY: the caller's promise, and an IRP that is filled in.
    let returned = unsafe { IofCallDriver(target, irp) };
    if returned == STATUS_PENDING {
        // SAFETY: the event is set when the request ends.
        unsafe { KeWaitForSingleObject(event.cast(), Executive, KernelMode, 0, null_mut()) };
        // SAFETY: written before the event was set.
        let status = unsafe { out.read_volatile() };
        return Outcome {
            status: status.Status,
            information: status.Information,
        };
    }
    // SAFETY: no request refers to it any more.
    let status = unsafe { out.read_volatile() };
    Outcome {
        status: returned,
        information: status.Information,
    }
}
