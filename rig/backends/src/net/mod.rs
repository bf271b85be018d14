//! Network backends: PV network interfaces with a [`Wire`] behind each.
//!
//! ```text
//!   Wire::receive  ──► Netback ──► Device ──► rings ──► guest
//!   Wire::transmit ◄── Netback ◄── Device ◄── rings ◄── guest
//! ```
//! [`Netback`] is the driver in domain 0's loop; [`Nics`] is the handle the rig keeps. A wire is a Linux network stack
//! behind a TAP device ([`TapWire`]), whatever else is attached, or the caller's hands ([`Nics::send`], [`Nics::take`]).

mod control;
mod device;
mod hand;
pub mod lying;
mod multicast;
mod queue;
mod ring;
mod tap;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xen_abi::xenbus::XenbusState;
use xen_model::dom0::{Dom0, Driver};
use xen_model::store::ConnectionId;

use crate::hostile::Wrong;
use device::Device;
use hand::Hand;
use lying::NetLie;

pub use tap::{TapWire, Witness};

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
    /// `feature-ctrl-ring`.
    pub control: bool,
    /// `feature-multicast-control`, `feature-dynamic-multicast-control`.
    pub multicast: bool,
    /// `feature-gso-tcpv4`.
    pub gso4: bool,
    /// `feature-gso-tcpv6`.
    pub gso6: bool,
    /// Not `feature-no-csum-offload`.
    pub checksums4: bool,
    /// `feature-ipv6-csum-offload`.
    pub checksums6: bool,
}

impl Offer {
    /// Nothing that a backend need not offer.
    pub const fn bare() -> Self {
        Self {
            queues: 1,
            split: false,
            control: false,
            multicast: false,
            gso4: false,
            gso6: false,
            checksums4: false,
            checksums6: false,
        }
    }
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            queues: 4,
            split: true,
            control: true,
            multicast: true,
            gso4: true,
            gso6: true,
            checksums4: true,
            checksums6: true,
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

/// A frame's Toeplitz hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHash {
    /// `HASH_TYPE_*`.
    pub kind: u8,
    /// The hash.
    pub value: u32,
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
    /// Its hash, where the guest has asked for one.
    pub hash: Option<FrameHash>,
}

/// What a guest takes, as its frontend says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// Checksums over IPv4 that hold the sum of the pseudo header alone.
    pub checksums4: bool,
    /// The same over IPv6.
    pub checksums6: bool,
    /// TCP over IPv4 that stands for several segments.
    pub gso4: bool,
    /// TCP over IPv6.
    pub gso6: bool,
}

/// What is behind an interface. Domain 0's thread calls it.
pub trait Wire: Send {
    /// The next frame for the guest, in the place of `frame`, whose memory can be used again. Returns whether there is
    /// one; who says no rings domain 0's bell when that changes.
    fn receive(&mut self, frame: &mut Frame) -> bool;
    /// Takes what the guest sends; the memory stays.
    fn transmit(&mut self, frame: &mut Frame);
    /// Which of so many queues a frame for the guest goes through, if the guest does not say it.
    fn queue(&mut self, frame: &Frame, queues: usize) -> usize;
    /// The guest has connected itself, and takes this.
    fn connected(&mut self, accepts: Accepts);
    /// The guest is not connected: what is there for it has no place to go to.
    fn idle(&mut self);
}

/// What a backend does that it should not.
#[derive(Clone, Debug, Default)]
pub struct Mischief {
    /// A lie, and the packet at whose turn it is told, in the first connection.
    pub lie: Option<(u64, NetLie)>,
    /// Keys of its directory with other values.
    pub wrong_keys: Vec<(String, Wrong)>,
}

#[derive(Default)]
struct State {
    mischief: BTreeMap<u32, Mischief>,
    offer: Offer,
    /// By interface.
    to_guest: BTreeMap<u32, VecDeque<Frame>>,
    from_guest: BTreeMap<u32, Vec<Frame>>,
    connected: BTreeSet<u32>,
    /// Whose backends are to die.
    dying: BTreeSet<u32>,
    /// Of the interfaces that are not fed by hand.
    wires: BTreeMap<u32, Box<dyn Wire>>,
    traffic: BTreeMap<u32, Vec<Traffic>>,
    /// The groups that interfaces pass, where they filter.
    groups: BTreeMap<u32, BTreeSet<[u8; 6]>>,
}

/// What went through a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames that the guest sent.
    pub sent: u64,
    /// Frames that it received.
    pub received: u64,
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

    /// What the backend of an interface does that it should not, from when it is plugged in next.
    pub fn misbehave(&self, devid: u32, mischief: Mischief) {
        self.lock().mischief.insert(devid, mischief);
    }

    /// Has an interface's backend die: its end of everything is gone, its state says closed.
    pub fn die(&self, devid: u32) {
        self.lock().dying.insert(devid);
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

    /// Puts a wire behind an interface, which stays there when the interface comes and goes.
    pub fn attach(&self, devid: u32, wire: Box<dyn Wire>) {
        self.lock().wires.insert(devid, wire);
    }

    /// What went through an interface's queues since it was last connected.
    pub fn traffic(&self, devid: u32) -> Vec<Traffic> {
        self.lock().traffic.get(&devid).cloned().unwrap_or_default()
    }

    /// The groups whose frames an interface passes; `None` where it passes all.
    pub fn groups(&self, devid: u32) -> Option<BTreeSet<[u8; 6]>> {
        self.lock().groups.get(&devid).cloned()
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
        } else if state == XenbusState::Initialising {
            // One that was there had its directory taken away, and did not hear of it before there was another.
            self.remove(dom0, client, devid);
            let (offer, mischief) = {
                let mut state = self.nics.lock();
                (
                    state.offer,
                    state.mischief.remove(&devid).unwrap_or_default(),
                )
            };
            let device = Device::new(devid, offer, mischief, dom0);
            for (key, token) in device.watched() {
                dom0.store().watch(client, &key, &token);
            }
            self.devices.insert(devid, device);
        }
    }

    fn remove(&mut self, dom0: &Dom0, client: ConnectionId, devid: u32) {
        if let Some(mut device) = self.devices.remove(&devid) {
            device.disconnect(dom0.xen());
            for (key, token) in device.watched() {
                dom0.store().unwatch(client, &key, &token);
            }
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
            let filter = event.token.strip_prefix(device::FILTER);
            if let Some(devid) = filter.and_then(|devid| devid.parse().ok()) {
                if let Some(device) = self.devices.get_mut(&devid) {
                    device.filter_changed(dom0);
                }
                continue;
            }
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
        let state = &mut *self.nics.lock();
        for devid in std::mem::take(&mut state.dying) {
            if let Some(device) = self.devices.get_mut(&devid) {
                device.die(dom0);
                worked = true;
            }
        }
        state.connected.clear();
        state.groups.clear();
        for (devid, device) in &mut self.devices {
            worked |= match state.wires.get_mut(devid) {
                Some(wire) => device.serve(dom0, &mut **wire),
                None => {
                    let mut hand = Hand {
                        to_guest: state.to_guest.entry(*devid).or_default(),
                        from_guest: state.from_guest.entry(*devid).or_default(),
                    };
                    device.serve(dom0, &mut hand)
                }
            };
            if device.is_connected() {
                state.connected.insert(*devid);
                state.traffic.insert(*devid, device.traffic());
                if let Some(groups) = device.groups() {
                    state.groups.insert(*devid, groups.clone());
                }
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
