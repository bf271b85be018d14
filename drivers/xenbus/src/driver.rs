//! The driver: its start, and the way of a request to the device it is for.

use crate::child::Child;
use crate::fdo::Fdo;
use crate::settings;
use alloc::sync::Arc;
use nt::{Device, DriverObject, Irp, Key, NtStatus, Result, VERSION, WdmDriver};
use nt_sys::STATUS_INCOMPATIBLE_DRIVER_BLOCKED;

/// What stands behind each of the driver's device objects.
#[derive(Debug)]
pub enum Node {
    /// The platform device.
    Function(Arc<Fdo>),
    /// A PV device on its bus.
    Child(Arc<Child>),
}

/// The driver.
#[derive(Debug)]
pub struct XenBus;

/// DriverEntry. Without Xen, or with a xen.sys of another version, the driver loads and stays inert.
pub fn start(driver: &DriverObject, _service: &Key) -> Result<()> {
    let [major, minor, micro, build] = VERSION;
    // SAFETY: the name is NUL-terminated.
    let touched = unsafe { xen_api::XenTouch(c"XENBUS".as_ptr(), major, minor, micro, build) };
    match NtStatus::check(touched) {
        Ok(()) => {
            nt::info!("version {major}.{minor}.{micro}.{build}");
            driver.register::<XenBus>();
        }
        Err(NtStatus(STATUS_INCOMPATIBLE_DRIVER_BLOCKED)) => {
            nt::warning!("xen.sys is of another version: a reboot is needed");
            if let Err(status) = settings::request_reboot(c"XENBUS".as_ptr()) {
                nt::warning!("requesting a reboot: {status}");
            }
        }
        Err(status) => nt::warning!("no Xen: {status}"),
    }
    Ok(())
}

impl WdmDriver for XenBus {
    type Extension = Node;

    fn add_device(driver: &DriverObject, physical: &nt::DeviceObject) -> Result<()> {
        Fdo::add(driver, physical)
    }

    fn pnp(device: &Device<Node>, irp: Irp) -> NtStatus {
        match &**device {
            Node::Function(fdo) => Arc::clone(fdo).pnp(device, irp),
            // Removing the device drops the extension.
            Node::Child(child) => pv_bus::pnp(&Arc::clone(child), irp),
        }
    }

    fn power(device: &Device<Node>, irp: Irp) -> NtStatus {
        match &**device {
            Node::Function(fdo) => Arc::clone(fdo).power(device.object(), irp),
            Node::Child(child) => pv_bus::child_power(child, device.object(), irp),
        }
    }

    fn other(device: &Device<Node>, irp: Irp) -> NtStatus {
        match &**device {
            Node::Function(fdo) => fdo.function.pass_down(irp),
            Node::Child(_) => irp.complete_unchanged(),
        }
    }
}
