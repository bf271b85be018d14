//! Wakes a thread of domain 0.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::hypercall::guard;

/// A bell that one thread waits for and any thread may ring. Ringing a bell that has rung costs one atomic exchange.
#[derive(Debug, Default)]
pub struct Doorbell {
    rung: AtomicBool,
    sleeper: Mutex<Option<Thread>>,
}

impl Doorbell {
    /// Wakes the sleeper, or makes its next [`Self::wait`] return at once.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(thread) = &*guard(self.sleeper.lock())
        {
            thread.unpark();
        }
    }

    /// Forgets that the bell has rung. To be called before looking for work, so that work which comes later rings anew.
    pub fn clear(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// Waits until the bell rings, at most `limit`. Returns whether it has rung.
    pub fn wait(&self, limit: Duration) -> bool {
        *guard(self.sleeper.lock()) = Some(thread::current());
        if !self.rung.load(Ordering::Acquire) {
            thread::park_timeout(limit);
        }
        self.rung.load(Ordering::Acquire)
    }
}
