//! One interface's backend: its states and keys, as Linux's xen-netback (drivers/net/xen-netback/xenbus.c).
//!
//! ```text
//!   frontend            backend
//!   Initialising (1)    writes features, InitWait (2)
//!   Connected (4)       maps the rings, Connected (4)
//!   Closing (5)         unmaps, Closing (5)
//!   Closed (6)          Closed (6); InitWait again once the frontend is back at 1, if `online`
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use xen_abi::xenbus::XenbusState;
use xen_abi::{Gref, Port};
use xen_model::dom0::Dom0;
use xen_model::store::Store;
use xen_model::{EventEnd, Xen};

use super::control::Control;
use super::lying::NetLie;
use super::multicast::Multicast;
use super::queue::Queue;
use super::ring::BackRing;
use super::{Accepts, Frame, Mischief, Offer, Traffic, Wire};
use crate::hostile::{Lie, Wrong};

/// Frames that wait for a place in one queue's ring before no more are taken from the wire.
const MOST_WAITING: usize = 64;

/// What the token of a watch begins with whose key says whether the guest wants multicast packets filtered.
pub(super) const FILTER: &str = "filter ";

pub(super) struct Device {
    devid: u32,
    offer: Offer,
    state: XenbusState,
    queues: Vec<Queue>,
    control: Option<Control>,
    multicast: Multicast,
    /// Told in the next connection.
    lie: Option<(u64, NetLie)>,
    /// Whatever the frontend does is ignored, by a lie.
    mute: bool,
    /// The rings are kept mapped for good, by a lie.
    keeps_rings: bool,
    /// What the guest takes; to be told to the wire.
    accepts: Option<Accepts>,
    /// Frames whose memory is used again.
    spare: Vec<Frame>,
    /// Where the guest's frames are put together.
    sent: Frame,
}

impl Device {
    /// Probes: the directories exist, the frontend has not started.
    pub(super) fn new(devid: u32, offer: Offer, mischief: Mischief, dom0: &Dom0) -> Self {
        let mut device = Self {
            devid,
            offer,
            state: XenbusState::Initialising,
            queues: Vec::new(),
            control: None,
            multicast: Multicast::default(),
            lie: mischief.lie,
            mute: false,
            keeps_rings: false,
            accepts: None,
            spare: Vec::new(),
            sent: Frame::default(),
        };
        let mut store = dom0.store();
        let dir = device.backend_path();
        for (key, value) in [
            ("feature-sg", 1),
            ("feature-gso-tcpv4", u32::from(offer.gso4)),
            ("feature-gso-tcpv6", u32::from(offer.gso6)),
            ("feature-ipv6-csum-offload", u32::from(offer.checksums6)),
            ("feature-no-csum-offload", u32::from(!offer.checksums4)),
            ("feature-ctrl-ring", u32::from(offer.control)),
            ("feature-multicast-control", u32::from(offer.multicast)),
            (
                "feature-dynamic-multicast-control",
                u32::from(offer.multicast),
            ),
            ("feature-rx-copy", 1),
            ("feature-rx-flip", 0),
            ("feature-split-event-channels", u32::from(offer.split)),
            ("multi-queue-max-queues", offer.queues),
        ] {
            store.write(&format!("{dir}/{key}"), value.to_string());
        }
        for (key, wrong) in mischief.wrong_keys {
            match wrong {
                Wrong::Text(text) => store.write(&format!("{dir}/{key}"), text),
                Wrong::Missing => store.remove(&format!("{dir}/{key}")),
            }
        }
        device.switch(&mut store, XenbusState::InitWait);
        device
    }

    fn backend_path(&self) -> String {
        format!("{}/{}", super::BACKENDS, self.devid)
    }

    pub(super) fn frontend_path(&self) -> String {
        format!("{}/{}", super::FRONTENDS, self.devid)
    }

    /// The keys that are watched, with their tokens.
    pub(super) fn watched(&self) -> [(String, String); 2] {
        let (path, devid) = (self.frontend_path(), self.devid);
        [
            (format!("{path}/state"), devid.to_string()),
            (filter_key(&path), format!("{FILTER}{devid}")),
        ]
    }

    /// The guest wants multicast packets filtered, or no more.
    pub(super) fn filter_changed(&mut self, dom0: &Dom0) {
        let key = filter_key(&self.frontend_path());
        let wanted = dom0.store().read_number(&key) == Some(1);
        self.multicast.on = self.offer.multicast && wanted;
    }

    /// The groups that are passed, where there is a filter.
    pub(super) fn groups(&self) -> Option<&BTreeSet<[u8; 6]>> {
        self.multicast.on.then_some(&self.multicast.groups)
    }

    fn switch(&mut self, store: &mut Store, state: XenbusState) {
        self.state = state;
        store.update(
            &format!("{}/state", self.backend_path()),
            &state.number().to_string(),
        );
    }

    /// The frontend's state may have changed. Returns `false` when the device is done for.
    pub(super) fn frontend_changed(&mut self, dom0: &Dom0) -> bool {
        if self.mute {
            return true;
        }
        let frontend = dom0.store().read_state(&self.frontend_path());
        match frontend {
            XenbusState::Initialising if self.state == XenbusState::Closed => {
                self.switch(&mut dom0.store(), XenbusState::InitWait);
            }
            XenbusState::Connected if self.state == XenbusState::InitWait => {
                match self.connect(dom0) {
                    Ok(()) => self.switch(&mut dom0.store(), XenbusState::Connected),
                    Err(why) => {
                        dom0.log(&format!("vif/{}: {why}", self.devid));
                        self.disconnect(dom0.xen());
                        self.switch(&mut dom0.store(), XenbusState::Closing);
                    }
                }
            }
            XenbusState::Closing if self.state != XenbusState::Closed => {
                self.disconnect(dom0.xen());
                self.switch(&mut dom0.store(), XenbusState::Closing);
            }
            XenbusState::Closed => {
                self.disconnect(dom0.xen());
                let mut store = dom0.store();
                self.switch(&mut store, XenbusState::Closed);
                return store.read_number(&format!("{}/online", self.backend_path())) == Some(1);
            }
            XenbusState::Unknown => {
                self.disconnect(dom0.xen());
                return false;
            }
            _ => {}
        }
        true
    }

    /// Lets go of everything of the guest's.
    pub(super) fn disconnect(&mut self, xen: &Xen) {
        for queue in self.queues.drain(..) {
            queue.close(xen);
            if self.keeps_rings {
                std::mem::forget(queue);
            }
        }
        if let Some(control) = self.control.take() {
            control.close(xen);
        }
        self.multicast.groups.clear();
    }

    /// Is gone without a word, as a backend whose process ended.
    pub(super) fn die(&mut self, dom0: &Dom0) {
        self.disconnect(dom0.xen());
        let mut store = dom0.store();
        self.switch(&mut store, XenbusState::Closing);
        self.switch(&mut store, XenbusState::Closed);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state == XenbusState::Connected
    }

    fn connect(&mut self, dom0: &Dom0) -> Result<(), String> {
        let frontend = self.frontend_path();
        let mut store = dom0.store();
        let mut number = |key: &str| {
            let value = store.read_number(&format!("{frontend}/{key}"));
            value.and_then(|value| u32::try_from(value).ok())
        };
        if number("request-rx-copy") != Some(1) {
            return Err("the frontend does not copy".to_owned());
        }
        let mut is_set = |key: &str| number(key) == Some(1);
        let accepts = Accepts {
            checksums4: !is_set("feature-no-csum-offload"),
            checksums6: is_set("feature-ipv6-csum-offload"),
            gso4: is_set("feature-gso-tcpv4"),
            gso6: is_set("feature-gso-tcpv6"),
        };
        let count = number("multi-queue-num-queues").unwrap_or(1);
        if count == 0 || count > self.offer.queues {
            return Err(format!(
                "guest requested {count} queues, exceeding the maximum"
            ));
        }
        let mut told = Vec::new();
        for index in 0..count {
            let dir = match count {
                1 => String::new(),
                _ => format!("queue-{index}/"),
            };
            let mut need = |key: &str| {
                number(&format!("{dir}{key}")).ok_or_else(|| format!("reading {dir}{key}"))
            };
            let (tx, rx) = (need("tx-ring-ref")?, need("rx-ring-ref")?);
            let ports = match self.offer.split {
                true => (need("event-channel-tx")?, Some(need("event-channel-rx")?)),
                false => (need("event-channel")?, None),
            };
            told.push((tx, rx, ports));
        }
        let control = match self.offer.control {
            true => number("ctrl-ring-ref").zip(number("event-channel-ctrl")),
            false => None,
        };
        drop(store);
        let lie = self.lie.take();
        let about_control = match lie {
            Some((_, NetLie::Control(lie))) => Some(lie),
            _ => None,
        };
        let control = control.map(|keys| Control::connect(dom0, keys, count, about_control));
        self.control = control.transpose()?;
        self.filter_changed(dom0);
        let xen = dom0.xen();
        let bind = |port: u32| -> Result<Arc<EventEnd>, String> {
            let end = xen.dom0_bind(Port(port), dom0.bell());
            end.map_err(|error| format!("binding port {port}: errno {error}"))
        };
        for (tx, rx, (tx_port, rx_port)) in told {
            let map = |error| format!("mapping a ring: {error}");
            self.queues.push(Queue::new(
                BackRing::map(xen, Gref(tx)).map_err(map)?,
                BackRing::map(xen, Gref(rx)).map_err(map)?,
                bind(tx_port)?,
                rx_port.map(bind).transpose()?,
                lie,
            ));
        }
        self.accepts = Some(accepts);
        Ok(())
    }

    /// What went through each queue since it was connected.
    pub(super) fn traffic(&self) -> Vec<Traffic> {
        self.queues.iter().map(|queue| queue.traffic).collect()
    }

    /// Gives the wire what the guest sent, and the guest what the wire has. Returns whether there was anything.
    pub(super) fn serve(&mut self, dom0: &Dom0, wire: &mut dyn Wire) -> bool {
        if self.queues.is_empty() || self.mute {
            wire.idle();
            return false;
        }
        if let Some(accepts) = self.accepts.take() {
            wire.connected(accepts);
        }
        let mut worked = self.control.as_mut().is_some_and(|it| it.serve(dom0));
        for queue in &mut self.queues {
            worked |= queue.take_sent(dom0, &mut self.sent, &mut self.multicast, wire);
        }
        if let Some(lie) = self.queues.iter_mut().find_map(|it| it.of_device.take()) {
            self.misbehave(dom0, lie);
            return true;
        }
        // Whoever has no room holds up all: the order of what waits is nobody's but the wire's.
        while self.have_room() {
            let mut frame = self.spare.pop().unwrap_or_default();
            if !wire.receive(&mut frame) {
                self.spare.push(frame);
                break;
            }
            worked = true;
            if !self.multicast.passes(&frame.bytes) {
                self.spare.push(frame);
                continue;
            }
            let queue = self.choose(&mut frame, wire);
            self.queues[queue].waiting.push_back(frame);
            if self.queues[queue].waiting.len() >= MOST_WAITING {
                self.give(dom0);
            }
        }
        worked | self.give(dom0)
    }

    /// Does what is a lie of the whole device's.
    fn misbehave(&mut self, dom0: &Dom0, lie: Lie) {
        match lie {
            Lie::HoldRing => self.keeps_rings = true,
            Lie::Mute => (self.mute, self.keeps_rings) = (true, true),
            Lie::Close => self.die(dom0),
            _ => {
                let key = format!("{}/state", self.backend_path());
                let mut store = dom0.store();
                for state in ["0", "1", "2", "3", "7", "8", "99", "", "many", "4"] {
                    store.write(&key, state);
                }
            }
        }
    }

    fn have_room(&self) -> bool {
        let mut queues = self.queues.iter();
        queues.all(|queue| queue.broken || queue.waiting.len() < MOST_WAITING)
    }

    /// The queue for a frame: the guest's choice, with the hash that it is by, or the wire's.
    fn choose(&self, frame: &mut Frame, wire: &mut dyn Wire) -> usize {
        let chosen = self.control.as_ref().and_then(|it| it.choose(&frame.bytes));
        let (queue, hash) = chosen.unwrap_or_else(|| (wire.queue(frame, self.queues.len()), None));
        frame.hash = hash;
        queue % self.queues.len()
    }

    /// Puts what waits into the rings.
    fn give(&mut self, dom0: &Dom0) -> bool {
        let spare = &mut self.spare;
        let queues = self.queues.iter_mut();
        queues.fold(false, |worked, queue| queue.give(dom0, spare) | worked)
    }
}

/// Says whether the guest wants multicast packets filtered.
fn filter_key(frontend: &str) -> String {
    format!("{frontend}/request-multicast-control")
}
