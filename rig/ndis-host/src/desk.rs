//! An adapter's desk: a thread that does one thing after the other at PASSIVE_LEVEL, so that OID requests, pauses,
//! restarts and halts of an adapter never overlap, as NDIS has it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

use nt_host::ke::event::Event;
use nt_host::ke::wait::Timeout;
use nt_host::ke::{self, thread};
use nt_host::sync::Mutex;

type Job = Box<dyn FnOnce() + Send>;

/// See the module.
pub struct Desk {
    /// What is to be done; `None` when the desk is closed.
    jobs: Mutex<Option<VecDeque<Job>>>,
    wake: Event,
}

impl Desk {
    /// A desk that is closed.
    pub fn new() -> Self {
        Self {
            jobs: Mutex::new(None),
            wake: Event::new(false),
        }
    }

    /// Opens it; whether there was memory for the thread.
    pub fn open(&'static self) -> bool {
        *self.jobs.lock() = Some(VecDeque::new());
        let opened = thread::run(0, || {
            while let Some(job) = self.next() {
                job();
            }
        });
        if !opened {
            self.jobs.lock().take();
        }
        opened
    }

    /// Whether it takes jobs.
    pub fn is_open(&self) -> bool {
        self.jobs.lock().is_some()
    }

    /// The next job; `None` when the desk has been closed.
    fn next(&self) -> Option<Job> {
        loop {
            let job = self.jobs.lock().as_mut()?.pop_front();
            if job.is_some() {
                return job;
            }
            self.wake.wait(Timeout::Never);
        }
    }

    /// Adds a job, from any thread; gives it back when the desk is closed.
    pub fn post(&'static self, job: Job) -> Result<(), Job> {
        match self.jobs.lock().as_mut() {
            Some(jobs) => jobs.push_back(job),
            None => return Err(job),
        }
        let wake = || self.wake.set();
        match nt_host::host().platform().current_cpu() {
            Some(_) => wake(),
            None => ke::inject(0, Box::new(wake)),
        }
        Ok(())
    }

    /// Has a job done and waits for its result. On an NT thread at PASSIVE_LEVEL that is not the desk's own.
    pub fn run<R: Send + 'static>(
        &'static self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Option<R> {
        struct Shared<R> {
            done: Event,
            result: Mutex<Option<R>>,
        }
        let shared = Arc::new(Shared {
            done: Event::new(true),
            result: Mutex::new(None),
        });
        let teller = shared.clone();
        let posted = self.post(Box::new(move || {
            let result = job();
            *teller.result.lock() = Some(result);
            teller.done.set();
        }));
        posted.ok()?;
        shared.done.wait(Timeout::Never);
        shared.result.lock().take()
    }

    /// Closes it behind the jobs that are there; what comes later is refused.
    pub fn close(&'static self) {
        self.run(|| {
            let left = self.jobs.lock().take();
            left.into_iter().flatten().for_each(|job| job());
        });
    }
}
