//! A PV device on the bus: one physical device object for each class.

// Microsoft's names of enumerators stand in patterns.
#![allow(non_upper_case_globals)]

mod requirements;

use crate::driver::Node;
use crate::fdo::Fdo;
use crate::settings;
use ::bus::{Class, Identity, NoMemory};
use alloc::sync::Arc;
use alloc::vec::Vec;
use nt::device::DeviceOptions;
use nt::interface::{InterfaceRequest, guid};
use nt::{DeviceObject, OwnedDevice, PagedPool, Result, try_arc};
use nt_sys::{
    BusQueryCompatibleIDs, BusQueryDeviceID, BusQueryHardwareIDs, BusQueryInstanceID,
    DeviceTextDescription, DeviceTextLocationInformation,
};
use pv_bus::{ChildDevice, Life};
use pv_interfaces::emulated;

/// The device.
pub struct Child {
    fdo: Arc<Fdo>,
    identity: Identity,
    /// Whether it may be removed by surprise, and ejected.
    removable: bool,
    ejectable: bool,
    life: Life<Node>,
}

impl core::fmt::Debug for Child {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.identity)
    }
}

impl Child {
    /// Makes the device. PASSIVE_LEVEL.
    pub fn create(fdo: &Arc<Fdo>, identity: Identity) -> Result<Arc<Child>> {
        let child = try_arc(Child {
            fdo: Arc::clone(fdo),
            identity,
            removable: settings::allows(&identity.class, "AllowPdoRemove"),
            ejectable: settings::allows(&identity.class, "AllowPdoEject"),
            life: Life::new(),
        })?;
        let device = OwnedDevice::create(
            &fdo.driver,
            DeviceOptions::CHILD,
            Node::Child(Arc::clone(&child)),
        )?;
        child.life.begin(device.start());
        nt::info!("{child:?}");
        Ok(child)
    }

    /// What it is.
    pub fn class(&self) -> Class {
        self.identity.class
    }
}

impl ChildDevice for Child {
    type Node = Node;

    fn life(&self) -> &Life<Node> {
        &self.life
    }

    fn bus(&self) -> &DeviceObject {
        &self.fdo.function.physical
    }

    fn id(&self, kind: i32) -> Option<core::result::Result<Vec<u8>, NoMemory>> {
        match kind {
            BusQueryDeviceID => Some(self.identity.device_id()),
            BusQueryInstanceID => Some(self.identity.instance_id()),
            BusQueryHardwareIDs | BusQueryCompatibleIDs => Some(self.identity.hardware_ids()),
            _ => None,
        }
    }

    fn text(&self, kind: i32) -> Option<core::result::Result<Vec<u8>, NoMemory>> {
        match kind {
            DeviceTextDescription => Some(self.identity.description()),
            DeviceTextLocationInformation => Some(self.identity.location()),
            _ => None,
        }
    }

    /// The standard interface of a PCI device, what the drivers below the bus have, and the bus's own.
    fn interface(&self, request: &mut InterfaceRequest<'_>) -> Option<Result<()>> {
        if let Some(outcome) = self.fdo.pci.answer(request) {
            return Some(outcome);
        }
        if request.is(&guid(emulated::GUID)) {
            return Some(request.forward(&self.fdo.function.physical).ok());
        }
        self.fdo.bus()?.answer(request)
    }

    fn disown(self: &Arc<Self>) {
        self.fdo.disown(self);
    }

    fn rescan(&self) {
        self.fdo.rescan();
    }

    fn is_removable(&self) -> bool {
        self.removable
    }

    fn is_ejectable(&self) -> bool {
        self.ejectable
    }

    fn requirements(&self) -> Option<Result<PagedPool>> {
        Some(requirements::requirements())
    }
}
