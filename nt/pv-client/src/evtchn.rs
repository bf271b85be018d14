//! Event channels to other domains.

use crate::Acquired;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ffi::c_void;
use core::ptr::NonNull;
use nt::processor::{self, ProcessorNumber};
use nt::{NtStatus, RaisedIrql, Result, try_box};
use nt_sys::{FALSE, TRUE};
use pv_interfaces::Boolean;
use pv_interfaces::evtchn::{Channel as RawChannel, EvtchnV9, TYPE_UNBOUND};
use xen_abi::{DomId, Port};

type Callback = dyn Fn() + Send + Sync;

/// An event channel, until dropped. It masks itself at each event, until [`Channel::unmask`].
///
/// Drop at PASSIVE_LEVEL: that waits for a running callback.
pub struct Channel {
    channel: NonNull<RawChannel>,
    bound: ProcessorNumber,
    table: Arc<Acquired<EvtchnV9>>,
    _callback: Box<Box<Callback>>,
}

// SAFETY: the provider takes calls on any processor; the callback is Send and Sync.
unsafe impl Send for Channel {}
// SAFETY: as above.
unsafe impl Sync for Channel {}

impl Channel {
    /// Opens a new channel that `remote` may bind to, masked. `callback` runs at the device's interrupt level.
    /// PASSIVE_LEVEL.
    pub fn open_unbound(
        table: &Arc<Acquired<EvtchnV9>>,
        remote: DomId,
        callback: impl Fn() + Send + Sync + 'static,
    ) -> Result<Channel> {
        let callback: Box<Callback> = try_box(callback)?;
        let callback = try_box(callback)?;
        let context: *const Box<Callback> = &*callback;
        // SAFETY: function and context fit each other and live until the drop; an unbound channel takes the remote
        // domain and whether to mask at each event, both promoted to int.
        let channel = unsafe {
            (table.open)(
                table.this(),
                TYPE_UNBOUND,
                run,
                context.cast_mut().cast(),
                u32::from(remote.0),
                u32::from(TRUE),
            )
        };
        let channel = NonNull::new(channel).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        // Channels begin on the first processor.
        let bound = ProcessorNumber {
            group: 0,
            number: 0,
        };
        Ok(Channel {
            channel,
            bound,
            table: table.clone(),
            _callback: callback,
        })
    }

    /// Moves the channel's events to a processor, if that can take them. PASSIVE_LEVEL.
    pub fn bind(&mut self, to: ProcessorNumber) -> Result<()> {
        // SAFETY: the channel is open.
        NtStatus::check(unsafe {
            (self.table.bind)(
                self.table.this(),
                self.channel.as_ptr(),
                to.group,
                to.number,
            )
        })?;
        self.bound = to;
        Ok(())
    }

    /// The local port, to tell the other domain. Any IRQL.
    pub fn port(&self) -> Port {
        // SAFETY: the channel is open.
        Port(unsafe { (self.table.get_port)(self.table.this(), self.channel.as_ptr()) })
    }

    /// Lets events through again. `true`: one was pending, has been acknowledged, and is the caller's to handle; the
    /// channel is masked again. IRQL ≤ DISPATCH_LEVEL.
    #[must_use = "an event that is not handled is lost"]
    pub fn unmask(&self) -> bool {
        // SAFETY: the channel is open, and this is not its callback.
        unsafe { (self.table.unmask)(self.table.this(), self.channel.as_ptr(), FALSE, FALSE) != 0 }
    }

    /// Lets events through; a pending one runs the callback. IRQL ≤ DISPATCH_LEVEL.
    pub fn unmask_and_deliver(&self) {
        // SAFETY: as in `unmask`.
        unsafe { (self.table.unmask)(self.table.this(), self.channel.as_ptr(), FALSE, TRUE) };
    }

    /// Notifies the other domain. IRQL ≤ DISPATCH_LEVEL.
    pub fn send(&self) {
        // A suspend cannot come between at DISPATCH_LEVEL.
        let _level = RaisedIrql::dispatch();
        // SAFETY: the channel is open, the level as demanded.
        unsafe { (self.table.send)(self.table.this(), self.channel.as_ptr()) };
    }

    /// Events delivered so far. Any IRQL.
    pub fn count(&self) -> u32 {
        // SAFETY: the channel is open.
        unsafe { (self.table.get_count)(self.table.this(), self.channel.as_ptr()) }
    }
}

impl core::fmt::Debug for Channel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Channel({})", self.port())
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: the channel is open and closed once.
        unsafe { (self.table.close)(self.table.this(), self.channel.as_ptr()) };
        // The callback may still run on its processor; a thread gets there only after it.
        processor::run_on(self.bound, || {});
    }
}

unsafe extern "win64" fn run(_interrupt: *mut c_void, context: *mut c_void) -> Boolean {
    // SAFETY: the context is what `open_unbound` passed, and the drop waits for this call.
    let callback = unsafe { &*context.cast::<Box<Callback>>() };
    callback();
    TRUE
}
