//! A PV device on the bus: one physical device object for each class.

mod requirements;

use crate::fdo::Fdo;
use crate::settings;
use ::bus::{Class, Identity, Names};
use alloc::sync::Arc;
use nt::interface::{InterfaceRequest, guid};
use nt::{PagedPool, Result, try_arc};
use pv_bus::{ChildDevice, Life, Node};
use pv_interfaces::emulated;

/// The device.
pub struct Child {
    fdo: Arc<Fdo>,
    identity: Identity,
    /// Whether it may be removed by surprise, and ejected.
    removable: bool,
    ejectable: bool,
    life: Life<Node<Fdo>>,
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
        Node::<Fdo>::add_child(&fdo.driver, &child)?;
        nt::info!("{child:?}");
        Ok(child)
    }

    /// What it is.
    pub fn class(&self) -> Class {
        self.identity.class
    }
}

impl ChildDevice for Child {
    type Bus = Fdo;

    fn bus(&self) -> &Arc<Fdo> {
        &self.fdo
    }

    fn life(&self) -> &Life<Node<Fdo>> {
        &self.life
    }

    fn names(&self) -> &impl Names {
        &self.identity
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
