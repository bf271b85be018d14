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
use core::sync::atomic::Ordering;
use core::time::Duration;
use netfront::features::{Allowed, Families, Features, Refusal};
use netfront::handshake::{Backend, Failure, Goal, Handshake, Step};
use netfront::hash::Config;
use netfront::keys::{self, Ports, QueueKeys};
use netfront::link::{BadMtu, Link as Carrier, Mtu};
use netfront::{rx, tx};
use nt::netio::AddressWatch;
use nt::{Event, NtStatus, Pages, time, try_arc};
use packet::transmit;
use pv_client::debug::Dump;
use pv_client::evtchn::Channel;
use pv_client::gnttab::GrantCache;
use pv_client::store::{Store, Watch};
use pv_client::suspend::Late;
use pv_client::{CText, c_text};
use xen_abi::DomId;
use xen_abi::xenbus::XenbusState;
use xenstore::Value;

use crate::session::Interfaces;

/// How long a backend may take for each step of connecting.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// How long a backend may take to close.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// How often a state is looked at without an event.
const LOOK: Duration = Duration::from_secs(1);

/// Why a step failed.
#[derive(Debug)]
pub enum Fault {
    /// Something of Windows' or of xenstore's.
    Step(&'static str, NtStatus),
    /// The states did not lead there.
    Handshake(Failure),
    /// The backend cannot be served.
    Refused(Refusal),
    /// The MTU cannot be.
    Mtu(BadMtu),
    /// Nobody wants the interface any more.
    Cancelled,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(what, status) => write!(f, "cannot {what}: {status}"),
            Self::Handshake(Failure::TimedOut(state)) => {
                write!(f, "the backend stays in state {state:?}")
            }
            Self::Handshake(failure) => write!(f, "{failure:?}"),
            Self::Refused(refusal) => write!(f, "{refusal:?}"),
            Self::Mtu(mtu) => write!(f, "{mtu:?}"),
            Self::Cancelled => f.write_str("no longer wanted"),
        }
    }
}

type Result<T> = core::result::Result<T, Fault>;

trait Named<T> {
    /// Says what failed.
    fn named(self, what: &'static str) -> Result<T>;
}

impl<T> Named<T> for nt::Result<T> {
    fn named(self, what: &'static str) -> Result<T> {
        self.map_err(|status| Fault::Step(what, status))
    }
}

/// The frontend's side of a connection, from the first look at the backend on.
pub struct Attached {
    interfaces: Interfaces,
    /// `device/vif/<number>`.
    frontend: CText,
    backend: CText,
    domain: DomId,
    own: XenbusState,
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

fn milliseconds() -> u64 {
    time::since_boot().as_millis() as u64
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
        let backend = interfaces
            .store
            .plain()
            .read(&path, &c_text!("backend"))
            .named("read the backend's path")?;
        let backend = CText::from_bytes(backend.as_bytes());
        let domain = match number(&interfaces.store, &path, "backend-id") {
            Value::Missing => DomId(0),
            Value::Number(id) if id < u64::from(DomId::FIRST_RESERVED.0) => DomId(id as u16),
            _ => {
                return Err(Fault::Step(
                    "read the backend's domain",
                    NtStatus::DATA_ERROR,
                ));
            }
        };
        let watch = |directory: &CText, node: &str| {
            interfaces
                .store
                .watch(Some(directory), &c_text!("{node}"), &wake)
                .named("watch the backend")
        };
        let watches = [
            interfaces
                .store
                .watch(None, &backend, &wake)
                .named("watch the backend")?,
            watch(&path, "disconnect")?,
            watch(&path, "speed")?,
        ];
        let own = state(&interfaces.store, &path);
        let event = Arc::clone(&wake);
        let addresses = AddressWatch::new(move || event.set())
            .inspect_err(|status| nt::warning!("vif/{}: no addresses: {status}", frontend.number))
            .ok();
        let dump = frontend.dump(&interfaces.debug);
        Ok(Self {
            interfaces,
            frontend: path,
            backend,
            domain,
            own,
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
        Backend {
            state: state(&self.interfaces.store, &self.backend),
            online: number(&self.interfaces.store, &self.backend, "online").is_set(),
        }
    }

    /// The link's state; `gbits` where no key says a speed.
    pub fn link(&self, gbits: u32) -> Carrier {
        let plain = self.interfaces.store.plain();
        let disconnect = number(&self.interfaces.store, &self.frontend, "disconnect");
        let speed = plain.read(&self.frontend, &c_text!("speed")).ok();
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
        let store = &self.interfaces.store;
        let mtu = Mtu::read(number(store, &self.frontend, "mtu")).map_err(Fault::Mtu)?;
        let parameters = &frontend.parameters;
        let families = |[v4, v6]: [bool; 2]| Families { v4, v6 };
        let allowed = Allowed {
            queues: frontend.queues().len() as u32,
            tx_gso: families(parameters.tx_gso),
            rx_gso: families(parameters.rx_gso),
            multicast_control: parameters.multicast_control,
        };
        let features = Features::read(&mut |key| number(store, &self.backend, key), &allowed)
            .map_err(Fault::Refused)?;
        let cache = GrantCache::new(
            &self.interfaces.gnttab,
            &c_text!("vif_{}", frontend.number),
            0,
        );
        let cache = cache.and_then(try_arc).named("make a grant cache")?;
        self.cache = Some(Arc::clone(&cache));
        let link = Link {
            cache,
            backend: self.domain,
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
            let written = self.interfaces.store.plain().write(
                Some(&self.frontend),
                &c_text!("{}", keys::REQUEST_MULTICAST_CONTROL),
                &c_text!("{}", keys::flag(wants)),
            );
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
            let mut channel =
                Channel::open_unbound(&self.interfaces.evtchn, self.domain, queue.on_event())
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
        let previous = number(
            &self.interfaces.store,
            &self.frontend,
            "multi-queue-num-queues",
        );
        self.interfaces.store.transact(|access| {
            keys::publish(
                features,
                queues,
                self.control.as_ref().map(Control::keys),
                multicast_control,
                previous,
                &mut |node, value| {
                    access.write(
                        Some(&self.frontend),
                        &c_text!("{node}"),
                        &c_text!("{value}"),
                    )
                },
                &mut |node| {
                    // Most often there is nothing to remove.
                    let _ = access.remove(Some(&self.frontend), &c_text!("{node}"));
                },
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
    #[inline(never)]
    fn reach(&mut self, goal: Goal, time: Duration) -> Result<()> {
        let end = milliseconds() + time.as_millis() as u64;
        let mut handshake = Handshake::new(goal, self.own, end);
        loop {
            match handshake.observe(milliseconds(), self.backend()) {
                Step::Write(state) => match self.write_state(state) {
                    // A backend that is told nothing keeps the rings for good: memory may be there soon.
                    Err(NtStatus::NO_MEMORY | NtStatus::INSUFFICIENT_RESOURCES)
                        if goal == Goal::Close && milliseconds() < end =>
                    {
                        let _ = self.wake.wait_for(LOOK);
                        handshake = Handshake::new(goal, self.own, end);
                    }
                    written => written.named("write the state")?,
                },
                Step::Wait => {
                    let _ = self.wake.wait_for(LOOK);
                }
                Step::Done => return Ok(()),
                Step::Failed(failure) => return Err(Fault::Handshake(failure)),
            }
        }
    }

    #[inline(never)]
    fn write_state(&mut self, state: XenbusState) -> nt::Result<()> {
        self.interfaces.store.plain().write(
            Some(&self.frontend),
            &c_text!("state"),
            &c_text!("{}", state.number()),
        )?;
        self.own = state;
        Ok(())
    }
}

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

/// Not inlined, as its siblings: each keeps paths on the stack, of which a kernel thread has 24 KiB.
#[inline(never)]
fn number(store: &Store, directory: &CText, key: &str) -> Value {
    match store.plain().read(directory, &c_text!("{key}")) {
        Ok(value) => Value::parse(Some(value.as_bytes())),
        Err(_) => Value::Missing,
    }
}

fn state(store: &Store, directory: &CText) -> XenbusState {
    match number(store, directory, "state") {
        Value::Number(state) => XenbusState::from_number(state),
        _ => XenbusState::Unknown,
    }
}
