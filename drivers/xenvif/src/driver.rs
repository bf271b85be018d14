//! The driver: its start, and the way of a request to the device it is for.

use crate::fdo::Fdo;
use nt::{Device, DriverObject, Irp, Key, NtStatus, Result, WdmDriver};
use nt_sys::IRP_MJ_SYSTEM_CONTROL;
use pv_bus::Node;

/// The driver.
#[derive(Debug)]
pub struct XenVif;

/// DriverEntry.
pub fn start(driver: &DriverObject, _service: &Key) -> Result<()> {
    nt::info!("version {}", env!("CARGO_PKG_VERSION"));
    driver.register::<XenVif>();
    Ok(())
}

impl WdmDriver for XenVif {
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

    /// There is nothing to be opened: neither the bus nor its children are for programs.
    fn other(device: &Device<Node<Fdo>>, irp: Irp) -> NtStatus {
        match (&**device, irp.major()) {
            (Node::Function(fdo), IRP_MJ_SYSTEM_CONTROL) => fdo.function.pass_down(irp),
            (Node::Child(_), IRP_MJ_SYSTEM_CONTROL) => irp.complete_unchanged(),
            _ => irp.complete(NtStatus::INVALID_DEVICE_REQUEST),
        }
    }
}
