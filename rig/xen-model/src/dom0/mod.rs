//! Domain 0 as an actor: xenstored, the console daemon and the backends' drivers, one step at a time.
//!
//! ```text
//!   bell ◄── event channels, timers, toolstack calls
//!    └─► step: timers ─► xenstored's ring ─► console ─► each driver     until nobody finds work
//! ```
//! A thread of the caller's runs [`Dom0::run`]; a single-threaded caller calls [`Dom0::step`] itself. The toolstack's
//! calls ([`crate::toolstack`]) may come from any thread.

mod doorbell;

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::hypercall::guard;
use crate::store::{RingConnection, Store};
use crate::toolstack::Guest;
use crate::{EventEnd, Source, Xen, frames};

pub use doorbell::Doorbell;

/// Longest console line kept whole.
const MAX_CONSOLE_LINE: usize = 1024;
/// Passes over everybody in one step.
const MAX_PASSES: usize = 64;
/// The longest sleep without a bell, in case a deadline moved.
const MAX_SLEEP: Duration = Duration::from_millis(500);
/// How long to listen for the next piece of work before sleeping: about what it takes to wake a thread.
const LISTEN: Duration = Duration::from_micros(20);

/// A backend's driver: serves all devices of its kind.
pub trait Driver: Send {
    /// Does what there is to do without waiting for the guest. Returns whether there was anything.
    fn step(&mut self, dom0: &Dom0) -> bool;
    /// The guest is being rebuilt (restored, migrated): its mappings and channels end now, without a word to it.
    fn guest_gone(&mut self, dom0: &Dom0);
}

/// What connects the guest to daemons.
pub(crate) struct Links {
    pub(crate) store: RingConnection,
    pub(crate) console: Arc<EventEnd>,
    pub(crate) console_line: Vec<u8>,
}

/// The control domain.
pub struct Dom0 {
    xen: Arc<Xen>,
    drivers: Mutex<Vec<Box<dyn Driver>>>,
    links: Mutex<Option<Links>>,
    store: Mutex<Store>,
    pub(crate) guest: Mutex<Option<Guest>>,
}

impl Dom0 {
    /// A control domain in which no guest is known yet.
    pub fn new(xen: Arc<Xen>) -> Arc<Self> {
        Arc::new(Self {
            xen,
            drivers: Mutex::default(),
            links: Mutex::default(),
            store: Mutex::default(),
            guest: Mutex::default(),
        })
    }

    /// The hypervisor.
    pub fn xen(&self) -> &Arc<Xen> {
        &self.xen
    }

    /// The bell that wakes [`Self::run`].
    pub fn bell(&self) -> &Arc<Doorbell> {
        &self.xen.dom0_bell
    }

    /// The store. Whoever changes it from outside a [`Driver`] should ring the bell afterwards.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        guard(self.store.lock())
    }

    /// A line for the log.
    pub fn log(&self, line: &str) {
        self.xen.log(Source::Dom0, line);
    }

    /// Adds a driver.
    pub fn add_driver(&self, driver: Box<dyn Driver>) {
        guard(self.drivers.lock()).push(driver);
        self.bell().ring();
    }

    /// Replaces the guest's links; the drivers have let go of the guest, if it was there before.
    pub(crate) fn relink(&self, make: impl FnOnce(&mut Store) -> Option<Links>) {
        let mut drivers = guard(self.drivers.lock());
        let mut links = guard(self.links.lock());
        if let Some(old) = links.take() {
            for driver in drivers.iter_mut() {
                driver.guest_gone(self);
            }
            old.store.close(&mut self.store(), &self.xen);
            self.xen.dom0_close(&old.console);
        }
        *links = make(&mut self.store());
    }

    /// Does what there is to do, for a while. Returns whether there was anything; if the guest keeps giving work, the
    /// bell is left rung.
    pub fn step(&self) -> bool {
        let mut worked = false;
        for _ in 0..MAX_PASSES {
            self.bell().clear();
            if !self.pass() {
                return worked;
            }
            worked = true;
        }
        self.bell().ring();
        worked
    }

    fn pass(&self) -> bool {
        let due = self.xen.run_timers();
        let mut drivers = guard(self.drivers.lock());
        let linked = self.serve_links();
        let driven = drivers
            .iter_mut()
            .fold(false, |worked, driver| driver.step(self) | worked);
        due | linked | driven
    }

    fn serve_links(&self) -> bool {
        let mut links = guard(self.links.lock());
        let Some(links) = &mut *links else {
            return false;
        };
        let stored = links.store.step(&mut self.store(), &self.xen);
        stored | self.drain_console(links)
    }

    /// Takes the guest's console output and logs its lines.
    fn drain_console(&self, links: &mut Links) -> bool {
        if !links.console.take() {
            return false;
        }
        let page = frames::console_interface(self.xen.machine(), self.xen.layout.console);
        let size = page.output.len();
        let cons = page.out_cons.load(Ordering::Acquire);
        let available = page.out_prod.load(Ordering::Acquire).wrapping_sub(cons) as usize;
        // A guest that lies about its indices gets its ring read once around.
        let take = available.min(size);
        for i in 0..take {
            let byte = page.output[(cons as usize).wrapping_add(i) % size].load(Ordering::Relaxed);
            match byte {
                b'\r' => {}
                b'\n' => self.end_console_line(&mut links.console_line),
                _ => links.console_line.push(byte),
            }
            if links.console_line.len() >= MAX_CONSOLE_LINE {
                self.end_console_line(&mut links.console_line);
            }
        }
        page.out_cons
            .store(cons.wrapping_add(available as u32), Ordering::Release);
        if available > 0 {
            self.xen.dom0_notify(&links.console);
        }
        available > 0
    }

    fn end_console_line(&self, line: &mut Vec<u8>) {
        self.xen
            .log(Source::Console, &String::from_utf8_lossy(line));
        line.clear();
    }

    /// Sleeps until the bell rings or a timer is due.
    pub fn wait(&self) {
        let now = self.xen.machine().now_ns();
        let until = self
            .xen
            .next_deadline()
            .map_or(MAX_SLEEP, |d| Duration::from_nanos(d.saturating_sub(now)));
        self.bell().wait(until.min(MAX_SLEEP));
    }

    /// Steps and sleeps until `stop` is set and the bell rung.
    pub fn run(&self, stop: &AtomicBool) {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        // Not at the expense of the guest.
        let listens = cores > self.xen.machine().vcpus() as usize;
        while !stop.load(Ordering::Acquire) {
            if self.step() && listens {
                self.bell().listen(LISTEN);
            }
            self.wait();
        }
    }
}
