//! Requests under way: submitted with a tag, taken as they end, in whatever order.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

use nt_host::ke::event::Event;
use nt_host::ke::wait::Timeout;
use nt_host::sync::Mutex;
use storport_host::{DmaBuffer, Io, IoError, Op};

use super::disk::Disk;

/// A request's end.
pub struct Ended {
    /// What it was submitted with.
    pub tag: u64,
    /// What became of it.
    pub result: Result<(), IoError>,
    /// Its buffer.
    pub buffer: Option<DmaBuffer>,
}

struct Shared {
    ended: Mutex<VecDeque<Ended>>,
    event: Event,
}

/// Requests to one disk.
pub struct Queue {
    disk: Disk,
    shared: Arc<Shared>,
    under_way: usize,
}

impl Queue {
    /// No requests.
    pub fn new(disk: &Disk) -> Self {
        Self {
            disk: disk.clone(),
            shared: Arc::new(Shared {
                ended: Mutex::new(VecDeque::new()),
                event: Event::new(false),
            }),
            under_way: 0,
        }
    }

    /// Requests that were submitted and not taken.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Sends a request for `bytes` from byte `from`, both whole sectors.
    pub fn submit(&mut self, op: Op, from: u64, bytes: u64, buffer: Option<DmaBuffer>, tag: u64) {
        let shared = Arc::clone(&self.shared);
        let sector = self.disk.sector();
        self.under_way += 1;
        self.disk.0.submit(Io {
            op,
            lba: from / sector,
            blocks: (bytes / sector) as u32,
            buffer,
            done: Box::new(move |result, buffer| {
                shared.ended.lock().push_back(Ended {
                    tag,
                    result,
                    buffer,
                });
                shared.event.set();
            }),
        });
    }

    /// The next request that has ended, waited for; `None` when the time is over.
    pub fn next(&mut self, timeout: Timeout) -> Option<Ended> {
        loop {
            let ended = self.shared.ended.lock().pop_front();
            if let Some(ended) = ended {
                self.under_way -= 1;
                return Some(ended);
            }
            if !self.shared.event.wait(timeout) {
                return None;
            }
        }
    }
}
