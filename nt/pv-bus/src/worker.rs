//! A thread that does one kind of work each time its event is set, or time has passed; work that failed is done again.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use nt::{Event, EventKind, Result, Thread, try_arc};

/// After work that could not be done, for want of memory or because xenstored refused.
const AGAIN: Duration = Duration::from_secs(1);

/// How long between two looks at work that does not end.
const LOOK: Duration = Duration::from_millis(100);

/// The thread. Dropping it waits for the work that is under way. PASSIVE_LEVEL.
#[derive(Debug)]
pub struct Worker {
    event: Arc<Event>,
    turns: Arc<Turns>,
    thread: Option<Thread>,
}

/// When a worker may work.
#[derive(Debug)]
pub struct Turns {
    stop: AtomicBool,
    paused: AtomicBool,
    busy: AtomicBool,
    /// Set when a turn has ended.
    ended: Event,
}

impl Turns {
    fn new() -> Result<Self> {
        Ok(Self {
            stop: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            ended: Event::new(EventKind::Synchronization, false)?,
        })
    }

    /// Has no turn begin any more, and waits for the one that is under way. PASSIVE_LEVEL, not within a turn.
    pub fn pause(&self) {
        self.paused.store(true, Ordering::SeqCst);
        while self.busy.load(Ordering::SeqCst) {
            // The event may be an earlier turn's.
            let _ = self.ended.wait_for(LOOK);
        }
    }

    /// Lets turns begin again; what the event was set for meanwhile is lost. Any IRQL.
    pub fn go_on(&self) {
        self.paused.store(false, Ordering::SeqCst);
    }

    /// One turn, unless they are paused. Whether it is to be done again.
    fn take(&self, work: impl Fn() -> Result<()>) -> bool {
        // In this order on both sides: either the turn sees the pause, or the pause sees the turn.
        self.busy.store(true, Ordering::SeqCst);
        let failed = !self.paused.load(Ordering::SeqCst) && work().is_err();
        self.busy.store(false, Ordering::SeqCst);
        self.ended.set();
        failed
    }
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
        let turns = try_arc(Turns::new()?)?;
        let thread = {
            let (event, turns) = (Arc::clone(&event), Arc::clone(&turns));
            Thread::spawn(move || {
                let mut again = None;
                loop {
                    match period.or(again) {
                        // Whether the event was set or time has passed: there is work to do.
                        Some(period) => drop(event.wait_for(period)),
                        None => event.wait(),
                    }
                    if turns.stop.load(Ordering::Acquire) {
                        return;
                    }
                    again = turns.take(&work).then_some(AGAIN);
                }
            })?
        };
        Ok(Worker {
            event,
            turns,
            thread: Some(thread),
        })
    }

    /// The event.
    pub fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// What pauses it.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.turns.stop.store(true, Ordering::Release);
        self.event.set();
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}
