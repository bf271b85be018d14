//! The driver's device, and where requests to it go.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::cases::{self, Case};
use crate::key;
use crate::wdk::*;

/// The device's extension.
#[repr(C)]
pub struct Extension {
    pub lower: *mut DEVICE_OBJECT,
    pub lock: KSPIN_LOCK,
    pub timer: KTIMER,
    pub event: KEVENT,
}

/// Number of the case to play, plus one.
static CASE: AtomicUsize = AtomicUsize::new(0);
/// The routine that a READ goes to; a [`DRIVER_DISPATCH`].
pub static READ_ROUTINE: AtomicUsize = AtomicUsize::new(0);

fn case() -> Option<&'static Case> {
    cases::all().nth(CASE.load(Ordering::SeqCst).checked_sub(1)?)
}

/// Whether `name` is the case to play: for those that are part of what every driver does.
pub fn plays(name: &str) -> bool {
    case().is_some_and(|case| case.0 == name)
}

/// # Safety
/// The arguments are those of DriverEntry.
pub unsafe fn entry(driver: *mut DRIVER_OBJECT, path: *mut UNICODE_STRING) -> NTSTATUS {
    let wanted = key::read(path, |text| {
        cases::all().position(|case| text.iter().copied().eq(case.0.bytes().map(u16::from)))
    });
    CASE.store(wanted.map_or(0, |index| index + 1), Ordering::SeqCst);
    // SAFETY: the I/O manager's promise.
    let object = unsafe { &mut *driver };
    object.DriverUnload = Some(unload);
    object.MajorFunction[usize::from(IRP_MJ_PNP)] = Some(pnp);
    object.MajorFunction[usize::from(IRP_MJ_POWER)] = Some(pass);
    object.MajorFunction[usize::from(IRP_MJ_SYSTEM_CONTROL)] = Some(pass);
    object.MajorFunction[usize::from(IRP_MJ_READ)] = Some(read);
    if plays("has-no-dispatch-routine") {
        object.MajorFunction[usize::from(IRP_MJ_WRITE)] = None;
    }
    // SAFETY: a driver object's extension lives with it.
    unsafe { (*object.DriverExtension).AddDevice = Some(add_device) };
    STATUS_SUCCESS
}

unsafe extern "system" fn unload(_driver: *mut DRIVER_OBJECT) {
    if plays("leaves-a-dpc") {
        cases::leaks::queue_a_dpc();
    }
}

/// The device's extension.
pub fn extension<'a>(device: *mut DEVICE_OBJECT) -> &'a mut Extension {
    // SAFETY: every device of this driver has one, and lives while it is used.
    unsafe { &mut *(*device).DeviceExtension.cast::<Extension>() }
}

/// A new device of the driver that `like` belongs to.
pub fn create(driver: *mut DRIVER_OBJECT) -> *mut DEVICE_OBJECT {
    let mut device = null_mut();
    IoCreateDevice(
        driver,
        size_of::<Extension>() as u32,
        core::ptr::null(),
        FILE_DEVICE_UNKNOWN,
        FILE_DEVICE_SECURE_OPEN,
        0,
        &raw mut device,
    );
    device
}

unsafe extern "system" fn add_device(
    driver: *mut DRIVER_OBJECT,
    pdo: *mut DEVICE_OBJECT,
) -> NTSTATUS {
    let device = create(driver);
    let lower = IoAttachDeviceToDeviceStack(device, pdo);
    extension(device).lower = lower;
    if !plays("leaves-initializing") {
        // SAFETY: the device was just made.
        unsafe { (*device).Flags &= !DO_DEVICE_INITIALIZING };
    }
    STATUS_SUCCESS
}

/// Completes an IRP; what a dispatch routine returns.
pub fn complete(irp: *mut IRP, status: NTSTATUS) -> NTSTATUS {
    fields(irp).IoStatus.Status = status;
    IofCompleteRequest(irp, 0);
    status
}

/// Passes an IRP to the device below, unchanged.
pub unsafe extern "system" fn pass(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    IoSkipCurrentIrpStackLocation(irp);
    IofCallDriver(extension(device).lower, irp)
}

unsafe extern "system" fn pnp(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    match IoGetCurrentIrpStackLocation(irp).MinorFunction {
        IRP_MN_START_DEVICE => {
            if let Some(case) = case() {
                (case.1)(device);
            }
            complete(irp, STATUS_SUCCESS)
        }
        IRP_MN_QUERY_DEVICE_RELATIONS
            if plays("reports-no-device")
                && IoGetCurrentIrpStackLocation(irp).Arguments[0] == BusRelations =>
        {
            let list: *mut DEVICE_RELATIONS = cases::object();
            let nothing = cases::object();
            // SAFETY: the memory was just allocated.
            unsafe {
                list.write(DEVICE_RELATIONS {
                    Count: 1,
                    Objects: [nothing],
                })
            };
            fields(irp).IoStatus.Status = STATUS_SUCCESS;
            fields(irp).IoStatus.Information = list as usize;
            // SAFETY: the same arguments.
            unsafe { pass(device, irp) }
        }
        IRP_MN_REMOVE_DEVICE if plays("fails-remove") => complete(irp, STATUS_UNSUCCESSFUL),
        IRP_MN_REMOVE_DEVICE => {
            let lower = extension(device).lower;
            fields(irp).IoStatus.Status = STATUS_SUCCESS;
            // SAFETY: the same arguments.
            let status = unsafe { pass(device, irp) };
            if !plays("stays-attached") {
                IoDetachDevice(lower);
                IoDeleteDevice(device);
            }
            status
        }
        IRP_MN_QUERY_REMOVE_DEVICE => {
            fields(irp).IoStatus.Status = STATUS_SUCCESS;
            // SAFETY: the same arguments.
            unsafe { pass(device, irp) }
        }
        // SAFETY: the same arguments.
        _ => unsafe { pass(device, irp) },
    }
}

unsafe extern "system" fn read(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let routine = READ_ROUTINE.load(Ordering::SeqCst);
    // SAFETY: `send` has stored a routine of that type.
    let routine: DRIVER_DISPATCH = unsafe { core::mem::transmute(routine) };
    // SAFETY: the same arguments.
    unsafe { routine(device, irp) }
}

/// Sends a READ to the device, for `routine` to deal with.
pub fn send(device: *mut DEVICE_OBJECT, routine: DRIVER_DISPATCH) -> NTSTATUS {
    READ_ROUTINE.store(routine as *const () as usize, Ordering::SeqCst);
    let mut event = KEVENT::zeroed();
    KeInitializeEvent(&raw mut event, NotificationEvent, 0);
    let mut status = IO_STATUS_BLOCK {
        Status: 0,
        Information: 0,
    };
    let irp = IoBuildSynchronousFsdRequest(
        IRP_MJ_READ.into(),
        device,
        null_mut(),
        0,
        core::ptr::null(),
        &raw mut event,
        &raw mut status,
    );
    IofCallDriver(device, irp)
}
