//! The bus: a function device object on xenbus.sys' VIF device.
//!
//! ```text
//!   AddDevice  identity of the platform device
//!   START      offers of xenbus.sys, worker    D0  session: watch of device/vif     worker  look for interfaces
//! ```
//!
//! After a suspension the worker makes the session anew before it looks again.

mod scan;

use crate::session::{Interfaces, Offers, Session};
use crate::vif::Vif;
use ::bus::Platform;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use nt::interface::BusInterface;
use nt::{DeviceObject, DriverObject, Irp, NtStatus, Result, SpinLock, try_arc};
use pv_bus::{BusDevice, Children, Function, Node, ParentBus, Worker};
use pv_client::unplug::Emulated;

/// The two characters that tell this vendor's drivers from others'.
const PREFIX: &str = "XP";

/// The device.
pub struct Fdo {
    pub driver: DriverObject,
    pub function: Function,
    /// The standard interface of the platform device, as xenbus.sys hands it on.
    pub parent: Arc<ParentBus>,
    pub platform: Platform,
    started: SpinLock<Option<Started>>,
    /// Present while there is power.
    session: SpinLock<Option<Arc<Session>>>,
    /// A suspension has voided the session.
    resumed: Arc<AtomicBool>,
    pub children: Children<Vif>,
}

/// What START made and STOP takes back.
struct Started {
    offers: Arc<Offers>,
    worker: Worker,
}

impl core::fmt::Debug for Fdo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} XENVIF", self.platform)
    }
}

impl Fdo {
    /// AddDevice.
    pub fn add(driver: &DriverObject, physical: &DeviceObject) -> Result<()> {
        let parent = nt::interface::query_bus(physical)?;
        let platform = identify(&parent)?;
        let fdo = try_arc(Self {
            driver: *driver,
            function: Function::new(physical),
            parent: ParentBus::new(parent)?,
            platform,
            started: SpinLock::new(None),
            session: SpinLock::new(None),
            resumed: try_arc(AtomicBool::new(false))?,
            children: Children::new()?,
        })?;
        Node::add(driver, &fdo)?;
        nt::info!("{fdo:?} is added");
        Ok(())
    }

    /// The emulated network cards, while the bus is started. Not to be held.
    pub fn nics(&self) -> Result<Emulated> {
        self.offers()?.nics()
    }

    /// What a connection of a child needs, while the bus is started.
    pub fn interfaces(&self) -> Result<Interfaces> {
        self.offers()?.interfaces()
    }

    fn offers(&self) -> Result<Arc<Offers>> {
        let started = self.started.lock();
        let offers = started.as_ref().map(|started| Arc::clone(&started.offers));
        offers.ok_or(NtStatus::DEVICE_NOT_READY)
    }

    /// The session, while there is power.
    fn session(&self) -> Option<Arc<Session>> {
        self.session.lock().clone()
    }

    /// From D3 to D0. PASSIVE_LEVEL.
    fn open_session(&self) -> Result<()> {
        let offers = self.offers()?;
        let changed = match &*self.started.lock() {
            Some(started) => Arc::clone(started.worker.event()),
            None => return Err(NtStatus::DEVICE_NOT_READY),
        };
        let (resumed, event) = (Arc::clone(&self.resumed), Arc::clone(&changed));
        self.resumed.store(false, Ordering::Release);
        let session = Session::open(&offers, &changed, move || {
            resumed.store(true, Ordering::Release);
            event.set();
        })?;
        *self.session.lock() = Some(session);
        changed.set();
        Ok(())
    }

    /// From D0 to D3. PASSIVE_LEVEL.
    fn close_session(&self) {
        let session = self.session.lock().take();
        drop(session);
    }

    /// The worker's turn: after a suspension the session is made anew. PASSIVE_LEVEL.
    fn work(self: &Arc<Self>) -> Result<()> {
        if self.resumed.load(Ordering::Acquire) {
            nt::info!("resumed");
            self.close_session();
            if let Err(status) = self.open_session() {
                nt::warning!("after the resume: {status}");
                self.resumed.store(true, Ordering::Release);
                return Err(status);
            }
        }
        self.scan()
    }
}

impl BusDevice for Fdo {
    type Child = Vif;
    type Resources = ();

    fn function(&self) -> &Function {
        &self.function
    }

    fn children(&self) -> &Children<Vif> {
        &self.children
    }

    fn parent(&self) -> &ParentBus {
        &self.parent
    }

    fn resources(_irp: &Irp) -> Result<()> {
        Ok(())
    }

    fn bring_up(self: &Arc<Self>, (): ()) -> Result<()> {
        let offers = match self.function.lower() {
            Some(lower) => try_arc(Offers::query(lower)?)?,
            None => return Err(NtStatus::NO_SUCH_DEVICE),
        };
        let fdo = Arc::clone(self);
        let worker = Worker::new(move || fdo.work())?;
        *self.started.lock() = Some(Started { offers, worker });
        self.open_session().inspect_err(|_| self.tear_down())
    }

    fn tear_down(&self) {
        self.close_session();
        // Dropped after the lock is free: that waits for the thread.
        let started = self.started.lock().take();
        drop(started);
    }

    fn rescan(&self) {
        if let Some(started) = &*self.started.lock() {
            started.worker.event().set();
        }
    }

    fn wake(self: &Arc<Self>) -> Result<()> {
        if self.session().is_some() || self.started.lock().is_none() {
            return Ok(());
        }
        self.open_session()?;
        self.children.each(Vif::follow_wake)
    }

    fn sleep(&self) {
        // Without power there is nothing below the children: those that were not sent to sleep go with the bus.
        if let Err(status) = self.children.each(|vif| vif.follow_sleep()) {
            nt::warning!("{self:?}: sending devices to sleep: {status}");
        }
        self.close_session();
    }
}

/// Which variant of the platform device is below, by its PCI configuration.
fn identify(parent: &BusInterface) -> Result<Platform> {
    let mut ids = [0u8; 4];
    if parent.read_config(0, &mut ids) != ids.len() {
        nt::error!("the platform device does not tell its number");
        return Err(NtStatus::UNSUCCESSFUL);
    }
    let [_, _, low, high] = ids;
    Ok(Platform {
        prefix: PREFIX,
        device: u16::from_le_bytes([low, high]),
    })
}
