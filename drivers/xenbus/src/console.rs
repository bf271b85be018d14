//! CONSOLE: the PV console, if the toolstack provides one.
//!
//! The rings are under a lock of HIGH_LEVEL, so that log lines can be written from anywhere. Nothing here waits: what
//! does not fit is not written.

mod table;

use crate::bus::Bus;
use crate::evtchn::{Callback, Kind, OwnChannel};
use ::console::Console as Rings;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};
use nt::io_space::Caching;
use nt::{Dpc, HighLock, IoMapping, NtStatus, Result, SpinLock, try_box};
use nt_sys::{KEVENT, PAGE_SHIFT, PAGE_SIZE};
use pv_bus::{References, Running};
pub use table::V1;
use xen_abi::console::XenconsInterface;
use xen_api::HvmParam;

/// The subsystem.
#[derive(Debug)]
pub struct Console {
    references: References,
    running: Running<State>,
}

struct State {
    rings: HighLock<Rings<'static>>,
    /// Not while the guest resumes.
    enabled: AtomicBool,
    #[expect(
        clippy::vec_box,
        reason = "the address is a handle and must not change when the list grows"
    )]
    wakeups: SpinLock<Vec<Box<Wakeup>>>,
    channel: OwnChannel,
    dpc: Dpc,
    /// The last field: dropped after the rings, which look into it.
    _page: IoMapping,
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// An event that a client wants set. Its address is the client's handle.
struct Wakeup(*mut KEVENT);

// SAFETY: a kernel event may be set on any processor.
unsafe impl Send for Wakeup {}

impl Console {
    /// Not started.
    pub const fn new() -> Self {
        Self {
            references: References::new(),
            running: Running::new(),
        }
    }

    /// Connects to the console. Without one, the interface cannot be acquired. PASSIVE_LEVEL.
    pub fn start(&self, bus: &Arc<Bus>) -> Result<()> {
        if self.running.get().is_some() {
            return Ok(());
        }
        let (Ok(pfn @ 1..), Ok(1..)) = (
            xen_api::hvm_param(HvmParam::ConsolePfn),
            xen_api::hvm_param(HvmParam::ConsoleEvtchn),
        ) else {
            nt::info!("there is no console");
            return Ok(());
        };
        let address = pfn.checked_shl(PAGE_SHIFT).ok_or(NtStatus::UNSUCCESSFUL)?;
        // SAFETY: the toolstack made the page for this client.
        let page = unsafe { IoMapping::map(address, PAGE_SIZE, Caching::Cached) }?;
        // SAFETY: the page is made of atomics. The reference lives in `rings`, beside the mapping.
        let shared = unsafe { page.as_shared::<XenconsInterface>() };
        // SAFETY: the mapping stays at its address until `State` is dropped, and the rings with it.
        let shared = unsafe {
            core::mem::transmute::<Option<&XenconsInterface>, Option<&'static XenconsInterface>>(
                shared,
            )
        };
        let rings = HighLock::new(Rings::new(shared.ok_or(NtStatus::UNSUCCESSFUL)?));
        let target = Arc::clone(bus);
        let dpc = Dpc::new(move || target.console.wake())?;
        self.running.start(State {
            rings,
            enabled: AtomicBool::new(false),
            wakeups: SpinLock::new(Vec::new()),
            channel: OwnChannel::new(),
            dpc,
            _page: page,
        })?;
        let outcome = self.open_channel(bus);
        if outcome.is_err() {
            self.stop(bus);
        }
        outcome
    }

    /// Disconnects, unless a client still holds the interface. Tells whether it has. PASSIVE_LEVEL.
    pub fn stop(&self, bus: &Bus) -> bool {
        let Some(state) = self.running.get() else {
            return true;
        };
        if self.references.count() != 0 {
            nt::warning!("{} references are left", self.references.count());
            return false;
        }
        state.close_channel(bus);
        state.dpc.cancel();
        Dpc::flush_all();
        // SAFETY: no client is left, the channel is closed, and its DPC has run.
        drop(unsafe { self.running.stop() });
        true
    }

    /// After a resume: finds the console again. DISPATCH_LEVEL.
    pub fn resume_late(&self, bus: &Bus) {
        let Some(state) = self.running.get() else {
            return;
        };
        state.close_channel(bus);
        state.rings.lock().resume();
        if let Err(status) = self.open_channel(bus) {
            nt::warning!("the console does not come back: {status}");
        }
    }

    fn open_channel(&self, bus: &Bus) -> Result<()> {
        let state = self.running.need()?;
        let kind = Kind::fixed_by(HvmParam::ConsoleEvtchn)?;
        // SAFETY: the argument is the state, which goes only after the channel is closed.
        let callback =
            unsafe { Callback::new(arrived, core::ptr::from_ref(state).cast_mut().cast()) };
        let channel = state.channel.open(bus, kind, callback)?;
        state.enabled.store(true, Ordering::Release);
        channel.unmask(bus, false, true);
        Ok(())
    }

    /// Sets all wake-ups. DISPATCH_LEVEL.
    fn wake(&self) {
        let Some(state) = self.running.get() else {
            return;
        };
        for wakeup in state.wakeups.lock().iter() {
            // SAFETY: the client keeps its event until it has removed the wake-up.
            unsafe { nt_sys::imports::KeSetEvent(wakeup.0, 0, nt_sys::FALSE) };
        }
    }

    /// Uses the rings, and tells the daemon if anything moved. 0 without a console. Any IRQL.
    fn transfer(&self, with: impl FnOnce(&mut Rings<'static>) -> usize) -> usize {
        let Some(state) = self
            .running
            .get()
            .filter(|s| s.enabled.load(Ordering::Acquire))
        else {
            return 0;
        };
        let moved = with(&mut state.rings.lock());
        if moved != 0
            && let Some(channel) = state.channel.get()
        {
            channel.send();
        }
        moved
    }
}

impl State {
    fn close_channel(&self, bus: &Bus) {
        self.enabled.store(false, Ordering::Release);
        self.channel.close(bus);
    }

    fn add_wakeup(&self, event: *mut KEVENT) -> Result<*const Wakeup> {
        let wakeup = try_box(Wakeup(event))?;
        let handle: *const Wakeup = &raw const *wakeup;
        let mut wakeups = self.wakeups.lock();
        wakeups.try_reserve(1)?;
        wakeups.push(wakeup);
        Ok(handle)
    }

    fn remove_wakeup(&self, handle: *const Wakeup) {
        let mut wakeups = self.wakeups.lock();
        wakeups.retain(|wakeup| !core::ptr::eq(&raw const **wakeup, handle));
    }
}

/// The callback of the console's channel.
unsafe extern "win64" fn arrived(_: *mut c_void, argument: *mut c_void) -> u8 {
    // SAFETY: `open_channel` passed the state.
    let state = unsafe { &*argument.cast::<State>() };
    state.dpc.queue();
    1
}
