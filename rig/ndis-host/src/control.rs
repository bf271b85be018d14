//! What a protocol's arrival and departure do to an adapter, asked for by itself.

use alloc::boxed::Box;

use nt_sys::ndis::{NDIS_PAUSE_NDIS_INTERNAL, NDIS_STATUS_ADAPTER_NOT_READY};

use crate::adapter::Adapter;
use crate::life;

/// An operation of NDIS' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// MiniportPause.
    Pause,
    /// MiniportRestart.
    Restart,
}

/// Called with what became of it, on an NT thread at PASSIVE_LEVEL.
pub type Done = Box<dyn FnOnce(Result<(), i32>) + Send>;

impl Adapter {
    /// Pauses or restarts it, as NDIS does when bindings change. From any thread; `done` is called on an NT thread at
    /// PASSIVE_LEVEL, or at once if the adapter is gone.
    pub fn control(&'static self, what: Control, done: Done) {
        let job = move |adapter: Option<&'static Adapter>| {
            done(match (adapter, what) {
                (None, _) => Err(NDIS_STATUS_ADAPTER_NOT_READY),
                (Some(adapter), Control::Pause) => life::pause(adapter, NDIS_PAUSE_NDIS_INTERNAL),
                (Some(adapter), Control::Restart) => life::restart(adapter),
            });
        };
        self.at_desk(Box::new(job));
    }

    /// Has a job done at the desk; without the adapter, at once, if that is closed.
    pub(crate) fn at_desk(&'static self, job: Box<dyn FnOnce(Option<&'static Adapter>) + Send>) {
        let shared = alloc::sync::Arc::new(nt_host::sync::Mutex::new(Some(job)));
        let own = shared.clone();
        let run = move || {
            let job = own.lock().take();
            if let Some(job) = job {
                job(Some(self));
            }
        };
        if self.desk.post(Box::new(run)).is_err() {
            let job = shared.lock().take();
            if let Some(job) = job {
                job(None);
            }
        }
    }
}
