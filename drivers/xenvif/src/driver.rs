//! The driver: its start, and the way of a request to the device it is for.

use crate::fdo::Fdo;
use crate::vif::Vif;
use alloc::sync::Arc;
use nt::{Device, DriverObject, Irp, Key, NtStatus, Result, WdmDriver};
use nt_sys::IRP_MJ_SYSTEM_CONTROL;

/// What stands behind each of the driver's device objects.
#[derive(Debug)]
pub enum Node {
    /// The bus.
    Function(Arc<Fdo>),
    /// A network device on it.
    Child(Arc<Vif>),
}

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
    type Extension = Node;

    fn add_device(driver: &DriverObject, physical: &nt::DeviceObject) -> Result<()> {
        Fdo::add(driver, physical)
    }

    fn pnp(device: &Device<Node>, irp: Irp) -> NtStatus {
        match &**device {
            Node::Function(fdo) => Arc::clone(fdo).pnp(device, irp),
            // Removing the device drops the extension.
            Node::Child(vif) => pv_bus::pnp(&Arc::clone(vif), irp),
        }
    }

    fn power(device: &Device<Node>, irp: Irp) -> NtStatus {
        match &**device {
            Node::Function(fdo) => pv_bus::power(fdo, device.object(), irp),
            Node::Child(vif) => pv_bus::child_power(vif, device.object(), irp),
        }
    }

    /// There is nothing to be opened: neither the bus nor its children are for programs.
    fn other(device: &Device<Node>, irp: Irp) -> NtStatus {
        match (&**device, irp.major()) {
            (Node::Function(fdo), IRP_MJ_SYSTEM_CONTROL) => fdo.function.pass_down(irp),
            (Node::Child(_), IRP_MJ_SYSTEM_CONTROL) => irp.complete_unchanged(),
            _ => irp.complete(NtStatus::INVALID_DEVICE_REQUEST),
        }
    }
}
