//! CACHE: caches of constructed objects for clients.
//!
//! Each object is a pool block of its own with a short head before it, by which the object that a client puts back is
//! known again. The bookkeeping is `core/cache`; the client's lock guards the depot, a lock of its own each magazine.
//! A thread looks after all caches: it fills what is below its reservation, and gives back what nobody needs.

mod table;

use crate::bus::Bus;
use ::cache::{Depot, Error, Magazine};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::time::Duration;
use nt::{NtStatus, RaisedIrql, Result, SpinLock, processor, try_arc};
use nt_sys::imports::{ExAllocatePoolWithTag, ExFreePoolWithTag};
use pv_bus::References;
use pv_bus::Worker;
use pv_interfaces::cache::{Ctor, Dtor, LockFn};
pub use table::{V1, V2};

/// Pool tag of the objects.
const TAG: u32 = u32::from_le_bytes(*b"HCAC");
/// Marks the head of an object that a client holds.
const HELD: u64 = u64::from_le_bytes(*b"XenObjct");

/// The subsystem.
#[derive(Debug)]
pub struct Caches {
    references: References,
    list: SpinLock<Vec<Weak<Cache>>>,
    monitor: SpinLock<Option<Worker>>,
}

/// How often the thread looks.
const PERIOD: Duration = Duration::from_secs(5);

impl Caches {
    /// No clients.
    pub const fn new() -> Self {
        Self {
            references: References::new(),
            list: SpinLock::new(Vec::new()),
            monitor: SpinLock::new(None),
        }
    }

    /// Starts the thread. PASSIVE_LEVEL.
    pub fn start(&self, bus: &Arc<Bus>) -> Result<()> {
        let running = self.monitor.lock().is_some();
        if !running {
            let bus = Arc::clone(bus);
            let worker = Worker::every(PERIOD, move || bus.caches.tend())?;
            *self.monitor.lock() = Some(worker);
        }
        Ok(())
    }

    /// Stops the thread. PASSIVE_LEVEL.
    pub fn stop(&self) {
        let worker = self.monitor.lock().take();
        drop(worker);
    }

    /// Makes a cache. IRQL ≤ DISPATCH_LEVEL.
    pub fn create(
        &self,
        size: u32,
        reservation: u32,
        cap: u32,
        client: Client,
    ) -> Result<Arc<Cache>> {
        let cache = try_arc(Cache::new(size, reservation, cap, client)?)?;
        let mut list = self.list.lock();
        list.try_reserve(1)?;
        list.push(Arc::downgrade(&cache));
        Ok(cache)
    }

    /// Ends a cache. `false` if clients still hold objects, which then stay with what they need.
    pub fn destroy(&self, cache: Arc<Cache>) -> bool {
        let mut list = self.list.lock();
        list.retain(|other| !core::ptr::eq(other.as_ptr(), Arc::as_ptr(&cache)));
        drop(list);
        let empty = cache.close();
        if !empty {
            let _kept = Arc::into_raw(cache);
        }
        empty
    }

    /// Looks after all caches once. PASSIVE_LEVEL.
    fn tend(&self) {
        let mut index = 0usize;
        loop {
            let cache = self.list.lock().get(index).map(Weak::upgrade);
            let Some(cache) = cache else { return };
            if let Some(cache) = cache {
                cache.tend();
            }
            index = index.saturating_add(1);
        }
    }
}

/// Objects of a cache that are made or freed within one hold of its locks.
const AT_A_TIME: usize = 16;

/// Before each object. 16 bytes, so that the object is aligned as pool blocks are.
#[repr(C)]
struct Head {
    /// The cache, while a client holds the object: `HELD` exclusive-or its address.
    mark: u64,
    constructed: u64,
}

/// An object that no client holds.
#[derive(Debug)]
struct Object(NonNull<Head>);

// SAFETY: an object has one owner, who may be on any processor.
unsafe impl Send for Object {}

impl Object {
    /// A zeroed object of `size` bytes.
    fn allocate(size: usize) -> Result<Object> {
        let bytes = size
            .checked_add(size_of::<Head>())
            .ok_or(NtStatus::INVALID_PARAMETER)?;
        // SAFETY: the size is not 0.
        let block = unsafe { ExAllocatePoolWithTag(nt_sys::NonPagedPoolNx, bytes, TAG) };
        let block = NonNull::new(block.cast::<u8>()).ok_or(NtStatus::NO_MEMORY)?;
        // SAFETY: the block is that long.
        unsafe { block.as_ptr().write_bytes(0, bytes) };
        Ok(Object(block.cast()))
    }

    fn head(&mut self) -> &mut Head {
        // SAFETY: the head is initialised and belongs to the object's owner.
        unsafe { self.0.as_mut() }
    }

    /// What the client sees.
    fn body(&self) -> *mut c_void {
        self.0.as_ptr().wrapping_add(1).cast()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the block is ours.
        unsafe { ExFreePoolWithTag(self.0.as_ptr().cast(), TAG) };
    }
}

/// What the client brings along.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub construct: Ctor,
    pub destruct: Dtor,
    pub acquire_lock: LockFn,
    pub release_lock: LockFn,
    pub argument: *mut c_void,
}

// SAFETY: functions and their argument, which the client lets us use on any processor.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

/// A cache.
#[derive(Debug)]
pub struct Cache {
    size: usize,
    client: Client,
    magazines: Vec<SpinLock<Magazine<Object>>>,
    depot: SpinLock<Depot<Object>>,
    /// Whether the client has given the cache up. Held while the thread calls the client's functions.
    closed: SpinLock<bool>,
}

impl Cache {
    /// A cache of objects of `size` bytes. `reservation` of them are allocated at once, `cap` (unless 0) is the most.
    /// IRQL ≤ DISPATCH_LEVEL.
    fn new(size: u32, reservation: u32, cap: u32, client: Client) -> Result<Cache> {
        let size = (size as usize).next_multiple_of(size_of::<usize>());
        let mut depot = Depot::new(reservation, cap).map_err(status_of)?;
        fill(&mut depot, size, usize::MAX)?;
        let mut magazines = Vec::new();
        let count = processor::maximum_count() as usize;
        magazines.try_reserve_exact(count)?;
        magazines.extend((0..count).map(|_| SpinLock::new(Magazine::default())));
        let closed = SpinLock::new(false);
        Ok(Cache {
            size,
            client,
            magazines,
            depot: SpinLock::new(depot),
            closed,
        })
    }

    /// Hands an object out. `locked`: the caller holds the client's lock. IRQL ≤ DISPATCH_LEVEL.
    pub fn get(&self, locked: bool) -> Option<NonNull<c_void>> {
        let here = RaisedIrql::dispatch();
        let mut object = match self.at_hand(&here) {
            Some(object) => object,
            None => self.with_client_lock(locked, || self.take())?,
        };
        let address = core::ptr::from_ref(self).addr() as u64;
        object.head().mark = HELD ^ address;
        let body = object.body();
        core::mem::forget(object);
        NonNull::new(body)
    }

    /// Takes an object back. IRQL ≤ DISPATCH_LEVEL.
    ///
    /// # Safety
    /// `body` came from [`Cache::get`] of some cache and was not put back since.
    pub unsafe fn put(&self, body: *mut c_void) {
        let Some(head) = NonNull::new(body.cast::<Head>().wrapping_sub(1)) else {
            return;
        };
        let mut object = Object(head);
        let address = core::ptr::from_ref(self).addr() as u64;
        if object.head().mark != HELD ^ address {
            nt::error!("{body:p} is not an object that this cache handed out");
            core::mem::forget(object);
            return;
        }
        object.head().mark = 0;
        let here = RaisedIrql::dispatch();
        let Some(magazine) = self.magazine() else {
            return self.depot.lock_raised(&here).give(object);
        };
        let mut magazine = magazine.lock_raised(&here);
        if let Err(object) = magazine.push(object) {
            let mut depot = self.depot.lock_raised(&here);
            depot.give(object);
            magazine.spill(&mut depot);
        }
    }

    /// A constructed object of this processor's, or of those in the depot, which needs no lock of the client's.
    fn at_hand(&self, here: &RaisedIrql) -> Option<Object> {
        let mut magazine = self.magazine()?.lock_raised(here);
        magazine.pop().or_else(|| {
            let mut depot = self.depot.lock_raised(here);
            magazine.fill(&mut depot, |object| object.head().constructed != 0);
            magazine.pop()
        })
    }

    fn magazine(&self) -> Option<&SpinLock<Magazine<Object>>> {
        self.magazines.get(processor::current_index() as usize)
    }

    /// Runs `body` with the client's lock held: what constructs and destructs objects may rely on it.
    fn with_client_lock<R>(&self, locked: bool, body: impl FnOnce() -> R) -> R {
        if !locked {
            // SAFETY: the client's functions, at DISPATCH_LEVEL as promised.
            unsafe { (self.client.acquire_lock)(self.client.argument) };
        }
        let result = body();
        if !locked {
            // SAFETY: as above.
            unsafe { (self.client.release_lock)(self.client.argument) };
        }
        result
    }

    /// A constructed object: a free one, a new one, or one from another processor's magazine.
    fn take(&self) -> Option<Object> {
        let free = self.depot.lock().take();
        let mut object = free.or_else(|| self.make()).or_else(|| self.steal())?;
        if object.head().constructed == 0 {
            // SAFETY: the client's function and a zeroed object of the size it asked for.
            let status = unsafe { (self.client.construct)(self.client.argument, object.body()) };
            if NtStatus::check(status).is_err() {
                self.depot.lock().give(object);
                return None;
            }
            object.head().constructed = 1;
        }
        Some(object)
    }

    fn make(&self) -> Option<Object> {
        let permit = self.depot.lock().permit().ok()?;
        match Object::allocate(self.size) {
            Ok(object) => {
                self.depot.lock().adopt(permit);
                Some(object)
            }
            Err(_) => {
                self.depot.lock().withdraw(permit);
                None
            }
        }
    }

    fn steal(&self) -> Option<Object> {
        self.magazines
            .iter()
            .find_map(|magazine| magazine.lock().pop())
    }

    fn discard(&self, mut object: Object) {
        if object.head().constructed != 0 {
            // SAFETY: the client's function and an object that it constructed.
            unsafe { (self.client.destruct)(self.client.argument, object.body()) };
        }
    }

    /// Frees everything. Tells whether clients have put back all objects.
    fn close(&self) -> bool {
        // From here on the thread leaves it alone.
        *self.closed.lock() = true;
        // Some at a time: there may be hundreds, and the client's lock is held.
        let step = || {
            let _here = RaisedIrql::dispatch();
            self.with_client_lock(false, || {
                for _ in 0..AT_A_TIME {
                    match self.steal() {
                        Some(object) => self.depot.lock().give(object),
                        None => break,
                    }
                }
                self.retire(AT_A_TIME)
            })
        };
        while step() {}
        let left = self.depot.lock().total();
        if left != 0 {
            nt::error!("a cache is destroyed while {left} of its objects are out");
        }
        left == 0
    }

    /// Fills the cache up to its reservation, or gives back what nobody needs. Some at a time, as in `close`.
    fn tend(&self) {
        let mut surplus = self.depot.lock().surplus();
        loop {
            let closed = self.closed.lock();
            if *closed {
                return;
            }
            let filled = fill(&mut self.depot.lock(), self.size, AT_A_TIME);
            let filled = filled.unwrap_or_else(|status| {
                nt::warning!("filling a cache: {status}");
                true
            });
            let now = surplus.min(AT_A_TIME);
            surplus = surplus.saturating_sub(now);
            let retired = now == 0 || !self.with_client_lock(false, || self.retire(now));
            if filled && (retired || surplus == 0) {
                return;
            }
        }
    }

    /// Frees at most `most` free objects. Whether there were so many.
    fn retire(&self, most: usize) -> bool {
        for _ in 0..most {
            let object = self.depot.lock().retire();
            match object {
                Some(object) => self.discard(object),
                None => return false,
            }
        }
        true
    }
}

/// Adds objects up to the reservation, and so many at most; whether it is reached. They are constructed when they are first
/// handed out.
fn fill(depot: &mut Depot<Object>, size: usize, most: usize) -> Result<bool> {
    for _ in 0..depot.shortage().min(most) {
        let permit = depot.permit().map_err(status_of)?;
        match Object::allocate(size) {
            Ok(object) => {
                depot.adopt(permit);
                depot.give(object);
            }
            Err(status) => {
                depot.withdraw(permit);
                return Err(status);
            }
        }
    }
    Ok(depot.shortage() == 0)
}

fn status_of(error: Error) -> NtStatus {
    match error {
        Error::Capped => NtStatus::INSUFFICIENT_RESOURCES,
        Error::NoMemory => NtStatus::NO_MEMORY,
        Error::Malformed => NtStatus::INVALID_PARAMETER,
    }
}
