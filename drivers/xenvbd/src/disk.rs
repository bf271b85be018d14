//! A disk: what storport asks of it, and the thread that keeps it connected.
//!
//! ```text
//!   goal (set by anybody) ──► thread ──► Connection open / look / close ──► state (read by anybody)
//! ```
//!
//! Only the thread waits for the backend, always with an end; the others set a goal and wait for the thread to settle.

use crate::connection::{Connection, Fault, Found};
use crate::queue::Queue;
use crate::session::Offers;
use crate::shape::Shape;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blkfront::VirtualDevice;
use blkfront::features::Overrides;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use core::time::Duration;
use nt::processor::{self, ProcessorNumber};
use nt::{DeviceObject, Event, EventKind, Result, SpinLock, Thread, time, try_arc};
use xen_abi::blkif::MAX_RING_PAGE_ORDER;

/// Queues of a disk at most.
const MAX_QUEUES: u32 = 16;
/// How often held grants and stuck requests are looked at while there are any.
const TICK: Duration = Duration::from_secs(1);
/// Between two attempts to connect: doubled from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// After a reset: how long the backend may answer nothing at all before it is connected anew.
const SILENCE: Duration = Duration::from_secs(3);

/// Where a disk should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Goal {
    /// Connected to its backend.
    Connected = 0,
    /// Closed, but there: stopped, or without power.
    Closed = 1,
    /// Not there any more.
    Gone = 2,
    /// As before, and its thread ended.
    Over = 3,
}

/// Where a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// On its way to the goal.
    Moving = 0,
    /// At the goal.
    Settled = 1,
    /// The way to the goal failed; tried again now and then.
    Failed = 2,
    /// The backend broke the protocol; stays so until the disk is restarted.
    Broken = 3,
}

/// Both, in one word.
const fn way(goal: Goal, state: State) -> u16 {
    goal as u16 | (state as u16) << 8
}

fn goal_of(way: u16) -> Goal {
    match way & 0xFF {
        0 => Goal::Connected,
        1 => Goal::Closed,
        2 => Goal::Gone,
        _ => Goal::Over,
    }
}

fn state_of(way: u16) -> State {
    match way >> 8 {
        0 => State::Moving,
        1 => State::Settled,
        2 => State::Failed,
        _ => State::Broken,
    }
}

/// What others tell the thread.
pub(crate) struct Signals {
    pub(crate) wake: Arc<Event>,
    /// The goal in the low byte, the state above it: who sets a goal unsettles it at once.
    way: AtomicU16,
    broken: AtomicBool,
    /// The domain was suspended: rings, channels and watches are void.
    resumed: AtomicBool,
    reset: AtomicBool,
    usage_changed: AtomicBool,
}

/// A disk.
pub(crate) struct Disk {
    pub(crate) target: u32,
    device: AtomicU32,
    adapter: storport::Adapter,
    offers: Arc<Offers>,
    overrides: Overrides,
    shape: Shape,
    queues: Queues,
    /// Queues in use, at least one.
    active: AtomicU32,
    signals: Arc<Signals>,
    settled: Event,
    /// Storport may see it: it was connected since it appeared.
    visible: AtomicBool,
    /// The next command learns that the size has changed.
    attention: AtomicBool,
    /// Storport's device object, from its start to its removal.
    object: SpinLock<Option<DeviceObject>>,
    eject_wanted: AtomicBool,
    paging: AtomicBool,
    hibernation: AtomicBool,
    dump: AtomicBool,
}

/// The queues. A queue and its DPC hold each other: where no thread ends them, this does. PASSIVE_LEVEL.
struct Queues(Vec<Arc<Queue>>);

impl Drop for Queues {
    fn drop(&mut self) {
        self.0.iter().for_each(|queue| queue.stop());
    }
}

/// What a system keeps on a disk that it must not lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Paging,
    Hibernation,
    Dump,
}

/// A disk with its thread; dropping it ends both.
pub(crate) struct RunningDisk {
    pub(crate) disk: Arc<Disk>,
    /// Joined when dropped.
    _thread: Thread,
}

impl RunningDisk {
    /// Makes a disk whose goal is to be connected. PASSIVE_LEVEL.
    pub(crate) fn start(
        target: u32,
        device: VirtualDevice,
        adapter: storport::Adapter,
        offers: Arc<Offers>,
        overrides: Overrides,
    ) -> Result<RunningDisk> {
        let signals = try_arc(Signals {
            wake: try_arc(Event::new(EventKind::Synchronization, false)?)?,
            way: AtomicU16::new(way(Goal::Connected, State::Moving)),
            broken: AtomicBool::new(false),
            resumed: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            usage_changed: AtomicBool::new(false),
        })?;
        let order = overrides
            .max_ring_page_order
            .unwrap_or(MAX_RING_PAGE_ORDER)
            .min(MAX_RING_PAGE_ORDER);
        let count = overrides
            .max_queues
            .unwrap_or(MAX_QUEUES)
            .min(processor::active_count())
            .clamp(1, MAX_QUEUES);
        let mut queues = Queues(Vec::new());
        queues.0.try_reserve_exact(count as usize)?;
        for index in 0..count {
            let processor = if count > 1 {
                ProcessorNumber::from_index(index).ok()
            } else {
                None
            };
            let signals = signals.clone();
            let number = device.0;
            queues.0.push(Queue::new(order, processor, move |reason| {
                if !signals.broken.swap(true, Ordering::AcqRel) {
                    nt::error!("vbd/{number}: the backend broke the protocol: {reason:?}");
                }
                signals.wake.set();
            })?);
        }
        let disk = try_arc(Disk {
            target,
            device: AtomicU32::new(device.0),
            adapter,
            offers,
            overrides,
            shape: Shape::new(),
            queues,
            active: AtomicU32::new(1),
            signals,
            settled: Event::new(EventKind::Synchronization, false)?,
            visible: AtomicBool::new(false),
            attention: AtomicBool::new(false),
            object: SpinLock::new(None),
            eject_wanted: AtomicBool::new(false),
            paging: AtomicBool::new(false),
            hibernation: AtomicBool::new(false),
            dump: AtomicBool::new(false),
        })?;
        let body = disk.clone();
        let thread = Thread::spawn(move || body.run())?;
        Ok(RunningDisk {
            disk,
            _thread: thread,
        })
    }
}

impl Drop for RunningDisk {
    fn drop(&mut self) {
        self.disk.set_goal(Goal::Over);
    }
}

impl Disk {
    /// The number in xenstore.
    pub(crate) fn device(&self) -> VirtualDevice {
        VirtualDevice(self.device.load(Ordering::Relaxed))
    }

    pub(crate) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(crate) fn queues(&self) -> &[Arc<Queue>] {
        &self.queues.0
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// The queue for what this processor sends.
    pub(crate) fn queue(&self) -> Option<&Arc<Queue>> {
        let active = self.active.load(Ordering::Relaxed).max(1);
        self.queues()
            .get((processor::current_index() % active) as usize)
    }

    /// The first `count` queues are connected; what the others hold goes to the first.
    pub(crate) fn set_active(&self, count: usize) {
        self.active.store(count.max(1) as u32, Ordering::Relaxed);
        if let Some((first, _)) = self.queues().split_first() {
            for queue in self.queues().iter().skip(count.max(1)) {
                queue.hand_over(first);
            }
        }
    }

    /// Whether storport may see the disk. Any IRQL.
    pub(crate) fn is_visible(&self) -> bool {
        self.visible.load(Ordering::Acquire)
    }

    /// Takes the news that the size has changed; `true` once.
    pub(crate) fn take_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed) && self.attention.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn goal(&self) -> Goal {
        goal_of(self.signals.way.load(Ordering::Acquire))
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.goal() == Goal::Connected
    }

    pub(crate) fn state(&self) -> State {
        state_of(self.signals.way.load(Ordering::Acquire))
    }

    /// Sets the goal, from which `Over` does not come back. IRQL ≤ DISPATCH_LEVEL.
    pub(crate) fn set_goal(&self, goal: Goal) {
        // Where the goal stays, so does the state.
        let _ = self
            .signals
            .way
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
                let old = goal_of(old);
                (old != goal && old != Goal::Over).then_some(way(goal, State::Moving))
            });
        self.signals.wake.set();
    }

    /// The disk is back, perhaps under another number.
    pub(crate) fn return_as(&self, device: VirtualDevice) {
        self.device.store(device.0, Ordering::Relaxed);
        self.eject_wanted.store(false, Ordering::Relaxed);
        self.set_goal(Goal::Connected);
    }

    /// Waits until the thread has settled, failed or `timeout` has passed. PASSIVE_LEVEL.
    pub(crate) fn wait(&self, timeout: Duration) -> State {
        let end = time::since_boot().saturating_add(timeout);
        loop {
            let state = self.state();
            if state != State::Moving || time::since_boot() >= end {
                return state;
            }
            let _ = self.settled.wait_for(Duration::from_millis(50));
        }
    }

    /// After a resume. DISPATCH_LEVEL, other processors held.
    pub(crate) fn resumed(&self) {
        self.signals.resumed.store(true, Ordering::Release);
        self.signals.wake.set();
    }

    /// Storport has lost patience with a request. IRQL ≤ DISPATCH_LEVEL.
    ///
    /// Nothing the backend still works on is completed, since its pages are not ours until it has answered. A lost
    /// event is made up for at once; a silent backend is connected anew, which sends everything again. What waits for a
    /// connection, or for power, is not waited for any longer.
    pub(crate) fn reset(&self) {
        for queue in self.queues() {
            queue.nudge();
            queue.give_back();
        }
        self.signals.reset.store(true, Ordering::Release);
        self.signals.wake.set();
    }

    /// Storport's device object starts (or goes).
    pub(crate) fn set_object(&self, object: Option<DeviceObject>) {
        let old = core::mem::replace(&mut *self.object.lock(), object);
        drop(old);
    }

    /// Whether `object` is storport's for this disk.
    pub(crate) fn is_object(&self, object: *mut nt::sys::DEVICE_OBJECT) -> bool {
        self.object
            .lock()
            .as_ref()
            .is_some_and(|own| own.as_ptr() == object)
    }

    /// Whether storport has an object for the disk: somebody may know its blocks.
    pub(crate) fn is_in_use(&self) -> bool {
        self.object.lock().is_some()
    }

    /// Asks the PnP manager to eject the disk, once its object is known. PASSIVE_LEVEL.
    pub(crate) fn request_eject(&self) {
        let object = self.object.lock().clone();
        if let Some(object) = object
            && self.eject_wanted.load(Ordering::Acquire)
        {
            object.request_eject();
        }
    }

    /// Whether the toolstack has asked for the removal.
    pub(crate) fn is_ejecting(&self) -> bool {
        self.eject_wanted.load(Ordering::Acquire)
    }

    /// The eject was refused: somebody uses the disk. PASSIVE_LEVEL.
    pub(crate) fn eject_refused(&self) {
        if let Some(session) = self.offers.session().filter(|_| self.is_ejecting()) {
            Connection::write_error(
                &session,
                self,
                format_args!("Unplug failed due to open handle(s)!"),
            );
        }
    }

    /// Remembers that the system begins or ends to keep something on the disk.
    pub(crate) fn set_usage(&self, usage: Usage, used: bool) {
        let flag = match usage {
            Usage::Paging => &self.paging,
            Usage::Hibernation => &self.hibernation,
            Usage::Dump => &self.dump,
        };
        flag.store(used, Ordering::Relaxed);
        self.signals.usage_changed.store(true, Ordering::Release);
        self.signals.wake.set();
    }

    /// The keys of what the system keeps on the disk.
    pub(crate) fn usage(&self) -> [(&'static str, bool); 3] {
        [
            ("paging", self.paging.load(Ordering::Relaxed)),
            ("hibernation", self.hibernation.load(Ordering::Relaxed)),
            ("dump", self.dump.load(Ordering::Relaxed)),
        ]
    }

    fn settle(&self, state: State, goal: Goal) {
        // A goal set meanwhile is not reached by this.
        let _ = self
            .signals
            .way
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
                (goal_of(old) == goal).then_some(way(goal, state))
            });
        self.settled.set();
    }

    fn show(&self, visible: bool) {
        if self.visible.swap(visible, Ordering::AcqRel) != visible {
            self.adapter.bus_changed();
        }
    }

    /// The thread.
    fn run(&self) {
        let mut connection: Option<Connection> = None;
        let mut retry = (Duration::ZERO, RETRY.0);
        let mut watchdog = Watchdog { since: None };
        loop {
            let goal = self.goal();
            if self.signals.resumed.swap(false, Ordering::AcqRel) && connection.is_some() {
                nt::info!("vbd/{}: connecting again after a resume", self.device().0);
                self.disconnect(&mut connection, true);
            }
            if connection.as_ref().is_some_and(Connection::is_held) {
                self.disconnect(&mut connection, goal == Goal::Over);
                if watchdog.is_stuck(self) {
                    self.give_up(&mut connection, &mut retry);
                }
            }
            if self.signals.broken.load(Ordering::Acquire) && connection.is_some() {
                self.break_off(&mut connection);
            }
            match goal {
                Goal::Connected if self.state() == State::Broken => {}
                // Requests wait with it: see `Connection::close`.
                Goal::Connected | Goal::Closed | Goal::Gone
                    if connection.as_ref().is_some_and(Connection::is_held) =>
                {
                    self.settle(State::Failed, goal);
                }
                Goal::Connected if connection.is_some() => {
                    if self.state() == State::Moving {
                        self.settle(State::Settled, goal);
                    }
                    if watchdog.is_stuck(self) {
                        nt::warning!(
                            "vbd/{}: the backend is silent; connecting again",
                            self.device().0
                        );
                        self.disconnect(&mut connection, false);
                        self.give_up(&mut connection, &mut retry);
                        continue;
                    }
                    if !self.look(&mut connection) {
                        continue;
                    }
                }
                Goal::Connected if time::since_boot() >= retry.0 => match self.connect() {
                    Ok(opened) => {
                        connection = Some(opened);
                        retry = (Duration::ZERO, RETRY.0);
                        self.shape.set_ready(true);
                        self.show(true);
                        self.settle(State::Settled, goal);
                        continue;
                    }
                    Err(Fault::Cancelled) => {}
                    // Suspended on the way: the backend is another one. What waits has not waited for that.
                    Err(_) if self.signals.resumed.load(Ordering::Acquire) => {
                        nt::info!("vbd/{}: connecting again after a resume", self.device().0);
                        continue;
                    }
                    Err(fault) => {
                        nt::error!("vbd/{}: {fault}", self.device().0);
                        if let Some(session) = self.offers.session() {
                            Connection::write_error(&session, self, format_args!("{fault}"));
                        }
                        retry = (
                            time::since_boot().saturating_add(retry.1),
                            retry.1.saturating_mul(2).min(RETRY.1),
                        );
                        // What waits has waited for a whole connection's time.
                        self.abort(false);
                        self.settle(State::Failed, goal);
                    }
                },
                Goal::Connected => {}
                Goal::Closed | Goal::Gone | Goal::Over => {
                    self.shape.set_ready(false);
                    self.signals.broken.store(false, Ordering::Release);
                    self.disconnect(&mut connection, goal == Goal::Over);
                    if connection.is_some() {
                        continue;
                    }
                    retry = (Duration::ZERO, RETRY.0);
                    // Without power requests wait: what a sleep interrupted is done when the disk is back.
                    if goal != Goal::Closed {
                        self.abort(true);
                        self.show(false);
                    }
                    self.settle(State::Settled, goal);
                    if goal == Goal::Over {
                        break;
                    }
                }
            }
            let held = connection.as_ref().is_some_and(Connection::is_held);
            let busy = held || self.holds() || connection.is_some() && watchdog.since.is_some();
            let timeout = match (goal, connection.is_some()) {
                (Goal::Connected, false) => RETRY.0,
                _ if busy => TICK,
                _ => RETRY.1,
            };
            let _ = self.signals.wake.wait_for(timeout);
            if self.holds() {
                self.queues().iter().for_each(|queue| queue.nudge());
            }
        }
        self.queues().iter().for_each(|queue| queue.stop());
    }

    #[inline(never)]
    fn connect(&self) -> core::result::Result<Connection, Fault> {
        let session = self.offers.session().ok_or(Fault::Cancelled)?;
        Connection::open(self, session)
    }

    #[inline(never)]
    fn disconnect(&self, connection: &mut Option<Connection>, force: bool) {
        *connection = connection.take().and_then(|open| open.close(self, force));
    }

    /// Storport has lost patience, and the backend has not answered since: where it holds the connection, too, its requests
    /// fail. Others fail until it lets itself be connected again.
    #[inline(never)]
    fn give_up(&self, connection: &mut Option<Connection>, retry: &mut (Duration, Duration)) {
        let Some(open) = connection.take_if(|open| open.is_held()) else {
            return;
        };
        nt::error!(
            "vbd/{}: the backend neither answers nor closes, and keeps the ring",
            self.device().0
        );
        self.shape.set_ready(false);
        open.abandon(self);
        *retry = (time::since_boot() + RETRY.0, RETRY.0);
    }

    fn abort(&self, gone: bool) {
        self.queues().iter().for_each(|queue| queue.abort(gone));
    }

    /// The protocol is broken: the device stops, the machine goes on.
    #[inline(never)]
    fn break_off(&self, connection: &mut Option<Connection>) {
        self.shape.set_ready(false);
        self.abort(false);
        if let Some(session) = self.offers.session() {
            Connection::write_error(
                &session,
                self,
                format_args!("the backend broke the protocol"),
            );
        }
        self.disconnect(connection, true);
        // Again for what came meanwhile.
        self.abort(false);
        self.settle(State::Broken, Goal::Connected);
    }

    /// Looks at the backend; whether the connection still stands.
    #[inline(never)]
    fn look(&self, connection: &mut Option<Connection>) -> bool {
        let Some(open) = connection else { return true };
        if self.signals.usage_changed.swap(false, Ordering::AcqRel)
            && let Err(status) = open.write_usage(self)
        {
            nt::warning!(
                "vbd/{}: cannot write the usage keys: {status}",
                self.device().0
            );
        }
        match open.look(self) {
            Found::Nothing => true,
            Found::Resized => {
                nt::info!(
                    "vbd/{}: now {} blocks",
                    self.device().0,
                    self.shape.blocks()
                );
                self.attention.store(true, Ordering::Relaxed);
                self.adapter.bus_changed();
                true
            }
            Found::Eject => {
                nt::info!(
                    "vbd/{}: the toolstack asks for its removal",
                    self.device().0
                );
                self.eject_wanted.store(true, Ordering::Release);
                if self.object.lock().is_some() {
                    self.request_eject();
                } else {
                    // Nobody has begun to use it.
                    self.set_goal(Goal::Gone);
                }
                true
            }
            Found::Lost => {
                nt::warning!("vbd/{}: the backend has left", self.device().0);
                self.disconnect(connection, false);
                false
            }
        }
    }

    /// Whether the backend holds pages beyond its answers.
    fn holds(&self) -> bool {
        self.queues().iter().any(|queue| queue.report().2 > 0)
    }
}

/// Tells a slow backend from a silent one after storport's reset.
struct Watchdog {
    /// When the reset was, and how many responses there had been.
    since: Option<(Duration, u64)>,
}

impl Watchdog {
    fn is_stuck(&mut self, disk: &Disk) -> bool {
        let (mut responses, mut in_flight) = (0, 0);
        for queue in disk.queues() {
            let (counters, flying, _) = queue.report();
            responses += counters.responses;
            in_flight += flying;
        }
        if disk.signals.reset.swap(false, Ordering::AcqRel) && self.since.is_none() {
            self.since = Some((time::since_boot(), responses));
        }
        match self.since {
            Some((_, before)) if in_flight == 0 || responses != before => {
                self.since = None;
                false
            }
            Some((at, _)) if time::since_boot() >= at.saturating_add(SILENCE) => {
                self.since = None;
                true
            }
            _ => false,
        }
    }
}
