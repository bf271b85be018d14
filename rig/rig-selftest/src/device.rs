//! The driver's own devices, and where each request to one of them goes.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::settings::Settings;
use crate::stage::{self, Scene};
use crate::support::{Pool, TAG, Thread, wait};
use crate::wdk::*;
use crate::{cases, child, signal, sleep, suite};

/// What a device of this driver is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The function device of the root-enumerated device.
    Root,
    /// The function device of the function that raises interrupts.
    Signal,
    /// One of a stack of devices that a case has made.
    Stage,
    /// The physical device of a child, which this driver reports as a bus.
    ChildBus,
    /// The function device of a child.
    ChildFunction,
}

/// What is known of a device.
#[repr(C)]
pub struct Extension {
    pub kind: Kind,
    pub lower: *mut DEVICE_OBJECT,
    pub pdo: *mut DEVICE_OBJECT,
    /// Of a stage's device.
    pub scene: *const Scene,
    /// Of a child's devices: its place on the bus.
    pub slot: u32,
}

impl Extension {
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            lower: null_mut(),
            pdo: null_mut(),
            scene: core::ptr::null(),
            slot: 0,
        }
    }
}

static DRIVER: AtomicPtr<DRIVER_OBJECT> = AtomicPtr::new(null_mut());
static ROOT: AtomicPtr<DEVICE_OBJECT> = AtomicPtr::new(null_mut());
static SERVICE_KEY: AtomicPtr<ServiceKey> = AtomicPtr::new(null_mut());
static RUNNER: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(null_mut());
static SETTINGS: AtomicPtr<Settings> = AtomicPtr::new(null_mut());

/// The path of the service's key, which DriverEntry is given for its own time only.
#[repr(C)]
struct ServiceKey {
    string: UNICODE_STRING,
    units: [u16; 128],
}

/// This driver's object.
pub fn driver() -> *mut DRIVER_OBJECT {
    DRIVER.load(Ordering::SeqCst)
}

/// The function device of the root-enumerated device.
pub fn root() -> *mut DEVICE_OBJECT {
    ROOT.load(Ordering::SeqCst)
}

/// The path of the service's key.
pub fn service_key() -> *const UNICODE_STRING {
    SERVICE_KEY.load(Ordering::SeqCst).cast()
}

/// The device's extension.
pub fn extension<'a>(device: *mut DEVICE_OBJECT) -> &'a mut Extension {
    // SAFETY: every device of this driver has one, and lives while it is used.
    unsafe { &mut *(*device).DeviceExtension.cast::<Extension>() }
}

/// # Safety
/// The arguments are those of DriverEntry.
pub unsafe fn entry(driver: *mut DRIVER_OBJECT, path: *mut UNICODE_STRING) -> NTSTATUS {
    DRIVER.store(driver, Ordering::SeqCst);
    let Ok(mut settings) = Pool::<Settings>::zeroed() else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    *settings = Settings::read(path);
    let Ok(mut key) = Pool::<ServiceKey>::zeroed() else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    key.string.MaximumLength = size_of_val(&key.units) as u16;
    key.string.Buffer = key.units.as_mut_ptr();
    RtlCopyUnicodeString(&raw mut key.string, path);
    SETTINGS.store(settings.into_raw(), Ordering::SeqCst);
    SERVICE_KEY.store(key.into_raw(), Ordering::SeqCst);
    // SAFETY: the I/O manager's promise.
    let object = unsafe { &mut *driver };
    object.DriverUnload = Some(unload);
    object.MajorFunction[usize::from(IRP_MJ_PNP)] = Some(pnp);
    object.MajorFunction[usize::from(IRP_MJ_POWER)] = Some(power);
    object.MajorFunction[usize::from(IRP_MJ_SYSTEM_CONTROL)] = Some(system_control);
    object.MajorFunction[usize::from(IRP_MJ_INTERNAL_DEVICE_CONTROL)] = Some(stage::dispatch);
    // SAFETY: a driver object's extension lives with it.
    unsafe { (*object.DriverExtension).AddDevice = Some(add_device) };
    STATUS_SUCCESS
}

unsafe extern "system" fn unload(_driver: *mut DRIVER_OBJECT) {
    ExFreePoolWithTag(SETTINGS.swap(null_mut(), Ordering::SeqCst).cast(), TAG);
    ExFreePoolWithTag(SERVICE_KEY.swap(null_mut(), Ordering::SeqCst).cast(), TAG);
    suite::say(format_args!("unloaded"));
}

unsafe extern "system" fn add_device(
    driver: *mut DRIVER_OBJECT,
    pdo: *mut DEVICE_OBJECT,
) -> NTSTATUS {
    // SAFETY: a physical device, of this driver's for a child.
    if unsafe { (*pdo).DriverObject } == driver {
        return child::add_device(pdo);
    }
    if is_pci(pdo) {
        return signal::add_device(pdo);
    }
    match attach(pdo, Kind::Root) {
        Ok(device) => {
            ROOT.store(device, Ordering::SeqCst);
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Whether a device is one of the PCI bus: the root-enumerated one is none.
fn is_pci(pdo: *mut DEVICE_OBJECT) -> bool {
    let mut ids = [0u16; 256];
    let mut needed = 0;
    let status = IoGetDeviceProperty(
        pdo,
        DevicePropertyHardwareID,
        size_of_val(&ids) as u32,
        ids.as_mut_ptr().cast(),
        &raw mut needed,
    );
    nt_success(status) && ids.iter().zip("PCI".encode_utf16()).all(|(a, b)| *a == b)
}

/// Makes a device on top of a physical one's stack.
pub fn attach(pdo: *mut DEVICE_OBJECT, kind: Kind) -> Result<*mut DEVICE_OBJECT, NTSTATUS> {
    let mut device = null_mut();
    let status = IoCreateDevice(
        driver(),
        size_of::<Extension>() as u32,
        core::ptr::null(),
        FILE_DEVICE_UNKNOWN,
        FILE_DEVICE_SECURE_OPEN,
        0,
        &raw mut device,
    );
    if !nt_success(status) {
        return Err(status);
    }
    let lower = IoAttachDeviceToDeviceStack(device, pdo);
    if lower.is_null() {
        IoDeleteDevice(device);
        return Err(STATUS_NO_SUCH_DEVICE);
    }
    *extension(device) = Extension {
        lower,
        pdo,
        ..Extension::new(kind)
    };
    // SAFETY: the device was just made; the power manager calls it at PASSIVE_LEVEL.
    unsafe { (*device).Flags = (*device).Flags & !DO_DEVICE_INITIALIZING | DO_POWER_PAGABLE };
    Ok(device)
}

/// Completes an IRP; what a dispatch routine returns.
pub fn complete(irp: *mut IRP, status: NTSTATUS, information: usize) -> NTSTATUS {
    fields(irp).IoStatus = IO_STATUS_BLOCK {
        Status: status,
        Information: information,
    };
    IofCompleteRequest(irp, 0);
    status
}

/// Passes an IRP to the device below, unchanged.
pub unsafe extern "system" fn pass(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    IoSkipCurrentIrpStackLocation(irp);
    IofCallDriver(extension(device).lower, irp)
}

unsafe extern "system" fn system_control(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    match extension(device).kind {
        Kind::Root => cases::interfaces::system_control(device, irp),
        // The bottom of a stack: a bus has no data.
        Kind::ChildBus => complete(irp, fields(irp).IoStatus.Status, 0),
        // SAFETY: the same arguments.
        _ => unsafe { pass(device, irp) },
    }
}

/// Lets the drivers below have the IRP first; it is this driver's again afterwards.
pub fn forward_and_wait(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    unsafe extern "system" fn done(_: *mut DEVICE_OBJECT, irp: *mut IRP, event: PVOID) -> NTSTATUS {
        if fields(irp).PendingReturned != 0 {
            KeSetEvent(event.cast(), 0, 0);
        }
        STATUS_MORE_PROCESSING_REQUIRED
    }
    let mut event = KEVENT::zeroed();
    KeInitializeEvent(&raw mut event, NotificationEvent, 0);
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, done, (&raw mut event).cast(), ALWAYS);
    if IofCallDriver(extension(device).lower, irp) == STATUS_PENDING {
        let _ = wait(&raw mut event, None);
    }
    fields(irp).IoStatus.Status
}

unsafe extern "system" fn power(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    match extension(device).kind {
        Kind::ChildBus => child::bus_power(device, irp),
        Kind::ChildFunction => child::function_power(device, irp),
        Kind::Root => {
            sleep::note(sleep::Who::Root, irp);
            sleep::owner(device, irp)
        }
        Kind::Signal | Kind::Stage => {
            PoStartNextPowerIrp(irp);
            IoSkipCurrentIrpStackLocation(irp);
            PoCallDriver(extension(device).lower, irp)
        }
    }
}

unsafe extern "system" fn pnp(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    match extension(device).kind {
        // SAFETY: the same arguments.
        Kind::Stage => unsafe { stage::dispatch(device, irp) },
        Kind::ChildBus => child::bus_pnp(device, irp),
        Kind::ChildFunction => child::function_pnp(device, irp),
        Kind::Signal => signal::pnp(device, irp),
        Kind::Root => root_pnp(device, irp),
    }
}

fn root_pnp(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let location = IoGetCurrentIrpStackLocation(irp);
    match location.MinorFunction {
        IRP_MN_START_DEVICE => {
            let mut status = forward_and_wait(device, irp);
            if nt_success(status) {
                status = start_runner();
            }
            complete(irp, status, 0)
        }
        IRP_MN_QUERY_REMOVE_DEVICE | IRP_MN_CANCEL_REMOVE_DEVICE | IRP_MN_SURPRISE_REMOVAL => {
            fields(irp).IoStatus.Status = STATUS_SUCCESS;
            // SAFETY: the same arguments.
            unsafe { pass(device, irp) }
        }
        IRP_MN_REMOVE_DEVICE => {
            stop_runner();
            fields(irp).IoStatus.Status = STATUS_SUCCESS;
            remove(device, irp)
        }
        IRP_MN_QUERY_DEVICE_RELATIONS if location.Arguments[0] == BusRelations => {
            let list = child::relations();
            if list.is_null() {
                return complete(irp, STATUS_INSUFFICIENT_RESOURCES, 0);
            }
            fields(irp).IoStatus = IO_STATUS_BLOCK {
                Status: STATUS_SUCCESS,
                Information: list as usize,
            };
            // SAFETY: the same arguments.
            unsafe { pass(device, irp) }
        }
        // SAFETY: the same arguments.
        _ => unsafe { pass(device, irp) },
    }
}

/// The end of a function device: the request goes down, then the device goes.
pub fn remove(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let lower = extension(device).lower;
    // SAFETY: a dispatch routine's own arguments.
    let status = unsafe { pass(device, irp) };
    IoDetachDevice(lower);
    IoDeleteDevice(device);
    status
}

fn start_runner() -> NTSTATUS {
    match Thread::start(run, null_mut()) {
        Ok(thread) => {
            // `stop_runner` has the reference now.
            RUNNER.store(thread.object(), Ordering::SeqCst);
            core::mem::forget(thread);
            STATUS_SUCCESS
        }
        Err(_) => STATUS_INSUFFICIENT_RESOURCES,
    }
}

fn stop_runner() {
    let thread = RUNNER.swap(null_mut(), Ordering::SeqCst);
    if !thread.is_null() {
        let _ = wait(thread, None);
        ObfDereferenceObject(thread);
    }
}

unsafe extern "system" fn run(_context: PVOID) {
    // SAFETY: the settings live until the driver is unloaded.
    let settings = unsafe { &*SETTINGS.load(Ordering::SeqCst) };
    if settings.bug_check {
        cases::bug_check::run();
    }
    let mut words = [""; 16];
    let words = settings.split(&mut words);
    suite::run(cases::GROUPS, words);
    if settings.self_check {
        suite::run(&[&cases::self_check::GROUP], &[]);
    }
    suite::say(format_args!("end"));
    let _ = PsTerminateSystemThread(STATUS_SUCCESS);
}
