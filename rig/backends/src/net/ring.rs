//! The backend's end of a ring of one page, with entries of any size. public/io/ring.h.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use xen_abi::blkif::{RING_ENTRIES, RING_REQ_EVENT, RING_REQ_PROD, RING_RSP_EVENT, RING_RSP_PROD};
use xen_abi::{Gref, PAGE_SIZE};
use xen_model::{Access, GrantError, Mapping, Xen};

use crate::hostile::noise::Noise;

/// The frontend claims to have produced more requests than the ring holds.
#[derive(Debug)]
pub struct Overflow;

/// A ring whose entries have `WORDS` words.
pub struct BackRing<const WORDS: usize> {
    page: Mapping<Arc<Xen>>,
    entries: u32,
    req_cons: u32,
    rsp_prod: u32,
    pushed: u32,
}

impl<const WORDS: usize> BackRing<WORDS> {
    /// Maps the ring.
    pub fn map(xen: &Arc<Xen>, gref: Gref) -> Result<Self, GrantError> {
        let page = xen.map_kept(gref, Access::Write)?;
        let room = (PAGE_SIZE / 4 - RING_ENTRIES) / WORDS;
        Ok(Self {
            page,
            // The largest power of two that fits.
            entries: 1 << room.ilog2(),
            req_cons: 0,
            rsp_prod: 0,
            pushed: 0,
        })
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        &self.page.words()[index]
    }

    fn entry(&self, index: u32) -> usize {
        RING_ENTRIES + (index & (self.entries - 1)) as usize * WORDS
    }

    /// Requests that are there.
    pub fn ready(&self) -> Result<u32, Overflow> {
        let produced = self.word(RING_REQ_PROD).load(Ordering::Acquire);
        // Also what is being worked on occupies entries. ring.h: `RING_REQUEST_PROD_OVERFLOW`.
        if produced.wrapping_sub(self.rsp_prod) > self.entries {
            return Err(Overflow);
        }
        Ok(produced.wrapping_sub(self.req_cons))
    }

    /// The request `ahead` of the next one.
    pub fn peek(&self, ahead: u32) -> [u32; WORDS] {
        let at = self.entry(self.req_cons.wrapping_add(ahead));
        array::from_fn(|i| self.word(at + i).load(Ordering::Relaxed))
    }

    /// Takes requests.
    pub fn consume(&mut self, count: u32) {
        self.req_cons = self.req_cons.wrapping_add(count);
    }

    /// Puts a response in its place; the frontend sees it after [`Self::publish`].
    pub fn respond(&mut self, words: [u32; WORDS]) {
        let at = self.entry(self.rsp_prod);
        for (i, word) in words.into_iter().enumerate() {
            self.word(at + i).store(word, Ordering::Relaxed);
        }
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    /// Publishes responses. Returns whether the frontend wants to be notified.
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.pushed, self.rsp_prod);
        if old == new {
            return false;
        }
        self.word(RING_RSP_PROD).store(new, Ordering::Release);
        self.pushed = new;
        fence(Ordering::SeqCst);
        let event = self.word(RING_RSP_EVENT).load(Ordering::Acquire);
        new.wrapping_sub(event) < new.wrapping_sub(old)
    }

    /// Publishes a producer index that is `by` off the truth.
    pub fn publish_wrong(&mut self, by: i32) {
        let wrong = self.rsp_prod.wrapping_add_signed(by);
        self.word(RING_RSP_PROD).store(wrong, Ordering::Release);
    }

    /// Requests that are not answered.
    pub fn outstanding(&self) -> u32 {
        let produced = self.word(RING_REQ_PROD).load(Ordering::Acquire);
        produced.wrapping_sub(self.rsp_prod)
    }

    /// Changes the ring's memory.
    pub fn disturb(&self, noise: &mut Noise, changes: usize) {
        noise.disturb(PAGE_SIZE / 4, changes, |index| self.word(index));
    }

    /// Asks for an event with the next request, and looks once more whether there is one beyond those that were seen.
    pub fn rearm(&mut self, seen: u32) -> bool {
        let known = self.req_cons.wrapping_add(seen);
        self.word(RING_REQ_EVENT)
            .store(known.wrapping_add(1), Ordering::Release);
        fence(Ordering::SeqCst);
        self.word(RING_REQ_PROD).load(Ordering::Acquire) != known
    }
}
