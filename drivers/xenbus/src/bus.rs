//! The subsystems of the active platform device, and the interfaces by which children reach them.

use crate::cache::Caches;
use crate::console::{self, Console};
use crate::debug::Debug;
use crate::evtchn::{self, Evtchn};
use crate::gnttab::{self, Gnttab};
use crate::interrupt::Vectors;
use crate::shared_info::{self, SharedInfo};
use crate::store::{self, Store};
use crate::suspend::Suspend;
use crate::{cache, debug, range_set, suspend, unplug};
use alloc::sync::Arc;
use nt::interface::InterfaceRequest;
use nt::{NtStatus, Result};
use pv_bus::References;
use pv_interfaces::{Table, This};

/// All subsystems. Every call table's context is the address of this.
#[derive(Debug)]
pub struct Bus {
    pub debug: Debug,
    pub suspend: Suspend,
    pub shared_info: SharedInfo,
    pub evtchn: Evtchn,
    pub range_sets: References,
    pub caches: Caches,
    pub gnttab: Gnttab,
    pub store: Store,
    pub console: Console,
    pub unplug: References,
}

impl Bus {
    /// Nothing is started. PASSIVE_LEVEL.
    pub fn new() -> Result<Bus> {
        Ok(Bus {
            debug: Debug::new(),
            suspend: Suspend::new()?,
            shared_info: SharedInfo::new(),
            evtchn: Evtchn::new(),
            range_sets: References::new(),
            caches: Caches::new(),
            gnttab: Gnttab::new(),
            store: Store::new(),
            console: Console::new(),
            unplug: References::new(),
        })
    }

    /// Starts what needs Xen: the step from D3 to D0. PASSIVE_LEVEL.
    pub fn start(self: &Arc<Bus>, vectors: Vectors) -> Result<()> {
        self.caches.start(self)?;
        self.shared_info.start()?;
        self.evtchn.start(self, vectors)?;
        self.debug.start(self);
        self.gnttab.start()?;
        self.store.start(self)?;
        // A guest does without a console.
        if let Err(status) = self.console.start(self) {
            nt::warning!("the console does not start: {status}");
        }
        Ok(())
    }

    /// Stops what [`Bus::start`] started, in the reverse order. What a child still holds is left. PASSIVE_LEVEL.
    pub fn stop(&self) {
        self.caches.stop();
        let console = self.console.stop(self);
        let store = self.store.stop(self);
        self.gnttab.stop();
        self.debug.stop(self);
        if !console || !store {
            return;
        }
        // SAFETY: the store, the console and the debug key have closed their channels.
        if unsafe { self.evtchn.stop(self) } {
            // SAFETY: the event channels are off.
            unsafe { self.shared_info.stop() };
        }
    }

    /// The first half of a resume: HIGH_LEVEL, this processor alone.
    pub fn resume_early(&self) {
        self.evtchn.resume_early();
        self.shared_info.resume_early();
        self.gnttab.resume_early();
    }

    /// The second half of a resume: DISPATCH_LEVEL, the other processors held.
    pub fn resume_late(&self) {
        self.evtchn.resume_late(self);
        self.debug.resume_late(self);
        self.store.resume_late(self);
        self.console.resume_late(self);
    }

    /// Answers a query for an interface. `None` if it is not one of this bus.
    pub fn answer(&self, request: &mut InterfaceRequest<'_>) -> Option<Result<()>> {
        let mut answer = Answer {
            bus: self,
            request,
            outcome: None,
        };
        answer.offer(&debug::V1);
        answer.offer(&suspend::V1);
        answer.offer(&shared_info::V2);
        answer.offer(&shared_info::V3);
        answer.offer(&shared_info::V4);
        answer.offer(&evtchn::V5);
        answer.offer(&evtchn::V6);
        answer.offer(&evtchn::V7);
        answer.offer(&evtchn::V8);
        answer.offer(&evtchn::V9);
        answer.offer(&store::V2);
        answer.offer(&range_set::V1);
        answer.offer(&cache::V1);
        answer.offer(&cache::V2);
        answer.offer(&gnttab::V2);
        answer.offer(&gnttab::V3);
        answer.offer(&gnttab::V4);
        answer.offer(&unplug::V1);
        answer.offer(&unplug::V2);
        answer.offer(&unplug::V3);
        answer.offer(&console::V1);
        answer.outcome
    }
}

/// A query on its way past the tables.
struct Answer<'a, 'r> {
    bus: &'a Bus,
    request: &'a mut InterfaceRequest<'r>,
    outcome: Option<Result<()>>,
}

impl Answer<'_, '_> {
    fn offer<T: Table>(&mut self, table: &T) {
        if self.request.guid() != T::GUID {
            return;
        }
        if self.request.version() != T::VERSION {
            // Another version of the table may follow, or have been before.
            self.outcome.get_or_insert(Err(NtStatus::NOT_SUPPORTED));
            return;
        }
        let mut table = *table;
        let header = table.header_mut();
        header.size = u16::try_from(size_of::<T>()).unwrap_or(u16::MAX);
        header.version = T::VERSION;
        header.context = core::ptr::from_ref(self.bus).cast_mut().cast();
        self.outcome = Some(self.request.answer(&table));
    }
}

/// The bus behind a call table.
///
/// # Safety
/// `this` points to a table that [`Bus::answer`] filled in, and its device has not gone.
pub unsafe fn context<'a>(this: This) -> &'a Bus {
    // SAFETY: the caller's duty.
    let context = unsafe { (*this).context };
    // SAFETY: `answer` put the bus there, which outlives the children that can ask.
    unsafe { &*context.cast::<Bus>() }
}

/// `Release`, as every subsystem does it.
pub fn give_back(references: &References) {
    if !references.release() {
        nt::error!("an interface was released more often than acquired");
    }
}
