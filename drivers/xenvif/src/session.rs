//! The interfaces of xenbus.sys: offered while the bus is there, acquired while it has power; and what the bus has in
//! xenstore meanwhile.

use alloc::sync::Arc;
use bus::Distribution;
use nt::{DeviceObject, Event, Result, try_arc};
use pv_client::Acquired;
use pv_client::store::{Store, Watch};
use pv_client::suspend::Late;
use pv_client::unplug::Emulated;
use pv_client::{Offer, c_text, distribution};
use pv_interfaces::debug::DebugV1;
use pv_interfaces::evtchn::EvtchnV9;
use pv_interfaces::gnttab::GnttabV4;
use pv_interfaces::store::StoreV2;
use pv_interfaces::suspend::SuspendV1;
use pv_interfaces::unplug::UnplugV3;

const DISTRIBUTION: Distribution<'static> = Distribution::ours("XENVIF", env!("CARGO_PKG_VERSION"));

/// What xenbus.sys offers.
#[derive(Debug)]
pub struct Offers {
    store: Offer<StoreV2>,
    evtchn: Offer<EvtchnV9>,
    gnttab: Offer<GnttabV4>,
    suspend: Offer<SuspendV1>,
    debug: Offer<DebugV1>,
    unplug: Offer<UnplugV3>,
}

impl Offers {
    /// Asks the stack below. PASSIVE_LEVEL.
    pub fn query(lower: &DeviceObject) -> Result<Self> {
        Ok(Self {
            store: Offer::query(lower)?,
            evtchn: Offer::query(lower)?,
            gnttab: Offer::query(lower)?,
            suspend: Offer::query(lower)?,
            debug: Offer::query(lower)?,
            unplug: Offer::query(lower)?,
        })
    }

    /// Acquires what a connection needs. The order is that in which the providers' own suspend callbacks run.
    pub fn interfaces(&self) -> Result<Interfaces> {
        Ok(Interfaces {
            suspend: self.suspend.acquire()?,
            debug: self.debug.acquire()?,
            gnttab: self.gnttab.acquire()?,
            evtchn: self.evtchn.acquire()?,
            store: Store::new(self.store.acquire()?),
        })
    }

    /// The emulated network cards. Not to be held.
    pub fn nics(&self) -> Result<Emulated> {
        self.unplug.acquire().map(Emulated::nics)
    }
}

/// What a connection to a backend needs.
pub struct Interfaces {
    pub suspend: Arc<Acquired<SuspendV1>>,
    pub debug: Arc<Acquired<DebugV1>>,
    pub gnttab: Arc<Acquired<GnttabV4>>,
    pub evtchn: Arc<Acquired<EvtchnV9>>,
    pub store: Store,
}

/// The bus's presence in xenstore. Dropping it ends that. PASSIVE_LEVEL.
pub struct Session {
    _late: Late,
    _watch: Watch,
    pub store: Store,
}

impl Session {
    /// Tells the toolstack that this driver is there, and has `changed` set when interfaces come or go. `resumed` is called
    /// after a suspension, when nothing of this is there any more, at DISPATCH_LEVEL. PASSIVE_LEVEL.
    pub fn open(
        offers: &Offers,
        changed: &Arc<Event>,
        resumed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Arc<Self>> {
        let suspend = offers.suspend.acquire()?;
        let store = Store::new(offers.store.acquire()?);
        let late = Late::register(&suspend, resumed)?;
        let watch = store.watch(None, &c_text!("device/vif"), changed)?;
        let session = try_arc(Self {
            _late: late,
            _watch: watch,
            store,
        })?;
        session.introduce();
        Ok(session)
    }

    fn introduce(&self) {
        if let Err(status) = distribution::write(&self.store, &DISTRIBUTION) {
            nt::warning!("publishing the version: {status}");
        }
        let plain = self.store.plain();
        let written = plain.write(
            Some(&c_text!("feature/hotplug")),
            &c_text!("vif"),
            &c_text!("1"),
        );
        if let Err(status) = written {
            nt::warning!("offering hotplug: {status}");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let plain = self.store.plain();
        // After a resume neither need be there.
        let _ = plain.remove(Some(&c_text!("feature/hotplug")), &c_text!("vif"));
        let _ = distribution::remove(&self.store, &DISTRIBUTION);
    }
}
