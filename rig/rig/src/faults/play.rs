//! Toolstack, power button and bus: whoever does to the machine what an [`Act`] says, while others wait for something.
//!
//! ```text
//!   director: acts whose step has come ─┐     toolstack   suspend, detach, vanish, backend death     one at a time,
//!   scenario: orders ───────────────────┴──►  system      sleep, hibernate, surprise removal         each of the two
//! ```
//! Each of the two is an actor of a seeded machine, or a thread of a parallel one.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use backends::block::Disks;
use backends::net::Nics;
use nt_host::pnp::node::State;
use nt_host::pnp::{self, Event, Row};
use xen_model::Resume;
use xen_model::dom0::Dom0;
use xen_model::toolstack::{Command, VbdSpec, VifSpec};

use super::director::Director;
use super::name::Act;
use crate::platform::seeded::{self, Bell};
use crate::wait;

/// How long the guest may take to do what it was told.
const OBEDIENCE: Duration = Duration::from_secs(100);
/// How long a toolstack waits for a backend before it takes the keys away (libxl: `LIBXL_DESTROY_TIMEOUT`).
pub const LIBXL_PATIENCE: Duration = Duration::from_secs(10);
/// How often a thread looks for something to do.
const LOOK: Duration = Duration::from_millis(2);

// POWER_ACTION and SYSTEM_POWER_STATE (wdm.h).
const WORKING: i32 = 1;
const SLEEPING3: i32 = 4;
const HIBERNATE: i32 = 5;
const ACTION_NONE: i32 = 0;
const ACTION_SLEEP: i32 = 2;
const ACTION_HIBERNATE: i32 = 3;

/// The drivers of the platform device and of the adapter for disks, and what cards are called.
const PLATFORM: &str = "xenbus";
const ADAPTER: &str = "xenvbd";
const CARDS: &str = r"XENVIF\VEN_XP&DEV_NET\";

/// What is to be done to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// What a fault may do, too.
    Act(Act),
    /// To a system power state (`SYSTEM_POWER_STATE`), for so long, and back.
    Sleep {
        /// 2 to 4 for S1 to S3, 5 for S4.
        state: i32,
        /// How long.
        linger: Duration,
    },
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Domain 0's toolstack.
    Toolstack,
    /// The guest's system, and the bus below its devices.
    System,
}

impl Role {
    fn of(act: Act) -> Self {
        match act {
            Act::Suspend
            | Act::SuspendCancelled
            | Act::Detach
            | Act::Vanish
            | Act::BackendDeath => Self::Toolstack,
            Act::Sleep | Act::Hibernate | Act::SurpriseRemoval => Self::System,
        }
    }

    fn does(self, order: &Order) -> bool {
        match order {
            Order::Act(act) => Self::of(*act) == self,
            Order::Sleep { .. } => self == Self::System,
        }
    }
}

/// What both share.
struct Shared {
    dom0: Arc<Dom0>,
    disks: Disks,
    director: &'static Director,
    orders: Mutex<VecDeque<Order>>,
    /// Roles at work.
    busy: AtomicUsize,
    /// Nanoseconds that what was done has taken.
    spent: AtomicU64,
    /// The card that acts concern, instead of the first disk.
    card: Mutex<Option<(u32, Nics)>>,
    took_device: AtomicBool,
    took_platform: AtomicBool,
    failure: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// The play.
pub struct Play {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Play {
    /// On this machine; acts of faults concern its first disk, or the [card](Self::concern_card) that is named.
    pub fn start(dom0: Arc<Dom0>, disks: Disks, director: &'static Director) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            dom0,
            disks,
            director,
            orders: Mutex::default(),
            busy: AtomicUsize::new(0),
            spent: AtomicU64::new(0),
            card: Mutex::default(),
            took_device: AtomicBool::new(false),
            took_platform: AtomicBool::new(false),
            failure: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for (role, name) in [(Role::Toolstack, "toolstack"), (Role::System, "system")] {
            let of_role = shared.clone();
            match seeded::world() {
                Some(world) => {
                    let bell = Box::new(Wanted(shared.clone(), role));
                    let body = Box::new(move || {
                        loop {
                            of_role.work(role);
                            world.sleep(None);
                        }
                    });
                    world.add(None, Some(bell), body)?;
                }
                None => threads.push(thread::Builder::new().name(name.to_owned()).spawn(
                    move || {
                        while !of_role.stop.load(Ordering::Acquire) {
                            of_role.work(role);
                            thread::sleep(LOOK);
                        }
                    },
                )?),
            }
        }
        Ok(Self { shared, threads })
    }

    /// From now on acts of faults concern this network card.
    pub fn concern_card(&self, number: u32, nics: Nics) {
        *guard(&self.shared.card) = Some((number, nics));
    }

    /// Has something done, besides what faults do.
    pub fn order(&self, order: Order) {
        guard(&self.shared.orders).push_back(order);
    }

    /// Whether nothing is to be done and nothing is under way.
    pub fn is_idle(&self) -> bool {
        let shared = &self.shared;
        shared.busy.load(Ordering::Acquire) == 0
            && !shared.wants(Role::Toolstack)
            && !shared.wants(Role::System)
    }

    /// Whether the first disk, or the card, was taken from the guest, one way or another.
    pub fn took_device(&self) -> bool {
        self.shared.took_device.load(Ordering::Acquire)
    }

    /// Whether the platform device was taken from the guest, and everything with it.
    pub fn took_platform(&self) -> bool {
        self.shared.took_platform.load(Ordering::Acquire)
    }

    /// What the guest did not do that it was told to.
    pub fn failure(&self) -> Option<String> {
        guard(&self.shared.failure).clone()
    }

    /// Waits until `done`, at most `limit` besides what is done to the machine meanwhile. Returns whether it was done.
    pub fn wait(
        &self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, String> {
        let spent = || Duration::from_nanos(self.shared.spent.load(Ordering::Acquire));
        let (began, before) = (wait::now(), spent());
        loop {
            let mut is_done = false;
            let mut failure = None;
            let end = began + limit + (spent() - before);
            let over = wait::until(end.saturating_sub(wait::now()), || {
                is_done = done(self);
                failure = self.failure();
                is_done || failure.is_some()
            });
            if let Some(why) = failure {
                return Err(why);
            }
            if over {
                return Ok(is_done);
            }
            // The time for that is the guest's, not the waiter's.
            let is_idle = || self.is_idle() || self.failure().is_some();
            if !is_idle() && wait::until(OBEDIENCE * 4, is_idle) {
                continue;
            }
            if began + limit + (spent() - before) <= wait::now() {
                return Ok(false);
            }
        }
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Rings while there is something for a role to do.
struct Wanted(Arc<Shared>, Role);

impl Bell for Wanted {
    fn rung(&self) -> bool {
        self.0.wants(self.1)
    }

    fn deadline(&self) -> Option<u64> {
        None
    }
}

fn guard<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn wants(&self, role: Role) -> bool {
        guard(&self.orders).iter().any(|order| role.does(order))
            || self.director.wants_act(|act| Role::of(act) == role)
    }

    fn next(&self, role: Role) -> Option<Order> {
        let act = self.director.next_act(|act| Role::of(act) == role);
        if let Some(act) = act {
            return Some(Order::Act(act));
        }
        let mut orders = guard(&self.orders);
        let index = orders.iter().position(|order| role.does(order))?;
        orders.remove(index)
    }

    /// Does what there is to do.
    fn work(&self, role: Role) {
        self.busy.fetch_add(1, Ordering::AcqRel);
        while let Some(order) = self.next(role) {
            let began = wait::now();
            let done = match order {
                Order::Act(act) => self.act(act),
                Order::Sleep { state, linger } => sleep(state, linger),
            };
            if let Err(why) = done {
                guard(&self.failure).get_or_insert(why);
            }
            let time = wait::now().saturating_sub(began).as_nanos() as u64;
            self.spent.fetch_add(time, Ordering::AcqRel);
        }
        self.busy.fetch_sub(1, Ordering::AcqRel);
    }

    fn act(&self, act: Act) -> Result<(), String> {
        let concerned = match guard(&self.card).clone() {
            Some((number, nics)) => Concerned::Card(number, nics),
            None => Concerned::Disk(VbdSpec::disk(0, "").devid, self.disks.clone()),
        };
        let dom0 = &self.dom0;
        match act {
            Act::Suspend => self.suspend(Resume::Restored),
            Act::SuspendCancelled => self.suspend(Resume::Cancelled),
            Act::Sleep => sleep(SLEEPING3, Duration::ZERO),
            Act::Hibernate => sleep(HIBERNATE, Duration::ZERO),
            Act::Detach => {
                let Some(before) = dom0.store().read(&concerned.state(dom0)) else {
                    // An earlier one was done.
                    return Ok(());
                };
                let is_new = before == "1";
                self.took_device.store(true, Ordering::Release);
                concerned.detach(dom0);
                let mut closed = || concerned.finish(dom0, false);
                // A backend that has not seen the device when it was new ignores it (Linux: `xenbus_probe_node`).
                let closed = match is_new {
                    true => wait::until(LIBXL_PATIENCE, closed),
                    false => obeyed("close the device", |row| concerned.obeys(row), &mut closed)?,
                };
                if !closed {
                    concerned.finish(dom0, true);
                }
                Ok(())
            }
            Act::Vanish => {
                self.took_device.store(true, Ordering::Release);
                concerned.finish(dom0, true);
                Ok(())
            }
            Act::BackendDeath => {
                concerned.die();
                dom0.bell().ring();
                Ok(())
            }
            Act::SurpriseRemoval => {
                self.took_device.store(true, Ordering::Release);
                self.took_platform.store(true, Ordering::Release);
                let (sender, receiver) = mpsc::channel();
                pnp::post(Event::Call(Box::new(move || {
                    let devices = pnp::node::root().map(pnp::node::subtree);
                    let platform_device = devices.into_iter().flatten().find(|id| {
                        pnp::node::get(*id)
                            .is_some_and(|node| node.service.as_deref() == Some(PLATFORM))
                    });
                    if let Some(device) = platform_device {
                        pnp::remove::surprise(device, State::Removed);
                    }
                    // The receiver waits, or has given up.
                    let _ = sender.send(());
                })));
                wait::receive(&receiver, OBEDIENCE)
                    .ok_or_else(|| "the platform device was not removed".to_owned())
            }
        }
    }

    /// A guest that cannot be suspended yet is left alone: the order stands until it looks.
    fn suspend(&self, how: Resume) -> Result<(), String> {
        self.dom0.send(Command::Suspend);
        let is_platform = |row: &Row| row.service.as_deref() == Some(PLATFORM);
        let suspended = obeyed("suspend", is_platform, || self.dom0.xen().is_suspended())?;
        match suspended {
            true => _ = self.dom0.resume_guest(how),
            // Nobody will ever look.
            false => self.dom0.withdraw(),
        }
        Ok(())
    }
}

/// The device that is taken away, or whose backend dies.
enum Concerned {
    Disk(u32, Disks),
    Card(u32, Nics),
}

impl Concerned {
    /// Whether a device of the guest's is the one that closes it: the adapter of all disks, the card itself.
    fn obeys(&self, row: &Row) -> bool {
        match self {
            Self::Disk(..) => row.service.as_deref() == Some(ADAPTER),
            Self::Card(number, _) => row.instance == format!("{CARDS}{number}"),
        }
    }

    /// The key with its backend's state.
    fn state(&self, dom0: &Dom0) -> String {
        match self {
            Self::Disk(devid, _) => format!("{}/state", dom0.backend_path(*devid)),
            Self::Card(number, _) => format!("{}/state", VifSpec::new(*number).backend_path()),
        }
    }

    fn detach(&self, dom0: &Dom0) {
        match self {
            Self::Disk(devid, _) => dom0.detach_disk(*devid),
            Self::Card(number, _) => dom0.detach_vif(*number),
        }
    }

    fn finish(&self, dom0: &Dom0, force: bool) -> bool {
        match self {
            Self::Disk(devid, _) => dom0.finish_detach(*devid, force),
            Self::Card(number, _) => dom0.finish_vif_detach(*number, force),
        }
    }

    fn die(&self) {
        match self {
            Self::Disk(devid, disks) => disks.die(*devid),
            Self::Card(number, nics) => nics.die(*number),
        }
    }
}

/// Waits until it is `done`: `false` where there is no device that `obeys`.
fn obeyed(
    what: &str,
    obeys: impl Fn(&Row) -> bool,
    mut done: impl FnMut() -> bool,
) -> Result<bool, String> {
    if wait::until(OBEDIENCE, &mut done) {
        return Ok(true);
    }
    // A device that is not started has nobody who obeys, as one that is gone.
    let mut rows = pnp::tree().into_iter();
    if !rows.any(|row| row.started && obeys(&row)) {
        return Ok(false);
    }
    Err(format!(
        "the guest did not {what} within {} s",
        OBEDIENCE.as_secs()
    ))
}

/// Takes the system to a power state and back. A device that refuses calls it off.
fn sleep(state: i32, linger: Duration) -> Result<(), String> {
    let action = match state {
        HIBERNATE => ACTION_HIBERNATE,
        _ => ACTION_SLEEP,
    };
    if let Err(why) = transition(state, action)? {
        log::info!("the system stays awake: {why}");
    }
    wait::pass(linger);
    transition(WORKING, ACTION_NONE)?.map_err(|why| format!("the system did not wake: {why}"))
}

fn transition(state: i32, action: i32) -> Result<Result<(), String>, String> {
    let (sender, receiver) = mpsc::channel();
    pnp::post(Event::Call(Box::new(move || {
        // The receiver waits, or has given up.
        let _ = sender.send(nt_host::po::transition(state, action));
    })));
    wait::receive(&receiver, OBEDIENCE).ok_or_else(|| {
        format!(
            "there was no way to system power state {state} within {} s",
            OBEDIENCE.as_secs()
        )
    })
}
