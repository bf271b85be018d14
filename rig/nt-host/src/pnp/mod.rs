//! The Plug and Play manager: finds devices, binds drivers to them by INF, starts and removes them.
//!
//! ```text
//!   IoInvalidateDeviceRelations, IoRequestDeviceEject, rig ──post──> queue ──> manager thread
//!     enumerate: BusRelations → IDs → packages (INF) → install → AddDevice → arbiter → START → children
//!     rebalance: QUERY_STOP → STOP → arbiter → START
//!     remove:    QUERY_REMOVE → REMOVE, SURPRISE_REMOVAL, EJECT
//! ```
//!
//! One thread does everything, in order, at PASSIVE_LEVEL, so that drivers see the sequences that the
//! documentation promises.

pub mod arbiter;
pub mod bus;
pub mod device_interface;
pub mod enumerate;
pub mod install;
pub mod interfaces;
pub mod node;
pub mod packages;
pub mod pci;
pub mod property;
pub mod query;
pub mod rebalance;
pub mod remove;
pub mod report;
pub mod resources;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::host::{host, platform};
use crate::ke;
use crate::ke::event;
use crate::ke::wait::Timeout;
use crate::sync::{Mutex, Once};
use node::NodeId;

pub use bus::{MessageTable, Messages};
pub use interfaces::{Interface, interfaces};
pub use packages::stage as install_inf;
pub use pci::{Bar, PciFunction, add_root_device};
pub use report::{Leaks, Row, tree};

/// Something for the manager's thread to do.
pub enum Event {
    /// The children of a device may have changed.
    Relations(NodeId),
    /// A device's state may have changed.
    State(NodeId),
    /// A device is to be ejected.
    Eject(NodeId),
    /// Something of the host's own.
    Call(Box<dyn FnOnce() + Send>),
}

static QUEUE: Mutex<VecDeque<Event>> = Mutex::new(VecDeque::new());
static WAKE: Once<event::Event> = Once::new();
/// The manager has nothing to do.
static IDLE: AtomicBool = AtomicBool::new(false);

/// Starts the manager on CPU 0 and lets it find the devices of a machine with these PCI functions.
/// Callable from any host thread, once.
pub fn start(functions: Vec<PciFunction>) {
    crate::cm::seed(&host().config().start_options);
    if !WAKE.set(event::Event::new(false)) {
        return;
    }
    let manage = move || {
        crate::io::work::start();
        if let Err(error) = crate::netio::load() {
            log(alloc::format!("{error}"));
        }
        if let Some(root) = pci::plug(functions) {
            enumerate::children(root);
        }
        serve();
    };
    if !ke::thread::run(0, manage) {
        log(String::from("no memory for the PnP manager's thread"));
    }
}

fn serve() -> ! {
    loop {
        let next = {
            let mut queue = QUEUE.lock();
            let next = queue.pop_front();
            IDLE.store(next.is_none(), Ordering::Release);
            next
        };
        match next {
            Some(Event::Relations(id)) => enumerate::children(id),
            Some(Event::State(id)) => enumerate::state(id),
            Some(Event::Eject(id)) => eject(id),
            Some(Event::Call(call)) => call(),
            None => {
                if let Some(wake) = WAKE.get() {
                    wake.wait(Timeout::Never);
                }
            }
        }
    }
}

fn eject(id: NodeId) {
    if let Err(refused) = remove::eject(id) {
        log(alloc::format!(
            "eject refused by {} with {:#010x}",
            refused.instance,
            refused.status
        ));
    }
}

/// Queues work for the manager. At any IRQL up to DISPATCH_LEVEL on a virtual CPU, or on any host thread.
pub fn post(event: Event) {
    {
        let mut queue = QUEUE.lock();
        let again = match &event {
            Event::Relations(id) => queue
                .iter()
                .any(|other| matches!(other, Event::Relations(own) if own == id)),
            Event::State(id) => queue
                .iter()
                .any(|other| matches!(other, Event::State(own) if own == id)),
            _ => false,
        };
        if again {
            return;
        }
        queue.push_back(event);
        IDLE.store(false, Ordering::Release);
    }
    let wake = || {
        if let Some(wake) = WAKE.get() {
            wake.set();
        }
    };
    match platform().current_cpu() {
        Some(_) => wake(),
        None => ke::inject(0, Box::new(wake)),
    }
}

/// Whether the manager has done all it was asked so far.
pub fn settled() -> bool {
    IDLE.load(Ordering::Acquire)
}

/// Removes every device and unloads every driver, and hands a report on what was left behind to `done`.
/// Callable from any host thread.
pub fn tear_down(done: impl FnOnce(Leaks) + Send + 'static) {
    post(Event::Call(Box::new(move || done(report::tear_down()))));
}

/// Writes a line about devices to the machine's log.
pub(crate) fn log(what: String) {
    platform().log(&alloc::format!("pnp: {what}"));
}
