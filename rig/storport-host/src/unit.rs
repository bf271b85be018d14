//! A logical unit: a disk's PDO and the queue in front of it.
//!
//! storport.sys keeps one queue a unit and lets as many requests through to the miniport as the queue
//! depth says.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use nt_host::sync::Mutex;
use nt_sys::DEVICE_OBJECT;

use crate::adapter::Adapter;
use crate::queue::Request;

struct Queue {
    outstanding: u32,
    waiting: VecDeque<Request>,
}

/// See the module.
pub struct Unit {
    /// The adapter it is behind.
    pub adapter: Arc<Adapter>,
    /// Target on bus 0; LUN 0.
    pub target: u8,
    /// Its physical device object.
    pub pdo: *mut DEVICE_OBJECT,
    /// Standard INQUIRY data: 36 bytes.
    pub inquiry: [u8; 36],
    /// The last bus scan did not find it.
    pub missing: AtomicBool,
    /// Its PDO is in the list that the PnP manager was given last.
    pub reported: AtomicBool,
    queue: Mutex<Queue>,
}

// SAFETY: the device object lives until the unit is removed, and is only handed back to the I/O manager.
unsafe impl Send for Unit {}
// SAFETY: what changes is atomic or locked.
unsafe impl Sync for Unit {}

impl Unit {
    /// A unit that the bus scan found.
    pub fn new(
        adapter: Arc<Adapter>,
        target: u8,
        pdo: *mut DEVICE_OBJECT,
        inquiry: [u8; 36],
    ) -> Self {
        Self {
            adapter,
            target,
            pdo,
            inquiry,
            missing: AtomicBool::new(false),
            reported: AtomicBool::new(false),
            queue: Mutex::new(Queue {
                outstanding: 0,
                waiting: VecDeque::new(),
            }),
        }
    }

    /// Requests that may be at the miniport.
    fn depth(&self) -> u32 {
        self.adapter
            .depths
            .get(usize::from(self.target))
            .map_or(1, |depth| depth.load(Ordering::Relaxed))
            .max(1)
    }

    /// Counts a request in and gives it back, if it may go to the miniport now; keeps it, if not.
    pub fn enter(&self, request: Request) -> Option<Request> {
        let mut queue = self.queue.lock();
        if queue.outstanding >= self.depth() {
            queue.waiting.push_back(request);
            return None;
        }
        queue.outstanding = queue.outstanding.saturating_add(1);
        Some(request)
    }

    /// Counts a request out, and the next one in.
    pub fn leave(&self) -> Option<Request> {
        let mut queue = self.queue.lock();
        match queue.waiting.pop_front() {
            Some(next) => Some(next),
            None => {
                queue.outstanding = queue.outstanding.saturating_sub(1);
                None
            }
        }
    }

    /// Takes back every request that waits.
    pub fn drain(&self) -> VecDeque<Request> {
        core::mem::take(&mut self.queue.lock().waiting)
    }
}
