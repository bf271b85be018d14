//! A thread that does one kind of work each time its event is set, or time has passed; work that failed is done again.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use nt::{Event, EventKind, Result, Thread, try_arc};

/// After work that could not be done, for want of memory or because xenstored refused.
const AGAIN: Duration = Duration::from_secs(1);

/// The thread. Dropping it waits for the work that is under way. PASSIVE_LEVEL.
#[derive(Debug)]
pub struct Worker {
    event: Arc<Event>,
    stop: Arc<AtomicBool>,
    thread: Option<Thread>,
}

impl Worker {
    /// Starts a thread that calls `work` after each setting of the event, and once more a little later as long as it
    /// fails. PASSIVE_LEVEL.
    pub fn new(work: impl Fn() -> Result<()> + Send + 'static) -> Result<Worker> {
        Self::start(None, work)
    }

    /// Starts a thread that calls `work` each time that `period` has passed. PASSIVE_LEVEL.
    pub fn every(period: Duration, work: impl Fn() + Send + 'static) -> Result<Worker> {
        Self::start(Some(period), move || {
            work();
            Ok(())
        })
    }

    fn start(
        period: Option<Duration>,
        work: impl Fn() -> Result<()> + Send + 'static,
    ) -> Result<Worker> {
        let event = try_arc(Event::new(EventKind::Synchronization, false)?)?;
        let stop = try_arc(AtomicBool::new(false))?;
        let thread = {
            let (event, stop) = (Arc::clone(&event), Arc::clone(&stop));
            Thread::spawn(move || {
                let mut again = None;
                loop {
                    match period.or(again) {
                        // Whether the event was set or time has passed: there is work to do.
                        Some(period) => drop(event.wait_for(period)),
                        None => event.wait(),
                    }
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    again = work().is_err().then_some(AGAIN);
                }
            })?
        };
        Ok(Worker {
            event,
            stop,
            thread: Some(thread),
        })
    }

    /// The event.
    pub fn event(&self) -> &Arc<Event> {
        &self.event
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.event.set();
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}
