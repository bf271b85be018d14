//! The driver: its start, and the way of a request to the device it is for.

use crate::fdo::Fdo;
use crate::settings;
use nt::{Device, DriverObject, Irp, Key, NtStatus, Result, VERSION, WdmDriver};
use nt_sys::STATUS_INCOMPATIBLE_DRIVER_BLOCKED;
use pv_bus::Node;

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
    type Extension = Node<Fdo>;

    fn add_device(driver: &DriverObject, physical: &nt::DeviceObject) -> Result<()> {
        Fdo::add(driver, physical)
    }

    fn pnp(device: &Device<Node<Fdo>>, irp: Irp) -> NtStatus {
        Node::pnp(device, irp)
    }

    fn power(device: &Device<Node<Fdo>>, irp: Irp) -> NtStatus {
        Node::power(device, irp)
    }

    fn other(device: &Device<Node<Fdo>>, irp: Irp) -> NtStatus {
        match &**device {
            Node::Function(fdo) => fdo.function.pass_down(irp),
            Node::Child(_) => irp.complete_unchanged(),
        }
    }
}
