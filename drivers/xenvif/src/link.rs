//! A frontend's connection to its backend: made, looked at and ended in the frontend's thread, at PASSIVE_LEVEL.

use crate::addresses::{About, announce};
use crate::control::{self, Control};
use crate::frontend::Frontend;
use crate::grants::{Lent, Link, RingPages};
use crate::queue::{Channels, Queue, Rings};
use crate::vif::Vif;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bus::VifNumber;
use core::fmt;
use core::ops::RangeInclusive;
use core::sync::atomic::Ordering;
use core::time::Duration;
use handshake::Goal;
use netfront::features::{Allowed, Families, Features, Refusal};
use netfront::handshake::Backend;
use netfront::hash::Config;
use netfront::keys::{self, Ports, QueueKeys};
use netfront::link::{BadMtu, Link as Carrier, Mtu};
use netfront::{rx, tx};
use nt::netio::AddressWatch;
use nt::{Event, NtStatus, Pages, try_arc};
use packet::transmit;
use pv_client::debug::Dump;
use pv_client::directories::{self, Directories, Named};
use pv_client::evtchn::Channel;
use pv_client::gnttab::GrantCache;
use pv_client::store::Watch;
use pv_client::suspend::Late;
use pv_client::{CText, c_text};
use xen_abi::DomId;
use xenstore::Value;

use crate::session::Interfaces;

/// How long a backend may take for each step of connecting.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// How long a backend may take to close.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// Why a backend is refused.
#[derive(Debug)]
pub enum Refused {
    /// It cannot be served.
    Features(Refusal),
    /// The MTU cannot be.
    Mtu(BadMtu),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Features(refusal) => write!(f, "{refusal:?}"),
            Self::Mtu(mtu) => write!(f, "{mtu:?}"),
        }
    }
}

/// Why a step failed.
pub type Fault = directories::Fault<Refused>;

type Result<T> = core::result::Result<T, Fault>;

/// The frontend's side of a connection, from the first look at the backend on.
pub struct Attached {
    interfaces: Interfaces,
    ends: Directories,
    wake: Arc<Event>,
    cache: Option<Arc<GrantCache>>,
    /// Of each queue, the transmit ring's page and the receive ring's.
    lent: Vec<[Lent; 2]>,
    control: Option<Control>,
    /// What the backend was last told of filtering multicast packets, where it can.
    multicast_control: Option<bool>,
    /// What the toolstack was last told of the interface.
    told: Option<About>,
    _addresses: Option<AddressWatch>,
    _watches: [Watch; 3],
    _late: Late,
    _dump: Option<Dump>,
}

impl Attached {
    /// Finds the backend.
    #[inline(never)]
    pub fn open(vif: &Vif, frontend: &Frontend) -> Result<Self> {
        let interfaces = vif.interfaces().named("acquire xenbus' interfaces")?;
        let wake = Arc::clone(&frontend.common.wake);
        let (resumed, event) = (Arc::clone(&frontend.resumed), Arc::clone(&wake));
        let late = Late::register(&interfaces.suspend, move || {
            resumed.store(true, Ordering::Release);
            event.set();
        })
        .named("ask to be told of a resume")?;
        let path = c_text!("device/vif/{}", frontend.number);
        let ends = Directories::open(&interfaces.store, path, Some(DomId(0)))?;
        let watch = |key: &str| {
            ends.store()
                .watch(Some(ends.frontend()), &c_text!("{key}"), &wake)
                .named("watch the frontend")
        };
        let watches = [
            ends.watch_backend(&wake).named("watch the backend")?,
            watch("disconnect")?,
            watch("speed")?,
        ];
        let event = Arc::clone(&wake);
        let addresses = AddressWatch::new(move || event.set())
            .inspect_err(|status| nt::warning!("vif/{}: no addresses: {status}", frontend.number))
            .ok();
        let dump = frontend.dump(&interfaces.debug);
        Ok(Self {
            interfaces,
            ends,
            wake,
            cache: None,
            lent: Vec::new(),
            control: None,
            multicast_control: None,
            told: None,
            _addresses: addresses,
            _watches: watches,
            _late: late,
            _dump: dump,
        })
    }

    /// What the backend's directory says.
    pub fn backend(&self) -> Backend {
        shown(&self.ends)
    }

    /// The link's state; `gbits` where no key says a speed.
    pub fn link(&self, gbits: u32) -> Carrier {
        let disconnect = self.ends.own_value("disconnect");
        let plain = self.ends.store().plain();
        let speed = plain.read(self.ends.frontend(), &c_text!("speed")).ok();
        let speed = speed.as_ref().map(|speed| speed.as_bytes());
        Carrier::read(disconnect, speed, gbits)
    }

    /// Leaves both ends closed, whatever there was before.
    pub fn settle(&mut self) -> Result<()> {
        self.reach(Goal::Close, CLOSE_TIME)
    }

    /// Has the backend offer what it can.
    pub fn prepare(&mut self) -> Result<()> {
        self.reach(Goal::Prepare, CONNECT_TIME)
    }

    /// Makes the rings and has the backend take them.
    #[inline(never)]
    pub fn connect(&mut self, frontend: &Frontend) -> Result<()> {
        let mtu = Mtu::read(self.ends.own_value("mtu"))
            .map_err(|mtu| Fault::Refused(Refused::Mtu(mtu)))?;
        let parameters = &frontend.parameters;
        let families = |[v4, v6]: [bool; 2]| Families { v4, v6 };
        let allowed = Allowed {
            queues: frontend.queues().len() as u32,
            tx_gso: families(parameters.tx_gso),
            rx_gso: families(parameters.rx_gso),
            multicast_control: parameters.multicast_control,
        };
        let features = Features::read(&mut |key| self.ends.backend_value(key), &allowed)
            .map_err(|refusal| Fault::Refused(Refused::Features(refusal)))?;
        let cache = GrantCache::new(
            &self.interfaces.gnttab,
            &c_text!("vif_{}", frontend.number),
            0,
        );
        let cache = cache.and_then(try_arc).named("make a grant cache")?;
        self.cache = Some(Arc::clone(&cache));
        let link = Link {
            cache,
            backend: self.ends.domain(),
        };
        let max_frame = mtu.max_frame();
        frontend.common.mac.set_max_frame(max_frame);
        let backend = transmit::Backend {
            checksum_v4: features.tx_checksum.v4,
            checksum_v6: features.tx_checksum.v6,
            gso_v4: features.tx_gso.v4,
            gso_v6: features.tx_gso.v6,
            max_frame: max_frame as usize,
        };
        let mut told = Vec::new();
        told.try_reserve_exact(features.queues as usize)
            .map_err(NtStatus::from)
            .named("make room for queues")?;
        self.lent
            .try_reserve_exact(features.queues as usize)
            .map_err(NtStatus::from)
            .named("make room for rings")?;
        frontend.common.broken.store(false, Ordering::Release);
        for queue in frontend.queues().iter().take(features.queues as usize) {
            told.push(self.make(queue, &link, &features, backend, max_frame)?);
        }
        if features.control_ring && parameters.toeplitz {
            let control = Control::open(&self.interfaces.evtchn, &link);
            self.control = Some(control.named("make a control ring")?);
        }
        frontend.common.mac.connected(features.multicast_control);
        let wants_control = frontend.common.mac.wants_control();
        self.multicast_control = features.multicast_control.then_some(wants_control);
        self.publish(&features, &told, wants_control)
            .named("write the connection's keys")?;
        frontend.connected.store(features.queues, Ordering::Release);
        *frontend.features.lock() = Some(features);
        self.reach(Goal::Connect, CONNECT_TIME)?;
        nt::info!(
            "vif/{}: connected, {} queue(s), frames of {max_frame} bytes",
            frontend.number,
            features.queues
        );
        let is_over = || frontend.resumed.load(Ordering::Acquire);
        let offered = self.control.as_mut().and_then(|it| it.query(is_over));
        let (number, config) = frontend.common.hash.connected(offered);
        self.tell_hash(frontend, number, &config);
        Ok(())
    }

    /// Tells the backend how packets are to be hashed, if it can be told.
    #[inline(never)]
    pub fn tell_hash(&mut self, frontend: &Frontend, number: u64, config: &Config) {
        let is_over = || frontend.resumed.load(Ordering::Acquire);
        let outcome = control::program(self.control.as_mut(), config, is_over);
        if let Err(failure) = outcome {
            nt::warning!("vif/{}: no hash: {failure:?}", frontend.number);
        }
        frontend
            .common
            .hash
            .set_told(number, config, outcome.is_ok());
    }

    /// Has the backend filter multicast packets, or not, as is wanted now; and tells it of addresses.
    #[inline(never)]
    pub fn tell_multicast(&mut self, frontend: &Frontend) {
        let wants = frontend.common.mac.wants_control();
        if self.multicast_control.is_some_and(|told| told != wants) {
            let written = self
                .ends
                .write(keys::REQUEST_MULTICAST_CONTROL, keys::flag(wants));
            match written {
                Ok(()) => self.multicast_control = Some(wants),
                Err(status) => nt::warning!("vif/{}: multicast: {status}", frontend.number),
            }
        }
        if let Some(queue) = frontend.active().first() {
            queue.pump();
        }
    }

    /// Makes a queue's rings and channels.
    #[inline(never)]
    fn make(
        &mut self,
        queue: &Arc<Queue>,
        link: &Link,
        features: &Features,
        backend: transmit::Backend,
        max_frame: u32,
    ) -> Result<QueueKeys> {
        let channel = || -> Result<Channel> {
            let mut channel = Channel::open_unbound(
                &self.interfaces.evtchn,
                self.ends.domain(),
                queue.on_event(),
            )
            .named("open an event channel")?;
            if features.queues > 1
                && let Some(processor) = queue.processor()
            {
                // Where that is not possible, events go to the first processor.
                let _ = channel.bind(processor);
            }
            Ok(channel)
        };
        let channels = Channels {
            rx: channel()?,
            tx: match features.split_event_channels {
                true => Some(channel()?),
                false => None,
            },
        };
        let rx_port = channels.rx.port();
        let ports = match &channels.tx {
            Some(tx) => Ports::Split {
                tx: tx.port(),
                rx: rx_port,
            },
            None => Ports::Combined(rx_port),
        };
        let pages = || Pages::allocate(1).named("allocate a ring");
        let lend = |pages: &Pages| match pages.pfn(0) {
            Some(pfn) => link.permit(pfn, false).named("grant a ring"),
            None => Err(Fault::Step("grant a ring", NtStatus::INVALID_PARAMETER)),
        };
        let (tx_pages, rx_pages) = (pages()?, pages()?);
        let bad_ring = Fault::Step("make a ring", NtStatus::INVALID_PARAMETER);
        // Clears the pages, before anybody else can see them.
        let (Some(tx), Some(rx)) = (
            tx::Ring::new(RingPages(tx_pages)),
            rx::Ring::new(RingPages(rx_pages)),
        ) else {
            return Err(bad_ring);
        };
        let tx_lent = lend(&tx.memory().0)?;
        let rx_lent = match lend(&rx.memory().0) {
            Ok(lent) => lent,
            Err(fault) => {
                give_up(tx_lent, tx.into_memory());
                return Err(fault);
            }
        };
        let keys = QueueKeys {
            tx: tx_lent.reference(),
            rx: rx_lent.reference(),
            ports,
        };
        match queue.connect(Rings { tx, rx }, link, backend, max_frame, channels) {
            Ok(()) => {
                self.lent.push([tx_lent, rx_lent]);
                Ok(keys)
            }
            Err(Rings { tx, rx }) => {
                give_up(tx_lent, tx.into_memory());
                give_up(rx_lent, rx.into_memory());
                Err(Fault::Step(
                    "use a queue whose pages are kept",
                    NtStatus::PIPE_BUSY,
                ))
            }
        }
    }

    /// Tells the toolstack of the interface's addresses, if they have changed; they are what is announced after a
    /// migration.
    #[inline(never)]
    pub fn tell_addresses(&mut self, frontend: &Frontend) {
        let about = match About::read(frontend, frontend.permanent) {
            Ok(about) => about,
            Err(status) => {
                return nt::warning!("vif/{}: reading addresses: {status}", frontend.number);
            }
        };
        if self.told.as_ref() == Some(&about) {
            return;
        }
        match about.publish(&self.interfaces.store, &attributes(frontend.number)) {
            Ok(()) => self.told = Some(about),
            Err(status) => nt::warning!("vif/{}: telling addresses: {status}", frontend.number),
        }
    }

    /// Tells the network where the interface is now.
    pub fn announce(&self, frontend: &Frontend) {
        // While the link was down netio knew of none, but they are what they were.
        let now = self.told.as_ref().map(About::addresses);
        match now.filter(|addresses| !addresses.is_empty()) {
            Some(addresses) => announce(frontend, addresses),
            None => frontend.announce_known(),
        }
    }

    #[inline(never)]
    fn publish(
        &self,
        features: &Features,
        queues: &[QueueKeys],
        multicast_control: bool,
    ) -> nt::Result<()> {
        let previous = self.ends.own_value("multi-queue-num-queues");
        self.ends.publish(|write, remove| {
            keys::publish(
                features,
                queues,
                self.control.as_ref().map(Control::keys),
                multicast_control,
                previous,
                write,
                remove,
            )
        })
    }

    /// Ends the connection: both ends closed, and everything taken back.
    #[inline(never)]
    pub fn close(&mut self, frontend: &Frontend) -> Result<()> {
        self.reach(Goal::Close, CLOSE_TIME)?;
        self.take_down(frontend);
        Ok(())
    }

    /// Ends the connection after a resume. One that was being made meanwhile may have reached the backend of now, which
    /// has to let go of it before anything is taken back.
    #[inline(never)]
    pub fn void(mut self: Box<Self>, frontend: &Frontend) {
        // They are others since.
        let path = c_text!("device/vif/{}", frontend.number);
        let now: Result<_> = Directories::open(self.ends.store(), path, Some(DomId(0)));
        if let Ok(now) = now
            && matches!(now.own_value("state"), Value::Number(state) if CONNECTING.contains(&state))
        {
            self.ends = now;
            if let Err(fault) = self.settle() {
                nt::warning!("vif/{}: closing after a resume: {fault}", frontend.number);
            }
        }
        self.take_down(frontend);
    }

    /// Ends the connection without the backend's help. What it still uses is left to it.
    #[inline(never)]
    pub fn abandon(mut self: Box<Self>, frontend: &Frontend) {
        self.take_down(frontend);
    }

    #[inline(never)]
    fn take_down(&mut self, frontend: &Frontend) {
        frontend.connected.store(0, Ordering::Release);
        *frontend.features.lock() = None;
        frontend.common.hash.disconnected();
        frontend.common.mac.connected(false);
        self.multicast_control = None;
        if let Some(told) = self.told.take() {
            frontend.know(told);
            let plain = self.interfaces.store.plain();
            // After a resume nobody knows of it.
            let _ = plain.remove(None, &attributes(frontend.number));
        }
        if let Some(control) = self.control.take() {
            let (lent, pages) = control.close();
            give_up(lent, pages);
        }
        let mut lent = core::mem::take(&mut self.lent).into_iter();
        for queue in frontend.queues() {
            let (tx, rx) = queue.disconnect();
            let Some([tx_lent, rx_lent]) = lent.next() else {
                continue;
            };
            for (lent, pages) in [(tx_lent, tx), (rx_lent, rx)] {
                match pages {
                    Some(pages) => give_up(lent, pages),
                    // The cache must outlive its grants, and this one would never end.
                    None => {
                        if let Err(lent) = lent.revoke() {
                            core::mem::forget(lent);
                        }
                    }
                }
            }
            if queue.is_held() {
                nt::error!("vif/{}: the backend keeps pages", frontend.number);
            }
        }
        self.cache = None;
    }

    /// Goes from state to state until the goal is reached, or will not be.
    fn reach(&mut self, goal: Goal, time: Duration) -> Result<()> {
        self.ends
            .reach(goal, time, &self.wake, |ends| Ok(shown(ends)))
    }
}

/// What the backend's directory says.
fn shown(ends: &Directories) -> Backend {
    Backend {
        state: ends.backend_state(),
        online: ends.backend_value("online").is_set(),
    }
}

/// States in which a backend may have a frontend's rings: Initialised and Connected.
const CONNECTING: RangeInclusive<u64> = 3..=4;

/// Where the toolstack is told of an interface.
fn attributes(number: VifNumber) -> CText {
    c_text!("attr/vif/{number}")
}

/// Ends a ring's grant. A page that the backend keeps stays with its grant for good.
fn give_up(lent: Lent, pages: RingPages) {
    if let Err(lent) = lent.revoke() {
        nt::error!("the backend keeps a ring");
        core::mem::forget(lent);
        pages.0.leak();
    }
}
