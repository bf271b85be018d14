//! A driver of network devices that only passes requests on, in the place of xennet.sys or between it and xenvif.sys.

use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nt_host::cm::{self, CONTROL_SET, Value};
use nt_host::io::device::{
    IoAttachDeviceToDeviceStack, IoCreateDevice, IoDeleteDevice, IoDetachDevice,
};
use nt_host::io::driver;
use nt_host::io::incoming::Incoming;
use nt_host::pnp::packages::{Inbox, add_inbox};
use nt_sys::{
    DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, FILE_DEVICE_UNKNOWN, IRP,
    IRP_MJ_MAXIMUM_FUNCTION, IRP_MJ_PNP, IRP_MN_QUERY_INTERFACE, IRP_MN_REMOVE_DEVICE, NTSTATUS,
    STATUS_NOT_SUPPORTED, STATUS_SUCCESS,
};

use pv_interfaces::{Guid, vif};

use crate::wait;

/// The setup class of network adapters (devguid.h: GUID_DEVCLASS_NET).
const CLASS: &str = "{4d36e972-e325-11ce-bfc1-08002be10318}";
/// Only what hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// The newest version of the VIF interface that it lets pass.
static NEWEST: AtomicU16 = AtomicU16::new(u16::MAX);

/// Binds the driver to network devices from now on, where the packages have none for them.
pub fn bind() {
    make("testnic", || {
        add_inbox(Inbox {
            id: r"XENVIF\VEN_XP0001&DEV_NET&REV_09000005",
            service: "testnic",
            class: "Net",
            class_guid: CLASS,
            description: "Test network device",
        });
    });
}

/// Puts the driver below that of every network device from now on. Versions of the VIF interface newer than `newest` are
/// not there above it, as if it were an older xenvif.sys.
pub fn bind_below(newest: u16) {
    NEWEST.store(newest, Ordering::Relaxed);
    make("oldvif", || {
        let class = format!(r"{CONTROL_SET}\Control\Class\{CLASS}");
        cm::write(&class, "LowerFilters", Value::multi_sz(&["oldvif"]));
    });
}

/// Makes the driver, and does something with it on an NT thread.
fn make(name: &'static str, then: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    nt_host::ke::thread::run(0, move || {
        let object = driver::create_host(name);
        // SAFETY: a live driver object.
        let fields = unsafe { &mut *object };
        fields.MajorFunction = [Some(dispatch); IRP_MJ_MAXIMUM_FUNCTION + 1];
        // SAFETY: the extension lives with its driver.
        unsafe { (*fields.DriverExtension).AddDevice = Some(add_device) };
        then();
        // The receiver may have given up.
        let _ = sender.send(());
    });
    wait::receive(&receiver, PATIENCE).expect("a bound driver");
}

unsafe extern "win64" fn add_device(
    object: *mut DRIVER_OBJECT,
    physical: *mut DEVICE_OBJECT,
) -> NTSTATUS {
    let mut own = null_mut();
    let room = size_of::<*mut DEVICE_OBJECT>() as u32;
    // SAFETY: a live driver object, and a place for the result.
    let status = unsafe {
        IoCreateDevice(
            object,
            room,
            null(),
            FILE_DEVICE_UNKNOWN,
            0,
            0,
            &raw mut own,
        )
    };
    if status != STATUS_SUCCESS {
        return status;
    }
    // SAFETY: both devices live.
    let lower = unsafe { IoAttachDeviceToDeviceStack(own, physical) };
    // SAFETY: the device was just made.
    let fields = unsafe { &mut *own };
    // SAFETY: the extension has room for a pointer.
    unsafe {
        fields
            .DeviceExtension
            .cast::<*mut DEVICE_OBJECT>()
            .write(lower)
    };
    fields.Flags &= !DO_DEVICE_INITIALIZING;
    STATUS_SUCCESS
}

unsafe extern "win64" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a dispatch routine's own IRP.
    let request = unsafe { Incoming::new(irp) };
    // SAFETY: the device lives.
    let extension = unsafe { (*device).DeviceExtension };
    // SAFETY: `add_device` wrote it.
    let lower = unsafe { extension.cast::<*mut DEVICE_OBJECT>().read() };
    if request.function() == (IRP_MJ_PNP, IRP_MN_QUERY_INTERFACE) && is_too_new(&request) {
        return request.complete(Err(STATUS_NOT_SUPPORTED));
    }
    if request.function() != (IRP_MJ_PNP, IRP_MN_REMOVE_DEVICE) {
        // SAFETY: the device below lives.
        return unsafe { request.pass(lower) };
    }
    request.set(STATUS_SUCCESS, 0);
    // SAFETY: the device below lives.
    let status = unsafe { request.pass(lower) };
    // SAFETY: this driver's device is attached to it.
    unsafe { IoDetachDevice(lower) };
    // SAFETY: nothing is attached to the device.
    unsafe { IoDeleteDevice(device) };
    status
}

/// Whether an interface is asked for that is not to be there.
fn is_too_new(request: &Incoming) -> bool {
    // SAFETY: this function's member.
    let asked = unsafe { request.parameters().QueryInterface };
    // SAFETY: who asks gives a GUID.
    let kind = unsafe { asked.InterfaceType.cast::<Guid>().read_unaligned() };
    kind == vif::GUID && asked.Version > NEWEST.load(Ordering::Relaxed)
}
