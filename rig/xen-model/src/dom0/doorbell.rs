//! Wakes a thread of domain 0.

use std::hint::spin_loop;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::hypercall::guard;

/// The sleeper is awake, and the bell has not rung since it was cleared.
const QUIET: u32 = 0;
/// The bell has rung.
const RUNG: u32 = 1;
/// The sleeper sleeps.
const ASLEEP: u32 = 2;

/// Short pauses between two looks.
const LOOKS: u32 = 16;

/// A bell that one thread waits for and any thread may ring. Ringing costs one atomic exchange unless the sleeper sleeps.
#[derive(Debug, Default)]
pub struct Doorbell {
    state: AtomicU32,
    sleeper: Mutex<Option<Thread>>,
}

impl Doorbell {
    /// Wakes the sleeper, or makes its next [`Self::wait`] return at once.
    pub fn ring(&self) {
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            // Not under the lock: the woken thread would run into it.
            let sleeper = guard(self.sleeper.lock()).clone();
            if let Some(sleeper) = sleeper {
                sleeper.unpark();
            }
        }
    }

    /// Forgets that the bell has rung. To be called before looking for work, so that work which comes later rings anew.
    pub fn clear(&self) -> bool {
        self.state.swap(QUIET, Ordering::AcqRel) == RUNG
    }

    /// Whether it has rung since it was last cleared.
    pub fn has_rung(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNG
    }

    /// Looks for a while whether the bell rings, without sleeping: waking a thread takes longer than most pauses are.
    pub fn listen(&self, time: Duration) {
        let start = Instant::now();
        while !self.has_rung() && start.elapsed() < time {
            for _ in 0..LOOKS {
                spin_loop();
            }
            // Who would ring may wait for this very core.
            thread::yield_now();
        }
    }

    /// Waits until the bell rings, at most `limit`. Returns whether it has rung.
    pub fn wait(&self, limit: Duration) -> bool {
        *guard(self.sleeper.lock()) = Some(thread::current());
        let asleep =
            self.state
                .compare_exchange(QUIET, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        if asleep.is_ok() {
            thread::park_timeout(limit);
            // Whoever rang has put it to RUNG.
            let _ = self
                .state
                .compare_exchange(ASLEEP, QUIET, Ordering::AcqRel, Ordering::Acquire);
        }
        self.has_rung()
    }
}
