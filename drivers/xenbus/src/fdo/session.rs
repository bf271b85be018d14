//! What the active device has in xenstore while it is in D0: watches, and words to the toolstack.

use crate::bus::Bus;
use crate::store::OwnWatch;
use ::bus::Distribution;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use nt::{Event, NtStatus, Result, VERSION};

/// The vendor that the distribution entry names.
const VENDOR: &str = "Xen Project";
/// Distribution entries that there may be, of all drivers.
const ENTRIES: u32 = 256;

const DISTRIBUTION: Distribution<'static> = Distribution {
    vendor: VENDOR,
    product: "XENBUS",
    version: VERSION,
};

/// The watches and entries. Dropping it removes them. PASSIVE_LEVEL.
pub struct Session {
    bus: Arc<Bus>,
    _watches: [OwnWatch; 2],
}

impl Session {
    /// Tells the toolstack that this driver is there, and what it can do. PASSIVE_LEVEL.
    pub fn open(bus: &Arc<Bus>, scan: &Arc<Event>, control: &Arc<Event>) -> Result<Self> {
        remove_distribution(bus);
        if let Err(status) = add_distribution(bus) {
            nt::warning!("publishing the version: {status}");
        }
        let devices = OwnWatch::new(bus, b"device", scan)?;
        let shutdown = OwnWatch::new(bus, b"control/shutdown", control)?;
        offer_suspension(bus, true);
        Ok(Self {
            bus: Arc::clone(bus),
            _watches: [devices, shutdown],
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        offer_suspension(&self.bus, false);
        remove_distribution(&self.bus);
    }
}

/// Tells the toolstack whether the guest can be suspended. The node is not removed: xl lets a guest write it, but not make
/// it again.
fn offer_suspension(bus: &Bus, offer: bool) {
    let value: &[u8] = if offer { b"1" } else { b"0" };
    if let Err(status) = bus.store.write(b"control/feature-suspend", value) {
        nt::warning!("control/feature-suspend: {status}");
    }
}

/// Whether `control/shutdown` asks for a suspension; if so, it is acknowledged. Other requests are not ours.
///
/// # Errors
/// Of reading the order or of acknowledging it: it stands.
pub fn suspension_is_wanted(bus: &Bus) -> Result<bool> {
    let order = match bus.store.read(b"control/shutdown") {
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => return Ok(false),
        order => order?,
    };
    if order != b"suspend" {
        return Ok(false);
    }
    bus.store
        .write(b"control/shutdown", b"")
        .inspect_err(|status| nt::warning!("acknowledging the suspension: {status}"))?;
    Ok(true)
}

fn entry(index: u32) -> Result<Vec<u8>> {
    struct Node(Vec<u8>);
    impl Write for Node {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            self.0
                .try_reserve(text.len())
                .map_err(|_| core::fmt::Error)?;
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    let mut node = Node(Vec::new());
    write!(node, "drivers/{index}").map_err(|core::fmt::Error| NtStatus::NO_MEMORY)?;
    Ok(node.0)
}

/// Writes this driver's entry into the first free place.
fn add_distribution(bus: &Bus) -> Result<()> {
    let value = DISTRIBUTION
        .value()
        .map_err(|::bus::NoMemory| NtStatus::NO_MEMORY)?;
    for index in 0..ENTRIES {
        let node = entry(index)?;
        match bus.store.read(&node) {
            Err(NtStatus::OBJECT_NAME_NOT_FOUND) => return bus.store.write(&node, &value),
            other => other.map(|_taken| ())?,
        }
    }
    Err(NtStatus::INSUFFICIENT_RESOURCES)
}

/// Removes this driver's entries, of whatever version.
fn remove_distribution(bus: &Bus) {
    let Ok(names) = bus.store.directory(b"drivers") else {
        return;
    };
    for name in xenstore::names(&names) {
        let index = core::str::from_utf8(name)
            .ok()
            .and_then(|name| name.parse().ok());
        let Some(Ok(node)) = index.map(entry) else {
            continue;
        };
        let ours = bus
            .store
            .read(&node)
            .is_ok_and(|value| DISTRIBUTION.owns(&value));
        if ours && let Err(status) = bus.store.remove(&node) {
            nt::warning!("removing an entry: {status}");
        }
    }
}
