//! IRPs on their way through a stack of devices, and back.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use crate::device;
use crate::stage::{self, Request, Scene, Stage};
use crate::suite::{Outcome, at_irql};
use crate::support::*;
use crate::wdk::*;

/// Learn, IoAllocateIrp: StackCount locations, none of them current, and a zeroed request.
fn a_new_irp_is_above_its_stack() -> Outcome {
    let irp = IoAllocateIrp(3, 0);
    check!(!irp.is_null(), "IoAllocateIrp returned null");
    let (count, current, kind, size) = {
        let irp = fields(irp);
        (irp.StackCount, irp.CurrentLocation, irp.Type, irp.Size)
    };
    let (status, cancel, routine) = {
        let irp = fields(irp);
        (irp.IoStatus.Status, irp.Cancel, irp.CancelRoutine.is_some())
    };
    IoFreeIrp(irp);
    equal!((count, current), (3, 4), "StackCount and CurrentLocation");
    // wdm.h: IO_TYPE_IRP; IoSizeOfIrp.
    equal!(kind, 6, "Type");
    check!(
        usize::from(size) >= size_of::<IRP>() + 3 * size_of::<IO_STACK_LOCATION>(),
        "Size is {size}"
    );
    equal!(
        (status, cancel, routine),
        (0, 0, false),
        "status, Cancel, and whether there is a cancel routine"
    );
    Ok(())
}

/// Learn, IoAttachDeviceToDeviceStack: attaches to the top, returns the former top, and adds to StackSize.
fn attaching_makes_the_stack_higher() -> Outcome {
    let stage = Stage::new(&[stage::succeed, stage::skip, stage::skip])?;
    let scene = stage.scene();
    for at in 0..3usize {
        // SAFETY: a device of the stage.
        let device = unsafe { &*scene.devices[at] };
        equal!(device.StackSize, at as i8 + 1, "StackSize of device {at}");
        let above = scene.devices.get(at + 1).copied().unwrap_or(null_mut());
        equal!(
            device.AttachedDevice,
            above,
            "AttachedDevice of device {at}"
        );
    }
    equal!(
        scene.below(scene.devices[2]),
        scene.devices[1],
        "what the third device was attached to"
    );
    let top = IoGetAttachedDeviceReference(scene.devices[0]);
    ObfDereferenceObject(top.cast());
    equal!(
        top,
        scene.devices[2],
        "IoGetAttachedDeviceReference of the bottom"
    );
    Ok(())
}

/// Learn, IoCallDriver: makes the next location current, with the device in it.
fn a_call_hands_over_the_next_location() -> Outcome {
    fn look(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
        let location = IoGetCurrentIrpStackLocation(irp);
        write(&scene.cells[0], u32::from(location.DeviceObject == device));
        write(&scene.cells[1], location.MajorFunction.into());
        write(
            &scene.cells[2],
            location
                .Arguments
                .iter()
                .fold(0, |all, one| all << 8 | *one as u32),
        );
        write(&scene.cells[3], fields(irp).CurrentLocation as u32);
        stage::succeed(scene, device, irp)
    }
    let stage = Stage::new(&[look])?;
    let request = stage.send()?;
    let cells = &stage.scene().cells;
    equal!(read(&cells[0]), 1, "whether the location names the device");
    equal!(
        read(&cells[1]),
        u32::from(IRP_MJ_INTERNAL_DEVICE_CONTROL),
        "MajorFunction"
    );
    equal!(read(&cells[2]), 0x1122_3344, "the parameters");
    equal!(read(&cells[3]), 1, "CurrentLocation");
    equal!(
        (request.status(), request.information()),
        (STATUS_SUCCESS, 0x77),
        "the outcome"
    );
    Ok(())
}

/// Learn, IoSkipCurrentIrpStackLocation: the driver below gets the very same location.
fn a_skipped_location_is_used_again() -> Outcome {
    fn look(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
        write(&scene.cells[0], fields(irp).CurrentLocation as u32);
        stage::succeed(scene, device, irp)
    }
    let stage = Stage::new(&[look, stage::skip, stage::copy])?;
    stage.send()?;
    equal!(
        read(&stage.scene().cells[0]),
        2,
        "CurrentLocation at the bottom"
    );
    equal!(read(&stage.scene().trail), 0x210E, "the way");
    Ok(())
}

/// Learn, IoCompleteRequest: calls completion routines from the lowest driver's upper neighbour to the top.
fn completion_routines_run_from_the_bottom_up() -> Outcome {
    let stage = Stage::new(&[stage::succeed, stage::watch, stage::watch])?;
    stage.send()?;
    equal!(
        read(&stage.scene().trail),
        0x0021_09AE,
        "the way down and up"
    );
    Ok(())
}

/// Learn, IO_COMPLETION_ROUTINE: gets the device of the driver that set it; NULL for the IRP's maker.
fn a_completion_routine_gets_its_own_device() -> Outcome {
    let stage = Stage::new(&[stage::succeed, stage::watch])?;
    let request = stage.send()?;
    // `watch` notes 8 and the device's number: 9 for device 1.
    equal!(read(&stage.scene().trail), 0x109E, "the way");
    check!(
        !request.had_device(),
        "the maker's routine was given a device"
    );
    Ok(())
}

unsafe extern "system" fn note(_: *mut DEVICE_OBJECT, irp: *mut IRP, scene: PVOID) -> NTSTATUS {
    add(&Scene::of(scene).cells[0]);
    if fields(irp).PendingReturned != 0 {
        IoMarkIrpPending(irp);
    }
    STATUS_SUCCESS
}

fn on_success(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, note, scene.context(), SL_INVOKE_ON_SUCCESS);
    IofCallDriver(scene.below(device), irp)
}

fn on_error(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, note, scene.context(), SL_INVOKE_ON_ERROR);
    IofCallDriver(scene.below(device), irp)
}

/// Learn, IoSetCompletionRoutine: InvokeOnSuccess and InvokeOnError say for which statuses the routine is called.
fn a_completion_routine_is_called_on_its_occasions() -> Outcome {
    for (upper, lower, calls) in [
        (on_success as stage::Act, stage::succeed as stage::Act, 1),
        (on_success, stage::fail, 0),
        (on_error, stage::succeed, 0),
        (on_error, stage::fail, 1),
    ] {
        let stage = Stage::new(&[lower, upper])?;
        let request = stage.send()?;
        equal!(
            read(&stage.scene().cells[0]),
            calls,
            "calls, with status {:#x}",
            request.status()
        );
    }
    Ok(())
}

unsafe extern "system" fn stop(_: *mut DEVICE_OBJECT, irp: *mut IRP, scene: PVOID) -> NTSTATUS {
    let scene = Scene::of(scene);
    scene.pass_by(9);
    scene.kept.store(irp, Ordering::SeqCst);
    STATUS_MORE_PROCESSING_REQUIRED
}

/// Learn, "STATUS_MORE_PROCESSING_REQUIRED": the IRP stays with the driver; IoCompleteRequest goes on from its location.
fn completion_stops_and_goes_on() -> Outcome {
    fn take(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
        IoCopyCurrentIrpStackLocationToNext(irp);
        IoSetCompletionRoutine(irp, stop, scene.context(), ALWAYS);
        IoMarkIrpPending(irp);
        let _ = IofCallDriver(scene.below(device), irp);
        STATUS_PENDING
    }
    let stage = Stage::new(&[stage::succeed, take, stage::watch])?;
    let scene = stage.scene();
    let request = Request::new(&stage)?;
    let returned = request.send();
    let early = read(&scene.trail);
    let location = fields(request.irp).CurrentLocation;
    let status = request.status();
    stage::finish(scene, STATUS_DEVICE_NOT_READY);
    check!(request.is_back(), "the request did not come back");
    equal!(returned, STATUS_PENDING, "IoCallDriver");
    equal!(early, 0x209, "the way until the routine stopped it");
    equal!(
        (location, status),
        (2, STATUS_SUCCESS),
        "CurrentLocation and status meanwhile"
    );
    equal!(read(&scene.trail), 0x209AE, "the whole way");
    equal!(
        request.status(),
        STATUS_DEVICE_NOT_READY,
        "the status in the end"
    );
    Ok(())
}

/// Learn, "Forwarding an IRP and waiting": a dispatch routine takes the IRP back by its completion routine and completes it.
fn a_forwarded_irp_can_be_taken_back() -> Outcome {
    fn forward(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
        let below = device::forward_and_wait(device, irp);
        write(&scene.cells[0], below as u32);
        scene.pass_by(0xA);
        device::complete(irp, STATUS_SUCCESS, 0x99)
    }
    let stage = Stage::new(&[stage::fail, forward])?;
    let request = stage.send()?;
    equal!(
        read(&stage.scene().cells[0]) as i32,
        STATUS_UNSUCCESSFUL,
        "the status from below"
    );
    equal!(read(&stage.scene().trail), 0xAE, "the way");
    equal!(
        (request.status(), request.information()),
        (STATUS_SUCCESS, 0x99),
        "the outcome"
    );
    Ok(())
}

/// Learn, IoMarkIrpPending: STATUS_PENDING comes back at once, the completion later, with PendingReturned set.
fn a_pending_request_is_completed_later() -> Outcome {
    let stage = Stage::new(&[stage::keep])?;
    let request = Request::new(&stage)?;
    equal!(request.send(), STATUS_PENDING, "IoCallDriver");
    let early = wait(stage.scene().done.raw(), Some(5 * MILLISECOND));
    stage::finish(stage.scene(), STATUS_SUCCESS);
    check!(request.is_back(), "the request did not come back");
    equal!(
        early,
        STATUS_TIMEOUT,
        "a wait for the request before it was completed"
    );
    check!(request.was_pending(), "PendingReturned is not set");
    equal!(
        (request.status(), request.information()),
        (STATUS_SUCCESS, 0x55),
        "the outcome"
    );
    Ok(())
}

/// Learn, IoMarkIrpPending: the mark goes up by each completion routine that passes it on.
fn the_pending_mark_goes_up_through_routines() -> Outcome {
    let stage = Stage::new(&[stage::keep, stage::watch, stage::watch])?;
    let request = Request::new(&stage)?;
    equal!(request.send(), STATUS_PENDING, "IoCallDriver");
    stage::finish(stage.scene(), STATUS_SUCCESS);
    check!(request.is_back(), "the request did not come back");
    equal!(
        read(&stage.scene().cells[6]),
        2,
        "routines that saw PendingReturned"
    );
    check!(request.was_pending(), "the maker did not see it");
    Ok(())
}

/// Learn, IoCompleteRequest: where a driver set no completion routine, the I/O manager passes the mark on.
fn the_pending_mark_goes_up_without_routines() -> Outcome {
    let stage = Stage::new(&[stage::keep, stage::copy, stage::copy])?;
    let request = Request::new(&stage)?;
    equal!(request.send(), STATUS_PENDING, "IoCallDriver");
    stage::finish(stage.scene(), STATUS_SUCCESS);
    check!(request.is_back(), "the request did not come back");
    check!(
        request.was_pending(),
        "the maker did not see PendingReturned"
    );
    Ok(())
}

/// A request that was completed in the dispatch routine is not pending.
fn a_request_completed_at_once_is_not_pending() -> Outcome {
    let stage = Stage::new(&[stage::succeed, stage::watch])?;
    let request = stage.send()?;
    check!(!request.was_pending(), "PendingReturned is set");
    equal!(
        read(&stage.scene().cells[6]),
        0,
        "routines that saw PendingReturned"
    );
    Ok(())
}

/// Learn, IoCompleteRequest: callable at DISPATCH_LEVEL, where the completion routines run then.
fn a_request_is_completed_at_dispatch_level() -> Outcome {
    unsafe extern "system" fn level(
        _: *mut DEVICE_OBJECT,
        irp: *mut IRP,
        scene: PVOID,
    ) -> NTSTATUS {
        write(&Scene::of(scene).cells[0], KeGetCurrentIrql().into());
        if fields(irp).PendingReturned != 0 {
            IoMarkIrpPending(irp);
        }
        STATUS_SUCCESS
    }
    fn look(scene: &'static Scene, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
        IoCopyCurrentIrpStackLocationToNext(irp);
        IoSetCompletionRoutine(irp, level, scene.context(), ALWAYS);
        IofCallDriver(scene.below(device), irp)
    }
    let stage = Stage::new(&[stage::keep, look])?;
    let request = Request::new(&stage)?;
    equal!(request.send(), STATUS_PENDING, "IoCallDriver");
    at_irql(DISPATCH_LEVEL, || {
        stage::finish(stage.scene(), STATUS_SUCCESS)
    });
    check!(request.is_back(), "the request did not come back");
    equal!(
        read(&stage.scene().cells[0]),
        u32::from(DISPATCH_LEVEL),
        "the routine's IRQL"
    );
    Ok(())
}

/// Learn, IoReuseIrp: the IRP is as new, with the given status, and can be sent again.
fn an_irp_can_be_used_again() -> Outcome {
    let stage = Stage::new(&[stage::fail])?;
    let request = stage.send()?;
    equal!(request.status(), STATUS_UNSUCCESSFUL, "the first status");
    IoReuseIrp(request.irp, STATUS_NOT_SUPPORTED);
    let (status, current) = (request.status(), fields(request.irp).CurrentLocation);
    drop(request);
    equal!(
        (status, current),
        (STATUS_NOT_SUPPORTED, 2),
        "status and CurrentLocation"
    );
    Ok(())
}

/// Sends a request of the I/O manager's making, which is freed when it is completed.
fn synchronous(stage: &Stage) -> Result<(NTSTATUS, i32, IO_STATUS_BLOCK), crate::suite::Finding> {
    let mut event = KEVENT::zeroed();
    KeInitializeEvent(&raw mut event, NotificationEvent, 0);
    let mut outcome = IO_STATUS_BLOCK {
        Status: -1,
        Information: 0xBAD,
    };
    let irp = IoBuildSynchronousFsdRequest(
        IRP_MJ_PNP.into(),
        stage.top(),
        null_mut(),
        0,
        core::ptr::null(),
        &raw mut event,
        &raw mut outcome,
    );
    check!(!irp.is_null(), "IoBuildSynchronousFsdRequest returned null");
    fields(irp).IoStatus.Status = STATUS_NOT_SUPPORTED;
    IoGetNextIrpStackLocation(irp).MinorFunction = 0xFE;
    let status = IofCallDriver(stage.top(), irp);
    if status == STATUS_PENDING {
        stage::finish(stage.scene(), STATUS_SUCCESS);
        equal!(
            wait(&raw mut event, Some(PATIENCE)),
            STATUS_SUCCESS,
            "the wait for the event"
        );
    }
    Ok((status, KeReadStateEvent(&raw mut event), outcome))
}

/// Learn, IoBuildSynchronousFsdRequest: the event is set and the status block written when the request is completed.
fn a_synchronous_request_sets_its_event() -> Outcome {
    let (status, set, outcome) = synchronous(&Stage::new(&[stage::succeed])?)?;
    equal!(status, STATUS_SUCCESS, "IoCallDriver");
    check!(set != 0, "the event is not set");
    equal!(
        (outcome.Status, outcome.Information),
        (STATUS_SUCCESS, 0x77),
        "the status block"
    );
    let (status, set, outcome) = synchronous(&Stage::new(&[stage::keep, stage::copy])?)?;
    equal!(status, STATUS_PENDING, "IoCallDriver");
    check!(set != 0, "the event of a pending request is not set");
    equal!(
        (outcome.Status, outcome.Information),
        (STATUS_SUCCESS, 0x55),
        "its status block"
    );
    Ok(())
}

/// Learn, DRIVER_OBJECT, MajorFunction: without a routine of the driver's the I/O manager fails a request.
fn a_function_without_a_routine_is_refused() -> Outcome {
    let stage = Stage::new(&[stage::succeed])?;
    let request = Request::new(&stage)?;
    IoGetNextIrpStackLocation(request.irp).MajorFunction = IRP_MJ_WRITE;
    equal!(
        request.send(),
        STATUS_INVALID_DEVICE_REQUEST,
        "IoCallDriver"
    );
    check!(request.is_back(), "the request did not come back");
    equal!(
        request.status(),
        STATUS_INVALID_DEVICE_REQUEST,
        "the status"
    );
    Ok(())
}

/// Learn, IoCreateDevice: device type, characteristics, driver and a zeroed extension; DO_DEVICE_INITIALIZING is set.
fn a_new_device_is_initialising() -> Outcome {
    let mut device = null_mut();
    let status = IoCreateDevice(
        device::driver(),
        256,
        core::ptr::null(),
        FILE_DEVICE_UNKNOWN,
        FILE_DEVICE_SECURE_OPEN,
        0,
        &raw mut device,
    );
    equal!(status, STATUS_SUCCESS, "IoCreateDevice");
    // SAFETY: the device was just made.
    let (flags, kind, driver, size, extension) = unsafe {
        (
            (*device).Flags,
            (*device).DeviceType,
            (*device).DriverObject,
            (*device).StackSize,
            (*device).DeviceExtension,
        )
    };
    // SAFETY: 256 bytes of extension.
    let bytes = unsafe { core::slice::from_raw_parts(extension.cast::<u8>(), 256) };
    let dirty = bytes.iter().position(|byte| *byte != 0);
    // SAFETY: the driver's own object.
    let first = unsafe { (*device::driver()).DeviceObject };
    IoDeleteDevice(device);
    // SAFETY: as above.
    let after = unsafe { (*device::driver()).DeviceObject };
    check!(
        flags & DO_DEVICE_INITIALIZING != 0,
        "the flags are {flags:#x}"
    );
    equal!(
        (kind, driver, size),
        (FILE_DEVICE_UNKNOWN, device::driver(), 1),
        "type, driver and stack size"
    );
    equal!(dirty, None, "the first byte of the extension that is not 0");
    equal!(first, device, "the head of the driver's list of devices");
    check!(after != device, "a deleted device is in the driver's list");
    Ok(())
}

group!("irps":
    a_new_irp_is_above_its_stack,
    a_new_device_is_initialising,
    attaching_makes_the_stack_higher,
    a_call_hands_over_the_next_location,
    a_skipped_location_is_used_again,
    completion_routines_run_from_the_bottom_up,
    a_completion_routine_gets_its_own_device,
    a_completion_routine_is_called_on_its_occasions,
    completion_stops_and_goes_on,
    a_forwarded_irp_can_be_taken_back,
    a_pending_request_is_completed_later,
    the_pending_mark_goes_up_through_routines,
    the_pending_mark_goes_up_without_routines,
    a_request_completed_at_once_is_not_pending,
    a_request_is_completed_at_dispatch_level,
    an_irp_can_be_used_again,
    a_synchronous_request_sets_its_event,
    a_function_without_a_routine_is_refused,
);
