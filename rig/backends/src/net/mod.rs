//! A network backend without a network: what the guest sends is kept, what it is to receive is given by hand.
//!
//! ```text
//!   Nics::send ──► Netback ──► Device ──► rings ──► guest
//!   Nics::take ◄── Netback ◄── Device ◄── rings ◄── guest
//! ```
//! [`Netback`] is the driver in domain 0's loop; [`Nics`] is the handle the rig keeps. Without a control ring.

mod device;
mod queue;
mod ring;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xen_abi::xenbus::XenbusState;
use xen_model::dom0::{Dom0, Driver};
use xen_model::store::ConnectionId;

use device::Device;

/// Where the guest's interfaces appear in domain 0.
const BACKENDS: &str = "/local/domain/0/backend/vif/1";
/// Where they appear in the guest.
const FRONTENDS: &str = "/local/domain/1/device/vif";

/// What a backend says that it can do.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// `multi-queue-max-queues`.
    pub queues: u32,
    /// `feature-split-event-channels`.
    pub split: bool,
    /// `feature-gso-tcpv4`, `feature-gso-tcpv6`.
    pub gso: bool,
    /// Not `feature-no-csum-offload`, and `feature-ipv6-csum-offload`.
    pub checksums: bool,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            queues: 4,
            split: true,
            gso: true,
            checksums: true,
        }
    }
}

/// A large TCP segment's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// Bytes of data in each segment.
    pub size: u16,
    /// IPv6, not IPv4.
    pub v6: bool,
}

/// A frame, and what is said of it beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// From the destination's address on.
    pub bytes: Vec<u8>,
    /// The checksum is that of the pseudo header alone.
    pub blank: bool,
    /// The data needs no check.
    pub validated: bool,
    /// It is to be cut.
    pub gso: Option<Gso>,
}

#[derive(Default)]
struct State {
    offer: Offer,
    /// By interface.
    to_guest: BTreeMap<u32, VecDeque<Frame>>,
    from_guest: BTreeMap<u32, Vec<Frame>>,
    connected: BTreeSet<u32>,
}

/// The handle.
#[derive(Clone, Default)]
pub struct Nics(Arc<Mutex<State>>);

impl Nics {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What interfaces that are plugged in from now on offer.
    pub fn offer(&self, offer: Offer) {
        self.lock().offer = offer;
    }

    /// Gives an interface's guest a frame.
    pub fn send(&self, dom0: &Dom0, devid: u32, frame: Frame) {
        self.lock()
            .to_guest
            .entry(devid)
            .or_default()
            .push_back(frame);
        dom0.bell().ring();
    }

    /// What an interface's guest has sent since this was last asked.
    pub fn take(&self, devid: u32) -> Vec<Frame> {
        self.lock().from_guest.remove(&devid).unwrap_or_default()
    }

    /// Whether an interface is connected.
    pub fn is_connected(&self, devid: u32) -> bool {
        self.lock().connected.contains(&devid)
    }
}

/// The driver of all interfaces.
pub struct Netback {
    nics: Nics,
    client: Option<ConnectionId>,
    devices: BTreeMap<u32, Device>,
}

impl Netback {
    /// The driver, and the handle.
    pub fn new() -> (Self, Nics) {
        let nics = Nics::default();
        let driver = Self {
            nics: nics.clone(),
            client: None,
            devices: BTreeMap::new(),
        };
        (driver, nics)
    }

    fn client(&mut self, dom0: &Dom0) -> ConnectionId {
        *self.client.get_or_insert_with(|| {
            let mut store = dom0.store();
            let id = store.client();
            store.watch(id, BACKENDS, "backend");
            id
        })
    }

    /// An interface's directory in domain 0 came, changed or went.
    fn backend_changed(&mut self, dom0: &Dom0, client: ConnectionId, devid: u32) {
        let state = dom0.store().read_state(&format!("{BACKENDS}/{devid}"));
        if state == XenbusState::Unknown {
            self.remove(dom0, client, devid);
        } else if state == XenbusState::Initialising && !self.devices.contains_key(&devid) {
            let offer = self.nics.lock().offer;
            let device = Device::new(devid, offer, dom0);
            dom0.store().watch(
                client,
                &format!("{}/state", device.frontend_path()),
                &devid.to_string(),
            );
            self.devices.insert(devid, device);
        }
    }

    fn remove(&mut self, dom0: &Dom0, client: ConnectionId, devid: u32) {
        if let Some(mut device) = self.devices.remove(&devid) {
            device.disconnect(dom0.xen());
            dom0.store().unwatch(
                client,
                &format!("{}/state", device.frontend_path()),
                &devid.to_string(),
            );
        }
    }

    fn known(&self, dom0: &Dom0) -> BTreeSet<u32> {
        let listed = dom0.store().list(BACKENDS);
        let numbers = listed.iter().filter_map(|name| name.parse().ok());
        numbers.chain(self.devices.keys().copied()).collect()
    }
}

impl Driver for Netback {
    fn step(&mut self, dom0: &Dom0) -> bool {
        let client = self.client(dom0);
        let mut worked = false;
        loop {
            let Some(event) = dom0.store().next_event(client) else {
                break;
            };
            worked = true;
            if let Ok(devid) = event.token.parse::<u32>() {
                let gone = self
                    .devices
                    .get_mut(&devid)
                    .is_some_and(|device| !device.frontend_changed(dom0));
                if gone {
                    self.remove(dom0, client, devid);
                }
                continue;
            }
            let devid = event
                .path
                .strip_prefix(BACKENDS)
                .and_then(|rest| rest.split('/').nth(1)?.parse().ok());
            let concerned = match devid {
                Some(devid) => BTreeSet::from([devid]),
                // The directory itself: the first event, or removed with all in it.
                None => self.known(dom0),
            };
            for devid in concerned {
                self.backend_changed(dom0, client, devid);
            }
        }
        let mut state = self.nics.lock();
        state.connected.clear();
        for (devid, device) in &mut self.devices {
            let mut frames = state.to_guest.remove(devid).unwrap_or_default();
            let mut sent = Vec::new();
            worked |= device.serve(dom0, &mut frames, &mut sent);
            if !frames.is_empty() {
                state.to_guest.insert(*devid, frames);
            }
            state.from_guest.entry(*devid).or_default().extend(sent);
            if device.is_connected() {
                state.connected.insert(*devid);
            }
        }
        worked
    }

    fn guest_gone(&mut self, dom0: &Dom0) {
        let client = self.client(dom0);
        for devid in self.devices.keys().copied().collect::<Vec<_>>() {
            self.remove(dom0, client, devid);
        }
    }
}
