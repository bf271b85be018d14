//! Received frames that are kept beyond their indication, as TCP/IP keeps what nobody has read yet. They go back later,
//! in other batches and perhaps on another processor, and must be as they were.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ndis_host::{Frame, Kept};

/// One of so many frames is kept.
const SHARE: u64 = 8;
/// Pages that may be kept: a miniport that runs short of them lends its frames only, or drops them.
const MOST: usize = 32;
/// A page of the guest's.
const PAGE: usize = 4096;

struct Held {
    frame: Kept,
    sum: u32,
}

impl Held {
    fn pages(&self) -> usize {
        self.frame.len().div_ceil(PAGE)
    }

    /// Whether its bytes are what they were.
    fn is_same(&self) -> bool {
        sum(self.frame.pieces()) == self.sum
    }
}

#[derive(Default)]
struct Shelf {
    held: VecDeque<Held>,
    pages: usize,
    seen: u64,
    closed: bool,
}

/// The frames.
#[derive(Default)]
pub(super) struct Keeper(Mutex<Shelf>);

fn sum<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> u32 {
    pieces.fold(0, |sum, piece| tap::frame::sum(piece, sum))
}

impl Keeper {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a frame that was seen: some are kept, and the oldest go back instead. Whether this one was kept, and how
    /// many of those that went back had changed.
    pub fn take(&self, frame: Frame<'_>) -> (bool, u64) {
        let mut shelf = self.lock();
        shelf.seen += 1;
        if shelf.closed || !shelf.seen.is_multiple_of(SHARE) {
            return (false, 0);
        }
        drop(shelf);
        let sum = sum(frame.pieces());
        let Ok(frame) = frame.keep() else {
            return (false, 0);
        };
        let held = Held { frame, sum };
        let mut shelf = self.lock();
        if shelf.closed {
            drop(shelf);
            // Outside the lock, as all that goes back: it calls the miniport.
            drop(held);
            return (false, 0);
        }
        shelf.pages += held.pages();
        shelf.held.push_back(held);
        let mut back = Vec::new();
        while shelf.pages > MOST
            && let Some(oldest) = shelf.held.pop_front()
        {
            shelf.pages -= oldest.pages();
            back.push(oldest);
        }
        drop(shelf);
        (true, changed(&back))
    }

    /// Gives all back; keeps nothing until it is opened. How many had changed.
    pub fn close(&self) -> u64 {
        let mut shelf = self.lock();
        shelf.closed = true;
        shelf.pages = 0;
        let back = mem::take(&mut shelf.held);
        drop(shelf);
        changed(&back)
    }

    /// Keeps frames again.
    pub fn open(&self) {
        self.lock().closed = false;
    }
}

fn changed<'a>(back: impl IntoIterator<Item = &'a Held>) -> u64 {
    let changed = back.into_iter().filter(|held| !held.is_same());
    changed.count() as u64
}
