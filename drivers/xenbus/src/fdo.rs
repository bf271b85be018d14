//! The platform device: one function device object, on top of the PCI bus's.
//!
//! An inactive one passes every request down. The active one owns the [`Bus`] and the children.

mod device;
mod scan;
mod session;

use crate::active;
use crate::bus::Bus;
use crate::child::Child;
use crate::interrupt::{Assigned, Vectors};
use crate::settings;
use ::bus::Platform;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use nt::interface::BusInterface;
use nt::{DeviceObject, DriverObject, Interrupt, NtStatus, Result, SpinLock, try_arc};
use pv_bus::{Children, Function, Node, ParentBus, Turns, Worker};
use session::Session;

/// PCI vendor ID of the Xen project's devices.
const VENDOR: u16 = 0x5853;

/// The two characters that tell this vendor's drivers from others'.
const PREFIX: &str = "XP";

/// The device.
pub struct Fdo {
    pub(crate) driver: DriverObject,
    pub(crate) function: Function,
    /// The PCI bus's standard interface, until the device is removed.
    pub(crate) pci: Arc<ParentBus>,
    pub(crate) platform: Platform,
    /// Only the active device has a bus.
    bus: Option<Arc<Bus>>,
    started: SpinLock<Option<Started>>,
    session: SpinLock<Option<Session>>,
    /// A suspension has voided the session, and there is no other yet.
    lost_session: AtomicBool,
    children: Children<Child>,
}

impl core::fmt::Debug for Fdo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} XENBUS", self.platform)
    }
}

/// What START made and STOP takes back.
struct Started {
    /// Looks for children.
    scan: Worker,
    /// Obeys the toolstack.
    control: Worker,
    vectors: Vectors,
    /// Connected interrupts, for as long as this lives.
    _interrupts: Vec<Interrupt>,
}

impl Fdo {
    /// AddDevice.
    pub fn add(driver: &DriverObject, physical: &DeviceObject) -> Result<()> {
        let pci = nt::interface::query_bus(physical)?;
        let platform = identify(&pci)?;
        let active = active::is_active(physical)?;
        let bus = if active {
            Some(try_arc(Bus::new()?)?)
        } else {
            None
        };
        let fdo = try_arc(Fdo {
            driver: *driver,
            function: Function::new(physical),
            pci: ParentBus::new(pci)?,
            platform,
            bus,
            started: SpinLock::new(None),
            session: SpinLock::new(None),
            lost_session: AtomicBool::new(false),
            children: Children::new()?,
        })?;
        Node::add(driver, &fdo)?;
        nt::info!(
            "{fdo:?} is {}",
            if active {
                "active"
            } else {
                "not the active device"
            }
        );
        Ok(())
    }

    /// The subsystems, of the active device.
    pub fn bus(&self) -> Option<&Arc<Bus>> {
        self.bus.as_ref()
    }

    /// Connects the interrupts, goes to D0 and starts the threads. PASSIVE_LEVEL.
    fn connect(self: &Arc<Self>, assigned: &Assigned) -> Result<()> {
        let Some(bus) = &self.bus else { return Ok(()) };
        let (interrupts, vectors) = assigned.connect(&self.function.physical, bus)?;
        let scan = {
            let fdo = Arc::clone(self);
            Worker::new(move || fdo.scan())?
        };
        let control = {
            let fdo = Arc::clone(self);
            Worker::new(move || fdo.obey())?
        };
        let started = Started {
            scan,
            control,
            vectors,
            _interrupts: interrupts,
        };
        *self.started.lock() = Some(started);
        let outcome = self.power_up();
        if outcome.is_err() {
            self.disconnect();
        }
        outcome
    }

    /// Undoes [`Fdo::connect`]. PASSIVE_LEVEL.
    fn disconnect(&self) {
        self.power_down();
        // Dropped after the lock is free: that waits for the threads.
        let started = self.started.lock().take();
        drop(started);
    }

    /// From D3 to D0. PASSIVE_LEVEL.
    fn power_up(&self) -> Result<()> {
        let Some(bus) = &self.bus else { return Ok(()) };
        let events = self.started.lock().as_ref().map(|started| {
            (
                started.vectors.clone(),
                Arc::clone(started.scan.event()),
                Arc::clone(started.control.event()),
            )
        });
        let (vectors, scan, control) = events.ok_or(NtStatus::DEVICE_NOT_READY)?;
        let vectors = if settings::use_upcall_vectors() {
            vectors
        } else {
            vectors.line_only()
        };
        bus.start(vectors)?;
        let session = match Session::open(bus, &scan, &control) {
            Ok(session) => session,
            Err(status) => {
                bus.stop();
                return Err(status);
            }
        };
        *self.session.lock() = Some(session);
        self.turns()
            .into_iter()
            .flatten()
            .for_each(|turns| turns.go_on());
        // What the watches told of before there was a session was left alone.
        scan.set();
        control.set();
        Ok(())
    }

    /// From D0 to D3. PASSIVE_LEVEL.
    fn power_down(&self) {
        // A turn of theirs may wait for xenstored, in what goes below.
        self.turns()
            .into_iter()
            .flatten()
            .for_each(|turns| turns.pause());
        self.lost_session.store(false, Ordering::Release);
        let session = self.session.lock().take();
        drop(session);
        if let Some(bus) = &self.bus {
            bus.stop();
        }
    }

    /// When the threads may work; nothing before START. Not under the lock: a pause waits.
    fn turns(&self) -> Option<[Arc<Turns>; 2]> {
        let started = self.started.lock();
        let workers = started.as_ref().map(|it| [&it.scan, &it.control]);
        workers.map(|workers| workers.map(|worker| Arc::clone(worker.turns())))
    }

    /// Obeys what the toolstack writes to `control/shutdown`, as far as it is a suspension. PASSIVE_LEVEL.
    ///
    /// # Errors
    /// The order could not be read, or the watches not be renewed: it should be tried again.
    fn obey(&self) -> Result<()> {
        let Some(bus) = &self.bus else { return Ok(()) };
        if self.lost_session.load(Ordering::Acquire) {
            return self.renew_session(bus);
        }
        let asleep = self.session.lock().is_none();
        if asleep || !session::suspension_is_wanted(bus)? {
            return Ok(());
        }
        nt::info!("the toolstack asks for a suspension");
        match bus.suspend.trigger(bus) {
            Ok(true) => self.renew_session(bus),
            Ok(false) => {
                nt::info!("the suspension was called off");
                Ok(())
            }
            Err(status) => {
                nt::error!("suspending: {status}");
                Ok(())
            }
        }
    }

    /// After a resume: xenstored has forgotten this guest's watches.
    fn renew_session(&self, bus: &Arc<Bus>) -> Result<()> {
        nt::info!("resumed");
        self.lost_session.store(true, Ordering::Release);
        let old = self.session.lock().take();
        drop(old);
        let events = self.started.lock().as_ref().map(|started| {
            (
                Arc::clone(started.scan.event()),
                Arc::clone(started.control.event()),
            )
        });
        let Some((scan, control)) = events else {
            return Ok(());
        };
        let session = Session::open(bus, &scan, &control)
            .inspect_err(|status| nt::error!("renewing the watches: {status}"))?;
        *self.session.lock() = Some(session);
        self.lost_session.store(false, Ordering::Release);
        scan.set();
        control.set();
        Ok(())
    }
}

/// Which variant of the platform device this is, by its PCI configuration.
fn identify(pci: &BusInterface) -> Result<Platform> {
    let mut header = [0u8; 64];
    let read = pci.read_config(0, &mut header);
    if read != header.len() {
        nt::error!("only {read} bytes of the PCI header");
        return Err(NtStatus::UNSUCCESSFUL);
    }
    let [v0, v1, d0, d1, ..] = header;
    let vendor = u16::from_le_bytes([v0, v1]);
    if vendor != VENDOR {
        nt::warning!("vendor {vendor:04X} is not Xen's");
        return Err(NtStatus::NOT_SUPPORTED);
    }
    Ok(Platform {
        prefix: PREFIX,
        device: u16::from_le_bytes([d0, d1]),
    })
}
