//! One ring's I/O: takes reads, writes, flushes and discards, sends them as requests, and gives each back exactly once.
//!
//! ```text
//!   submit --> backlog --post--> parts (a ring slot each) --answer--> finished --> next_finished
//!               ^  FIFO           grants, bounce pages                 worst status of the parts
//!               '---- disconnect: everything unanswered starts again on the next ring
//! ```
//!
//! An I/O never finishes before every page it lent is the guest's own again: grants that the backend still uses after
//! its answer keep the I/O here, and [`Queue::tick`] tries again. All memory is allocated in [`Queue::try_new`].

use crate::cursor::{Cursor, Fragment, Rule};
use crate::features::Features;
use alloc::collections::VecDeque;
use core::sync::atomic::AtomicU32;
use ring::{FrontRing, Slots};
use xen_abi::Gref;
use xen_abi::blkif::{self, ENTRY_WORDS, MAX_SEGMENTS, Request, Response, Segment};

mod io;

use io::{Bounce, Io, Part, lend};
pub use io::{Discards, Operation, Outcome};

/// Ranges one discard may have.
pub const MAX_DISCARDS: usize = 8;

/// A ring of the block protocol.
pub type Ring<M> = FrontRing<M, ENTRY_WORDS>;

/// What the queue needs of the machine: the memory of I/Os, grants, bounce pages.
pub trait Host {
    /// Names the owner of an I/O.
    type Token;
    /// A granted page. It may be dropped only by `revoke`.
    type Grant;
    /// A page of our own, for data that cannot be granted where it is.
    type Page;

    /// The `index`th fragment of an I/O's memory.
    fn fragment(&self, token: &Self::Token, index: u32) -> Option<Fragment>;
    /// Grants the backend access to a page. `None`: none to be had now.
    fn grant(&mut self, pfn: u64, read_only: bool) -> Option<Self::Grant>;
    /// The reference to tell the backend.
    fn gref(&self, grant: &Self::Grant) -> Gref;
    /// Ends a grant; it comes back if the backend still uses the page.
    fn revoke(&mut self, grant: Self::Grant) -> Result<(), Self::Grant>;
    /// Takes a bounce page, cleared. `None`: none to be had now.
    fn take_page(&mut self) -> Option<Self::Page>;
    /// Its page frame number.
    fn pfn(&self, page: &Self::Page) -> u64;
    /// Gives a bounce page back.
    fn put_page(&mut self, page: Self::Page);
    /// Copies `length` bytes from `at` in an I/O's memory to the start of the page; whether that was possible.
    fn fill_page(
        &mut self,
        token: &Self::Token,
        at: u32,
        length: u32,
        page: &mut Self::Page,
    ) -> bool;
    /// Copies the first `length` bytes of the page to `at` in an I/O's memory; whether that was possible.
    fn empty_page(&mut self, token: &Self::Token, at: u32, length: u32, page: &Self::Page) -> bool;
}

/// Why a queue will do nothing any more until it is connected again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The ring's indices are impossible.
    Ring(ring::Broken),
    /// A response to a request that is not outstanding.
    UnknownResponse(u64),
}

/// The queue has as many I/Os as it can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// Events counted since the queue was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counters {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    pub barriers: u64,
    pub discards: u64,
    pub responses: u64,
    pub errors: u64,
    pub granted: u64,
    pub bounced: u64,
    pub notifications: u64,
    /// Times that a grant was still in use after the answer.
    pub held: u64,
    /// Times that posting stopped for want of grants or bounce pages.
    pub starved: u64,
}

/// What a queue must know of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How to cut transfers.
    pub rule: Rule,
    /// Bytes the ring's sectors have.
    pub unit: u32,
    /// The `handle` of requests.
    pub handle: u16,
    /// Operations the backend knows.
    pub features: Features,
}

impl Shape {
    /// `bytes` in the ring's sectors.
    fn units(&self, bytes: u32) -> u32 {
        bytes.checked_div(self.unit).unwrap_or(0)
    }
}

/// What became of an attempt to post the next request of an I/O.
enum Posted {
    /// It is in the ring; the I/O may need more.
    One,
    /// The whole I/O is posted.
    All,
    /// No grants or bounce pages.
    Starved,
    /// The I/O's memory is not what it should be.
    Bad,
}

/// The I/O engine of one ring.
pub struct Queue<H: Host, M> {
    ring: Option<Ring<M>>,
    shape: Option<Shape>,
    ios: Slots<Io<H::Token>>,
    parts: Slots<Part<H>>,
    backlog: VecDeque<u64>,
    finished: VecDeque<(H::Token, Outcome)>,
    /// Parts that are answered and still hold grants.
    held: u32,
    broken: Option<Broken>,
    counters: Counters,
}

impl<H: Host, M: AsRef<[AtomicU32]>> Queue<H, M> {
    /// A queue for `ios` I/Os over rings of at most `entries` requests; `None` if there is no memory for it.
    pub fn try_new(ios: u32, entries: u32) -> Option<Self> {
        let mut backlog = VecDeque::new();
        backlog.try_reserve_exact(ios as usize).ok()?;
        let mut finished = VecDeque::new();
        finished.try_reserve_exact(ios as usize).ok()?;
        Some(Queue {
            ring: None,
            shape: None,
            ios: Slots::try_new(ios)?,
            parts: Slots::try_new(entries)?,
            backlog,
            finished,
            held: 0,
            broken: None,
            counters: Counters::default(),
        })
    }

    /// Begins, or goes on, with a new ring. What was not answered on the last one is sent again.
    #[must_use = "says whether the backend must be notified"]
    pub fn connect(&mut self, ring: Ring<M>, shape: Shape, host: &mut H) -> bool {
        self.broken = None;
        self.ring = Some(ring);
        self.shape = Some(shape);
        self.post(host)
    }

    /// Ends the connection; the backend has stopped (it is closed, or the domain runs on another host). Takes back all
    /// grants, and queues again all that is not finished.
    pub fn disconnect(&mut self, host: &mut H) -> Option<M> {
        let ring = self.ring.take();
        self.shape = None;
        self.broken = None;
        self.recall(host);
        self.backlog.clear();
        let mut from = 0;
        while let Some(id) = self.ios.next_used(from) {
            from = id as u32 + 1;
            if let Some(io) = self.ios.get_mut(id) {
                io.rewind();
                io.queued = true;
                self.backlog.push_back(id);
            }
        }
        ring.map(Ring::into_memory)
    }

    /// Fails everything that is not finished. What still holds grants fails once they are back.
    pub fn abort(&mut self, host: &mut H) {
        self.recall(host);
        self.backlog.clear();
        let mut from = 0;
        while let Some(id) = self.ios.next_used(from) {
            from = id as u32 + 1;
            if let Some(io) = self.ios.get_mut(id) {
                io.worst = Outcome::Failed;
                io.queued = false;
            }
            self.finish_if_done(id);
        }
    }

    /// Takes an I/O out of a queue that is not connected, as it was submitted. Those whose pages are still held stay.
    pub fn withdraw(&mut self) -> Option<(H::Token, Operation)> {
        if self.ring.is_some() {
            return None;
        }
        let index = self
            .backlog
            .iter()
            .position(|id| self.ios.get(*id).is_some_and(|io| io.parts == 0))?;
        let id = self.backlog.remove(index)?;
        let io = self.ios.take(id).ok()?;
        Some((io.token, io.operation))
    }

    /// Takes an I/O. It will come out of [`Queue::next_finished`]; nothing is sent before [`Queue::post`].
    pub fn submit(
        &mut self,
        token: H::Token,
        operation: Operation,
    ) -> Result<(), (H::Token, QueueFull)> {
        if self.ios.is_full()
            || self.finished.len() as u64 + u64::from(self.ios.len())
                >= self.finished.capacity() as u64
        {
            return Err((token, QueueFull));
        }
        if self.broken.is_some() {
            self.finished.push_back((token, Outcome::Failed));
            return Ok(());
        }
        let mut io = Io {
            token,
            operation,
            cursor: Cursor::new(0),
            discards: 0,
            flushed: false,
            parts: 0,
            worst: Outcome::Good,
            queued: true,
        };
        io.rewind();
        match self.ios.insert(io) {
            Ok(id) => {
                self.backlog.push_back(id);
                Ok(())
            }
            Err(io) => Err((io.token, QueueFull)),
        }
    }

    /// Sends as much of the backlog as the ring takes.
    #[must_use = "says whether the backend must be notified"]
    pub fn post(&mut self, host: &mut H) -> bool {
        if self.broken.is_some() || self.shape.is_none() {
            return false;
        }
        while let Some(&id) = self.backlog.front() {
            if self.ring.as_ref().is_none_or(|ring| ring.free() == 0) || self.parts.is_full() {
                break;
            }
            match self.post_one(id, host) {
                Posted::One => continue,
                Posted::All => {}
                Posted::Bad => self.worsen(id, Outcome::Failed),
                Posted::Starved => {
                    self.counters.starved += 1;
                    // Something in flight will bring resources back, and posting goes on then.
                    if !self.parts.is_empty() {
                        break;
                    }
                    self.worsen(id, Outcome::Busy);
                }
            }
            self.backlog.pop_front();
            if let Some(io) = self.ios.get_mut(id) {
                io.queued = false;
            }
            self.finish_if_done(id);
        }
        let notify = self.ring.as_mut().is_some_and(Ring::publish);
        self.counters.notifications += u64::from(notify);
        notify
    }

    /// Takes responses, at most `limit` of them, and sends what the freed slots have room for. Stops early, with
    /// `more` set, at the limit.
    pub fn poll(&mut self, limit: u32, host: &mut H) -> Result<Polled, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let mut more = true;
        for _ in 0..limit {
            let Some(ring) = self.ring.as_mut() else {
                more = false;
                break;
            };
            match ring.receive() {
                Ok(Some([a, b, c, d, ..])) => {
                    self.answer(Response::from_words([a, b, c, d]), host)?;
                }
                Ok(None) => {
                    more = false;
                    break;
                }
                Err(broken) => return Err(self.break_off(Broken::Ring(broken))),
            }
        }
        Ok(Polled {
            notify: self.post(host),
            more,
        })
    }

    /// Whether an I/O has finished that was not given back yet.
    pub fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// The next finished I/O.
    pub fn next_finished(&mut self) -> Option<(H::Token, Outcome)> {
        self.finished.pop_front()
    }

    /// Tries again to take back grants that the backend still used after its answer.
    pub fn tick(&mut self, host: &mut H) {
        if self.held == 0 {
            return;
        }
        let mut from = 0;
        while let Some(id) = self.parts.next_used(from) {
            from = id as u32 + 1;
            if self.parts.get(id).is_some_and(|part| part.answered) {
                self.held -= 1;
                self.release(id, Outcome::Good, host);
            }
        }
    }

    /// I/Os in the queue, finished ones not counted.
    pub fn len(&self) -> u32 {
        self.ios.len()
    }

    /// Whether no I/O is in the queue.
    pub fn is_empty(&self) -> bool {
        self.ios.is_empty()
    }

    /// Requests the backend has not answered, and answered ones whose pages it still uses.
    pub fn in_flight(&self) -> u32 {
        self.parts.len()
    }

    /// Requests whose pages the backend still uses although it has answered, or its ring is gone.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Why the queue stopped, if it did.
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The connection, if there is one.
    pub fn ring(&self) -> Option<&Ring<M>> {
        self.ring.as_ref()
    }

    /// What the queue knows of its disk while connected; features shrink when the backend rejects an operation.
    pub fn shape(&self) -> Option<Shape> {
        self.shape
    }

    fn break_off(&mut self, broken: Broken) -> Broken {
        self.broken = Some(broken);
        broken
    }

    fn worsen(&mut self, io: u64, outcome: Outcome) {
        if let Some(io) = self.ios.get_mut(io) {
            io.worst = io.worst.max(outcome);
        }
    }

    fn finish_if_done(&mut self, id: u64) {
        if self
            .ios
            .get(id)
            .is_some_and(|io| io.parts == 0 && !io.queued)
            && let Ok(io) = self.ios.take(id)
        {
            // There is room: `submit` keeps the two tables together below the capacity.
            self.finished.push_back((io.token, io.worst));
        }
    }

    /// Posts the next request of an I/O. The ring and the table of parts have room.
    fn post_one(&mut self, id: u64, host: &mut H) -> Posted {
        let (Some(shape), Some(io)) = (self.shape, self.ios.get_mut(id)) else {
            return Posted::Bad;
        };
        // An I/O that has failed already need not be tried further.
        if io.worst != Outcome::Good {
            return Posted::All;
        }
        let mut part = Part {
            io: id,
            operation: 0,
            answered: false,
            segments: 0,
            lent: [const { None }; MAX_SEGMENTS],
        };
        let direct = |operation, nr_segments, sector, segments| Request::Direct {
            operation,
            nr_segments,
            handle: shape.handle,
            id: 0,
            sector,
            segments,
        };
        let mut request = match io.operation {
            Operation::Transfer { write, sector, .. } => {
                if io.cursor.at_end() {
                    return Posted::All;
                }
                let start = io.cursor;
                part.operation = if write {
                    blkif::OP_WRITE
                } else {
                    blkif::OP_READ
                };
                let mut segments = [Segment::default(); MAX_SEGMENTS];
                match lend(io, shape, write, &mut part, &mut segments, host) {
                    Ok(0) => {
                        io.cursor = start;
                        return Posted::Starved;
                    }
                    Ok(count) => {
                        let sector = sector + u64::from(shape.units(start.done()));
                        direct(part.operation, count, sector, segments)
                    }
                    Err(crate::cursor::ShortList) => {
                        io.worst = Outcome::Failed;
                        // What was lent for this request was never shown to the backend.
                        part.answered = true;
                        self.keep_until_released(part, host);
                        return Posted::Bad;
                    }
                }
            }
            Operation::Flush => {
                part.operation = match shape.features {
                    _ if io.flushed => return Posted::All,
                    Features { flush: true, .. } => blkif::OP_FLUSH_DISKCACHE,
                    Features { barrier: true, .. } => blkif::OP_WRITE_BARRIER,
                    // A backend with neither writes through.
                    _ => return Posted::All,
                };
                io.flushed = true;
                direct(part.operation, 0, 0, [Segment::default(); MAX_SEGMENTS])
            }
            Operation::Discard(discards) => {
                let Some((sector, nr_sectors)) = discards.get(io.discards) else {
                    return Posted::All;
                };
                if shape.features.discard.is_none() {
                    return Posted::All;
                }
                io.discards += 1;
                part.operation = blkif::OP_DISCARD;
                Request::Discard {
                    flag: 0,
                    handle: shape.handle,
                    id: 0,
                    sector,
                    nr_sectors,
                }
            }
        };
        io.parts += 1;
        let operation = part.operation;
        let Ok(number) = self.parts.insert(part) else {
            return Posted::Bad;
        };
        match &mut request {
            Request::Direct { id, .. }
            | Request::Discard { id, .. }
            | Request::Indirect { id, .. } => *id = number,
        }
        if let Some(ring) = self.ring.as_mut() {
            // There is room; `post` has looked.
            let _ = ring.push(&request.to_words());
        }
        let counters = &mut self.counters;
        *match operation {
            blkif::OP_READ => &mut counters.reads,
            blkif::OP_WRITE => &mut counters.writes,
            blkif::OP_FLUSH_DISKCACHE => &mut counters.flushes,
            blkif::OP_WRITE_BARRIER => &mut counters.barriers,
            _ => &mut counters.discards,
        } += 1;
        if let Request::Direct { nr_segments, .. } = request {
            counters.granted += u64::from(nr_segments);
        }
        Posted::One
    }

    /// Puts a part that was never sent with the held ones and lets go of it.
    fn keep_until_released(&mut self, part: Part<H>, host: &mut H) {
        if let Some(io) = self.ios.get_mut(part.io) {
            io.parts += 1;
        }
        if let Ok(id) = self.parts.insert(part) {
            self.release(id, Outcome::Good, host);
        }
    }

    fn answer(&mut self, response: Response, host: &mut H) -> Result<(), Broken> {
        self.counters.responses += 1;
        let part = match self.parts.get_mut(response.id) {
            Some(part) if !part.answered => part,
            _ => return Err(self.break_off(Broken::UnknownResponse(response.id))),
        };
        part.answered = true;
        let (operation, io) = (part.operation, part.io);
        let outcome = match (response.status, operation) {
            (blkif::RSP_OKAY, _) => Outcome::Good,
            (blkif::RSP_EOPNOTSUPP, blkif::OP_FLUSH_DISKCACHE) => {
                if let Some(shape) = &mut self.shape {
                    shape.features.flush = false;
                }
                self.flush_again(io);
                Outcome::Good
            }
            (blkif::RSP_EOPNOTSUPP, blkif::OP_WRITE_BARRIER) => {
                if let Some(shape) = &mut self.shape {
                    shape.features.barrier = false;
                }
                Outcome::Good
            }
            (blkif::RSP_EOPNOTSUPP, blkif::OP_DISCARD) => {
                if let Some(shape) = &mut self.shape {
                    shape.features.discard = None;
                }
                Outcome::Good
            }
            _ => Outcome::Failed,
        };
        self.counters.errors += u64::from(outcome == Outcome::Failed);
        self.release(response.id, outcome, host);
        Ok(())
    }

    /// A flush the backend does not know after all is tried as a barrier.
    fn flush_again(&mut self, id: u64) {
        if let Some(io) = self.ios.get_mut(id) {
            io.flushed = false;
            if !io.queued {
                io.queued = true;
                self.backlog.push_back(id);
            }
        }
    }

    /// Takes back what a part lent. With the last grant the part is over; before that it is held.
    fn release(&mut self, id: u64, outcome: Outcome, host: &mut H) {
        let Some(part) = self.parts.get_mut(id) else {
            return;
        };
        let io = part.io;
        let mut free = true;
        let mut bounced = false;
        for lent in part.lent().iter_mut().flatten() {
            if let Some(grant) = lent.grant.take()
                && let Err(grant) = host.revoke(grant)
            {
                lent.grant = Some(grant);
                free = false;
            }
            bounced |= lent.bounce.is_some();
        }
        let read = part.operation == blkif::OP_READ;
        if !free {
            self.held += 1;
            self.counters.held += 1;
            self.worsen(io, outcome);
            return;
        }
        let mut outcome = outcome;
        if bounced {
            outcome = self.empty_pages(id, read, outcome, host);
        }
        self.parts.discard(id);
        if let Some(io) = self.ios.get_mut(io) {
            io.parts = io.parts.saturating_sub(1);
        }
        self.worsen(io, outcome);
        self.finish_if_done(io);
    }

    /// Copies what was read from a part's bounce pages, and gives them back. The outcome may get worse.
    fn empty_pages(&mut self, id: u64, read: bool, outcome: Outcome, host: &mut H) -> Outcome {
        let mut outcome = outcome;
        let Some(part) = self.parts.get_mut(id) else {
            return outcome;
        };
        let io = self.ios.get_mut(part.io);
        let lent = part.lent().iter_mut().flatten();
        for Bounce { page, at, length } in lent.filter_map(|lent| lent.bounce.take()) {
            if let Some(io) = &io {
                // Only what the backend says it has read; a failed or repeated I/O's buffer stays as it was.
                let good = outcome == Outcome::Good && io.worst == Outcome::Good;
                if read && good && !host.empty_page(&io.token, at, length, &page) {
                    outcome = Outcome::Failed;
                }
            }
            host.put_page(page);
        }
        outcome
    }

    /// Takes back all grants there are.
    fn recall(&mut self, host: &mut H) {
        // While I/Os are marked as queued none of them finishes here; the callers decide what becomes of them.
        let mut from = 0;
        while let Some(id) = self.ios.next_used(from) {
            from = id as u32 + 1;
            if let Some(io) = self.ios.get_mut(id) {
                io.queued = true;
                io.worst = Outcome::Failed;
            }
        }
        self.held = 0;
        let mut from = 0;
        while let Some(id) = self.parts.next_used(from) {
            from = id as u32 + 1;
            if let Some(part) = self.parts.get_mut(id) {
                part.answered = true;
            }
            self.release(id, Outcome::Failed, host);
        }
    }
}

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// The backend must be notified.
    pub notify: bool,
    /// There are perhaps more responses, and no event will say so: poll again.
    pub more: bool,
}

#[cfg(test)]
mod tests;
