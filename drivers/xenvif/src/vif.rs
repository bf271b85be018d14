//! A network device on the bus: one physical device object for each virtual interface.

use crate::fdo::Fdo;
use crate::frontend::Frontend;
use crate::migration;
use crate::session::Interfaces;
use crate::settings::{self, Parameters};
use crate::table;
use ::bus::{Names, VifIdentity, VifNumber};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use netfront::MacAddress;
use nt::interface::InterfaceRequest;
use nt::{DeviceObject, NtStatus, Result, try_arc};
use pv_bus::{ChildDevice, Life, Node, References, Running};
use pv_client::c_text;
use pv_interfaces::{cache, store, suspend};

/// The device.
pub struct Vif {
    fdo: Arc<Fdo>,
    identity: VifIdentity,
    life: Life<Node<Fdo>>,
    /// The emulated network cards are to be unplugged at the next boot, since this device works or would.
    unplug_requested: AtomicBool,
    running: AtomicBool,
    /// It was connected when its bus went to sleep.
    slept: AtomicBool,
    /// From the first start on.
    frontend: Running<Arc<Frontend>>,
    /// Clients of the VIF interface.
    pub references: References,
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
            slept: AtomicBool::new(false),
            frontend: Running::new(),
            references: References::new(),
        })?;
        Node::<Fdo>::add_child(&fdo.driver, &vif)?;
        let address = vif.address();
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

    /// Its permanent address.
    pub fn address(&self) -> MacAddress {
        MacAddress(self.identity.address)
    }

    /// Its frontend, once it was started. Any IRQL.
    pub fn frontend(&self) -> Option<&Arc<Frontend>> {
        self.frontend.get()
    }

    /// What a connection needs.
    pub fn interfaces(&self) -> Result<Interfaces> {
        self.fdo.interfaces()
    }

    /// The toolstack wants the device gone. PASSIVE_LEVEL.
    pub fn request_eject(&self) {
        nt::info!("{self:?}: to be ejected");
        if let Some(device) = self.life.object() {
            device.request_eject();
        }
    }

    /// Whether an emulated network card stands for this device, or may. Then it is to be unplugged at the next boot.
    fn is_emulated(&self, device: Option<&DeviceObject>) -> bool {
        let card = device.and_then(|device| {
            let card = migration::emulated(device, self.address());
            let warn =
                |status: &NtStatus| nt::warning!("{self:?}: looking for interfaces: {status}");
            card.inspect_err(warn).ok()?
        });
        if let Some(card) = &card
            && let Err(status) = migration::save(self.number(), card)
        {
            nt::warning!("{self:?}: saving settings: {status}");
        }
        let Ok(nics) = self.fdo.nics() else {
            return true;
        };
        if nics.are_unplugged() && card.is_none() {
            return false;
        }
        if !self.unplug_requested.swap(true, Ordering::AcqRel) {
            nics.request_unplug(true);
        }
        nics.ask_for_reboot(&c_text!("XENVIF"));
        true
    }

    /// The bus goes to sleep. PASSIVE_LEVEL.
    pub fn follow_sleep(&self) {
        if let Some(frontend) = self.frontend.get()
            && frontend.is_running()
        {
            self.slept.store(true, Ordering::Release);
            frontend.stop();
        }
    }

    /// The bus is awake again. PASSIVE_LEVEL.
    pub fn follow_wake(self: &Arc<Self>) {
        if self.slept.swap(false, Ordering::AcqRel)
            && self.running.load(Ordering::Acquire)
            && let Some(frontend) = self.frontend.get()
            && let Err(status) = frontend.start()
        {
            nt::warning!("{self:?}: after a sleep: {status}");
        }
    }

    /// Tells the toolstack that the device cannot go, if it had wanted that.
    fn refuse_eject(&self) {
        let Some(frontend) = self.frontend.get().filter(|it| it.eject_refused()) else {
            return;
        };
        let told = self.interfaces().and_then(|interfaces| {
            interfaces.store.plain().write(
                Some(&c_text!("error/device/vif/{}", frontend.number)),
                &c_text!("error"),
                &c_text!("UNPLUG FAILED: device is still in use"),
            )
        });
        if let Err(status) = told {
            nt::warning!("{self:?}: telling of the refusal: {status}");
        }
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

    /// The standard interface of a PCI device, the device's own, and those of xenbus.sys that the device's driver needs itself.
    fn interface(&self, request: &mut InterfaceRequest<'_>) -> Option<Result<()>> {
        if let Some(outcome) = self.fdo.parent.answer(request) {
            return Some(outcome);
        }
        if let Some(outcome) = table::answer(self, request) {
            return Some(outcome);
        }
        [cache::GUID, store::GUID, suspend::GUID]
            .contains(&request.guid())
            .then(|| request.forward(&self.fdo.function.physical).ok())
    }

    fn start(self: &Arc<Self>) -> Result<()> {
        if nt::system::safe_mode() {
            nt::info!("{self:?} is not for the safe mode");
            return Err(NtStatus::UNSUCCESSFUL);
        }
        let device = self.life.object();
        if let Some(device) = &device
            && let Err(status) = migration::name(device, self.number())
        {
            nt::trace!("{self:?} has no name: {status}");
        }
        if self.is_emulated(device.as_ref()) {
            return Err(NtStatus::PNP_REBOOT_REQUIRED);
        }
        if let Some(device) = &device
            && let Err(status) = migration::restore(self.number(), device)
        {
            nt::warning!("{self:?}: restoring settings: {status}");
        }
        let wish = match &device {
            Some(device) => settings::network_address(device)
                .inspect_err(|_| nt::error!("{self:?}: NetworkAddress is no address"))?,
            None => None,
        };
        let frontend = match self.frontend.get() {
            Some(frontend) => frontend,
            None => {
                let frontend = Frontend::new(self, self.address(), Parameters::read())?;
                self.frontend.start(try_arc(frontend)?)?
            }
        };
        frontend.common.mac.wish(self.address(), wish);
        frontend.start()?;
        self.request_unplug(true);
        self.running.store(true, Ordering::Release);
        Ok(())
    }

    fn stop(&self) {
        // One that did not start has asked for the unplug, and needs it.
        if self.running.swap(false, Ordering::AcqRel) {
            self.request_unplug(false);
        }
        if let Some(frontend) = self.frontend.get() {
            frontend.end();
        }
    }

    const HAS_POWER: bool = true;

    fn switch(self: &Arc<Self>, on: bool) -> Result<()> {
        if !self.running.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.frontend.get() {
            Some(frontend) if on => frontend.start(),
            Some(frontend) => {
                frontend.stop();
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn stays(&self) {
        self.refuse_eject();
    }

    fn deleted(&self) {
        if let Err(status) = settings::record_address(self.number(), None) {
            nt::warning!("forgetting the address of {self:?}: {status}");
        }
    }
}
