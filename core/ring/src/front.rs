//! The ring itself: private indices, checked shared ones, notification rules of both directions.

use crate::sync::{AtomicU32, Ordering, fence};

/// Bytes before the first entry (ring.h: `DEFINE_RING_TYPES`, the padded header).
pub const HEADER_BYTES: usize = 64;

/// Word offsets in the header.
const REQ_PROD: usize = 0;
const REQ_EVENT: usize = 1;
const RSP_PROD: usize = 2;
const RSP_EVENT: usize = 3;
const FIRST_ENTRY: usize = HEADER_BYTES / 4;

/// Entries of a ring in `bytes` of memory: the largest power of two that fits behind the header (ring.h:
/// `__RING_SIZE`); 0 if none does.
pub const fn capacity(bytes: usize, entry_bytes: usize) -> u32 {
    if entry_bytes == 0 || bytes < HEADER_BYTES + entry_bytes {
        return 0;
    }
    let fit = (bytes - HEADER_BYTES) / entry_bytes;
    if fit > 1 << 30 {
        return 1 << 30;
    }
    1 << (usize::BITS - 1 - fit.leading_zeros())
}

/// What the backend did that no backend may do. Sticky: the ring gives nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// `rsp_prod` claims more responses than there are unanswered requests, or moved backwards.
    ResponseIndex {
        /// The value found in the shared page.
        claimed: u32,
        /// The next response that was due.
        consumed: u32,
        /// One past the last request the backend was given.
        requested: u32,
    },
}

/// The ring has no free slot; publish, and wait for responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The frontend's end of a ring whose entries are `WORDS` 32-bit words.
///
/// `M` is the shared memory (whole, contiguous pages), which the ring keeps for as long as it lives.
pub struct FrontRing<M, const WORDS: usize> {
    memory: M,
    entries: u32,
    /// Requests written, of which those before `published` are visible to the backend.
    req_prod: u32,
    published: u32,
    /// Responses read.
    rsp_cons: u32,
    /// `rsp_prod` as last checked; everything before it may be read.
    rsp_seen: u32,
    broken: Option<Broken>,
}

impl<M: AsRef<[AtomicU32]>, const WORDS: usize> FrontRing<M, WORDS> {
    /// Clears the memory and makes an empty ring in it. Done before the pages are granted. `None` if not even one entry
    /// fits.
    pub fn new(memory: M) -> Option<Self> {
        Self::starting_at(memory, 0)
    }

    fn starting_at(memory: M, start: u32) -> Option<Self> {
        let words = memory.as_ref();
        let entries = capacity(words.len() * 4, WORDS * 4);
        if entries == 0 {
            return None;
        }
        for word in words {
            word.store(0, Ordering::Relaxed);
        }
        let ring = FrontRing {
            memory,
            entries,
            req_prod: start,
            published: start,
            rsp_cons: start,
            rsp_seen: start,
            broken: None,
        };
        for (index, value) in [
            (REQ_PROD, start),
            (RSP_PROD, start),
            (REQ_EVENT, start.wrapping_add(1)),
            (RSP_EVENT, start.wrapping_add(1)),
        ] {
            ring.word(index)?.store(value, Ordering::Release);
        }
        Some(ring)
    }

    /// The memory, for its owner.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Ends the ring and gives the memory back.
    pub fn into_memory(self) -> M {
        self.memory
    }

    /// Slots of the ring.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// The slot of a free-running index.
    pub fn slot(&self, index: u32) -> u32 {
        // The number of slots is a power of two.
        index & self.entries.wrapping_sub(1)
    }

    /// Requests that can be pushed now.
    pub fn free(&self) -> u32 {
        // A slot is free once its response has been read; both indices are private, so this cannot be lied about.
        self.entries - self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// Requests given to the backend and not answered yet, as far as known.
    pub fn outstanding(&self) -> u32 {
        self.published.wrapping_sub(self.rsp_cons)
    }

    /// The reason the ring stopped, if it did.
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Writes a request into the next slot, whole, without showing it to the backend.
    pub fn push(&mut self, request: &[u32; WORDS]) -> Result<(), Full> {
        if self.free() == 0 {
            return Err(Full);
        }
        let base = self.entry(self.req_prod);
        if let Some(entry) = self.memory.as_ref().get(base..base + WORDS) {
            for (word, value) in entry.iter().zip(request) {
                word.store(*value, Ordering::Relaxed);
            }
        }
        self.req_prod = self.req_prod.wrapping_add(1);
        Ok(())
    }

    /// Shows all pushed requests to the backend. `true`: it went to sleep before these and must be notified.
    #[must_use = "a notification that is not sent is a request that is not seen"]
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.req_prod);
        if old == new {
            return false;
        }
        let (Some(req_prod), Some(req_event)) = (self.word(REQ_PROD), self.word(REQ_EVENT)) else {
            return false;
        };
        req_prod.store(new, Ordering::Release);
        // The backend stores req_event and then reads req_prod; we store req_prod and then read req_event. With a full
        // fence between the two on both sides, at least one of us sees the other's store.
        fence(Ordering::SeqCst);
        let event = req_event.load(Ordering::Relaxed);
        self.published = new;
        new.wrapping_sub(event) < new.wrapping_sub(old)
    }

    /// The next response, copied out whole. `None`: there is none, and an event will come with the next.
    pub fn receive(&mut self) -> Result<Option<[u32; WORDS]>, Broken> {
        match self.pop()? {
            None if self.sleep()? => self.pop(),
            response => Ok(response),
        }
    }

    /// The next response, copied out whole; `None` when there is none for now.
    fn pop(&mut self) -> Result<Option<[u32; WORDS]>, Broken> {
        if self.rsp_cons == self.rsp_seen && !self.look()? {
            return Ok(None);
        }
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let base = self.entry(self.rsp_cons);
        let mut response = [0; WORDS];
        for (value, word) in response
            .iter_mut()
            .zip(self.memory.as_ref().iter().skip(base))
        {
            *value = word.load(Ordering::Relaxed);
        }
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Ok(Some(response))
    }

    /// Asks for an event at the next response, and looks once more: `true` means that one has come meanwhile and
    /// perhaps no event for it, so the caller must pop again before it may sleep.
    #[must_use = "sleeping although a response is there loses it"]
    fn sleep(&mut self) -> Result<bool, Broken> {
        if let Some(rsp_event) = self.word(RSP_EVENT) {
            rsp_event.store(self.rsp_cons.wrapping_add(1), Ordering::Relaxed);
        }
        // The mirror image of `publish`: our rsp_event before our look at rsp_prod.
        fence(Ordering::SeqCst);
        self.look()
    }

    /// Reads and checks `rsp_prod`; whether there are responses to read.
    fn look(&mut self) -> Result<bool, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let Some(rsp_prod) = self.word(RSP_PROD) else {
            return Ok(false);
        };
        let claimed = rsp_prod.load(Ordering::Acquire);
        if claimed.wrapping_sub(self.rsp_cons) > self.published.wrapping_sub(self.rsp_cons)
            || claimed.wrapping_sub(self.rsp_cons) < self.rsp_seen.wrapping_sub(self.rsp_cons)
        {
            let broken = Broken::ResponseIndex {
                claimed,
                consumed: self.rsp_cons,
                requested: self.published,
            };
            self.broken = Some(broken);
            return Err(broken);
        }
        self.rsp_seen = claimed;
        Ok(claimed != self.rsp_cons)
    }

    fn entry(&self, index: u32) -> usize {
        FIRST_ENTRY + (index & (self.entries - 1)) as usize * WORDS
    }

    fn word(&self, index: usize) -> Option<&AtomicU32> {
        self.memory.as_ref().get(index)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
