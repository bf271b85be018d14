//! The backend's end of a shared ring. public/io/ring.h, from the other side than the drivers' `core/ring`.
//!
//! The frontend may write anything to the page at any time. A request is copied once and then judged; what this end
//! produced and consumed it remembers itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use xen_abi::blkif::*;
use xen_abi::{Gref, PAGE_SIZE};
use xen_model::{Access, GrantError, Mapping, Xen};

use crate::hostile::noise::Noise;

const PAGE_WORDS: usize = PAGE_SIZE / 4;

/// The frontend claims to have produced more requests than the ring holds.
#[derive(Debug)]
pub struct Overflow;

/// A ring of 1 to 16 pages.
pub struct BackRing {
    pages: Vec<Mapping<Arc<Xen>>>,
    entries: u32,
    req_cons: u32,
    rsp_prod: u32,
    pushed: u32,
}

impl BackRing {
    /// Maps the ring's pages: 2^order references.
    pub fn map(xen: &Arc<Xen>, grefs: &[Gref]) -> Result<Self, GrantError> {
        let pages = grefs
            .iter()
            .map(|g| xen.map_kept(*g, Access::Write))
            .collect::<Result<Vec<_>, _>>()?;
        let entries = ring_entries(grefs.len().trailing_zeros());
        let mut ring = Self {
            pages,
            entries,
            req_cons: 0,
            rsp_prod: 0,
            pushed: 0,
        };
        // Attach where a previous backend left off. ring.h: `BACK_RING_ATTACH`.
        let rsp_prod = ring.word(RING_RSP_PROD).load(Ordering::Acquire);
        (ring.req_cons, ring.rsp_prod, ring.pushed) = (rsp_prod, rsp_prod, rsp_prod);
        Ok(ring)
    }

    /// Entries.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        &self.pages[index / PAGE_WORDS].words()[index % PAGE_WORDS]
    }

    fn entry(&self, index: u32) -> usize {
        RING_ENTRIES + (index & (self.entries - 1)) as usize * ENTRY_WORDS
    }

    /// Takes the next request, if there is one.
    pub fn take(&mut self) -> Result<Option<Request>, Overflow> {
        let produced = self.word(RING_REQ_PROD).load(Ordering::Acquire);
        let ready = produced.wrapping_sub(self.req_cons);
        // Also what is being worked on occupies entries. ring.h: `RING_REQUEST_PROD_OVERFLOW`.
        if produced.wrapping_sub(self.rsp_prod) > self.entries {
            return Err(Overflow);
        }
        if ready == 0 {
            return Ok(None);
        }
        let at = self.entry(self.req_cons);
        let words: Entry = std::array::from_fn(|i| self.word(at + i).load(Ordering::Relaxed));
        self.req_cons = self.req_cons.wrapping_add(1);
        Ok(Some(Request::from_words(&words)))
    }

    /// Puts a response in its place; the frontend sees it after [`Self::publish`].
    pub fn respond(&mut self, response: Response) {
        let at = self.entry(self.rsp_prod);
        for (i, word) in response.to_words().into_iter().enumerate() {
            self.word(at + i).store(word, Ordering::Relaxed);
        }
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    /// Publishes responses. Returns whether the frontend wants to be notified. `RING_PUSH_RESPONSES_AND_CHECK_NOTIFY`.
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

    /// Changes the ring's memory.
    pub fn disturb(&self, noise: &mut Noise, changes: usize) {
        noise.disturb(self.pages.len() * PAGE_WORDS, changes, |index| {
            self.word(index)
        });
    }

    /// Asks for an event with the next request, and looks once more. `RING_FINAL_CHECK_FOR_REQUESTS`.
    pub fn rearm(&mut self) -> bool {
        let ready = |ring: &Self| ring.word(RING_REQ_PROD).load(Ordering::Acquire) != ring.req_cons;
        if ready(self) {
            return true;
        }
        self.word(RING_REQ_EVENT)
            .store(self.req_cons.wrapping_add(1), Ordering::Release);
        fence(Ordering::SeqCst);
        ready(self)
    }
}
