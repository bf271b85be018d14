//! The block backend: raw images as disks of the guest, after Linux's xen-blkback, or in its keys after QEMU's qdisk.
//!
//! ```text
//!   Disks::attach ──► toolstack writes keys ──► watch ──► Blkback ──► Device ──► rings ──► Executor ──► Image
//! ```
//! [`Blkback`] is the driver in domain 0's loop; [`Disks`] is the handle the rig keeps.

mod config;
mod device;
mod image;
mod lying;
mod queue;
mod request;
mod ring;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xen_abi::xenbus::XenbusState;
use xen_model::dom0::{Dom0, Driver};
use xen_model::store::ConnectionId;
use xen_model::toolstack::Backend;

pub use config::{BlockConfig, Discard, Offer, Stats};
pub use image::{BadImage, Buffer, Image, ImageError};

use device::Device;

/// A disk's directory in domain 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    path: String,
    domain: u16,
    devid: u32,
}

impl Place {
    /// The directory that a path lies in: behind a backend's own come the domain and the disk.
    fn of(path: &str) -> Option<Self> {
        let (directory, rest) = Backend::ALL.iter().find_map(|backend| {
            let directory = backend.directory();
            Some((directory, path.strip_prefix(directory)?.strip_prefix('/')?))
        })?;
        let mut words = rest.split('/');
        let (domain, devid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self {
            path: format!("{directory}/{domain}/{devid}"),
            domain,
            devid,
        })
    }
}

#[derive(Clone)]
struct Known {
    config: BlockConfig,
    stats: Arc<Stats>,
    dying: bool,
}

/// The disks that the backend may serve, by virtual device number.
#[derive(Clone, Default)]
pub struct Disks(Arc<Mutex<BTreeMap<u32, Known>>>);

impl Disks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plugs a disk into the guest.
    pub fn attach(&self, dom0: &Dom0, config: BlockConfig) -> Result<Arc<Stats>, ImageError> {
        config.check()?;
        let stats = Arc::new(Stats::default());
        let vbd = config.vbd.clone();
        self.lock().insert(
            vbd.devid,
            Known {
                config,
                stats: stats.clone(),
                dying: false,
            },
        );
        dom0.attach_disk(vbd);
        Ok(stats)
    }

    /// Forgets a disk, after the toolstack has detached it.
    pub fn forget(&self, devid: u32) {
        self.lock().remove(&devid);
    }

    /// Lets a disk's backend die at its next step: it lets go of everything of the guest's and is closed. It serves the
    /// disk again when the guest asks for it. Ring domain 0's bell afterwards.
    pub fn die(&self, devid: u32) {
        if let Some(known) = self.lock().get_mut(&devid) {
            known.dying = true;
        }
    }

    /// The disks that are to die, once.
    fn take_dying(&self) -> Vec<u32> {
        let mut disks = self.lock();
        let dying = disks.iter_mut().filter(|(_, known)| known.dying);
        dying
            .map(|(devid, known)| {
                known.dying = false;
                *devid
            })
            .collect()
    }

    /// A disk's contents.
    pub fn image(&self, devid: u32) -> Option<Arc<Image>> {
        self.lock().get(&devid).map(|k| k.config.image.clone())
    }
}

/// The driver for all disks.
pub struct Blkback {
    disks: Disks,
    client: Option<ConnectionId>,
    devices: BTreeMap<u32, Device>,
}

impl Blkback {
    /// The driver, and the handle to give it disks.
    pub fn new() -> (Self, Disks) {
        let disks = Disks::default();
        (
            Self {
                disks: disks.clone(),
                client: None,
                devices: BTreeMap::new(),
            },
            disks,
        )
    }

    fn client(&mut self, dom0: &Dom0) -> ConnectionId {
        *self.client.get_or_insert_with(|| {
            let mut store = dom0.store();
            let id = store.client();
            for backend in Backend::ALL {
                store.watch(id, backend.directory(), "backend");
            }
            id
        })
    }

    /// Disks there are, and disks there should be.
    fn all_places(&self, dom0: &Dom0) -> BTreeSet<Place> {
        let mut store = dom0.store();
        let mut places: BTreeSet<_> = self.devices.values().map(Device::place).collect();
        for backend in Backend::ALL {
            let directory = backend.directory();
            for domain in store.list(directory) {
                for devid in store.list(&format!("{directory}/{domain}")) {
                    places.extend(Place::of(&format!("{directory}/{domain}/{devid}")));
                }
            }
        }
        places
    }

    /// A disk's directory in domain 0 came, changed or went.
    fn backend_changed(&mut self, dom0: &Dom0, client: ConnectionId, place: &Place) {
        let state = dom0.store().read_state(&place.path);
        let devid = place.devid;
        let device = self.devices.get(&devid);
        if state == XenbusState::Unknown {
            // What went may be the directory of the domain before its restore.
            if device.is_some_and(|device| device.place() == *place) {
                self.remove(dom0, client, devid);
            }
        } else if state == XenbusState::Initialising && device.is_none() {
            let Some(mut known) = self.disks.lock().get(&devid).cloned() else {
                dom0.log(&format!("vbd/{devid}: no image was given for this disk"));
                return;
            };
            known.config.vbd.domain = place.domain;
            let device = Device::new(known.config, known.stats, dom0);
            dom0.store().watch(
                client,
                &format!("{}/state", device.frontend_path()),
                &devid.to_string(),
            );
            self.devices.insert(devid, device);
        }
    }

    fn frontend_changed(&mut self, dom0: &Dom0, client: ConnectionId, devid: u32) {
        if let Some(device) = self.devices.get_mut(&devid)
            && !device.frontend_changed(dom0)
        {
            self.remove(dom0, client, devid);
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
}

impl Driver for Blkback {
    fn step(&mut self, dom0: &Dom0) -> bool {
        let mut worked = false;
        let client = self.client(dom0);
        loop {
            let Some(event) = dom0.store().next_event(client) else {
                break;
            };
            worked = true;
            if event.token == "backend" {
                let concerned = match Place::of(&event.path) {
                    Some(place) => BTreeSet::from([place]),
                    // A directory above: the first event, or removed with all in it.
                    None => self.all_places(dom0),
                };
                for place in &concerned {
                    self.backend_changed(dom0, client, place);
                }
            } else if let Ok(devid) = event.token.parse() {
                self.frontend_changed(dom0, client, devid);
            }
        }
        for devid in self.disks.take_dying() {
            if let Some(device) = self.devices.get_mut(&devid) {
                device.die(dom0);
                worked = true;
            }
        }
        for device in self.devices.values_mut() {
            worked |= device.serve(dom0);
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
