//! GNTTAB: granting pages to other domains, and mapping theirs.
//!
//! The rules are `core/gnttab`'s: a reference is free, allocated or granted, and comes back only by a revocation that
//! succeeded. The table's frames lie in a hole that is made at the start, at PASSIVE_LEVEL, so that the table can grow at
//! DISPATCH_LEVEL.

mod foreign;
mod table;

use crate::bus::Bus;
use crate::cache::{Cache, Client};
use crate::hole::Hole;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use foreign::Mapping;
use gnttab::{Access, Grant, Granted, Reference, References, StillInUse};
use nt::{NtStatus, Result, SpinLock, try_box};
use pv_bus::{References as Count, Running};
use pv_interfaces::cache::LockFn;
pub use table::{V2, V3, V4};
use xen_abi::grant::{ENTRIES_PER_FRAME, GrantEntryV1};
use xen_abi::memory::SPACE_GRANT_TABLE;
use xen_abi::{DomId, Gref};

/// Frames that are prepared: Xen's own default limit.
const MOST_FRAMES: u32 = 64;

/// How often a revocation is tried while the other domain uses the page.
const ATTEMPTS: usize = 100;

/// The subsystem.
#[derive(Debug)]
pub struct Gnttab {
    references: Count,
    running: Running<State>,
}

#[derive(Debug)]
struct State {
    table: SpinLock<References<'static>>,
    /// How many frames the table has, for who cannot take its lock.
    frames: AtomicU32,
    mappings: SpinLock<Vec<Mapping>>,
    hole: Hole,
}

impl Gnttab {
    /// Not started.
    pub const fn new() -> Self {
        Self {
            references: Count::new(),
            running: Running::new(),
        }
    }

    /// Prepares the table and its first frame. PASSIVE_LEVEL.
    pub fn start(&self) -> Result<()> {
        if self.running.get().is_some() {
            return Ok(());
        }
        let allowed = xen_api::max_grant_frames()?;
        let frames = allowed.min(MOST_FRAMES);
        let hole = Hole::new(frames as usize)?;
        let table = SpinLock::new(References::new(frames));
        let mappings = SpinLock::new(Vec::new());
        let state = self.running.start(State {
            table,
            frames: AtomicU32::new(0),
            mappings,
            hole,
        })?;
        // The lock is free again when this has failed.
        let grown = state.grow(&mut state.table.lock());
        if let Err(status) = grown {
            self.stop();
            return Err(status);
        }
        nt::info!("{frames} of {allowed} grant frames");
        Ok(())
    }

    /// Takes the table back, unless a client still holds the interface or another domain a page. PASSIVE_LEVEL.
    pub fn stop(&self) {
        let Some(state) = self.running.get() else {
            return;
        };
        let quarantined = state.table.lock().quarantined();
        if self.references.count() != 0 || quarantined != 0 {
            nt::warning!(
                "{} references, {quarantined} grants are left",
                self.references.count()
            );
            return;
        }
        for frame in 0..state.frames.load(Ordering::Acquire) {
            if let Some(pfn) = state.hole.pfn(frame as usize) {
                // SAFETY: the frame is ours, and no grant is left in it.
                if let Err(status) = unsafe { xen_api::remove_from_physmap(pfn) } {
                    nt::warning!("removing a grant frame: {status}");
                }
            }
        }
        // SAFETY: no client is left.
        drop(unsafe { self.running.stop() });
    }

    /// After a resume: shows the new table's frames where the old ones were. HIGH_LEVEL, alone on the machine.
    pub fn resume_early(&self) {
        let Some(state) = self.running.get() else {
            return;
        };
        for frame in 0..state.frames.load(Ordering::Acquire) {
            if let Some(pfn) = state.hole.pfn(frame as usize) {
                // SAFETY: the frame is a hole of our own.
                let outcome =
                    unsafe { xen_api::add_to_physmap(pfn, SPACE_GRANT_TABLE, frame as usize) };
                if let Err(status) = outcome {
                    nt::error!("grant frame {frame} is lost: {status}");
                }
            }
        }
    }

    /// A free reference. IRQL ≤ DISPATCH_LEVEL.
    fn allocate(&self) -> Result<Reference<'static>> {
        let state = self.running.need()?;
        let mut table = state.table.lock();
        if let Some(reference) = table.allocate() {
            return Ok(reference);
        }
        state.grow(&mut table)?;
        table.allocate().ok_or(NtStatus::INSUFFICIENT_RESOURCES)
    }

    fn free(&self, reference: Reference<'static>) {
        if let Some(state) = self.running.get() {
            state.table.lock().free(reference);
        }
    }

    fn quarantine(&self, grant: Grant<'static>) {
        if let Some(state) = self.running.get() {
            nt::error!("reference {} stays with its domain", grant.gref());
            state.table.lock().quarantine(grant);
        }
    }

    /// What a reference grants.
    fn query(&self, gref: Gref) -> Result<Option<Granted>> {
        let state = self.running.need()?;
        let entry = state
            .table
            .lock()
            .entry(gref)
            .ok_or(NtStatus::INVALID_PARAMETER)?;
        Ok(gnttab::query(entry))
    }
}

impl State {
    fn grow(&self, table: &mut References<'static>) -> Result<()> {
        let frame = table.next_frame().map_err(status_of)?;
        let pfn = self
            .hole
            .pfn(frame as usize)
            .ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        // SAFETY: the frame is a hole of our own.
        unsafe { xen_api::add_to_physmap(pfn, SPACE_GRANT_TABLE, frame as usize) }?;
        type Frame = [GrantEntryV1; ENTRIES_PER_FRAME as usize];
        // SAFETY: Xen shows the frame there until the stop; it is made of atomics.
        let entries = unsafe { self.hole.shared::<Frame>(frame as usize) };
        table
            .grow(entries.ok_or(NtStatus::UNSUCCESSFUL)?)
            .map_err(status_of)?;
        self.frames.store(table.frames(), Ordering::Release);
        Ok(())
    }
}

fn status_of(error: gnttab::Error) -> NtStatus {
    match error {
        gnttab::Error::Full => NtStatus::INSUFFICIENT_RESOURCES,
        gnttab::Error::Malformed => NtStatus::UNSUCCESSFUL,
        gnttab::Error::NoMemory => NtStatus::NO_MEMORY,
    }
}

/// What a client's entry is; the object in its cache. Its address is the client's handle.
#[derive(Debug)]
struct Entry {
    state: EntryState,
    gref: Gref,
}

#[derive(Debug)]
enum EntryState {
    Idle(Reference<'static>),
    Granted(Grant<'static>),
    /// While a step from one to the other is under way.
    Between,
}

/// A client's cache of references.
#[derive(Debug)]
struct GrantCache {
    cache: Option<Arc<Cache>>,
    bus: *const Bus,
    acquire_lock: LockFn,
    release_lock: LockFn,
    argument: *mut c_void,
}

impl GrantCache {
    fn new(
        bus: &Bus,
        reservation: u32,
        cap: u32,
        acquire_lock: LockFn,
        release_lock: LockFn,
        argument: *mut c_void,
    ) -> Result<Box<GrantCache>> {
        let mut grants = try_box(GrantCache {
            cache: None,
            bus: core::ptr::from_ref(bus),
            acquire_lock,
            release_lock,
            argument,
        })?;
        let client = Client {
            construct,
            destruct,
            acquire_lock: lock,
            release_lock: unlock,
            argument: core::ptr::from_mut(&mut *grants).cast(),
        };
        let size = u32::try_from(size_of::<Entry>()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        grants.cache = Some(bus.caches.create(size, reservation, cap, client)?);
        Ok(grants)
    }

    fn gnttab(&self) -> &Gnttab {
        // SAFETY: the bus outlives the caches of its clients.
        &unsafe { &*self.bus }.gnttab
    }

    /// Lets `domain` touch a frame.
    fn permit(
        &self,
        locked: bool,
        domain: DomId,
        pfn: u64,
        access: Access,
    ) -> Result<NonNull<Entry>> {
        // Version 1 entries cannot name a frame beyond 16 TiB.
        let frame = u32::try_from(pfn).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let cache = self.cache.as_deref().ok_or(NtStatus::UNSUCCESSFUL)?;
        let object = cache.get(locked).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        let mut handle = object.cast::<Entry>();
        // SAFETY: the object was constructed as an entry, and is ours alone now.
        let entry = unsafe { handle.as_mut() };
        match core::mem::replace(&mut entry.state, EntryState::Between) {
            EntryState::Idle(reference) => {
                entry.state = EntryState::Granted(reference.permit(domain, frame, access));
                Ok(handle)
            }
            other => {
                entry.state = other;
                Err(NtStatus::UNSUCCESSFUL)
            }
        }
    }

    /// Takes the permission back, if the other domain lets go.
    ///
    /// # Safety
    /// The entry is one of this cache which its client holds, and nobody else uses meanwhile.
    unsafe fn revoke(&self, mut handle: NonNull<Entry>) -> Result<()> {
        // SAFETY: the caller's duty.
        let entry = unsafe { handle.as_mut() };
        for _ in 0..ATTEMPTS {
            entry.state = match core::mem::replace(&mut entry.state, EntryState::Between) {
                EntryState::Granted(grant) => match grant.revoke() {
                    Ok(reference) => EntryState::Idle(reference),
                    Err(StillInUse(grant)) => EntryState::Granted(grant),
                },
                other => other,
            };
            if let EntryState::Idle(_) = entry.state {
                if let Some(cache) = self.cache.as_deref() {
                    // SAFETY: the object came from this cache.
                    unsafe { cache.put(handle.as_ptr().cast()) };
                }
                return Ok(());
            }
            xen_api::SchedYield();
        }
        nt::warning!("reference {} is still in use", entry.gref);
        Err(NtStatus::UNSUCCESSFUL)
    }
}

/// # Safety
/// `argument` is the `GrantCache`; so in all four.
unsafe extern "win64" fn construct(argument: *mut c_void, object: *mut c_void) -> i32 {
    // SAFETY: see above.
    let grants = unsafe { &*argument.cast::<GrantCache>() };
    NtStatus::from(grants.gnttab().allocate().map(|reference| {
        let gref = reference.gref();
        // SAFETY: the object is an entry's memory, ours to fill in.
        unsafe {
            object.cast::<Entry>().write(Entry {
                state: EntryState::Idle(reference),
                gref,
            })
        }
    }))
    .0
}

unsafe extern "win64" fn destruct(argument: *mut c_void, object: *mut c_void) {
    // SAFETY: see above.
    let grants = unsafe { &*argument.cast::<GrantCache>() };
    // SAFETY: the object was constructed as an entry and goes now.
    match unsafe { object.cast::<Entry>().read() }.state {
        EntryState::Idle(reference) => grants.gnttab().free(reference),
        EntryState::Granted(grant) => grants.gnttab().quarantine(grant),
        EntryState::Between => {}
    }
}

unsafe extern "win64" fn lock(argument: *mut c_void) {
    // SAFETY: see above.
    let grants = unsafe { &*argument.cast::<GrantCache>() };
    // SAFETY: the client's function and argument, at DISPATCH_LEVEL.
    unsafe { (grants.acquire_lock)(grants.argument) };
}

unsafe extern "win64" fn unlock(argument: *mut c_void) {
    // SAFETY: see above.
    let grants = unsafe { &*argument.cast::<GrantCache>() };
    // SAFETY: the client's function and argument, at DISPATCH_LEVEL.
    unsafe { (grants.release_lock)(grants.argument) };
}
