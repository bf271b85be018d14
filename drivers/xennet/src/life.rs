//! Whether frames flow, and one change of that at a time.
//!
//! Restart, pause and surprise removal may each want it changed, the last in any state. Who is first changes it; the
//! others wait, and find it done. A shutdown only stops the frames, and leaves the rest to the pause that follows.

use crate::adapter::Adapter;
use crate::presence::Presence;
use alloc::sync::Arc;
use core::time::Duration;
use ndis::NdisStatus;
use nt::{Event, EventKind, Result, SpinLock, try_arc};

/// How long lists are waited for that should have come back with the interface's end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between looking whether they have.
const STEP: Duration = Duration::from_millis(1);

/// The state.
#[derive(Debug)]
pub struct Life {
    /// Set while nobody changes anything.
    gate: Arc<Event>,
    /// There while frames flow.
    running: SpinLock<Option<Presence>>,
}

/// The right to change the state.
struct Turn(Arc<Event>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl Life {
    /// A stopped one. PASSIVE_LEVEL.
    pub fn new() -> Result<Life> {
        Ok(Life {
            gate: try_arc(Event::new(EventKind::Synchronization, true)?)?,
            running: SpinLock::new(None),
        })
    }

    /// To be kept by who works on the adapter later: it is not halted before that is dropped.
    pub fn hold(&self) -> Arc<Event> {
        Arc::clone(&self.gate)
    }

    /// Waits until nobody works on the adapter any more. PASSIVE_LEVEL.
    pub fn wait_for_holders(&self) {
        while Arc::strong_count(&self.gate) > 1 {
            nt::thread::sleep(STEP);
        }
    }

    /// Waits until nobody else changes the state.
    fn turn(&self) -> Turn {
        let gate = Arc::clone(&self.gate);
        gate.wait();
        Turn(gate)
    }
}

impl Adapter {
    /// Has frames flow. PASSIVE_LEVEL.
    pub fn enable(&self) -> core::result::Result<(), NdisStatus> {
        let _turn = self.life.turn();
        if self.life.running.lock().is_some() {
            return Ok(());
        }
        let presence = Presence::begin(&self.offers)?;
        self.receiver.open();
        self.sender.open();
        // SAFETY: the adapter is the box that NDIS keeps, and disables it before that goes.
        let enabled = unsafe { self.vif.enable(self) };
        if let Err(status) = enabled {
            nt::error!("the interface does not start: {status}");
            self.sender.close();
            self.receiver.close(&self.vif);
            return Err(status.into());
        }
        *self.life.running.lock() = Some(presence);
        self.oids.started(self);
        self.indicate_link();
        Ok(())
    }

    /// Stops the frames; every list of either side is back then. PASSIVE_LEVEL.
    pub fn disable(&self) {
        let _turn = self.life.turn();
        let Some(presence) = self.life.running.lock().take() else {
            return;
        };
        self.sender.close();
        self.receiver.close(&self.vif);
        self.vif.disable();
        // Calls that were under way may have some left.
        let mut waited = Duration::ZERO;
        while self.sender.owned() != 0 || self.receiver.held() != 0 {
            if waited >= PATIENCE {
                let (sent, held) = (self.sender.owned(), self.receiver.held());
                nt::error!("{sent} lists to be sent and {held} received ones do not come back");
                break;
            }
            nt::thread::sleep(STEP);
            waited = waited.saturating_add(STEP);
        }
        self.indicate_link();
        drop(presence);
    }
}
