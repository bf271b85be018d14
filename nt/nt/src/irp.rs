//! I/O request packets: each is completed or passed on exactly once.
//!
//! An [`Irp`] is the right and the duty to do so; one that is dropped instead completes with STATUS_UNSUCCESSFUL.

use crate::device::completion_event;
use crate::interface::InterfaceRequest;
use crate::resources::{RequirementsList, ResourceList};
use crate::{DeviceObject, NtStatus, PagedPool, Result, try_box};
use alloc::boxed::Box;
use core::ptr::NonNull;
use nt_sys::imports::{
    IoAllocateIrp, IoFreeIrp, IofCallDriver, IofCompleteRequest, PoRequestPowerIrp,
};
use nt_sys::{
    DEVICE_CAPABILITIES, DEVICE_OBJECT, DEVICE_RELATIONS, IO_NO_INCREMENT, IO_STACK_LOCATION,
    IO_STATUS_BLOCK, IRP, IRP_MJ_PNP, IRP_MJ_POWER, NTSTATUS, POWER_STATE, PVOID,
    SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED, UCHAR,
};

/// An IRP that is this driver's to complete or pass on.
#[derive(Debug)]
#[must_use]
pub struct Irp {
    raw: NonNull<IRP>,
}

// SAFETY: an IRP belongs to one holder at a time, on whatever thread.
unsafe impl Send for Irp {}

/// A power request's parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PowerRequest {
    /// Whether the state is the system's (`PowerSystem*`) or the device's (`PowerDevice*`).
    pub system: bool,
    /// The state.
    pub state: i32,
    /// `PowerAction*`.
    pub action: i32,
}

impl Irp {
    /// Takes over the IRP of a dispatch call.
    ///
    /// # Safety
    /// `irp` is live and its current stack location is this driver's.
    pub unsafe fn from_raw(irp: *mut IRP) -> Irp {
        // SAFETY: the I/O manager passes no null.
        let raw = unsafe { NonNull::new_unchecked(irp) };
        Irp { raw }
    }

    /// Gives the IRP away, to be taken up again with `from_raw`.
    pub fn into_raw(self) -> *mut IRP {
        let raw = self.raw.as_ptr();
        core::mem::forget(self);
        raw
    }

    fn irp(&self) -> &IRP {
        // SAFETY: the IRP is live and ours.
        unsafe { self.raw.as_ref() }
    }

    fn irp_mut(&mut self) -> &mut IRP {
        // SAFETY: the IRP is live and ours alone.
        unsafe { self.raw.as_mut() }
    }

    fn stack_pointer(&self) -> *mut IO_STACK_LOCATION {
        // SAFETY: an IRP in a driver's hands is on a list or has a stack location; the overlay is what is in use.
        unsafe { self.irp().Tail.Overlay.CurrentStackLocation }
    }

    /// This driver's stack location.
    pub fn stack(&self) -> &IO_STACK_LOCATION {
        // SAFETY: the current location is ours while we hold the IRP.
        unsafe { &*self.stack_pointer() }
    }

    /// This driver's stack location, to change parameters for the drivers below.
    pub fn stack_mut(&mut self) -> &mut IO_STACK_LOCATION {
        // SAFETY: as in `stack`, and the IRP is borrowed mutably.
        unsafe { &mut *self.stack_pointer() }
    }

    /// The major function.
    pub fn major(&self) -> UCHAR {
        self.stack().MajorFunction
    }

    /// The minor function.
    pub fn minor(&self) -> UCHAR {
        self.stack().MinorFunction
    }

    /// The status so far: what the sender preset, or drivers below left.
    pub fn status(&self) -> NtStatus {
        NtStatus(self.irp().IoStatus.Status)
    }

    /// Sets the status without completing.
    pub fn set_status(&mut self, status: NtStatus) {
        self.irp_mut().IoStatus.Status = status.0;
    }

    /// The second half of the outcome: a count or a pointer.
    pub fn information(&self) -> usize {
        self.irp().IoStatus.Information
    }

    /// Sets the second half of the outcome.
    pub fn set_information(&mut self, information: usize) {
        self.irp_mut().IoStatus.Information = information;
    }

    /// Completes the IRP with `status` and gives the status to return. IRQL ≤ DISPATCH_LEVEL.
    pub fn complete(mut self, status: NtStatus) -> NtStatus {
        self.set_status(status);
        let raw = self.into_raw();
        // SAFETY: the IRP is live and ours; it is not touched again.
        unsafe { IofCompleteRequest(raw, IO_NO_INCREMENT) };
        status
    }

    /// Completes the IRP with `status` and `information`.
    pub fn complete_with(mut self, status: NtStatus, information: usize) -> NtStatus {
        self.set_information(information);
        self.complete(status)
    }

    /// Completes the IRP as it is.
    pub fn complete_unchanged(self) -> NtStatus {
        let status = self.status();
        self.complete(status)
    }

    /// Says that this driver will complete the IRP later; the dispatch function then returns STATUS_PENDING.
    pub fn mark_pending(&mut self) {
        self.stack_mut().Control |= SL_PENDING_RETURNED;
    }

    /// Passes the IRP on to `lower` and forgets it.
    pub fn forward(mut self, lower: &DeviceObject) -> NtStatus {
        if self.stack().Control & SL_PENDING_RETURNED != 0 {
            // A location that is marked pending cannot be left to the driver below, whose status would not fit the mark.
            self.copy_stack_down(None, core::ptr::null_mut());
            return self.call(lower);
        }
        // The lower driver takes over this stack location: IoSkipCurrentIrpStackLocation.
        let irp = self.irp_mut();
        irp.CurrentLocation = irp.CurrentLocation.wrapping_add(1);
        // SAFETY: this driver has a location, so the next one up is inside the IRP or just behind it.
        let stack = unsafe { self.stack_pointer().add(1) };
        self.irp_mut().Tail.Overlay.CurrentStackLocation = stack;
        self.call(lower)
    }

    /// Passes the IRP on to `lower`, waits for it to come back, and gives it with its status. PASSIVE_LEVEL.
    pub fn forward_and_wait(mut self, lower: &DeviceObject) -> (Irp, NtStatus) {
        let event = match completion_event() {
            Ok(event) => event,
            Err(status) => {
                self.set_status(status);
                return (self, status);
            }
        };
        self.copy_stack_down(Some(set_event), event.as_ptr().cast());
        let raw = self.into_raw();
        // SAFETY: the completion routine keeps the IRP from being completed further.
        let status = NtStatus(unsafe { IofCallDriver(lower.as_ptr(), raw) });
        if status == NtStatus::PENDING {
            event.wait();
        }
        // SAFETY: the lower drivers are through with the IRP, so it is ours again.
        let irp = unsafe { Irp::from_raw(raw) };
        let status = irp.status();
        (irp, status)
    }

    /// Passes the IRP on to `lower`; `completion` gets it back at IRQL ≤ DISPATCH_LEVEL.
    ///
    /// The completion completes the IRP, or keeps it for later (a queue, a work item), and its status is of no
    /// account. The dispatch function returns what this returns. Without memory the IRP is completed at once.
    pub fn forward_then(
        mut self,
        lower: &DeviceObject,
        completion: impl FnOnce(Irp) + Send + 'static,
    ) -> NtStatus {
        let completion = match try_box(completion) {
            Ok(completion) => completion,
            Err(status) => return self.complete(status),
        };
        let routine = run_routine(&*completion);
        // The routine may find the IRP complete before IofCallDriver returns: it is pending from the start.
        self.mark_pending();
        self.copy_stack_down(Some(routine), Box::into_raw(completion).cast());
        let raw = self.into_raw();
        // SAFETY: the completion routine takes the IRP back.
        unsafe { IofCallDriver(lower.as_ptr(), raw) };
        NtStatus::PENDING
    }

    fn call(self, lower: &DeviceObject) -> NtStatus {
        let raw = self.into_raw();
        // SAFETY: the IRP is ours and prepared for the next driver, which takes it over.
        NtStatus(unsafe { IofCallDriver(lower.as_ptr(), raw) })
    }

    /// IoCopyCurrentIrpStackLocationToNext, with a completion routine if there is one.
    fn copy_stack_down(&mut self, routine: Option<nt_sys::IO_COMPLETION_ROUTINE>, context: PVOID) {
        let current = *self.stack();
        // SAFETY: the IRP has a location for each driver below this one.
        let next = unsafe { self.stack_pointer().sub(1) };
        let always = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
        let next_value = IO_STACK_LOCATION {
            Control: if routine.is_some() { always } else { 0 },
            CompletionRoutine: routine,
            Context: context,
            ..current
        };
        // SAFETY: as above; nobody else uses that location yet.
        unsafe { next.write(next_value) };
    }

    fn is(&self, major: UCHAR, minor: UCHAR) -> bool {
        self.major() == major && self.minor() == minor
    }

    fn pnp(&self, minor: UCHAR) -> bool {
        self.is(IRP_MJ_PNP, minor)
    }

    /// IRP_MN_START_DEVICE: the resources as the bus and as the processor sees them.
    pub fn start_resources(&self) -> Option<(ResourceList<'_>, ResourceList<'_>)> {
        if !self.pnp(nt_sys::IRP_MN_START_DEVICE) {
            return None;
        }
        // SAFETY: the minor function says which member is meant.
        let start = unsafe { self.stack().Parameters.StartDevice };
        // SAFETY: the PnP manager's lists are valid or null, and live as long as the IRP.
        let raw = unsafe { ResourceList::from_raw(start.AllocatedResources) };
        // SAFETY: as above.
        let translated = unsafe { ResourceList::from_raw(start.AllocatedResourcesTranslated) };
        Some((raw, translated))
    }

    /// IRP_MN_QUERY_DEVICE_RELATIONS: the kind asked for, `BusRelations` and so on.
    pub fn relations_kind(&self) -> Option<i32> {
        // SAFETY: the minor function says which member is meant.
        self.pnp(nt_sys::IRP_MN_QUERY_DEVICE_RELATIONS)
            .then(|| unsafe { self.stack().Parameters.QueryDeviceRelations.Type })
    }

    /// Adds `devices` to the relations that IoStatus.Information may hold already. PASSIVE_LEVEL.
    pub fn add_relations(&mut self, devices: &[DeviceObject]) -> Result<()> {
        const HEAD: usize = core::mem::offset_of!(DEVICE_RELATIONS, Objects);
        let old = self.information() as *mut DEVICE_RELATIONS;
        // SAFETY: the drivers above leave null or a list from paged pool.
        let before = unsafe { old.as_ref() }.map_or(0, |list| list.Count as usize);
        let total = before
            .checked_add(devices.len())
            .ok_or(NtStatus::NO_MEMORY)?;
        let count = u32::try_from(total).map_err(|_| NtStatus::NO_MEMORY)?;
        let list = PagedPool::zeroed(HEAD + total * size_of::<PVOID>())?;
        let list = list.into_raw().cast::<DEVICE_RELATIONS>();
        // SAFETY: the block holds the head and `total` pointers.
        unsafe { (*list).Count = count };
        // SAFETY: as above.
        let objects = unsafe { &raw mut (*list).Objects }.cast::<*mut DEVICE_OBJECT>();
        if before > 0 {
            // SAFETY: the old list has that many entries.
            let from = unsafe { &raw const (*old).Objects }.cast::<*mut DEVICE_OBJECT>();
            // SAFETY: both arrays are at least `before` long and apart.
            unsafe { objects.copy_from_nonoverlapping(from, before) };
        }
        for (index, device) in devices.iter().enumerate() {
            // SAFETY: the array has room for `total` pointers.
            let slot = unsafe { objects.add(before + index) };
            // The PnP manager releases the references of the list.
            // SAFETY: the slot is inside the array.
            unsafe { slot.write(core::mem::ManuallyDrop::new(device.clone()).as_ptr()) };
        }
        if !old.is_null() {
            // SAFETY: a list of an upper driver is a pool block that now is ours to free.
            unsafe { nt_sys::imports::ExFreePoolWithTag(old.cast(), 0) };
        }
        self.set_information(list as usize);
        Ok(())
    }

    /// IRP_MN_QUERY_ID: the kind asked for, `BusQueryDeviceID` and so on.
    pub fn id_kind(&self) -> Option<i32> {
        // SAFETY: the minor function says which member is meant.
        self.pnp(nt_sys::IRP_MN_QUERY_ID)
            .then(|| unsafe { self.stack().Parameters.QueryId.IdType })
    }

    /// IRP_MN_QUERY_DEVICE_TEXT: the kind asked for, `DeviceTextDescription` and so on.
    pub fn text_kind(&self) -> Option<i32> {
        // SAFETY: the minor function says which member is meant.
        self.pnp(nt_sys::IRP_MN_QUERY_DEVICE_TEXT)
            .then(|| unsafe { self.stack().Parameters.QueryDeviceText.DeviceTextType })
    }

    /// Completes a query for an ID or text with `text` (which must hold its NULs). PASSIVE_LEVEL.
    pub fn complete_with_text(self, text: &[u16]) -> NtStatus {
        match PagedPool::from_units(text) {
            Ok(block) => self.complete_with(NtStatus::SUCCESS, block.into_raw() as usize),
            Err(status) => self.complete(status),
        }
    }

    /// IRP_MN_QUERY_CAPABILITIES: what to fill in.
    pub fn capabilities(&mut self) -> Option<&mut DEVICE_CAPABILITIES> {
        if !self.pnp(nt_sys::IRP_MN_QUERY_CAPABILITIES) {
            return None;
        }
        // SAFETY: the minor function says which member is meant.
        let capabilities = unsafe { self.stack().Parameters.DeviceCapabilities.Capabilities };
        // SAFETY: the sender's structure lives as long as the IRP, and belongs to whom the IRP belongs to.
        unsafe { capabilities.as_mut() }
    }

    /// IRP_MN_QUERY_INTERFACE: what is asked for.
    pub fn interface_request(&mut self) -> Option<InterfaceRequest<'_>> {
        if !self.pnp(nt_sys::IRP_MN_QUERY_INTERFACE) {
            return None;
        }
        // SAFETY: the minor function says which member is meant.
        let query = unsafe { self.stack().Parameters.QueryInterface };
        // SAFETY: the sender's GUID and buffer are valid for the size it states, as long as the IRP.
        unsafe { InterfaceRequest::new(query) }
    }

    /// IRP_MN_FILTER_RESOURCE_REQUIREMENTS: the list so far, which a driver below may have replaced.
    pub fn requirements(&mut self) -> Option<RequirementsList<'_>> {
        if !self.pnp(nt_sys::IRP_MN_FILTER_RESOURCE_REQUIREMENTS) {
            return None;
        }
        // SAFETY: the minor function says which member is meant.
        let offered = unsafe {
            self.stack()
                .Parameters
                .FilterResourceRequirements
                .IoResourceRequirementList
        };
        Some(RequirementsList::new(self, offered))
    }

    /// IRP_MN_DEVICE_USAGE_NOTIFICATION: whether the use begins, and `DeviceUsageType*`.
    pub fn usage(&self) -> Option<(bool, i32)> {
        if !self.pnp(nt_sys::IRP_MN_DEVICE_USAGE_NOTIFICATION) {
            return None;
        }
        // SAFETY: the minor function says which member is meant.
        let usage = unsafe { self.stack().Parameters.UsageNotification };
        Some((usage.InPath != 0, usage.Type))
    }

    /// IRP_MN_SET_POWER and IRP_MN_QUERY_POWER: what is asked for.
    pub fn power(&self) -> Option<PowerRequest> {
        if !self.is(IRP_MJ_POWER, nt_sys::IRP_MN_SET_POWER)
            && !self.is(IRP_MJ_POWER, nt_sys::IRP_MN_QUERY_POWER)
        {
            return None;
        }
        // SAFETY: major and minor function say which member is meant.
        let power = unsafe { self.stack().Parameters.Power };
        // SAFETY: both members of the union are a 4-byte number.
        let state = unsafe { power.State.SystemState };
        Some(PowerRequest {
            system: power.Type == nt_sys::SystemPowerState,
            state,
            action: power.ShutdownType,
        })
    }
}

impl Drop for Irp {
    fn drop(&mut self) {
        self.set_status(NtStatus::UNSUCCESSFUL);
        // SAFETY: the IRP is live and ours; it is not touched again.
        unsafe { IofCompleteRequest(self.raw.as_ptr(), IO_NO_INCREMENT) };
    }
}

unsafe extern "win64" fn set_event(_: *mut DEVICE_OBJECT, irp: *mut IRP, event: PVOID) -> NTSTATUS {
    // SAFETY: the IRP is live during its completion.
    if unsafe { (*irp).PendingReturned } != 0 {
        // SAFETY: the waiter sees STATUS_PENDING, so it waits until this has set its event.
        unsafe { nt_sys::imports::KeSetEvent(event.cast(), 0, nt_sys::FALSE) };
    }
    NtStatus::MORE_PROCESSING_REQUIRED.0
}

/// The completion routine for a boxed completion of this type.
fn run_routine<F: FnOnce(Irp)>(_: &F) -> nt_sys::IO_COMPLETION_ROUTINE {
    run_completion::<F>
}

unsafe extern "win64" fn run_completion<F: FnOnce(Irp)>(
    _: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: the context is the box that `forward_then` gave up to this one call.
    let completion = unsafe { Box::from_raw(context.cast::<F>()) };
    // SAFETY: this driver has the IRP again, and holds it back below.
    let irp = unsafe { Irp::from_raw(irp) };
    completion(irp);
    NtStatus::MORE_PROCESSING_REQUIRED.0
}

/// Sends a PnP request of our own to the top of `target`'s stack and waits for its outcome. PASSIVE_LEVEL.
///
/// `fill` writes minor function and parameters into the location it is given. The status is preset to
/// STATUS_NOT_SUPPORTED, as the PnP manager does. Gives the status and IoStatus.Information.
pub fn send_pnp(
    target: &DeviceObject,
    fill: impl FnOnce(&mut IO_STACK_LOCATION),
) -> (NtStatus, usize) {
    let top = match target.top_of_stack() {
        Ok(top) => top,
        Err(status) => return (status, 0),
    };
    send(&top, IRP_MJ_PNP, fill)
}

fn send(
    target: &DeviceObject,
    major: UCHAR,
    fill: impl FnOnce(&mut IO_STACK_LOCATION),
) -> (NtStatus, usize) {
    // SAFETY: no quota is charged; the count is the target's.
    let raw = unsafe { IoAllocateIrp(target.stack_size(), nt_sys::FALSE) };
    let Some(mut irp) = NonNull::new(raw) else {
        return (NtStatus::INSUFFICIENT_RESOURCES, 0);
    };
    let event = match completion_event() {
        Ok(event) => event,
        Err(status) => {
            // SAFETY: the IRP is ours and was not sent.
            unsafe { IoFreeIrp(raw) };
            return (status, 0);
        }
    };
    // SAFETY: the IRP is ours alone.
    let packet = unsafe { irp.as_mut() };
    packet.IoStatus = IO_STATUS_BLOCK {
        Status: nt_sys::STATUS_NOT_SUPPORTED,
        _Pad: 0,
        Information: 0,
    };
    // SAFETY: a fresh IRP has its stack location in the overlay.
    let current = unsafe { packet.Tail.Overlay.CurrentStackLocation };
    // SAFETY: the IRP has at least one location, the one below the fresh IRP's current one.
    let stack = unsafe { current.sub(1) };
    // SAFETY: as above, and the IRP is ours alone.
    let stack = unsafe { &mut *stack };
    stack.MajorFunction = major;
    fill(stack);
    stack.Control = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
    stack.CompletionRoutine = Some(set_event);
    stack.Context = event.as_ptr().cast();
    // SAFETY: the completion routine keeps the IRP ours.
    let status = NtStatus(unsafe { IofCallDriver(target.as_ptr(), raw) });
    if status == NtStatus::PENDING {
        event.wait();
    }
    // SAFETY: the IRP came back to us.
    let outcome = unsafe { (*raw).IoStatus };
    // SAFETY: nobody holds the IRP but us.
    unsafe { IoFreeIrp(raw) };
    (NtStatus(outcome.Status), outcome.Information)
}

/// Asks the power manager to send `device`'s stack a device power IRP; `done` gets its status at IRQL ≤ DISPATCH_LEVEL.
///
/// `minor` is IRP_MN_SET_POWER or IRP_MN_QUERY_POWER, `state` one of `PowerDevice*`. `done` is called unless this fails.
pub fn request_device_power(
    device: &DeviceObject,
    minor: UCHAR,
    state: i32,
    done: impl FnOnce(NtStatus) + Send + 'static,
) -> Result<()> {
    let done = Box::into_raw(try_box(done)?);
    // SAFETY: the device is live; routine and context fit each other.
    let status = NtStatus(unsafe {
        PoRequestPowerIrp(
            device.as_ptr(),
            minor,
            POWER_STATE { DeviceState: state },
            Some(power_routine(done)),
            done.cast(),
            core::ptr::null_mut(),
        )
    });
    if let Err(status) = status.ok() {
        // SAFETY: the routine will not be called, so the box is still ours.
        drop(unsafe { Box::from_raw(done) });
        return Err(status);
    }
    Ok(())
}

/// The power manager's routine for a boxed function of this type.
fn power_routine<F: FnOnce(NtStatus)>(_: *mut F) -> nt_sys::REQUEST_POWER_COMPLETE {
    power_done::<F>
}

unsafe extern "win64" fn power_done<F: FnOnce(NtStatus)>(
    _: *mut DEVICE_OBJECT,
    _: UCHAR,
    _: POWER_STATE,
    context: PVOID,
    status: *mut IO_STATUS_BLOCK,
) {
    // SAFETY: the context is the box that the request gave up to this one call.
    let done = unsafe { Box::from_raw(context.cast::<F>()) };
    // SAFETY: the power manager passes the IRP's status block.
    done(NtStatus(unsafe { (*status).Status }));
}
