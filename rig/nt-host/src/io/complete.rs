//! IRPs on their way: down a stack with IofCallDriver, up again with IofCompleteRequest.
//!
//! Each call is remembered until both its dispatch routine has returned and its location was completed,
//! so that what a driver returns can be held against what it did (Driver Verifier's rules):
//!
//! | returned | location completed by then | marked pending | |
//! |---|---|---|---|
//! | STATUS_PENDING | either way | yes | sound |
//! | STATUS_PENDING | either way | no | breach: the waiter would miss the completion |
//! | other | yes | no | sound |
//! | other | yes | yes | breach: the waiter would be told twice |
//! | other | no | | breach: the IRP is lost |
//!
//! A driver that marks its location pending and then lets the driver below use it (IoSkipCurrentIrpStackLocation)
//! marks it for both; the lower driver may then return what it likes.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use nt_sys::{
    CCHAR, DEVICE_OBJECT, IO_STACK_LOCATION, IRP, IRP_MJ_PNP, IRP_MN_REMOVE_DEVICE, NTSTATUS,
    SL_ERROR_RETURNED, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS,
    SL_PENDING_RETURNED, STATUS_INVALID_DEVICE_REQUEST, STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING, nt_success,
};
use trace::{Class, Event};

use super::device::describe;
use super::function::label;
use super::irp::{self, State};
use crate::exports;
use crate::ke::border;
use crate::ke::bridge::{self, Caller, with_caller};
use crate::ke::event::KeSetEvent;
use crate::place;
use crate::sync::Mutex;
use crate::verifier::{Rule, locks};

/// A call of a dispatch routine that has not both returned and been completed.
struct Call {
    id: u64,
    irp: usize,
    level: CCHAR,
    device: usize,
    major: u8,
    minor: u8,
    /// The driver above shares the location and had marked it pending.
    inherited: bool,
    returned: Option<NTSTATUS>,
    /// Set when the location was completed: whether it was marked pending.
    completed: Option<bool>,
}

struct Calls {
    next: u64,
    open: Vec<Call>,
}

static CALLS: Mutex<Calls> = Mutex::new(Calls {
    next: 1,
    open: Vec::new(),
});

/// Microsoft Learn: IofCallDriver. Any IRQL up to DISPATCH_LEVEL.
///
/// # Safety
/// `device` is a live device object, `irp` an IRP whose next location is filled in.
#[unsafe(naked)]
pub unsafe extern "win64" fn IofCallDriver(
    _device: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
) -> NTSTATUS {
    with_caller!(call_driver)
}

unsafe extern "win64" fn call_driver(
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    caller: *const Caller,
) -> NTSTATUS {
    irp::demand(irp, "IofCallDriver");
    if !super::device::is_device(device) {
        Rule::DeviceInvalid.breach(format_args!(
            "IofCallDriver: {device:p} is no device object"
        ));
    }
    // SAFETY: just found to be an IRP.
    let fields = unsafe { irp::fields(irp) };
    if fields.CurrentLocation > fields.StackCount.saturating_add(1) {
        Rule::IrpDoubleCompletion.bug_check(
            [irp as u64, 0, 0, 0],
            format_args!("IofCallDriver: the IRP was completed before"),
        );
    }
    if fields.CurrentLocation <= 1 {
        Rule::IrpNoLocation.bug_check(
            [irp as u64, 0, 0, 0],
            format_args!(
                "IofCallDriver to {}: the IRP has no stack location left",
                describe(device)
            ),
        );
    }
    let level = fields.CurrentLocation.saturating_sub(1);
    // SAFETY: just found to be an IRP.
    unsafe { irp::demand_untouched(irp) };
    // SAFETY: just found to be an IRP with a location left.
    unsafe { irp::step(irp, -1) };
    // SAFETY: just found to be an IRP.
    unsafe { irp::track(irp) }.state = State::Sent;
    // SAFETY: the location exists, as checked above.
    let location = unsafe { irp::location(irp) };
    location.DeviceObject = device;
    let (major, minor) = (location.MajorFunction, location.MinorFunction);
    let id = opened(Call {
        id: 0,
        irp: irp as usize,
        level,
        device: device as usize,
        major,
        minor,
        inherited: location.Control & SL_PENDING_RETURNED != 0,
        returned: None,
        completed: None,
    });
    // SAFETY: just found to be a device object, whose driver outlives it.
    let driver = unsafe { (*device).DriverObject };
    // SAFETY: a driver object lives as long as its devices.
    let dispatch = unsafe { (*driver).MajorFunction };
    let Some(dispatch) = dispatch.get(usize::from(major)).copied().flatten() else {
        Rule::DeviceNoDispatch.breach(format_args!(
            "IofCallDriver: {} has no dispatch routine {major:#x}",
            describe(device)
        ));
    };
    // SAFETY: just found to be an IRP.
    unsafe { irp::track(irp) }.last = dispatch as usize;
    let before = crate::ke::irql::current();
    trace::emit(Class::Irp, || Event::IrpCall {
        irp: place::of_data(irp),
        device: place::of_data(device),
        driver: place::of_code(dispatch as usize as u64).0,
        major: u64::from(major),
        minor: u64::from(minor),
    });
    let locks = locks::held();
    // SAFETY: the driver's own routine, called as documented.
    let body = || border::call(|| unsafe { dispatch(device, irp) });
    // SAFETY: the state is that of this function's caller.
    let status = unsafe { bridge::across(caller, abandoned, id, body) };
    locks::check(locks, dispatch as usize, "a dispatch routine");
    trace::emit(Class::Irp, || Event::IrpReturn {
        irp: place::of_data(irp),
        device: place::of_data(device),
        status: i64::from(status) as u64,
    });
    let after = crate::ke::irql::current();
    if before != after {
        Rule::IrqlAfterDispatch.bug_check(
            [u64::from(before), u64::from(after), 0, 0],
            format_args!(
                "the dispatch routine of {} for {} returned at another IRQL",
                describe(device),
                label(major, minor)
            ),
        );
    }
    returned(id, status);
    status
}

/// The caller handles an exception of the driver: the dispatch routine will not return.
fn abandoned(id: u64) {
    CALLS.lock().open.retain(|call| call.id != id);
}

/// Notes a call; returns its number.
fn opened(call: Call) -> u64 {
    let mut calls = CALLS.lock();
    let id = calls.next;
    calls.next = id.wrapping_add(1);
    calls.open.push(Call { id, ..call });
    id
}

/// Whether the dispatch routine of `device` has REMOVE_DEVICE now.
pub(super) fn is_being_removed(device: *mut DEVICE_OBJECT) -> bool {
    CALLS.lock().open.iter().any(|call| {
        call.device == device as usize
            && (call.major, call.minor) == (IRP_MJ_PNP, IRP_MN_REMOVE_DEVICE)
            && call.returned.is_none()
    })
}

/// Notes what a dispatch routine returned, and holds it against what happened to the location.
fn returned(id: u64, status: NTSTATUS) {
    let mut calls = CALLS.lock();
    let Some(index) = calls.open.iter().position(|call| call.id == id) else {
        return;
    };
    let Some(call) = calls.open.get_mut(index) else {
        return;
    };
    call.returned = Some(status);
    if call.completed.is_some() || status != STATUS_PENDING {
        let call = calls.open.remove(index);
        drop(calls);
        call.check(status);
    }
}

/// Notes that a location was completed.
fn completed(irp: *mut IRP, level: CCHAR, pending: bool) {
    let mut calls = CALLS.lock();
    let mut checked = Vec::new();
    let mut index = 0;
    while let Some(call) = calls.open.get_mut(index) {
        index = index.saturating_add(1);
        if call.irp != irp as usize || call.level != level || call.completed.is_some() {
            continue;
        }
        call.completed = Some(pending);
        if call.returned.is_some() {
            index = index.saturating_sub(1);
            checked.push(calls.open.remove(index));
        }
    }
    drop(calls);
    for call in checked {
        call.check(STATUS_PENDING);
    }
}

impl Call {
    fn check(&self, status: NTSTATUS) {
        let (rule, what) = match (status == STATUS_PENDING, self.completed) {
            (true, Some(true)) | (false, Some(false)) => return,
            (false, Some(true)) if self.inherited => return,
            (true, _) => (
                Rule::IrpNotMarked,
                "returned STATUS_PENDING without IoMarkIrpPending",
            ),
            (false, Some(true)) => (
                Rule::IrpMarked,
                "marked the IRP pending, but did not return STATUS_PENDING",
            ),
            (false, None) => (
                Rule::IrpForgotten,
                "returned without having completed the IRP, passed it on or returned STATUS_PENDING",
            ),
        };
        let device = self.device as *mut DEVICE_OBJECT;
        rule.breach(format_args!(
            "{} for {} {what} (status {status:#010x})",
            describe(device),
            label(self.major, self.minor)
        ));
    }
}

/// Microsoft Learn: IofCompleteRequest. Any IRQL up to DISPATCH_LEVEL.
///
/// # Safety
/// `irp` is an IRP that the caller holds.
pub unsafe extern "win64" fn IofCompleteRequest(irp: *mut IRP, _boost: CCHAR) {
    let caller = crate::ke::processor::caller();
    irp::demand(irp, "IofCompleteRequest");
    demand_holder(irp, caller);
    // SAFETY: the caller's promise.
    unsafe { complete(irp) };
}

/// Completes a request for a driver of the host: IofCompleteRequest but for the look at who calls.
///
/// # Safety
/// `irp` is an IRP that the caller holds.
pub(super) unsafe fn complete(irp: *mut IRP) {
    // SAFETY: just found to be an IRP.
    let fields = unsafe { irp::fields(irp) };
    if fields.CurrentLocation > fields.StackCount {
        Rule::IrpDoubleCompletion.bug_check(
            [irp as u64, 0, 0, 0],
            format_args!("IofCompleteRequest: the IRP is completed, or was never sent"),
        );
    }
    if fields.IoStatus.Status == STATUS_PENDING || fields.IoStatus.Status == -1 {
        Rule::IrpPendingStatus.breach(format_args!(
            "IofCompleteRequest by {} with STATUS_PENDING",
            holder(irp)
        ));
    }
    if fields.CancelRoutine.is_some() {
        Rule::IrpCancelRoutine.breach(format_args!(
            "IofCompleteRequest by {} with its cancel routine still set",
            holder(irp)
        ));
    }
    // SAFETY: the current location exists, as checked above.
    let location = unsafe { irp::location(irp) };
    trace::emit(Class::Irp, || Event::IrpComplete {
        irp: place::of_data(irp),
        status: i64::from(fields.IoStatus.Status) as u64,
    });
    crate::pnp::interfaces::note(location, fields.IoStatus.Status);
    loop {
        // SAFETY: the IRP is live, since no completion routine took it.
        let fields = unsafe { irp::fields(irp) };
        if fields.CurrentLocation > fields.StackCount {
            break;
        }
        // SAFETY: the current location exists.
        let location = unsafe { irp::location(irp) };
        let control = location.Control;
        let (routine, context) = (location.CompletionRoutine, location.Context);
        let pending = control & SL_PENDING_RETURNED != 0;
        let level = fields.CurrentLocation;
        fields.PendingReturned = pending.into();
        forget(location);
        // SAFETY: above a location is another, or the end of the stack.
        unsafe { irp::step(irp, 1) };
        completed(irp, level, pending);
        // SAFETY: as above.
        let upper = unsafe { irp::fields(irp) };
        let on_top = upper.CurrentLocation > upper.StackCount;
        let wanted = (nt_success(upper.IoStatus.Status) && control & SL_INVOKE_ON_SUCCESS != 0)
            || (!nt_success(upper.IoStatus.Status) && control & SL_INVOKE_ON_ERROR != 0)
            || (upper.Cancel != 0 && control & SL_INVOKE_ON_CANCEL != 0);
        match routine.filter(|_| wanted) {
            Some(routine) => {
                let device = match on_top {
                    true => core::ptr::null_mut(),
                    // SAFETY: the location exists unless the IRP is on top.
                    false => unsafe { irp::location(irp) }.DeviceObject,
                };
                // SAFETY: the routine that the driver above set for itself.
                let status = border::call(|| unsafe { routine(device, irp, context) });
                if status == STATUS_MORE_PROCESSING_REQUIRED {
                    return;
                }
            }
            // Nobody looked, so that the mark goes up on its own.
            None if pending && !on_top => {
                // SAFETY: the location exists unless the IRP is on top.
                unsafe { irp::location(irp) }.Control |= SL_PENDING_RETURNED;
            }
            None => {}
        }
    }
    // SAFETY: the IRP went through its whole stack and is still live.
    unsafe { finish(irp) };
}

/// Checks that the IRP is at the driver that completes it.
fn demand_holder(irp: *mut IRP, caller: u32) {
    if caller == 0 {
        return;
    }
    // SAFETY: the callers have found it to be an IRP.
    let level = unsafe { irp::fields(irp) }.CurrentLocation;
    let calls = CALLS.lock();
    let here = calls
        .open
        .iter()
        .filter(|call| call.irp == irp as usize && call.level == level && call.completed.is_none());
    let devices: Vec<usize> = here.map(|call| call.device).collect();
    drop(calls);
    let holds =
        |device: &usize| super::device::module_of(*device as *mut DEVICE_OBJECT) == Some(caller);
    if !devices.is_empty() && !devices.iter().any(holds) {
        let name = crate::pe::modules::name_of(caller);
        Rule::IrpNotHolder.breach(format_args!(
            "{name} completes an IRP that is at {}",
            holder(irp)
        ));
    }
}

/// Clears a location that was completed, as Windows does so that no routine runs twice.
fn forget(location: &mut IO_STACK_LOCATION) {
    location.MinorFunction = 0;
    location.Flags = 0;
    location.Control &= SL_ERROR_RETURNED;
    location.Parameters.Others = [core::ptr::null_mut(); 4];
    location.CompletionRoutine = None;
}

/// The end of an IRP that no completion routine kept.
///
/// # Safety
/// `irp` is a live IRP above its stack.
unsafe fn finish(irp: *mut IRP) {
    // SAFETY: the caller's promise.
    let track = unsafe { irp::track(irp) };
    track.state = State::Completed;
    if !track.synchronous {
        Rule::IrpNotKept.breach(format_args!(
            "an IRP from IoAllocateIrp of {} was completed without a completion routine of its maker keeping it",
            crate::pe::modules::name_of(track_owner(irp)),
        ));
    }
    // SAFETY: the caller's promise.
    let fields = unsafe { irp::fields(irp) };
    let (status, event, out) = (fields.IoStatus, fields.UserEvent, fields.UserIosb);
    let severe = status.Status.cast_unsigned() >> 30 == 3;
    // A request that failed at once is told by the return value alone.
    let told = !severe || fields.PendingReturned != 0;
    // SAFETY: the IRP went through its whole stack.
    unsafe { irp::free(irp) };
    if told {
        if !out.is_null() {
            // SAFETY: the requester's status block, which it keeps until then.
            unsafe { out.write(status) };
        }
        if !event.is_null() {
            // SAFETY: the requester's event, which it keeps until it is set.
            unsafe { KeSetEvent(event, 0, 0) };
        }
    }
}

fn track_owner(irp: *mut IRP) -> u32 {
    // SAFETY: called for live IRPs only.
    unsafe { irp::owner(irp) }
}

/// The routine for every major function a driver does not set.
///
/// # Safety
/// As for every dispatch routine.
pub(super) unsafe extern "win64" fn invalid_request(
    _device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
) -> NTSTATUS {
    // SAFETY: a dispatch routine holds the IRP it was given.
    unsafe { irp::fields(irp) }.IoStatus.Status = STATUS_INVALID_DEVICE_REQUEST;
    // SAFETY: as above.
    unsafe { complete(irp) };
    STATUS_INVALID_DEVICE_REQUEST
}

/// Who holds an IRP now, in words.
pub(super) fn holder(irp: *mut IRP) -> String {
    let calls = CALLS.lock();
    let at = calls
        .open
        .iter()
        .rev()
        .find(|call| call.irp == irp as usize && call.completed.is_none());
    let found = at.map(|call| (call.device, call.major, call.minor));
    drop(calls);
    match found {
        Some((device, major, minor)) => {
            format!(
                "{} ({})",
                describe(device as *mut DEVICE_OBJECT),
                label(major, minor)
            )
        }
        None => String::from("its maker"),
    }
}

/// The IRPs that drivers hold now, in words; for the report at the end of a run.
pub fn outstanding() -> Vec<String> {
    let calls = CALLS.lock();
    let open: Vec<_> = calls
        .open
        .iter()
        .filter(|call| call.completed.is_none())
        .collect();
    let open: Vec<_> = open
        .iter()
        .map(|call| (call.device, call.major, call.minor))
        .collect();
    drop(calls);
    let line = |(device, major, minor)| {
        format!(
            "{} holds {}",
            describe(device as *mut DEVICE_OBJECT),
            label(major, minor)
        )
    };
    open.into_iter().map(line).collect()
}

exports!("ntoskrnl.exe": IofCallDriver, IofCompleteRequest);
