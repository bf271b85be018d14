//! A PV device on the bus: one physical device object for each class.

mod interface;
mod pnp;
mod power;

use crate::driver::Node;
use crate::fdo::Fdo;
use crate::settings;
use ::bus::{Class, Identity, PnpState, State};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use nt::device::{DeviceOptions, DevicePointer};
use nt::{DeviceObject, OwnedDevice, Result, SpinLock, try_arc};

/// The device.
pub struct Child {
    pub(crate) fdo: Arc<Fdo>,
    identity: Identity,
    /// Whether it may be removed by surprise, and ejected.
    removable: bool,
    ejectable: bool,
    pnp: SpinLock<State>,
    /// Its device is there no more.
    missing: AtomicBool,
    /// Windows has been told of it at some time.
    reported: AtomicBool,
    /// Windows has been told that it is there no more.
    unreported: AtomicBool,
    /// Windows has removed it.
    removed: AtomicBool,
    device: SpinLock<Option<DevicePointer<Node>>>,
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
            pnp: SpinLock::new(State::new(PnpState::Present)),
            missing: AtomicBool::new(false),
            reported: AtomicBool::new(false),
            unreported: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            device: SpinLock::new(None),
        })?;
        let device = OwnedDevice::create(
            &fdo.driver,
            DeviceOptions::CHILD,
            Node::Child(Arc::clone(&child)),
        )?;
        *child.device.lock() = Some(device.start());
        nt::info!("{child:?}");
        Ok(child)
    }

    /// What it is.
    pub fn class(&self) -> Class {
        self.identity.class
    }

    /// Whether its device is there no more.
    pub fn is_missing(&self) -> bool {
        self.missing.load(Ordering::Acquire)
    }

    /// Its device is there no more.
    pub fn set_missing(&self) {
        self.missing.store(true, Ordering::Release);
    }

    /// Whether Windows has been told of it at some time.
    pub fn was_reported(&self) -> bool {
        self.reported.load(Ordering::Acquire)
    }

    /// Windows is told of it.
    pub fn set_reported(&self) {
        self.reported.store(true, Ordering::Release);
        let mut pnp = self.pnp.lock();
        if pnp.get() == PnpState::Present {
            pnp.set(PnpState::Enumerated);
        }
    }

    /// Windows is told that it is there no more.
    pub fn set_unreported(&self) {
        self.unreported.store(true, Ordering::Release);
    }

    /// Whether Windows has removed it and knows that it is missing.
    pub fn is_finished(&self) -> bool {
        self.is_missing()
            && self.unreported.load(Ordering::Acquire)
            && self.removed.load(Ordering::Acquire)
    }

    /// Whether Windows will still remove it: it went by surprise.
    pub fn awaits_removal(&self) -> bool {
        self.pnp.lock().get() == PnpState::SurpriseRemovePending
    }

    /// Its device object, referenced.
    pub fn object(&self) -> Option<DeviceObject> {
        let pointer = *self.device.lock();
        // SAFETY: `delete` takes the pointer away before the object goes.
        unsafe { DeviceObject::reference(pointer?.as_ptr()) }
    }

    /// Deletes the device object. Only whoever took the child out of its parent's list may do that, once, when Windows
    /// sends no more requests: it was never told of the device, or has removed it.
    pub fn delete(self: Arc<Self>) {
        let pointer = self.device.lock().take();
        if let Some(pointer) = pointer {
            nt::info!("{self:?} is deleted");
            // SAFETY: the pointer was there, so the object is.
            let device = unsafe { pointer.get() };
            // SAFETY: the documentation of this function says so.
            unsafe { device.delete(None) };
        }
    }
}
