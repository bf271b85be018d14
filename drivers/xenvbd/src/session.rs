//! The interfaces of the drivers below: offered for as long as the adapter lives, acquired while it is powered.

use alloc::sync::Arc;
use nt::{DeviceObject, Result, SpinLock, try_arc};
use pv_client::store::Store;
use pv_client::{Acquired, Offer};
use pv_interfaces::debug::DebugV1;
use pv_interfaces::emulated::EmulatedV2;
use pv_interfaces::evtchn::EvtchnV9;
use pv_interfaces::gnttab::GnttabV4;
use pv_interfaces::store::StoreV2;
use pv_interfaces::suspend::SuspendV1;
use pv_interfaces::unplug::UnplugV3;

/// What xenbus (and xenfilt, where there is one) offers.
pub(crate) struct Offers {
    store: Offer<StoreV2>,
    evtchn: Offer<EvtchnV9>,
    gnttab: Offer<GnttabV4>,
    suspend: Offer<SuspendV1>,
    debug: Offer<DebugV1>,
    pub(crate) unplug: Offer<UnplugV3>,
    pub(crate) emulated: Option<Offer<EmulatedV2>>,
    /// Shared by all while there is power.
    session: SpinLock<Option<Arc<Session>>>,
}

/// The acquired interfaces.
pub(crate) struct Session {
    pub(crate) store: Store,
    pub(crate) evtchn: Arc<Acquired<EvtchnV9>>,
    pub(crate) gnttab: Arc<Acquired<GnttabV4>>,
    pub(crate) suspend: Arc<Acquired<SuspendV1>>,
    pub(crate) debug: Arc<Acquired<DebugV1>>,
}

impl Offers {
    /// Asks the stack below. PASSIVE_LEVEL.
    pub(crate) fn query(lower: &DeviceObject) -> Result<Offers> {
        Ok(Offers {
            store: Offer::query(lower)?,
            evtchn: Offer::query(lower)?,
            gnttab: Offer::query(lower)?,
            suspend: Offer::query(lower)?,
            debug: Offer::query(lower)?,
            unplug: Offer::query(lower)?,
            emulated: Offer::query_optional(lower),
            session: SpinLock::new(None),
        })
    }

    /// Acquires what a powered adapter needs. The order is that in which the providers' own suspend callbacks run.
    pub(crate) fn open(&self) -> Result<Arc<Session>> {
        let session = try_arc(Session {
            suspend: self.suspend.acquire()?,
            debug: self.debug.acquire()?,
            gnttab: self.gnttab.acquire()?,
            evtchn: self.evtchn.acquire()?,
            store: Store::new(self.store.acquire()?),
        })?;
        *self.session.lock() = Some(session.clone());
        Ok(session)
    }

    /// Lets go of the session; it ends with its last user.
    pub(crate) fn close(&self) {
        let session = self.session.lock().take();
        drop(session);
    }

    /// The session, while there is power.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.session.lock().clone()
    }
}
