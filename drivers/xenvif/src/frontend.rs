//! The frontend of an interface: where it should be, and the thread that takes it there.
//!
//! ```text
//!   PDO: Closed, Connected    client: Enabled    resume, broken ring, backend's directory
//!        └────────── goal ─────────┴───────────────┬── wake ──▶ thread ──▶ actions of core/netfront's lifecycle
//! ```
//!
//! Only the thread waits for the backend, always with an end; the others set a goal and wait for the thread to settle.

use crate::addresses::{self, About};
use crate::client::Client;
use crate::hash::Hash;
use crate::link::{Attached, Fault};
use crate::mac::Mac;
use crate::queue::{Common, Queue};
use crate::settings::Parameters;
use crate::statistics::Statistics;
use crate::vif::Vif;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use bus::VifNumber;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use netfront::MacAddress;
use netfront::features::Features;
use netfront::lifecycle::{self, Action, Goal, State};
use nt::processor::ProcessorNumber;
use nt::{
    Dpc, Event, EventKind, Irql, NtStatus, Result, SpinLock, Thread, processor, thread, time,
    try_arc, try_box,
};
use pv_client::debug::Dump;
use pv_client::{Acquired, c_text};
use pv_interfaces::debug::DebugV1;
use pv_interfaces::vif::STATISTICS;

/// How long others wait for the thread: somewhat longer than the thread waits for the backend.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_secs(2);
/// How long a client may keep packets when it disables the interface.
const RETURN_TIME: Duration = Duration::from_secs(60);
/// How long a client waits until the backend was told of a hash: somewhat longer than the backend may take.
const HASH_TIME: Duration = Duration::from_secs(10);
/// How long the backend may take to answer what was sent when the interface is disabled.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// How often the network is told of addresses after a migration, and how long there is between.
const ANNOUNCEMENTS: u32 = 3;
const BETWEEN_ANNOUNCEMENTS: Duration = Duration::from_secs(1);

/// Where the thread is with a goal, in the low byte of a word; the number of the goal is above it.
const MOVING: u64 = 0;
const SETTLED: u64 = 1;
const FAILED: u64 = 2;

/// The frontend.
pub struct Frontend {
    pub number: VifNumber,
    pub permanent: MacAddress,
    pub common: Arc<Common>,
    pub parameters: Parameters,
    queues: Queues,
    /// Queues of the connection.
    pub connected: AtomicU32,
    pub features: SpinLock<Option<Features>>,
    vif: Weak<Vif>,
    goal: SpinLock<Goal>,
    way: AtomicU64,
    settled: Event,
    /// Set when the backend was told of a hash.
    hash_told: Event,
    pub resumed: Arc<AtomicBool>,
    /// It is to be closed, whatever its client wants.
    leaving: AtomicBool,
    over: AtomicBool,
    ejected: AtomicBool,
    /// What the toolstack was told before the last disconnection.
    known: SpinLock<Option<About>>,
    thread: SpinLock<Option<Thread>>,
}

/// The queues. A queue and its DPC hold each other: this ends that. PASSIVE_LEVEL.
struct Queues(Vec<Arc<Queue>>);

impl Drop for Queues {
    fn drop(&mut self) {
        self.0.iter().for_each(|queue| queue.end());
    }
}

impl Frontend {
    /// Of an interface that is not started. PASSIVE_LEVEL.
    pub fn new(vif: &Arc<Vif>, address: MacAddress, parameters: Parameters) -> Result<Self> {
        let common = try_arc(Common {
            mac: Mac::new(address),
            statistics: Statistics::new(),
            hash: Hash::new(),
            client: SpinLock::new(None),
            flowing: AtomicBool::new(false),
            fill_checksums: parameters.calculate_checksums,
            align: parameters.align,
            pull_up: parameters.pull_up,
            backfill: AtomicU32::new(0),
            validate_checksums: parameters.validate_checksums,
            broken: AtomicBool::new(false),
            wake: try_arc(Event::new(EventKind::Synchronization, false)?)?,
        })?;
        let count = parameters.queues.min(processor::active_count()).max(1);
        let mut queues = Queues(Vec::new());
        queues.0.try_reserve_exact(count as usize)?;
        for index in 0..count {
            queues.0.push(Queue::new(index, &common)?);
        }
        Ok(Self {
            number: vif.number(),
            permanent: address,
            common,
            parameters,
            queues,
            connected: AtomicU32::new(0),
            features: SpinLock::new(None),
            vif: Arc::downgrade(vif),
            goal: SpinLock::new(Goal::Closed),
            way: AtomicU64::new(MOVING),
            settled: Event::new(EventKind::Notification, false)?,
            hash_told: Event::new(EventKind::Notification, false)?,
            resumed: try_arc(AtomicBool::new(false))?,
            leaving: AtomicBool::new(false),
            over: AtomicBool::new(false),
            ejected: AtomicBool::new(false),
            known: SpinLock::new(None),
            thread: SpinLock::new(None),
        })
    }

    /// All queues that there may be.
    pub fn queues(&self) -> &[Arc<Queue>] {
        &self.queues.0
    }

    /// The queues of the connection.
    pub fn active(&self) -> &[Arc<Queue>] {
        let count = self.connected.load(Ordering::Acquire) as usize;
        self.queues.0.get(..count).unwrap_or_default()
    }

    /// Whether it has begun and not ended.
    pub fn is_running(&self) -> bool {
        self.thread.lock().is_some()
    }

    /// Begins, and connects. PASSIVE_LEVEL.
    pub fn start(self: &Arc<Self>) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        self.over.store(false, Ordering::Release);
        self.leaving.store(false, Ordering::Release);
        self.ejected.store(false, Ordering::Release);
        let body = Arc::clone(self);
        let thread = Thread::spawn(move || body.run())?;
        *self.thread.lock() = Some(thread);
        // A client that has not disabled the interface before it lost its power goes on.
        let enabled = self.common.client.lock().is_some();
        let goal = if enabled {
            Goal::Enabled
        } else {
            Goal::Connected
        };
        self.reach(goal).inspect_err(|_| self.stop())
    }

    /// Closes, and ends. PASSIVE_LEVEL.
    pub fn stop(&self) {
        if self.thread.lock().is_none() {
            return;
        }
        // A client that enables or disables the interface meanwhile is not to have it opened again.
        self.leaving.store(true, Ordering::Release);
        // Closing ends in any case, if not well.
        let _ = self.reach(Goal::Closed);
        self.over.store(true, Ordering::Release);
        self.common.wake.set();
        let thread = self.thread.lock().take();
        // Waits for its end.
        drop(thread);
    }

    /// The device is removed: whoever was its client has gone with it. PASSIVE_LEVEL.
    pub fn end(&self) {
        self.stop();
        *self.common.client.lock() = None;
        Dpc::flush_all();
    }

    /// Sets a goal and waits until it is reached, or the way there failed. PASSIVE_LEVEL.
    pub fn reach(&self, goal: Goal) -> Result<()> {
        let number = {
            let mut place = self.goal.lock();
            if goal != Goal::Closed && self.leaving.load(Ordering::Acquire) {
                return Err(NtStatus::DEVICE_NOT_READY);
            }
            *place = goal;
            let number = (self.way.load(Ordering::Acquire) >> 8).wrapping_add(1);
            self.way.store(number << 8 | MOVING, Ordering::Release);
            number
        };
        self.common.wake.set();
        let end = time::since_boot().saturating_add(PATIENCE);
        loop {
            self.settled.clear();
            let way = self.way.load(Ordering::Acquire);
            match way & 0xFF {
                // Another goal has taken its place.
                _ if way >> 8 != number => return Err(NtStatus::CANCELLED),
                SETTLED => return Ok(()),
                FAILED => return Err(NtStatus::DEVICE_NOT_READY),
                _ if time::since_boot() > end => return Err(NtStatus::IO_TIMEOUT),
                _ => drop(self.settled.wait_for(Duration::from_millis(500))),
            }
        }
    }

    /// The client enables the interface. PASSIVE_LEVEL.
    pub fn enable(&self, client: Client) -> Result<()> {
        {
            let mut place = self.common.client.lock();
            if place.is_some() {
                return Ok(());
            }
            *place = Some(client);
        }
        let outcome = self.reach(Goal::Enabled);
        if outcome.is_err() {
            self.disable();
        }
        outcome
    }

    /// The client disables the interface. PASSIVE_LEVEL.
    pub fn disable(&self) {
        if self.common.client.lock().is_none() {
            return;
        }
        if let Err(status) = self.reach(Goal::Connected) {
            nt::warning!("vif/{}: disabling: {status}", self.number);
            self.halt();
        }
        *self.common.client.lock() = None;
        // Nobody calls the client from here on.
        Dpc::flush_all();
    }

    /// The client wants a Toeplitz hash, or none. IRQL ≤ DISPATCH_LEVEL.
    pub fn set_hash(&self, toeplitz: bool) -> Result<()> {
        if toeplitz && (self.active().len() < 2 || self.common.hash.offered().is_none()) {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        self.tell_hash(self.common.hash.want_toeplitz(toeplitz))
    }

    /// The client wants packets on these processors, by hash: each has a queue, whose packets are handled there. IRQL ≤
    /// DISPATCH_LEVEL.
    pub fn map_hash(&self, processors: &[ProcessorNumber]) -> Result<()> {
        let count = self.active().len() as u32;
        let number = self.common.hash.want_mapping(processors, count)?;
        let mut queues = self.active().iter();
        for (index, processor) in processors.iter().enumerate() {
            if !processors.iter().take(index).any(|it| it == processor)
                && let Some(queue) = queues.next()
            {
                queue.move_to(*processor)?;
            }
        }
        self.tell_hash(number)
    }

    /// Has the backend told of the hash that the client wants, and waits for that at PASSIVE_LEVEL, while there is a
    /// connection: a later one is told in any case. IRQL ≤ DISPATCH_LEVEL.
    pub fn tell_hash(&self, number: u64) -> Result<()> {
        self.common.wake.set();
        let end = time::since_boot().saturating_add(HASH_TIME);
        while Irql::current() == Irql::PASSIVE && !self.active().is_empty() {
            self.hash_told.clear();
            match self.common.hash.outcome(number) {
                Some(true) => return Ok(()),
                Some(false) => return Err(NtStatus::NOT_SUPPORTED),
                None if time::since_boot() > end => return Err(NtStatus::IO_TIMEOUT),
                None => drop(self.hash_told.wait_for(Duration::from_millis(500))),
            }
        }
        Ok(())
    }

    /// Whether the eject that the toolstack had asked for that was called off. It may ask again.
    pub fn eject_refused(&self) -> bool {
        self.ejected.swap(false, Ordering::AcqRel)
    }

    /// Has the debug key show how packets are getting on.
    pub fn dump(&self, debug: &Arc<Acquired<DebugV1>>) -> Option<Dump> {
        let mut queues = Vec::new();
        queues.try_reserve_exact(self.queues().len()).ok()?;
        queues.extend(self.queues().iter().cloned());
        let (common, number) = (Arc::clone(&self.common), self.number);
        let dump = Dump::register(debug, &c_text!("XENVIF|FRONTEND"), move |printer| {
            let flowing = common.flowing.load(Ordering::Relaxed);
            printer.line(format_args!("vif/{number}: packets flow: {flowing}"));
            for (index, queue) in queues.iter().enumerate() {
                let (lent, returned) = queue.loans();
                printer.line(format_args!(
                    "queue {index}: lent {lent}, returned {returned}"
                ));
            }
            let counted = STATISTICS
                .iter()
                .map(|it| (*it, common.statistics.get(*it)));
            for (statistic, count) in counted.filter(|(_, count)| *count != 0) {
                printer.line(format_args!("{statistic:?}: {count}"));
            }
        });
        dump.inspect_err(|status| nt::warning!("vif/{number}: no debug callback: {status}"))
            .ok()
    }

    /// Keeps what the toolstack was told, for the time after a migration.
    #[inline(never)]
    pub fn know(&self, about: About) {
        if !about.addresses().is_empty() {
            let old = self.known.lock().replace(about);
            drop(old);
        }
    }

    /// Tells the network where the addresses are now that were known before. PASSIVE_LEVEL.
    #[inline(never)]
    pub fn announce_known(&self) {
        // Nobody else looks at it meanwhile.
        let known = self.known.lock().take();
        if let Some(about) = known {
            addresses::announce(self, about.addresses());
            *self.known.lock() = Some(about);
        }
    }

    fn goal(&self) -> (Goal, u64) {
        let goal = self.goal.lock();
        (*goal, self.way.load(Ordering::Acquire) >> 8)
    }

    /// Tells whoever waits for the goal with this number.
    fn tell(&self, number: u64, state: u64) {
        let _goal = self.goal.lock();
        if self.way.load(Ordering::Acquire) >> 8 == number {
            self.way.store(number << 8 | state, Ordering::Release);
        }
        self.settled.set();
    }

    /// The thread.
    fn run(self: Arc<Self>) {
        let mut life = lifecycle::Frontend::new();
        let mut attached: Option<Box<Attached>> = None;
        // Rounds of announcements to go.
        let mut rounds = 0;
        loop {
            let over = self.over.load(Ordering::Acquire);
            if self.resumed.swap(false, Ordering::AcqRel) {
                life.resume();
                if let Some(old) = attached.take() {
                    nt::info!("vif/{}: resumed", self.number);
                    rounds = ANNOUNCEMENTS;
                    old.void(&self);
                }
            }
            let (goal, number) = self.goal();
            let Some(action) = life.next(goal) else {
                if goal == Goal::Closed {
                    attached = None;
                }
                self.tell(number, SETTLED);
                if over {
                    return;
                }
                self.rest(&mut life, &mut attached, rounds != 0);
                if rounds != 0
                    && life.state() == State::Enabled
                    && let Some(link) = &attached
                {
                    link.announce(&self);
                    rounds -= 1;
                }
                continue;
            };
            if over && action == Action::Settle {
                self.tell(number, SETTLED);
                return;
            }
            match self.act(action, &mut attached) {
                Ok(()) => life.done(action),
                Err(fault) => {
                    nt::warning!("vif/{}: {action:?}: {fault}", self.number);
                    life.failed(action);
                    if matches!(
                        action,
                        Action::Connect | Action::Close | Action::Prepare | Action::Settle
                    ) && let Some(old) = attached.take()
                    {
                        old.abandon(&self);
                    }
                    if goal == Goal::Closed {
                        // There is nothing left to close.
                        life.done(Action::Close);
                        continue;
                    }
                    self.tell(number, FAILED);
                    if !over {
                        let _ = self.common.wake.wait_for(RETRY);
                    }
                }
            }
        }
    }

    /// Waits for something to happen, and looks what it was.
    #[inline(never)]
    fn rest(
        &self,
        life: &mut lifecycle::Frontend,
        attached: &mut Option<Box<Attached>>,
        announces: bool,
    ) {
        if announces && life.state() == State::Enabled {
            let _ = self.common.wake.wait_for(BETWEEN_ANNOUNCEMENTS);
        } else {
            self.common.wake.wait();
        }
        if self.resumed.load(Ordering::Acquire) || life.state() < State::Connected {
            return;
        }
        let Some(link) = attached else { return };
        let broken = self.common.broken.load(Ordering::Acquire);
        let backend = link.backend();
        if life.wants_ejection(backend.online) && !self.ejected.swap(true, Ordering::AcqRel) {
            if let Some(vif) = self.vif.upgrade() {
                vif.request_eject();
            }
            return;
        }
        if self.ejected.load(Ordering::Acquire) {
            return;
        }
        if broken || backend.state != xen_abi::xenbus::XenbusState::Connected {
            nt::warning!("vif/{}: the connection is lost", self.number);
            let lost = link.close(self);
            if let Err(fault) = lost {
                nt::warning!("vif/{}: closing: {fault}", self.number);
                if let Some(old) = attached.take() {
                    old.abandon(self);
                }
            }
            life.done(Action::Close);
            thread::sleep(RETRY);
            return;
        }
        self.look_at_link(link, life.state() == State::Enabled);
        link.tell_multicast(self);
        link.tell_addresses(self);
        if let Some((number, config)) = self.common.hash.news() {
            link.tell_hash(self, number, &config);
            self.hash_told.set();
        }
    }

    /// Reads the link's state, and tells the client where that is news.
    #[inline(never)]
    fn look_at_link(&self, attached: &Attached, enabled: bool) {
        let link = attached.link(self.parameters.speed);
        if self.common.mac.set_link(link) && enabled {
            self.tell_client();
        }
    }

    /// Has the client ask again for what there is.
    fn tell_client(&self) {
        let client = *self.common.client.lock();
        if let Some(client) = client {
            client.link_changed();
        }
    }

    #[inline(never)]
    fn act(
        &self,
        action: Action,
        attached: &mut Option<Box<Attached>>,
    ) -> core::result::Result<(), Fault> {
        if attached.is_none() {
            let vif = self.vif.upgrade().ok_or(Fault::Cancelled)?;
            let opened = Attached::open(&vif, self)?;
            let opened =
                try_box(opened).map_err(|status| Fault::Step("remember the backend", status))?;
            *attached = Some(opened);
        }
        let Some(link) = attached else {
            return Err(Fault::Cancelled);
        };
        match action {
            Action::Settle => link.settle(),
            Action::Prepare => link.prepare(),
            Action::Connect => {
                link.connect(self)?;
                self.look_at_link(link, false);
                Ok(())
            }
            Action::Enable => self.flow(link),
            Action::Disable => {
                self.halt();
                Ok(())
            }
            Action::Close => link.close(self),
        }
    }

    /// Lets packets flow.
    #[inline(never)]
    fn flow(&self, link: &Attached) -> core::result::Result<(), Fault> {
        for queue in self.active() {
            queue
                .provide()
                .map_err(|status| Fault::Step("allocate pages", status))?;
        }
        self.common.flowing.store(true, Ordering::Release);
        for queue in self.active() {
            queue.set_open(true);
            queue.fill();
        }
        self.look_at_link(link, false);
        // Even if the link is as it was: after a migration the backend may be one that offers something else.
        self.tell_client();
        // Addresses and groups are looked at as soon as the thread has nothing else to do.
        self.common.wake.set();
        Ok(())
    }

    /// Stops the flow: nothing is queued, nothing is delivered, and each side has its packets back.
    #[inline(never)]
    fn halt(&self) {
        for queue in self.queues() {
            queue.set_open(false);
        }
        let drained = time::since_boot().saturating_add(DRAIN_TIME);
        while time::since_boot() < drained && !self.active().iter().all(|queue| queue.is_idle()) {
            thread::sleep(Duration::from_millis(10));
        }
        self.common.flowing.store(false, Ordering::Release);
        Dpc::flush_all();
        for queue in self.queues() {
            queue.abort();
            queue.forget_ready();
        }
        let end = time::since_boot().saturating_add(RETURN_TIME);
        let on_loan = || {
            self.queues()
                .iter()
                .map(|queue| queue.on_loan())
                .sum::<u64>()
        };
        while on_loan() != 0 {
            if time::since_boot() > end {
                nt::error!(
                    "vif/{}: the client keeps {} packets",
                    self.number,
                    on_loan()
                );
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
