//! One queue of a disk: the protocol engine under its lock, its event channel, its DPC, its bounce pages.
//!
//! ```text
//!   StartIo ──submit──► engine ──notify──► backend
//!                         ▲                   │ event
//!   completed SRBs ◄── DPC ◄── callback ◄─────┘   (channel masked until the DPC has found nothing more)
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;
use blkfront::cursor::Fragment;
use blkfront::queue::{Counters, Host, Operation, Outcome, Queue as Engine, Ring, Shape};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use nt::processor::ProcessorNumber;
use nt::sys::PAGE_SIZE;
use nt::sys::storport::{SRB_STATUS_BUS_RESET, SRB_STATUS_BUSY, SRB_STATUS_NO_DEVICE};
use nt::{Dpc, NtStatus, Pages, Result, SpinLock, try_arc};
use pv_client::evtchn::Channel;
use pv_client::gnttab::{Grant, GrantCache};
use scsi::Sense;
use storport::Srb;
use xen_abi::{DomId, Gref};

/// SRBs a queue holds at most; storport sends a disk no more than [`DEPTH`](crate::io::DEPTH).
const SRBS: u32 = 256;
/// Bounce pages of a queue.
const BOUNCE_PAGES: usize = 32;
/// Responses taken before others get the processor.
const BATCH: u32 = 64;
/// SRBs completed between two times of holding the lock.
const COMPLETIONS: usize = 16;

/// An SRB under way, and what to say if it fails.
pub(crate) struct Ticket {
    pub(crate) srb: Srb,
    pub(crate) failure: Sense,
    /// Bytes of its data that are valid if it succeeds.
    pub(crate) length: u32,
}

impl Ticket {
    fn complete(self, outcome: Outcome, gone: bool) {
        match outcome {
            Outcome::Good => self.srb.complete_good(self.length),
            Outcome::Busy => self.srb.complete(SRB_STATUS_BUSY),
            Outcome::Failed if gone => self.srb.complete(SRB_STATUS_NO_DEVICE),
            Outcome::Failed => self.srb.complete_check(&self.failure.fixed()),
        }
    }
}

/// The ring's pages.
pub(crate) struct RingPages(pub(crate) Pages);

impl AsRef<[AtomicU32]> for RingPages {
    fn as_ref(&self) -> &[AtomicU32] {
        self.0.words()
    }
}

/// Grants and bounce pages for the engine.
pub(crate) struct Lender {
    link: Option<Link>,
    bounce: Pages,
    free: Vec<usize>,
}

/// Whom to grant, and from where.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) cache: Arc<GrantCache>,
    pub(crate) backend: DomId,
}

/// A grant, and the cache it must go back to: an old connection's may outlive it.
pub(crate) struct Lent {
    grant: Grant,
    cache: Arc<GrantCache>,
}

/// The number of a bounce page.
pub(crate) struct BouncePage(usize);

impl Host for Lender {
    type Token = Ticket;
    type Grant = Lent;
    type Page = BouncePage;

    fn fragment(&self, ticket: &Ticket, index: u32) -> Option<Fragment> {
        let (address, length) = ticket.srb.fragment(index)?;
        Some(Fragment { address, length })
    }

    fn grant(&mut self, pfn: u64, read_only: bool) -> Option<Lent> {
        let link = self.link.as_ref()?;
        let grant = link.cache.permit(link.backend, pfn, read_only).ok()?;
        Some(Lent {
            grant,
            cache: link.cache.clone(),
        })
    }

    fn gref(&self, lent: &Lent) -> Gref {
        lent.cache.reference(&lent.grant)
    }

    fn revoke(&mut self, lent: Lent) -> core::result::Result<(), Lent> {
        let Lent { grant, cache } = lent;
        cache.revoke(grant).map_err(|grant| Lent { grant, cache })
    }

    fn take_page(&mut self) -> Option<BouncePage> {
        let page = BouncePage(self.free.pop()?);
        for word in self.words(&page) {
            word.store(0, Relaxed);
        }
        Some(page)
    }

    fn pfn(&self, page: &BouncePage) -> u64 {
        self.bounce.pfn(page.0).unwrap_or(0)
    }

    fn put_page(&mut self, page: BouncePage) {
        // There is room: each page was popped from here.
        self.free.push(page.0);
    }

    fn fill_page(&mut self, ticket: &Ticket, at: u32, length: u32, page: &mut BouncePage) -> bool {
        let mut words = self.words(page).iter();
        self.pieces(length).all(|(offset, length)| {
            let mut bytes = [0; PIECE];
            let Some(part) = bytes.get_mut(..length) else {
                return false;
            };
            if !ticket.srb.copy_out(at + offset, part) {
                return false;
            }
            for (chunk, word) in part.chunks_exact(4).zip(&mut words) {
                word.store(chunk.try_into().map_or(0, u32::from_le_bytes), Relaxed);
            }
            true
        })
    }

    fn empty_page(&mut self, ticket: &Ticket, at: u32, length: u32, page: &BouncePage) -> bool {
        let mut words = self.words(page).iter();
        self.pieces(length).all(|(offset, length)| {
            let mut bytes = [0; PIECE];
            let Some(part) = bytes.get_mut(..length) else {
                return false;
            };
            for (chunk, word) in part.chunks_exact_mut(4).zip(&mut words) {
                chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
            }
            ticket.srb.copy_in(at + offset, part)
        })
    }
}

/// Bytes copied at a time, on a small stack; segments are whole blocks, hence multiples of it.
const PIECE: usize = 512;

impl Lender {
    fn words(&self, page: &BouncePage) -> &[AtomicU32] {
        const WORDS: usize = PAGE_SIZE / 4;
        self.bounce
            .words()
            .get(page.0 * WORDS..(page.0 + 1) * WORDS)
            .unwrap_or(&[])
    }

    fn pieces(&self, length: u32) -> impl Iterator<Item = (u32, usize)> + use<> {
        (0..length)
            .step_by(PIECE)
            .map(move |offset| (offset, (length - offset).min(PIECE as u32) as usize))
    }
}

struct State {
    engine: Engine<Lender, RingPages>,
    lender: Lender,
    channel: Option<Channel>,
    /// Held here so that the DPC can queue itself again; taken out to end it.
    dpc: Option<Arc<Dpc>>,
    gone: bool,
}

/// A queue.
pub(crate) struct Queue {
    state: SpinLock<State>,
    /// For the dump of state, which may not take the lock.
    pub(crate) submitted: AtomicU32,
    pub(crate) completed: AtomicU32,
    pub(crate) events: AtomicU32,
}

/// What a connection leaves when it ends.
pub(crate) struct Remains {
    pub(crate) ring: Option<RingPages>,
    pub(crate) channel: Option<Channel>,
}

impl Queue {
    /// A queue for rings of up to `2^order` pages, whose DPC runs on `processor`. `broken` is called when the backend
    /// breaks the protocol. PASSIVE_LEVEL.
    pub(crate) fn new(
        order: u32,
        processor: Option<ProcessorNumber>,
        broken: impl Fn(blkfront::queue::Broken) + Send + Sync + 'static,
    ) -> Result<Arc<Queue>> {
        let engine = Engine::try_new(SRBS, xen_abi::blkif::ring_entries(order))
            .ok_or(NtStatus::NO_MEMORY)?;
        let mut free = Vec::new();
        free.try_reserve_exact(BOUNCE_PAGES)?;
        free.extend(0..BOUNCE_PAGES);
        let lender = Lender {
            link: None,
            bounce: Pages::allocate(BOUNCE_PAGES)?,
            free,
        };
        let state = State {
            engine,
            lender,
            channel: None,
            dpc: None,
            gone: false,
        };
        let queue = try_arc(Queue {
            state: SpinLock::new(state),
            submitted: AtomicU32::new(0),
            completed: AtomicU32::new(0),
            events: AtomicU32::new(0),
        })?;
        let own = queue.clone();
        let dpc = try_arc(Dpc::new(move || own.run(&broken))?)?;
        if let Some(processor) = processor {
            dpc.set_target(processor)?;
        }
        queue.state.lock().dpc = Some(dpc);
        Ok(queue)
    }

    /// What an event of the backend's does: a function for the channel's callback.
    pub(crate) fn on_event(self: &Arc<Self>) -> Option<impl Fn() + Send + Sync + 'static> {
        let dpc = self.state.lock().dpc.clone()?;
        let queue = self.clone();
        Some(move || {
            queue.events.fetch_add(1, Relaxed);
            dpc.queue();
        })
    }

    /// Ends the DPC. The channel is closed. PASSIVE_LEVEL.
    pub(crate) fn stop(&self) {
        let dpc = self.state.lock().dpc.take();
        drop(dpc);
    }

    /// Sends everything that waits, and all to come, over a new ring.
    pub(crate) fn connect(
        &self,
        ring: Ring<RingPages>,
        shape: Shape,
        link: Link,
        channel: Channel,
    ) {
        let mut state = self.state.lock();
        let State {
            engine,
            lender,
            channel: own,
            gone,
            ..
        } = &mut *state;
        lender.link = Some(link);
        *gone = false;
        let notify = engine.connect(ring, shape, lender);
        channel.unmask_and_deliver();
        if notify {
            channel.send();
        }
        *own = Some(channel);
    }

    /// Ends the connection, whose backend has stopped; what it has not answered waits for the next one.
    pub(crate) fn disconnect(&self) -> Remains {
        let mut state = self.state.lock();
        let State {
            engine,
            lender,
            channel,
            ..
        } = &mut *state;
        let ring = engine.disconnect(lender);
        lender.link = None;
        Remains {
            ring,
            channel: channel.take(),
        }
    }

    /// Takes an SRB; it is completed when its work is done, or when the disk is given up.
    pub(crate) fn submit(&self, ticket: Ticket, operation: Operation) {
        self.submitted.fetch_add(1, Relaxed);
        let mut state = self.state.lock();
        if state.gone {
            drop(state);
            self.completed.fetch_add(1, Relaxed);
            return ticket.complete(Outcome::Failed, true);
        }
        if let Err((ticket, _full)) = state.engine.submit(ticket, operation) {
            drop(state);
            self.completed.fetch_add(1, Relaxed);
            return ticket.complete(Outcome::Busy, false);
        }
        state.post();
        // Work without requests is finished already.
        self.complete_finished(state);
    }

    /// Moves all I/Os to another queue; this one is disconnected.
    pub(crate) fn hand_over(&self, to: &Queue) {
        loop {
            let withdrawn = self.state.lock().engine.withdraw();
            let Some((ticket, operation)) = withdrawn else {
                return;
            };
            self.completed.fetch_add(1, Relaxed);
            to.submit(ticket, operation);
        }
    }

    /// After storport's reset: what waits for a connection is given back, to be sent again. What a backend has is not.
    pub(crate) fn give_back(&self) {
        loop {
            let withdrawn = self.state.lock().engine.withdraw();
            let Some((ticket, _)) = withdrawn else { return };
            self.completed.fetch_add(1, Relaxed);
            ticket.srb.complete(SRB_STATUS_BUS_RESET);
        }
    }

    /// Fails all I/Os, those to come as well if the disk is `gone`.
    pub(crate) fn abort(&self, gone: bool) {
        let mut state = self.state.lock();
        state.gone = gone;
        let State { engine, lender, .. } = &mut *state;
        engine.abort(lender);
        self.complete_finished(state);
    }

    /// Looks for responses and takes back held grants, event or not; pokes the backend.
    pub(crate) fn nudge(&self) {
        let mut state = self.state.lock();
        let State {
            engine,
            lender,
            channel,
            ..
        } = &mut *state;
        engine.tick(lender);
        if let Some(channel) = channel
            && engine.in_flight() > 0
        {
            channel.send();
        }
        // A broken ring shows itself to the DPC.
        if let Some(dpc) = &state.dpc {
            dpc.queue();
        }
        self.complete_finished(state);
    }

    /// Counters, requests in flight, requests whose pages the backend keeps.
    pub(crate) fn report(&self) -> (Counters, u32, u32) {
        let state = self.state.lock();
        (
            state.engine.counters(),
            state.engine.in_flight(),
            state.engine.held(),
        )
    }

    /// The DPC.
    fn run(&self, broken: &impl Fn(blkfront::queue::Broken)) {
        loop {
            let mut state = self.state.lock();
            let State {
                engine,
                lender,
                channel,
                dpc,
                ..
            } = &mut *state;
            match engine.poll(BATCH, lender) {
                Ok(polled) => {
                    if let Some(channel) = channel.as_ref().filter(|_| polled.notify) {
                        channel.send();
                    }
                    if polled.more {
                        // Others first; the channel stays masked.
                        if let Some(dpc) = dpc {
                            dpc.queue();
                        }
                        return self.complete_finished(state);
                    }
                }
                Err(reason) => {
                    // The channel stays masked: nothing that comes from there means anything.
                    engine.abort(lender);
                    self.complete_finished(state);
                    return broken(reason);
                }
            }
            let again = channel.as_ref().is_some_and(Channel::unmask);
            self.complete_finished(state);
            if !again {
                return;
            }
        }
    }

    /// Completes what is finished, without holding the lock.
    fn complete_finished<'a>(&'a self, mut state: nt::spinlock::SpinLockGuard<'a, State>) {
        while state.engine.has_finished() {
            let mut finished: [Option<(Ticket, Outcome)>; COMPLETIONS] =
                [const { None }; COMPLETIONS];
            let mut count = 0;
            for slot in &mut finished {
                let Some(next) = state.engine.next_finished() else {
                    break;
                };
                *slot = Some(next);
                count += 1;
            }
            let gone = state.gone;
            drop(state);
            self.completed.fetch_add(count, Relaxed);
            // Emptied where they are: the array is large.
            for (ticket, outcome) in finished.iter_mut().map_while(Option::take) {
                ticket.complete(outcome, gone);
            }
            if (count as usize) < COMPLETIONS {
                return;
            }
            state = self.state.lock();
        }
    }
}

impl State {
    fn post(&mut self) {
        let State {
            engine,
            lender,
            channel,
            ..
        } = self;
        let notify = engine.post(lender);
        if let Some(channel) = channel.as_ref().filter(|_| notify) {
            channel.send();
        }
    }
}
