//! A disk's connection to its backend: made, watched and ended in the disk's own thread, at PASSIVE_LEVEL.

use crate::disk::Disk;
use crate::queue::{Link, Remains, RingPages};
use crate::session::Session;
use crate::shape::Pages as VpdPages;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blkfront::cursor::Rule;
use blkfront::features::{Features, Geometry, Limits, Refusal, Value};
use blkfront::handshake::Backend;
use blkfront::keys::{self, QueueKeys};
use blkfront::queue::{Ring, Shape};
use core::fmt;
use core::time::Duration;
use handshake::Goal;
use nt::{NtStatus, Pages, try_arc};
use pv_client::directories::{self, Directories, Named};
use pv_client::evtchn::Channel;
use pv_client::gnttab::{Grant, GrantCache};
use pv_client::store::Watch;
use pv_client::{CText, c_text};
use scsi::VpdPage;
use xen_abi::Gref;
use xen_abi::xenbus::XenbusState;

/// How long a backend may take to connect.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// How long a backend may take to close.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// Why a connection was not made.
pub(crate) type Fault = directories::Fault<Refusal>;

type Result<T> = core::result::Result<T, Fault>;

/// The frontend's side of a connection.
pub(crate) struct Connection {
    session: Arc<Session>,
    ends: Directories,
    _watch: Watch,
    cache: Option<Arc<GrantCache>>,
    rings: Vec<LentRing>,
    ejected: bool,
    /// The backend has neither closed nor let go of the rings.
    held: bool,
}

/// A ring's grants, one a page; and the ring, until its queue has it.
struct LentRing {
    grants: Vec<Grant>,
    ring: Option<Ring<RingPages>>,
}

/// What a look at the backend found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing to do.
    Nothing,
    /// The disk has another size now.
    Resized,
    /// The toolstack asks for the disk's removal. Told once.
    Eject,
    /// The backend is gone, or closing of its own accord.
    Lost,
}

impl Connection {
    /// Connects. On failure everything is undone.
    #[inline(never)]
    pub(crate) fn open(disk: &Disk, session: Arc<Session>) -> Result<Connection> {
        let frontend = c_text!("device/vbd/{}", disk.device().0);
        let ends = Directories::open(&session.store, frontend, None)?;
        let watch = ends
            .watch_backend(&disk.signals().wake)
            .named("watch the backend")?;
        let mut connection = Connection {
            session,
            ends,
            _watch: watch,
            cache: None,
            rings: Vec::new(),
            ejected: false,
            held: false,
        };
        match connection.connect(disk) {
            Ok(()) => Ok(connection),
            Err(fault) => {
                let _ = connection.close(disk, true);
                Err(fault)
            }
        }
    }

    #[inline(never)]
    fn connect(&mut self, disk: &Disk) -> Result<()> {
        self.reach(Goal::Close, CLOSE_TIME, disk)?;
        self.write_target(disk).named("write the target's keys")?;
        self.reach(Goal::Prepare, CONNECT_TIME, disk)?;

        let overrides = disk.overrides();
        let limits = Limits::read(
            &mut |key| self.ends.backend_value(key),
            overrides,
            disk.queues().len() as u32,
        );
        let order = limits.ring_page_order;
        let wanted = limits.queues as usize;
        let cache = GrantCache::new(&self.session.gnttab, &c_text!("disk_{}", disk.target), 0);
        let cache = cache.and_then(try_arc).named("make a grant cache")?;
        self.cache = Some(cache.clone());

        let mut channels = Vec::new();
        channels
            .try_reserve_exact(wanted)
            .map_err(NtStatus::from)
            .named("make room for channels")?;
        self.rings
            .try_reserve_exact(wanted)
            .map_err(NtStatus::from)
            .named("make room for rings")?;
        for (index, queue) in disk.queues().iter().take(wanted).enumerate() {
            let pages = Pages::allocate(1 << order).named("allocate a ring")?;
            // Clears the pages, before anybody else can see them.
            let ring = Ring::new(RingPages(pages))
                .ok_or(Fault::Step("make a ring", NtStatus::INVALID_PARAMETER))?;
            self.lend(&cache, ring)?;
            let callback = queue.on_event().ok_or(Fault::Cancelled)?;
            let mut channel =
                Channel::open_unbound(&self.session.evtchn, self.ends.domain(), callback)
                    .named("open an event channel")?;
            if wanted > 1
                && let Ok(processor) = nt::processor::ProcessorNumber::from_index(index as u32)
            {
                // Where that is not possible, events go to the first processor.
                let _ = channel.bind(processor);
            }
            channels.push(channel);
        }
        self.publish(disk, &cache, &channels)
            .named("write the connection's keys")?;
        self.reach(Goal::Connect, CONNECT_TIME, disk)?;

        let (geometry, features) = self.read_properties(disk)?;
        let whole_pages = self.is_untrusted();
        disk.shape().set_whole_pages(whole_pages);
        let shape = Shape {
            rule: Rule {
                block: geometry.block_size,
                whole_pages,
            },
            unit: geometry.unit,
            handle: disk.device().handle(),
            features,
        };
        nt::info!(
            "vbd/{}: target {}, {} blocks of {} bytes, {wanted} ring(s) of {} page(s), flush {}, barrier {}, discard {}",
            disk.device().0,
            disk.target,
            geometry.blocks,
            geometry.block_size,
            1 << order,
            features.flush,
            features.barrier,
            features.discard.is_some()
        );
        self.ends
            .write_state(XenbusState::Connected)
            .named("write the state")?;
        for ((queue, lent), channel) in disk.queues().iter().zip(&mut self.rings).zip(channels) {
            if let Some(ring) = lent.ring.take() {
                queue.connect(
                    ring,
                    shape,
                    Link {
                        cache: cache.clone(),
                        backend: self.ends.domain(),
                    },
                    channel,
                );
            }
        }
        disk.set_active(wanted);
        Ok(())
    }

    /// Grants a ring's pages.
    #[inline(never)]
    fn lend(&mut self, cache: &Arc<GrantCache>, ring: Ring<RingPages>) -> Result<()> {
        let pfns = ring.memory().0.pfns();
        let mut grants = Vec::new();
        grants
            .try_reserve_exact(pfns.len())
            .map_err(NtStatus::from)
            .named("make room for grants")?;
        let granted = pfns.iter().try_for_each(|pfn| {
            grants.push(cache.permit(self.ends.domain(), *pfn, false)?);
            Ok(())
        });
        // The pages must outlive what was granted of them, which is taken back in `close`, also after a failure.
        self.rings.push(LentRing {
            grants,
            ring: Some(ring),
        });
        granted.named("grant a ring")
    }

    /// Ends the connection: both ends closed if the backend plays along, and everything taken back that it lets go.
    ///
    /// A backend that does not close and keeps the rings may still get to the requests in them, long after. Their pages
    /// cannot be had back then, nor their references be used for others: the connection stays as it is and comes back,
    /// to be closed later, unless the end is forced.
    #[inline(never)]
    pub(crate) fn close(mut self, disk: &Disk, force: bool) -> Option<Connection> {
        if let Err(fault) = self.reach(Goal::Close, CLOSE_TIME, disk) {
            nt::warning!("vbd/{}: closing: {fault}", disk.device().0);
            self.held = !force && !self.recall_rings();
            if self.held {
                return Some(self);
            }
        }
        self.take_back(disk, false);
        None
    }

    /// Gives up a backend that neither answers nor closes, and keeps the rings: its requests fail, those at once whose pages
    /// it does not use. Should it wake up and find the requests, their references grant nothing: they are not used again,
    /// nor are the rings' pages.
    #[inline(never)]
    pub(crate) fn abandon(mut self, disk: &Disk) {
        disk.queues().iter().for_each(|queue| queue.abort(false));
        self.take_back(disk, true);
    }

    /// Takes the rings from the queues, and back from the backend what it lets go. What belongs to references that must
    /// not be used again is kept for good.
    fn take_back(&mut self, disk: &Disk, quarantine: bool) {
        if let Some(cache) = self.cache.as_ref().filter(|_| quarantine) {
            core::mem::forget(cache.clone());
        }
        let mut rings = core::mem::take(&mut self.rings).into_iter();
        for queue in disk.queues() {
            let Remains { ring, channel } = queue.disconnect();
            // Out of the lock: this waits for a running callback.
            drop(channel);
            let Some(lent) = rings.next() else { continue };
            let mut stuck = false;
            for grant in lent.grants {
                if let Some(cache) = &self.cache
                    && let Err(_grant) = cache.revoke(grant)
                {
                    stuck = true;
                    // The cache must outlive its grants, and this one never ends.
                    core::mem::forget(cache.clone());
                }
            }
            let pages = ring.or(lent.ring.map(Ring::into_memory));
            match pages {
                Some(RingPages(pages)) if stuck => {
                    nt::error!(
                        "vbd/{}: the backend keeps {} ring page(s)",
                        disk.device().0,
                        pages.count()
                    );
                    pages.leak();
                }
                pages => drop(pages),
            }
        }
    }

    /// Whether the connection should be closed, and the backend does not let it.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Takes back the rings' grants; whether all are back.
    fn recall_rings(&mut self) -> bool {
        let Some(cache) = &self.cache else {
            return true;
        };
        for ring in &mut self.rings {
            for _ in 0..ring.grants.len() {
                let Some(grant) = ring.grants.pop() else {
                    break;
                };
                if let Err(grant) = cache.revoke(grant) {
                    // There is room, as one was taken out.
                    ring.grants.insert(0, grant);
                }
            }
        }
        self.rings.iter().all(|ring| ring.grants.is_empty())
    }

    /// Goes from state to state until the goal is reached, or will not be.
    fn reach(&mut self, goal: Goal, time: Duration, disk: &Disk) -> Result<()> {
        self.ends.reach(goal, time, &disk.signals().wake, |ends| {
            match goal != Goal::Close && !disk.is_wanted() {
                true => Err(Fault::Cancelled),
                false => Ok(Backend(ends.backend_state())),
            }
        })
    }

    #[inline(never)]
    fn publish(&self, disk: &Disk, cache: &GrantCache, channels: &[Channel]) -> nt::Result<()> {
        let mut grefs: Vec<Vec<Gref>> = Vec::new();
        grefs.try_reserve_exact(self.rings.len())?;
        for ring in &self.rings {
            let mut references = Vec::new();
            references.try_reserve_exact(ring.grants.len())?;
            references.extend(ring.grants.iter().map(|grant| cache.reference(grant)));
            grefs.push(references);
        }
        self.ends.publish(|write, remove| {
            let queues = grefs
                .iter()
                .zip(channels)
                .map(|(grefs, channel)| QueueKeys {
                    grefs,
                    port: channel.port(),
                });
            keys::publish(queues, channels.len() as u32, disk.target, write, remove)
        })
    }

    /// The keys by which the crash driver finds its disk.
    #[inline(never)]
    fn write_target(&self, disk: &Disk) -> nt::Result<()> {
        let directory = c_text!("data/scsi/target/{}", disk.target);
        let access = self.session.store.plain();
        access.write(Some(&directory), &c_text!("frontend"), self.ends.frontend())?;
        access.write(
            Some(&directory),
            &c_text!("device"),
            &c_text!("{}", disk.device().0),
        )?;
        self.write_usage(disk)
    }

    /// Tells what the system keeps on the disk.
    #[inline(never)]
    pub(crate) fn write_usage(&self, disk: &Disk) -> nt::Result<()> {
        let directory = c_text!("data/scsi/target/{}", disk.target);
        for (name, used) in disk.usage() {
            let access = self.session.store.plain();
            access.write(
                Some(&directory),
                &c_text!("{name}"),
                &c_text!("{}", u32::from(used)),
            )?;
        }
        Ok(())
    }

    /// Writes why the device does not work, where the toolstack looks for it.
    #[inline(never)]
    pub(crate) fn write_error(session: &Session, disk: &Disk, text: fmt::Arguments<'_>) {
        let frontend = c_text!("device/vbd/{}", disk.device().0);
        // The toolstack may not have given us leave to write there; the log has it too.
        let _ = session
            .store
            .plain()
            .write(Some(&frontend), &c_text!("error"), &CText::new(text));
    }

    /// Whether the toolstack marked the backend as untrusted (`trusted` = 0, as Linux knows it).
    fn is_untrusted(&self) -> bool {
        self.ends.own_value("trusted") == Value::Number(0)
    }

    #[inline(never)]
    fn read_properties(&self, disk: &Disk) -> Result<(Geometry, Features)> {
        // A key that cannot be read now is no missing one: blocks would have another size, writes would not be flushed.
        let mut unread = Ok(());
        let mut get = |key: &str| {
            self.ends.read_backend_value(key).unwrap_or_else(|status| {
                unread = Err(status);
                Value::Garbage
            })
        };
        let geometry = Geometry::read(&mut get, self.ends.backend().as_bytes());
        let features = Features::read(&mut get, disk.overrides());
        unread.named("read what the disk is like")?;
        let geometry = geometry.map_err(Fault::Refused)?;
        let shape = disk.shape();
        // Whoever uses the disk counts in its blocks.
        if disk.is_in_use() && shape.blocks() != 0 && shape.block_size() != geometry.block_size {
            return Err(Fault::Step(
                "take blocks of another size than before",
                NtStatus::DATA_ERROR,
            ));
        }
        shape.set_geometry(&geometry);
        shape.set_features(&features);
        shape.set_pages(VpdPages {
            serial_number: self.vpd(0x80),
            identification: self.vpd(0x83),
        });
        Ok((geometry, features))
    }

    #[inline(never)]
    fn vpd(&self, page: u8) -> Option<VpdPage> {
        let node = c_text!("sm-data/scsi/0x12/0x{page:02x}");
        let text = self
            .session
            .store
            .plain()
            .read(self.ends.backend(), &node)
            .ok()?;
        VpdPage::from_base64(text.as_bytes(), page)
    }

    /// Looks at what changed below the backend's directory.
    #[inline(never)]
    pub(crate) fn look(&mut self, disk: &Disk) -> Found {
        let online = self.ends.backend_value("online") != Value::Number(0);
        match self.ends.backend_state() {
            // A backend that was about to connect when the toolstack wrote Closing has written Connected over it.
            XenbusState::Closing | XenbusState::Connected if !online => {
                if self.ejected {
                    return Found::Nothing;
                }
                self.ejected = true;
                if let Err(status) = self.ends.write("ejected", "1") {
                    nt::warning!(
                        "vbd/{}: cannot tell of the eject: {status}",
                        disk.device().0
                    );
                }
                return Found::Eject;
            }
            XenbusState::Connected => {}
            _ => return Found::Lost,
        }
        match Geometry::read(
            &mut |key| self.ends.backend_value(key),
            self.ends.backend().as_bytes(),
        ) {
            // The ring's requests are cut by the old block, which therefore stays.
            Ok(geometry) if geometry.block_size == disk.shape().block_size() => {
                if disk.shape().set_geometry(&geometry) {
                    Found::Resized
                } else {
                    Found::Nothing
                }
            }
            _ => Found::Nothing,
        }
    }
}
