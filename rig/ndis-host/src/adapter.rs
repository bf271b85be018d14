//! An adapter: from AddDevice to its removal. Its memory stays, so that whoever still has it finds it gone.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use nt_host::ke::event;
use nt_host::ke::wait::Timeout;
use nt_host::sync::Mutex;
use nt_sys::ndis::{NDIS_HANDLE, NDIS_STATUS};
use nt_sys::{DEVICE_OBJECT, PVOID};
use trace::{Class, Event};

use crate::attributes::{Attributes, Offload};
use crate::desk::Desk;
use crate::handle::Handles;
use crate::packet::Cache;
use crate::protocol::Protocol;
use crate::registration::Driver;
use crate::scale::Scale;
use crate::send::Gate;

/// What an adapter does (Microsoft Learn, "Miniport Adapter States and Operations").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The miniport knows nothing of it, or no more.
    Halted,
    /// MiniportInitializeEx runs.
    Initializing,
    /// It moves no frames.
    Paused,
    /// MiniportRestart has been called.
    Restarting,
    /// It moves frames.
    Running,
    /// MiniportPause has been called.
    Pausing,
}

const STATES: [State; 6] = [
    State::Halted,
    State::Initializing,
    State::Paused,
    State::Restarting,
    State::Running,
    State::Pausing,
];

/// Whether and how fast the adapter is connected, as it said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The medium is connected.
    pub connected: bool,
    /// Speed of sending, in bits per second.
    pub bits_per_second: u64,
}

/// What an adapter is, from its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Its address now.
    pub mac: [u8; 6],
    /// The address it was made with.
    pub permanent_mac: [u8; 6],
    /// Most bytes of a frame's payload, without the Ethernet header.
    pub mtu: u32,
    /// Receive queues that RSS can use; 0 without RSS.
    pub rss_queues: u32,
    /// What its hardware could be asked to do.
    pub hardware: Offload,
}

/// What went through the host, since the adapter was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Lists that the miniport was given to send.
    pub sent: u64,
    /// Calls of MiniportSendNetBufferLists.
    pub send_calls: u64,
    /// Lists that the miniport completed.
    pub completed: u64,
    /// Calls of NdisMSendNetBufferListsComplete.
    pub complete_calls: u64,
    /// Lists that were refused because the adapter did not run.
    pub refused: u64,
    /// Frames that the miniport indicated.
    pub received: u64,
    /// Bytes of these frames.
    pub received_bytes: u64,
    /// Calls of NdisMIndicateReceiveNetBufferLists.
    pub receive_calls: u64,
    /// Frames that were lent without resources, to be copied.
    pub lent: u64,
    /// Frames that nobody was there to take, or that came while the adapter did not run.
    pub dropped: u64,
    /// Status indications.
    pub indications: u64,
}

/// [`Counters`] while they count.
#[derive(Default)]
pub(crate) struct Counting {
    pub sent: AtomicU64,
    pub send_calls: AtomicU64,
    pub completed: AtomicU64,
    pub complete_calls: AtomicU64,
    pub refused: AtomicU64,
    pub received: AtomicU64,
    pub received_bytes: AtomicU64,
    pub receive_calls: AtomicU64,
    pub lent: AtomicU64,
    pub dropped: AtomicU64,
    pub indications: AtomicU64,
}

/// An operation that a handler may complete later.
pub(crate) struct Operation {
    done: event::Event,
    under_way: AtomicBool,
    status: AtomicU32,
}

impl Operation {
    fn new() -> Self {
        Self {
            done: event::Event::new(false),
            under_way: AtomicBool::new(false),
            status: AtomicU32::new(0),
        }
    }

    /// It begins.
    pub fn begin(&self) {
        self.under_way.store(true, Ordering::Release);
    }

    /// It ends with a status; whether it was under way.
    pub fn end(&self, status: NDIS_STATUS) -> bool {
        if !self.under_way.swap(false, Ordering::AcqRel) {
            return false;
        }
        self.status.store(status.cast_unsigned(), Ordering::Release);
        self.done.set();
        true
    }

    /// Waits for its end until interrupt time `limit`; `None` when the time is over.
    pub fn wait(&self, limit: u64) -> Option<NDIS_STATUS> {
        self.done
            .wait(Timeout::At(limit))
            .then(|| self.status.load(Ordering::Acquire).cast_signed())
    }
}

/// See the module.
pub struct Adapter {
    handle: usize,
    /// Its number among the system's interfaces, from 1.
    pub(crate) index: u32,
    /// The miniport's registration.
    pub(crate) driver: &'static Driver,
    pub(crate) fdo: *mut DEVICE_OBJECT,
    pub(crate) pdo: *mut DEVICE_OBJECT,
    pub(crate) lower: *mut DEVICE_OBJECT,
    instance: String,
    /// Its software key's path in the registry.
    pub(crate) software_key: String,
    state: AtomicU8,
    context: AtomicPtr<core::ffi::c_void>,
    pub(crate) attributes: Mutex<Attributes>,
    pub(crate) link: Mutex<Link>,
    pub(crate) offload: Mutex<Offload>,
    pub(crate) scale: Mutex<Scale>,
    /// The packet filter that was set last.
    pub(crate) filter: AtomicU32,
    /// Bytes that frames may have at most, with the Ethernet header and a VLAN tag.
    pub(crate) longest: AtomicU32,
    pub(crate) gate: Gate,
    /// Lists of the miniport's that are above NDIS.
    pub(crate) indicated: AtomicUsize,
    pub(crate) pausing: Operation,
    pub(crate) restarting: Operation,
    pub(crate) requesting: Operation,
    /// The OID request that the miniport has; an address.
    pub(crate) request: AtomicUsize,
    pub(crate) desk: Desk,
    pub(crate) protocol: Mutex<Option<Arc<dyn Protocol>>>,
    pub(crate) cache: Cache,
    pub(crate) counting: Counting,
    gone: AtomicBool,
}

// SAFETY: the device objects live until the adapter is removed, and are only handed back to the I/O manager; what changes
// is atomic or locked.
unsafe impl Send for Adapter {}
// SAFETY: as for `Send`.
unsafe impl Sync for Adapter {}

/// The next adapter's index.
static INDEX: AtomicU32 = AtomicU32::new(1);

static ADAPTERS: Handles<Adapter> = Handles::new(1, "an adapter");

/// The adapters that are initialised, in the order of their instance paths.
pub fn adapters() -> Vec<&'static Adapter> {
    let mut adapters: Vec<_> = ADAPTERS
        .all()
        .filter(|adapter| !matches!(adapter.state(), State::Halted | State::Initializing))
        .collect();
    adapters.sort_by(|a, b| a.instance.cmp(&b.instance));
    adapters
}

impl Adapter {
    /// A new adapter over its three devices: its own, the physical one, the one below.
    pub(crate) fn open_new(
        driver: &'static Driver,
        devices: [*mut DEVICE_OBJECT; 3],
        instance: String,
        software_key: String,
    ) -> Option<&'static Self> {
        let [fdo, pdo, lower] = devices;
        ADAPTERS.open(|handle| Self {
            handle: handle as usize,
            index: INDEX.fetch_add(1, Ordering::Relaxed),
            driver,
            fdo,
            pdo,
            lower,
            instance,
            software_key,
            state: AtomicU8::new(State::Halted as u8),
            context: AtomicPtr::new(core::ptr::null_mut()),
            attributes: Mutex::new(Attributes::default()),
            link: Mutex::new(Link::default()),
            offload: Mutex::new(Offload::default()),
            scale: Mutex::new(Scale::default()),
            filter: AtomicU32::new(0),
            longest: AtomicU32::new(0),
            gate: Gate::new(),
            indicated: AtomicUsize::new(0),
            pausing: Operation::new(),
            restarting: Operation::new(),
            requesting: Operation::new(),
            request: AtomicUsize::new(0),
            desk: Desk::new(),
            protocol: Mutex::new(None),
            cache: Cache::new(),
            counting: Counting::default(),
            gone: AtomicBool::new(false),
        })
    }

    /// The adapter that a miniport names by its handle.
    #[inline]
    pub(crate) fn of(handle: NDIS_HANDLE, function: &str) -> &'static Self {
        ADAPTERS.demand(handle, function)
    }

    /// The adapter of a handle, if it is one.
    pub(crate) fn find(handle: NDIS_HANDLE) -> Option<&'static Self> {
        ADAPTERS.find(handle)
    }

    /// The adapter is removed: its handle is none any more.
    pub(crate) fn close(&'static self) {
        self.gone.store(true, Ordering::Release);
        ADAPTERS.close(self.handle(), "REMOVE_DEVICE");
    }

    /// What the miniport calls it: MiniportAdapterHandle.
    pub(crate) fn handle(&self) -> NDIS_HANDLE {
        self.handle as NDIS_HANDLE
    }

    /// What the miniport wants to be called with: MiniportAdapterContext.
    #[inline]
    pub(crate) fn context(&self) -> PVOID {
        self.context.load(Ordering::Acquire)
    }

    pub(crate) fn set_context(&self, context: PVOID) {
        self.context.store(context, Ordering::Release);
    }

    /// Its instance path in the device tree.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What it does now.
    #[inline]
    pub fn state(&self) -> State {
        STATES[usize::from(self.state.load(Ordering::Acquire)) % STATES.len()]
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
        trace::emit(Class::Net, || Event::AdapterState {
            adapter: self.index.into(),
            state: state as u64,
        });
    }

    /// Whether its device was removed.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// What it is.
    pub fn info(&self) -> Info {
        self.attributes.lock().info()
    }

    /// Whether it is connected.
    pub fn link(&self) -> Link {
        *self.link.lock()
    }

    /// What it does for its protocol, as it said last.
    pub fn offload(&self) -> Offload {
        self.offload.lock().clone()
    }

    /// What went through the host.
    pub fn counters(&self) -> Counters {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counting = &self.counting;
        Counters {
            sent: of(&counting.sent),
            send_calls: of(&counting.send_calls),
            completed: of(&counting.completed),
            complete_calls: of(&counting.complete_calls),
            refused: of(&counting.refused),
            received: of(&counting.received),
            received_bytes: of(&counting.received_bytes),
            receive_calls: of(&counting.receive_calls),
            lent: of(&counting.lent),
            dropped: of(&counting.dropped),
            indications: of(&counting.indications),
        }
    }

    /// Who is bound to it.
    #[inline]
    pub(crate) fn above(&self) -> Option<Arc<dyn Protocol>> {
        self.protocol.lock().clone()
    }

    /// Writes a line about the adapter to the machine's log.
    pub(crate) fn log(&self, what: &str) {
        nt_host::host()
            .platform()
            .log(&alloc::format!("ndis: {}: {what}", self.instance));
    }
}
