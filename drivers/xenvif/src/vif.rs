//! A network device on the bus: one physical device object for each virtual interface.

// Microsoft's names of enumerators stand in patterns.
#![allow(non_upper_case_globals)]

use crate::driver::Node;
use crate::fdo::Fdo;
use crate::settings;
use ::bus::{NoMemory, VifIdentity, VifNumber};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use netfront::MacAddress;
use nt::device::DeviceOptions;
use nt::interface::InterfaceRequest;
use nt::{DeviceObject, NtStatus, OwnedDevice, Result, try_arc};
use nt_sys::{
    BusQueryCompatibleIDs, BusQueryContainerID, BusQueryDeviceID, BusQueryHardwareIDs,
    BusQueryInstanceID, DeviceTextDescription, DeviceTextLocationInformation,
};
use pv_bus::{ChildDevice, Life};
use pv_client::c_text;
use pv_interfaces::{cache, store, suspend};

/// The device.
pub struct Vif {
    fdo: Arc<Fdo>,
    identity: VifIdentity,
    life: Life<Node>,
    /// The emulated network cards are to be unplugged at the next boot, since this device works or would.
    unplug_requested: AtomicBool,
    running: AtomicBool,
}

impl core::fmt::Debug for Vif {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.identity)
    }
}

impl Vif {
    /// Makes the device. PASSIVE_LEVEL.
    pub fn create(fdo: &Arc<Fdo>, identity: VifIdentity) -> Result<Arc<Self>> {
        let vif = try_arc(Self {
            fdo: Arc::clone(fdo),
            identity,
            life: Life::new(),
            unplug_requested: AtomicBool::new(false),
            running: AtomicBool::new(false),
        })?;
        let device = OwnedDevice::create(
            &fdo.driver,
            DeviceOptions::CHILD,
            Node::Child(Arc::clone(&vif)),
        )?;
        vif.life.begin(device.start());
        let address = MacAddress(identity.address);
        if let Err(status) = settings::record_address(identity.number, Some(address)) {
            nt::warning!("recording the address of {vif:?}: {status}");
        }
        nt::info!("{vif:?}: {address}");
        Ok(vif)
    }

    /// Which one it is.
    pub fn number(&self) -> VifNumber {
        self.identity.number
    }

    /// Whether an emulated network card may stand for this device. Then it is to be unplugged at the next boot.
    fn is_emulated(&self) -> bool {
        let Ok(nics) = self.fdo.nics() else {
            return true;
        };
        if nics.are_unplugged() {
            return false;
        }
        if !self.unplug_requested.swap(true, Ordering::AcqRel) {
            nics.request_unplug(true);
        }
        nics.ask_for_reboot(&c_text!("XENVIF"));
        true
    }

    /// Has the emulated network cards unplugged at the next boot, or no more on behalf of this device.
    fn request_unplug(&self, make: bool) {
        if self.unplug_requested.swap(make, Ordering::AcqRel) == make {
            return;
        }
        match self.fdo.nics() {
            Ok(nics) => nics.request_unplug(make),
            Err(status) => nt::warning!("{self:?}: asking for an unplug: {status}"),
        }
    }
}

impl ChildDevice for Vif {
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
            BusQueryContainerID => Some(self.identity.container_id()),
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

    /// The standard interface of a PCI device, and those of xenbus.sys that the device's driver needs itself.
    fn interface(&self, request: &mut InterfaceRequest<'_>) -> Option<Result<()>> {
        if let Some(outcome) = self.fdo.parent.answer(request) {
            return Some(outcome);
        }
        [cache::GUID, store::GUID, suspend::GUID]
            .contains(&request.guid())
            .then(|| request.forward(&self.fdo.function.physical).ok())
    }

    fn disown(self: &Arc<Self>) {
        self.fdo.children.disown(self);
    }

    fn rescan(&self) {
        self.fdo.rescan();
    }

    fn start(self: &Arc<Self>) -> Result<()> {
        if nt::system::safe_mode() {
            nt::info!("{self:?} is not for the safe mode");
            return Err(NtStatus::UNSUCCESSFUL);
        }
        if self.is_emulated() {
            return Err(NtStatus::PNP_REBOOT_REQUIRED);
        }
        self.request_unplug(true);
        self.running.store(true, Ordering::Release);
        Ok(())
    }

    fn stop(&self) {
        // One that did not start has asked for the unplug, and needs it.
        if self.running.swap(false, Ordering::AcqRel) {
            self.request_unplug(false);
        }
    }

    fn deleted(&self) {
        if let Err(status) = settings::record_address(self.number(), None) {
            nt::warning!("forgetting the address of {self:?}: {status}");
        }
    }
}
