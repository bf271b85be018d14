//! What the toolstack sees of the driver while an adapter of it runs: the line `XENNET` below `drivers` in xenstore.
//!
//! The first adapter that runs writes it, the last one that stops removes it. After a suspension it is not there any
//! more, and each adapter's worker writes it again: it replaces what is there.

use bus::Distribution;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use nt::{DeviceObject, Result};
use pv_bus::Worker;
use pv_client::store::Store;
use pv_client::suspend::Late;
use pv_client::{Offer, distribution};
use pv_interfaces::store::StoreV2;
use pv_interfaces::suspend::SuspendV1;

const DISTRIBUTION: Distribution<'static> = Distribution::ours("XENNET", env!("CARGO_PKG_VERSION"));

/// Adapters that run.
static RUNNING: AtomicU32 = AtomicU32::new(0);
/// Somebody writes or removes the line.
static BUSY: AtomicBool = AtomicBool::new(false);

/// What xenbus.sys offers, through the bus.
#[derive(Debug)]
pub struct Offers {
    store: Offer<StoreV2>,
    suspend: Offer<SuspendV1>,
}

impl Offers {
    /// Asks the stack below. PASSIVE_LEVEL.
    pub fn query(next: &DeviceObject) -> Result<Offers> {
        Ok(Offers {
            store: Offer::query(next)?,
            suspend: Offer::query(next)?,
        })
    }
}

/// An adapter's presence, until dropped. PASSIVE_LEVEL. The interfaces are held meanwhile, and not while the machine
/// sleeps.
pub struct Presence {
    _late: Late,
    _worker: Worker,
    store: Store,
}

impl Presence {
    /// Begins.
    pub fn begin(offers: &Offers) -> Result<Presence> {
        let store = Store::new(offers.store.acquire()?);
        let suspend = offers.suspend.acquire()?;
        let again = store.clone();
        let worker = Worker::new(move || alone(|| distribution::write(&again, &DISTRIBUTION)))?;
        let resumed = worker.event().clone();
        let late = Late::register(&suspend, move || resumed.set())?;
        alone(|| {
            if RUNNING.fetch_add(1, Ordering::Relaxed) == 0
                && let Err(status) = distribution::write(&store, &DISTRIBUTION)
            {
                // The toolstack does without, so frames need not.
                nt::warning!("publishing the version: {status}");
            }
        });
        Ok(Presence {
            _late: late,
            _worker: worker,
            store,
        })
    }
}

impl core::fmt::Debug for Presence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Presence").finish_non_exhaustive()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        alone(|| {
            if RUNNING.fetch_sub(1, Ordering::Relaxed) == 1 {
                // After a resume it need not be there.
                let _ = distribution::remove(&self.store, &DISTRIBUTION);
            }
        });
    }
}

/// Does something that one adapter at a time may do, at PASSIVE_LEVEL.
fn alone<R>(body: impl FnOnce() -> R) -> R {
    const WAIT: Duration = Duration::from_millis(1);
    while BUSY.swap(true, Ordering::Acquire) {
        nt::thread::sleep(WAIT);
    }
    let result = body();
    BUSY.store(false, Ordering::Release);
    result
}
