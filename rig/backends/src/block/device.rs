//! One disk's backend: its states and keys, as Linux's xen-blkback (drivers/block/xen-blkback/xenbus.c), or as QEMU's qdisk
//! (seen on a real one, docs/XEN-FINDINGS.md), which writes all of its keys in the beginning.
//!
//! ```text
//!   frontend            backend
//!   Initialising (1)    writes queue and ring limits, InitWait (2)
//!   Initialised (3)     maps the rings, writes features and size, Connected (4)
//!   Connected (4)
//!   Closing (5)         Closing (5)
//!   Closed (6)          unmaps, Closed (6); InitWait again once the frontend is back at 1, if `online`
//! ```

use std::sync::Arc;

use xen_abi::blkif::PROTOCOL_X86_64;
use xen_abi::xenbus::XenbusState;
use xen_abi::{Gref, Port};
use xen_model::Xen;
use xen_model::dom0::Dom0;
use xen_model::store::Store;
use xen_model::toolstack::Backend;

use super::Place;
use super::config::{BlockConfig, Offer, Stats};
use super::queue::Queue;
use super::request::Executor;
use super::ring::BackRing;
use crate::hostile::Lie;

/// A disk of the guest.
pub(super) struct Device {
    pub(super) config: BlockConfig,
    pub(super) stats: Arc<Stats>,
    state: XenbusState,
    queues: Vec<Queue>,
    shown_sectors: u64,
    /// Rings kept mapped for good, by a lie.
    held: Vec<BackRing>,
    /// Whatever the frontend does is ignored, by a lie.
    mute: bool,
}

impl Device {
    /// Probes: the directories exist, the frontend has not started.
    pub(super) fn new(config: BlockConfig, stats: Arc<Stats>, dom0: &Dom0) -> Self {
        let mut device = Self {
            config,
            stats,
            state: XenbusState::Initialising,
            queues: Vec::new(),
            shown_sectors: 0,
            held: Vec::new(),
            mute: false,
        };
        let Offer {
            max_indirect_segments,
            max_queues,
            max_ring_page_order,
            ..
        } = device.config.offer;
        let mut store = dom0.store();
        let dir = device.config.vbd.backend_path();
        for (key, value) in [
            ("feature-max-indirect-segments", max_indirect_segments),
            ("multi-queue-max-queues", max_queues),
            ("max-ring-page-order", max_ring_page_order),
        ] {
            if let Some(value) = value
                && let Some(value) = device.config.key_value(key, u64::from(value))
            {
                store.write(&format!("{dir}/{key}"), value);
            }
        }
        if device.config.vbd.backend == Backend::Qdisk {
            device.write_features(&mut store);
        }
        device.switch(&mut store, XenbusState::InitWait);
        // The toolstack runs its script when the backend waits: Linux's then knows its device, QEMU's needs none.
        if device.config.vbd.backend == Backend::Blkback {
            store.write(&format!("{dir}/physical-device"), "7:0");
        }
        store.write(&format!("{dir}/hotplug-status"), "connected");
        device
    }

    /// Where it is in domain 0.
    pub(super) fn place(&self) -> Place {
        Place {
            path: self.config.vbd.backend_path(),
            domain: self.config.vbd.domain,
            devid: self.config.vbd.devid,
        }
    }

    pub(super) fn frontend_path(&self) -> String {
        self.config.vbd.frontend_path()
    }

    fn switch(&mut self, store: &mut Store, state: XenbusState) {
        self.state = state;
        store.update(
            &format!("{}/state", self.config.vbd.backend_path()),
            &state.number().to_string(),
        );
    }

    fn name(&self) -> String {
        format!("vbd/{}", self.config.vbd.devid)
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
            XenbusState::Initialised | XenbusState::Connected
                if self.state != XenbusState::Connected =>
            {
                self.disconnect(dom0.xen());
                if let Err(why) = self.connect(dom0) {
                    self.fail(dom0, &why);
                }
            }
            XenbusState::Closing if self.state != XenbusState::Closed => {
                self.switch(&mut dom0.store(), XenbusState::Closing);
            }
            XenbusState::Closed => {
                self.disconnect(dom0.xen());
                let mut store = dom0.store();
                self.switch(&mut store, XenbusState::Closed);
                return store.read_number(&format!("{}/online", self.config.vbd.backend_path()))
                    == Some(1);
            }
            XenbusState::Unknown => {
                self.disconnect(dom0.xen());
                return false;
            }
            _ => {}
        }
        true
    }

    /// Something no connection can come of: the reason goes to the error node. `xenbus_dev_fatal`.
    fn fail(&mut self, dom0: &Dom0, why: &str) {
        dom0.log(&format!("{}: {why}", self.name()));
        self.disconnect(dom0.xen());
        let mut store = dom0.store();
        let dir = self.config.vbd.backend_path();
        let node = dir.replacen("/local/domain/0/", "/local/domain/0/error/", 1);
        store.write(&format!("{node}/error"), why);
        self.switch(&mut store, XenbusState::Closing);
    }

    /// Lets go of everything of the guest's.
    pub(super) fn disconnect(&mut self, xen: &Xen) {
        for queue in self.queues.drain(..) {
            queue.close(xen);
        }
    }

    /// Closes without being asked.
    pub(super) fn die(&mut self, dom0: &Dom0) {
        self.disconnect(dom0.xen());
        let mut store = dom0.store();
        self.switch(&mut store, XenbusState::Closing);
        self.switch(&mut store, XenbusState::Closed);
    }

    fn connect(&mut self, dom0: &Dom0) -> Result<(), String> {
        let frontend = self.frontend_path();
        let offer = self.config.offer;
        let mut store = dom0.store();
        let protocol = store
            .read(&format!("{frontend}/protocol"))
            .unwrap_or_default();
        if protocol != PROTOCOL_X86_64 {
            return Err(format!("unknown fe protocol {protocol:?}"));
        }
        let queues = store
            .read_number(&format!("{frontend}/multi-queue-num-queues"))
            .unwrap_or(1);
        if queues == 0 || queues > u64::from(offer.max_queues.unwrap_or(1)) {
            return Err(format!(
                "guest requested {queues} queues, exceeding the maximum"
            ));
        }
        let order = store
            .read_number(&format!("{frontend}/ring-page-order"))
            .unwrap_or(0);
        if order > u64::from(offer.max_ring_page_order.unwrap_or(0)) {
            return Err(format!("requested ring page order {order} exceed max"));
        }
        let mut described = Vec::new();
        for queue in 0..queues {
            let dir = if queues == 1 {
                frontend.clone()
            } else {
                format!("{frontend}/queue-{queue}")
            };
            described.push(read_queue(&mut store, &dir, order as u32)?);
        }
        drop(store);
        let xen = dom0.xen();
        for (number, (grefs, port)) in described.into_iter().enumerate() {
            let ring = BackRing::map(xen, &grefs).map_err(|e| format!("mapping ring-ref: {e}"))?;
            self.queues.push(Queue::new(number, ring, port, dom0)?);
        }
        let entries = self.queues.first().map_or(0, Queue::entries);
        dom0.log(&format!(
            "{}: connected, {queues} queues of {entries} entries",
            self.name()
        ));
        let mut store = dom0.store();
        if self.config.vbd.backend == Backend::Blkback {
            self.write_features(&mut store);
        }
        self.switch(&mut store, XenbusState::Connected);
        Ok(())
    }

    /// The keys of what the disk is and can: xen-blkback writes them when it connects, qdisk before that.
    fn write_features(&mut self, store: &mut Store) {
        let offer = self.config.offer;
        let dir = self.config.vbd.backend_path();
        let config = &self.config;
        let mut put = |key: &str, value: u64| {
            if let Some(value) = config.key_value(key, value) {
                store.write(&format!("{dir}/{key}"), value);
            }
        };
        let flags = [
            ("feature-flush-cache", offer.flush),
            ("feature-barrier", offer.barrier),
            ("feature-persistent", offer.persistent),
        ];
        for (key, _) in flags.iter().filter(|(_, on)| *on) {
            put(key, 1);
        }
        if let Some(d) = self.config.discard() {
            put("discard-granularity", u64::from(d.granularity));
            put("discard-alignment", u64::from(d.alignment));
            put("discard-secure", u64::from(d.secure));
            put("feature-discard", 1);
        }
        let sectors = config.image.sectors();
        put("sectors", sectors);
        put("info", u64::from(self.config.info()));
        put("sector-size", u64::from(offer.sector_size));
        if let Some(size) = offer.physical_sector_size {
            put("physical-sector-size", u64::from(size));
        }
        self.shown_sectors = sectors;
    }

    /// The image has changed its size: says so, and rewrites the state to make the frontend look. `xen_vbd_resize`.
    fn announce_size(&mut self, dom0: &Dom0) {
        self.shown_sectors = self.config.image.sectors();
        let dir = self.config.vbd.backend_path();
        let mut store = dom0.store();
        store.write(&format!("{dir}/sectors"), self.shown_sectors.to_string());
        store.write(&format!("{dir}/state"), self.state.number().to_string());
    }

    /// Carries out a batch of each queue's requests. Returns whether there was anything to do.
    pub(super) fn serve(&mut self, dom0: &Dom0) -> bool {
        let mut worked = false;
        if self.state == XenbusState::Connected && self.shown_sectors != self.config.image.sectors()
        {
            self.announce_size(dom0);
            worked = true;
        }
        let executor = Executor {
            xen: dom0.xen(),
            config: &self.config,
            stats: &self.stats,
        };
        let mut lie = None;
        for queue in &mut self.queues {
            let served = queue.serve(&executor, dom0);
            worked |= served.worked;
            lie = lie.or(served.lie);
        }
        match lie {
            Some(Lie::HoldRing) => {
                let queues = self.queues.drain(..);
                self.held
                    .extend(queues.map(|queue| queue.close(dom0.xen())));
            }
            Some(Lie::Close) => self.die(dom0),
            Some(Lie::Mute) => self.mute = true,
            Some(Lie::Flap) => {
                let state = format!("{}/state", self.config.vbd.backend_path());
                for flap in ["0", "1", "2", "3", "5", "6", "7", "8", "9", "", "x"] {
                    dom0.store().write(&state, flap);
                }
                dom0.store().write(&state, self.state.number().to_string());
            }
            _ => {}
        }
        worked
    }
}

/// A queue's references and its port.
fn read_queue(store: &mut Store, dir: &str, order: u32) -> Result<(Vec<Gref>, Port), String> {
    let mut number = |key: &str| {
        let value = store
            .read_number(&format!("{dir}/{key}"))
            .and_then(|n| u32::try_from(n).ok());
        value.ok_or_else(|| format!("reading {dir}/{key}"))
    };
    let port = Port(number("event-channel")?);
    let grefs = (0..1u32 << order)
        .map(|i| match number(&format!("ring-ref{i}")) {
            // A ring of one page may go by the older name.
            Err(_) if order == 0 => number("ring-ref"),
            other => other,
        })
        .map(|r| r.map(Gref))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((grefs, port))
}
