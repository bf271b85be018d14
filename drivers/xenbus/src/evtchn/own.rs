//! A channel of the bus driver's own, which a subsystem opens when it starts and again after each resume.

use super::{Callback, Channel, Kind};
use crate::bus::Bus;
use core::sync::atomic::{AtomicPtr, Ordering};
use nt::Result;

/// The channel, while it is open.
#[derive(Debug)]
pub struct OwnChannel(AtomicPtr<Channel>);

impl OwnChannel {
    /// Closed.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// Opens the channel, which must be closed. It is still masked. IRQL ≤ DISPATCH_LEVEL.
    pub fn open<'a>(&self, bus: &'a Bus, kind: Kind, callback: Callback) -> Result<&'a Channel> {
        let channel = bus.evtchn.open(bus, kind, false, callback)?;
        self.0
            .store(core::ptr::from_ref(channel).cast_mut(), Ordering::Release);
        Ok(channel)
    }

    /// Closes the channel, if it is open. Its callback does not run any more when this returns. IRQL ≤ DISPATCH_LEVEL.
    pub fn close(&self, bus: &Bus) {
        let channel = self.0.swap(core::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: null or a channel that `open` opened.
        if let Some(channel) = unsafe { channel.as_ref() } {
            bus.evtchn.close(bus, channel);
        }
    }

    /// The channel, if it is open. Any IRQL.
    pub fn get(&self) -> Option<&Channel> {
        // SAFETY: null or a channel that `open` opened; its memory stays as long as EVTCHN runs.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}
