//! STORE: the xenstore client, shared by all drivers of the guest.
//!
//! ```text
//!   request ─▶ submit ─▶ pump ─▶ ring ─▶ event to xenstored
//!                          ▲
//!   xenstored's event ─▶ DPC           then: the slot's event is set, or a watch's
//! ```
//!
//! Below DISPATCH_LEVEL the caller sleeps until its reply has come, at DISPATCH_LEVEL it polls. Both end: a request
//! without an answer is abandoned and fails with STATUS_IO_TIMEOUT.

mod table;

use crate::bus::Bus;
use crate::evtchn::{Callback, Kind, OwnChannel};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use nt::io_space::Caching;
use nt::{
    Dpc, Event as KernelEvent, EventKind, IoMapping, Irql, NtStatus, Result, SpinLock, time,
    try_box,
};
use nt_sys::{KEVENT, PAGE_SHIFT, PAGE_SIZE};
use pv_bus::{References, Running};
pub use table::V2;
use xen_abi::xs_wire::{XenstoreInterface, XsError};
use xen_api::HvmParam;
use xenstore::{Client, Error, Event, Operation, Path, SLOTS, Ticket, Transaction, WatchId};

/// How long a caller below DISPATCH_LEVEL waits for xenstored.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a caller at DISPATCH_LEVEL does.
const PATIENCE_AT_DISPATCH: Duration = Duration::from_secs(5);
/// A caller that waits looks at the ring itself this often, and tells xenstored once more that there is a request, in
/// case an event was lost.
const DOUBT: Duration = Duration::from_secs(1);

/// The subsystem.
#[derive(Debug)]
pub struct Store {
    references: References,
    running: Running<State>,
    /// Buffers that clients have not freed.
    buffers: AtomicU32,
}

struct State {
    pfn: u64,
    connection: SpinLock<Connection>,
    /// Set when the request in the slot has an outcome.
    events: Vec<KernelEvent>,
    channel: OwnChannel,
    dpc: Dpc,
    /// The last field: dropped after the connection, which looks into it.
    page: IoMapping,
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State")
            .field("page", &self.page)
            .finish_non_exhaustive()
    }
}

struct Connection {
    client: Client<'static>,
    /// By the index of their names.
    watches: Vec<Option<Box<Watch>>>,
    /// Boxed, since a transaction's address is its client's handle.
    #[expect(
        clippy::vec_box,
        reason = "the address must not change when the list grows"
    )]
    transactions: Vec<Box<Transaction>>,
}

/// A watch that a client holds. Its address is the client's handle.
struct Watch {
    id: WatchId,
    event: WatchEvent,
    /// What is watched, since the removal has to name it again.
    path: Vec<u8>,
}

/// The event that a watch sets.
#[derive(Clone, Copy, Debug)]
struct WatchEvent(*mut KEVENT);

// SAFETY: a kernel event may be set on any processor.
unsafe impl Send for WatchEvent {}

impl WatchEvent {
    fn set(self) {
        // SAFETY: the client keeps its event until it has removed the watch.
        unsafe { nt_sys::imports::KeSetEvent(self.0, 0, nt_sys::FALSE) };
    }
}

impl Store {
    /// Not started.
    pub const fn new() -> Self {
        Self {
            references: References::new(),
            running: Running::new(),
            buffers: AtomicU32::new(0),
        }
    }

    /// Connects to xenstored. PASSIVE_LEVEL.
    pub fn start(&self, bus: &Arc<Bus>) -> Result<()> {
        if self.running.get().is_some() {
            return Ok(());
        }
        let pfn = xen_api::hvm_param(HvmParam::StorePfn)?;
        // The control domain, and one that is built by hand, has no xenstored to talk to: Xen answers 0.
        if pfn == 0 {
            nt::error!("this domain has no xenstore");
            return Err(NtStatus::NO_SUCH_DEVICE);
        }
        let address = pfn.checked_shl(PAGE_SHIFT).ok_or(NtStatus::UNSUCCESSFUL)?;
        // SAFETY: the toolstack made the page for this client.
        let page = unsafe { IoMapping::map(address, PAGE_SIZE, Caching::Cached) }?;
        // SAFETY: the page is made of atomics. The reference lives in `connection`, beside the mapping.
        let shared = unsafe { page.as_shared::<XenstoreInterface>() };
        // SAFETY: the mapping stays at its address until `State` is dropped, and the client with it.
        let shared = unsafe {
            core::mem::transmute::<Option<&XenstoreInterface>, Option<&'static XenstoreInterface>>(
                shared,
            )
        };
        let (counter, _) = time::performance_counter();
        let client = Client::new(shared.ok_or(NtStatus::UNSUCCESSFUL)?, counter as u32);
        let connection = SpinLock::new(Connection {
            client: client.map_err(status_of)?,
            watches: Vec::new(),
            transactions: Vec::new(),
        });
        let mut events = Vec::new();
        events.try_reserve_exact(SLOTS)?;
        for _ in 0..SLOTS {
            events.push(KernelEvent::new(EventKind::Notification, false)?);
        }
        let target = Arc::clone(bus);
        let dpc = Dpc::new(move || target.store.pump())?;
        self.running.start(State {
            pfn,
            connection,
            events,
            channel: OwnChannel::new(),
            dpc,
            page,
        })?;
        if let Err(status) = self.open_channel(bus) {
            self.stop(bus);
            return Err(status);
        }
        nt::info!("xenstore at frame {pfn:#x}");
        Ok(())
    }

    /// Disconnects, unless a client still holds the interface. Tells whether it has. PASSIVE_LEVEL.
    pub fn stop(&self, bus: &Bus) -> bool {
        let Some(state) = self.running.get() else {
            return true;
        };
        let buffers = self.buffers.load(Ordering::Relaxed);
        if self.references.count() != 0 || buffers != 0 {
            nt::warning!(
                "{} references, {buffers} buffers are left",
                self.references.count()
            );
            return false;
        }
        state.channel.close(bus);
        state.dpc.cancel();
        Dpc::flush_all();
        // SAFETY: no client is left, the channel is closed, and its DPC has run.
        let state = unsafe { self.running.stop() };
        let lists = state.as_ref().map(|state| state.connection.lock());
        if let Some(lists) = &lists
            && lists.watches.iter().flatten().count() + lists.transactions.len() != 0
        {
            nt::warning!("watches or transactions are left");
        }
        true
    }

    fn open_channel(&self, bus: &Bus) -> Result<()> {
        let state = self.running.need()?;
        let kind = Kind::fixed_by(HvmParam::StoreEvtchn)?;
        // SAFETY: the argument is the state, which goes only after the channel is closed.
        let callback =
            unsafe { Callback::new(arrived, core::ptr::from_ref(state).cast_mut().cast()) };
        let channel = state.channel.open(bus, kind, callback)?;
        channel.unmask(bus, false, true);
        // What came before the channel was open raised no event.
        state.dpc.queue();
        Ok(())
    }

    /// After a resume: finds xenstored again, sends what it forgot, and tells the owners of watches. DISPATCH_LEVEL.
    pub fn resume_late(&self, bus: &Bus) {
        let Some(state) = self.running.get() else {
            return;
        };
        if xen_api::hvm_param(HvmParam::StorePfn) != Ok(state.pfn) {
            nt::error!("the xenstore page has moved");
        }
        state.channel.close(bus);
        {
            let mut connection = state.connection.lock();
            let Connection {
                client, watches, ..
            } = &mut *connection;
            client.resume(|event| state.announce(event, watches));
            for watch in watches.iter().flatten() {
                watch.event.set();
            }
        }
        if let Err(status) = self.open_channel(bus) {
            nt::error!("reopening the channel: {status}");
        }
    }

    /// Moves bytes and wakes whom it concerns. IRQL ≤ DISPATCH_LEVEL.
    pub fn pump(&self) {
        if let Some(state) = self.running.get() {
            state.pump();
        }
    }

    /// Asks xenstored, and has `take` look at the answer, at DISPATCH_LEVEL. IRQL ≤ DISPATCH_LEVEL.
    fn ask<R>(
        &self,
        tx: Option<&Transaction>,
        operation: Operation<'_>,
        take: impl FnOnce(&Client<'_>, &[u8]) -> Result<R>,
    ) -> Result<R> {
        let state = self.running.need()?;
        let patience = if Irql::current() < Irql::DISPATCH {
            PATIENCE
        } else {
            PATIENCE_AT_DISPATCH
        };
        let deadline = time::since_boot().saturating_add(patience);
        let ticket = state.submit(tx, operation, deadline)?;
        state.wait(&ticket, deadline);
        let mut connection = state.connection.lock();
        let outcome = match connection.client.outcome(&ticket) {
            Some(Ok(reply)) => take(&connection.client, reply),
            Some(Err(error)) => Err(status_of(error)),
            None => Err(NtStatus::IO_TIMEOUT),
        };
        connection.client.finish(ticket);
        outcome
    }

    /// A copy of a node's value.
    pub fn read(&self, node: &[u8]) -> Result<Vec<u8>> {
        self.ask(None, Operation::Read(path(None, node)?), |_, reply| {
            copy(reply)
        })
    }

    /// A copy of the list of a node's children: each name with a NUL behind it.
    pub fn directory(&self, node: &[u8]) -> Result<Vec<u8>> {
        self.ask(None, Operation::Directory(path(None, node)?), |_, reply| {
            copy(reply)
        })
    }

    /// Sets a node's value.
    pub fn write(&self, node: &[u8], value: &[u8]) -> Result<()> {
        self.ask(None, Operation::Write(path(None, node)?, value), |_, _| {
            Ok(())
        })
    }

    /// Removes a node.
    pub fn remove(&self, node: &[u8]) -> Result<()> {
        self.ask(None, Operation::Remove(path(None, node)?), |_, _| Ok(()))
    }

    /// Has `event` set at once and on each change of a node or what is below it.
    ///
    /// # Safety
    /// The event lives until the watch is removed.
    unsafe fn add_watch(
        &self,
        prefix: Option<&[u8]>,
        node: &[u8],
        event: *mut KEVENT,
    ) -> Result<*const Watch> {
        let state = self.running.need()?;
        let path = join(prefix, node)?;
        let whole = Path::new(None, &path).map_err(status_of)?;
        let mut connection = state.connection.lock();
        let id = connection.client.open_watch().map_err(status_of)?;
        let added = connection.add(id, WatchEvent(event), &path);
        drop(connection);
        let outcome = added.and_then(|handle| {
            let watch = || self.ask(None, Operation::Watch(whole, id), |_, _| Ok(()));
            match watch() {
                // Nobody else has such tokens: it is from before a sleep, when it could not be removed.
                Err(NtStatus::OBJECTID_EXISTS) => {
                    self.ask(None, Operation::Unwatch(whole, id), |_, _| Ok(()))?;
                    watch()?;
                }
                other => other?,
            }
            Ok(handle)
        });
        if outcome.is_err() {
            let mut connection = state.connection.lock();
            connection.client.close_watch(id);
            let dropped = connection
                .watches
                .get_mut(id.index())
                .and_then(Option::take);
            drop(connection);
            drop(dropped);
        }
        outcome
    }

    /// Removes a watch. It is gone whatever the outcome.
    fn remove_watch(&self, handle: *const Watch) -> Result<()> {
        let state = self.running.need()?;
        let mut connection = state.connection.lock();
        let place = connection.watches.iter_mut().find(|place| {
            place
                .as_deref()
                .is_some_and(|watch| core::ptr::eq(watch, handle))
        });
        let watch = place
            .and_then(Option::take)
            .ok_or(NtStatus::INVALID_PARAMETER)?;
        let known = connection.client.is_watching(watch.id);
        drop(connection);
        let outcome = if known {
            let path = Path::new(None, &watch.path).map_err(status_of)?;
            self.ask(None, Operation::Unwatch(path, watch.id), |_, _| Ok(()))
        } else {
            // Made before a resume: xenstored has forgotten it.
            Ok(())
        };
        state.connection.lock().client.close_watch(watch.id);
        outcome
    }

    /// Begins a transaction.
    fn begin(&self) -> Result<*const Transaction> {
        let state = self.running.need()?;
        let begun = self.ask(None, Operation::TransactionStart, |client, reply| {
            client.transaction(reply).map_err(status_of)
        })?;
        let transaction = try_box(begun)?;
        let handle: *const Transaction = &raw const *transaction;
        let mut connection = state.connection.lock();
        connection.transactions.try_reserve(1)?;
        connection.transactions.push(transaction);
        Ok(handle)
    }

    /// Ends a transaction. It is gone whatever the outcome; STATUS_RETRY if it has to be done again.
    fn end(&self, handle: *const Transaction, commit: bool) -> Result<()> {
        let state = self.running.need()?;
        let mut connection = state.connection.lock();
        let index = connection
            .transactions
            .iter()
            .position(|t| core::ptr::eq(&raw const **t, handle));
        let index = index.filter(|index| *index < connection.transactions.len());
        let index = index.ok_or(NtStatus::INVALID_PARAMETER)?;
        let transaction = connection.transactions.swap_remove(index);
        drop(connection);
        let operation = Operation::TransactionEnd(commit);
        match self.ask(Some(&transaction), operation, |_, _| Ok(())) {
            // A resume came between.
            Err(NtStatus::UNSUCCESSFUL) if !self.is_current(&transaction) => Err(NtStatus::RETRY),
            outcome => outcome,
        }
    }

    fn is_current(&self, transaction: &Transaction) -> bool {
        let state = self.running.get();
        state.is_some_and(|state| state.connection.lock().client.is_current(transaction))
    }

    /// The transaction behind a client's handle.
    fn transaction(&self, handle: *const Transaction) -> Result<Option<Transaction>> {
        if handle.is_null() {
            return Ok(None);
        }
        let connection = self.running.need()?.connection.lock();
        let found = connection
            .transactions
            .iter()
            .find(|t| core::ptr::eq(&raw const ***t, handle));
        found.map(|t| Some(**t)).ok_or(NtStatus::INVALID_PARAMETER)
    }
}

impl State {
    fn submit(
        &self,
        tx: Option<&Transaction>,
        operation: Operation<'_>,
        deadline: Duration,
    ) -> Result<Ticket> {
        loop {
            let mut connection = self.connection.lock();
            match connection.client.submit(tx, operation) {
                Ok(ticket) => {
                    if let Some(event) = self.events.get(ticket.slot()) {
                        event.clear();
                    }
                    return Ok(ticket);
                }
                // Others' requests are under way in all slots.
                Err(Error::Busy) if time::since_boot() < deadline => {}
                Err(error) => return Err(status_of(error)),
            }
            drop(connection);
            self.pump();
            if Irql::current() == Irql::PASSIVE {
                nt::thread::sleep(Duration::from_millis(1));
            } else {
                time::stall(10);
            }
        }
    }

    fn wait(&self, ticket: &Ticket, deadline: Duration) {
        let mut told = time::since_boot();
        loop {
            self.pump();
            if self.connection.lock().client.outcome(ticket).is_some() {
                return;
            }
            let left = time::left_until(deadline);
            if left.is_zero() {
                nt::error!("xenstored does not answer");
                return;
            }
            if time::since_boot().saturating_sub(told) >= DOUBT {
                told = time::since_boot();
                self.notify();
            }
            if Irql::current() < Irql::DISPATCH {
                if let Some(event) = self.events.get(ticket.slot()) {
                    // Timeout or not: the outcome decides.
                    let _ = event.wait_for(left.min(DOUBT));
                }
            } else {
                time::stall(10);
            }
        }
    }

    fn pump(&self) {
        loop {
            let mut connection = self.connection.lock();
            let before = connection.client.broken();
            let Connection {
                client, watches, ..
            } = &mut *connection;
            let progress = client.poll(|event| self.announce(event, watches));
            if before.is_none()
                && let Some(reason) = client.broken()
            {
                nt::error!("the connection to xenstored is broken: {reason:?}");
            }
            if progress.notify {
                self.notify();
            }
            if !progress.more {
                return;
            }
        }
    }

    fn notify(&self) {
        if let Some(channel) = self.channel.get() {
            channel.send();
        }
    }

    fn announce(&self, event: Event, watches: &[Option<Box<Watch>>]) {
        match event {
            Event::Reply(slot) => {
                if let Some(event) = self.events.get(slot) {
                    event.set();
                }
            }
            Event::Watch(id) => {
                if let Some(Some(watch)) = watches.get(id.index()) {
                    watch.event.set();
                }
            }
        }
    }
}

impl Connection {
    fn add(&mut self, id: WatchId, event: WatchEvent, path: &[u8]) -> Result<*const Watch> {
        let missing = id
            .index()
            .saturating_add(1)
            .saturating_sub(self.watches.len());
        self.watches.try_reserve(missing)?;
        self.watches.extend((0..missing).map(|_| None));
        let watch = try_box(Watch {
            id,
            event,
            path: copy(path)?,
        })?;
        let handle: *const Watch = &raw const *watch;
        if let Some(place) = self.watches.get_mut(id.index()) {
            *place = Some(watch);
        }
        Ok(handle)
    }
}

/// The callback of xenstored's channel.
unsafe extern "win64" fn arrived(_: *mut c_void, argument: *mut c_void) -> u8 {
    // SAFETY: `open_channel` passed the state.
    let state = unsafe { &*argument.cast::<State>() };
    state.dpc.queue();
    1
}

/// A watch of xenbus' own. Dropping it removes it. PASSIVE_LEVEL.
pub struct OwnWatch {
    bus: Arc<Bus>,
    watch: *const Watch,
    _event: Arc<KernelEvent>,
}

// SAFETY: the handle is only looked up.
unsafe impl Send for OwnWatch {}
// SAFETY: as above.
unsafe impl Sync for OwnWatch {}

impl OwnWatch {
    /// Has `event` set on each change of `node`.
    pub fn new(bus: &Arc<Bus>, node: &[u8], event: &Arc<KernelEvent>) -> Result<Self> {
        // SAFETY: the result keeps the event.
        let watch = unsafe { bus.store.add_watch(None, node, event.as_ptr()) }?;
        Ok(Self {
            bus: Arc::clone(bus),
            watch,
            _event: Arc::clone(event),
        })
    }
}

impl Drop for OwnWatch {
    fn drop(&mut self) {
        if let Err(status) = self.bus.store.remove_watch(self.watch) {
            nt::warning!("removing a watch: {status}");
        }
    }
}

fn path<'a>(prefix: Option<&'a [u8]>, node: &'a [u8]) -> Result<Path<'a>> {
    Path::new(prefix, node).map_err(status_of)
}

fn join(prefix: Option<&[u8]>, node: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    let length = prefix
        .map_or(0, |p| p.len().saturating_add(1))
        .saturating_add(node.len());
    whole.try_reserve_exact(length)?;
    if let Some(prefix) = prefix {
        whole.extend_from_slice(prefix);
        whole.push(b'/');
    }
    whole.extend_from_slice(node);
    Ok(whole)
}

fn copy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// The status for what went wrong.
fn status_of(error: Error) -> NtStatus {
    match error {
        Error::Server(error) => match error {
            XsError::Einval => NtStatus::INVALID_PARAMETER,
            XsError::Eacces => NtStatus::ACCESS_DENIED,
            XsError::Eexist => NtStatus::OBJECTID_EXISTS,
            XsError::Eisdir => NtStatus::FILE_IS_A_DIRECTORY,
            XsError::Enoent => NtStatus::OBJECT_NAME_NOT_FOUND,
            XsError::Enomem => NtStatus::NO_MEMORY,
            XsError::Enospc => NtStatus::INSUFFICIENT_RESOURCES,
            XsError::Eio => NtStatus::UNEXPECTED_IO_ERROR,
            XsError::Enotempty => NtStatus::DIRECTORY_NOT_EMPTY,
            XsError::Enosys => NtStatus::NOT_IMPLEMENTED,
            XsError::Erofs => NtStatus::MEDIA_WRITE_PROTECTED,
            XsError::Ebusy => NtStatus::PIPE_BUSY,
            XsError::Eagain => NtStatus::RETRY,
            XsError::Eisconn => NtStatus::PIPE_CONNECTED,
            XsError::E2big => NtStatus::UNSUCCESSFUL,
            XsError::Equota => NtStatus::QUOTA_EXCEEDED,
        },
        Error::BadPath => NtStatus::INVALID_BUFFER_SIZE,
        Error::NoMemory => NtStatus::NO_MEMORY,
        Error::Busy => NtStatus::INSUFFICIENT_RESOURCES,
        Error::UnknownServerError
        | Error::MalformedReply
        | Error::TooLong
        | Error::Inactive
        | Error::Broken(_) => NtStatus::UNSUCCESSFUL,
    }
}
