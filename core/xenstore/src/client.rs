//! The client itself: slots of requests, matching of replies, and what a resume does to both.

use crate::receiver::{Receiver, Step};
use crate::request::Operation;
use crate::ring::Ring;
use crate::watch::Watches;
use crate::{Broken, Error, WatchId, error};
use alloc::vec::Vec;
use xen_abi::xs_wire::{
    PAYLOAD_MAX, XS_ERROR, XS_UNWATCH, XS_WATCH, XS_WATCH_EVENT, XenstoreInterface,
};

/// Requests that can be under way at once.
pub const SLOTS: usize = 32;

/// Steps of one [`Client::poll`], so that a server that never stops talking cannot hold a CPU.
const STEPS: usize = 64;

/// A request under way. Ask for its [`Client::outcome`], then [`Client::finish`] it.
#[derive(Debug)]
#[must_use = "the slot stays taken until the request is finished"]
pub struct Ticket {
    slot: usize,
    req_id: u32,
}

impl Ticket {
    /// The slot, below [`SLOTS`], that [`Event::Reply`] will name.
    pub fn slot(&self) -> usize {
        self.slot
    }
}

/// A transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    id: u32,
    epoch: u32,
}

impl Transaction {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }
}

/// Something its owner waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The request in this slot has an outcome.
    Reply(usize),
    /// A watch fired.
    Watch(WatchId),
}

/// What a poll left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Progress {
    /// Bytes moved: xenstored has to be told.
    pub notify: bool,
    /// There may be more at once: poll again.
    pub more: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Waits for room in the ring; this many bytes have gone.
    Queued(usize),
    /// Waits for the reply.
    Sent,
    Done(Result<(), Error>),
}

#[derive(Debug)]
struct Slot {
    state: State,
    /// Nobody waits for the outcome any more.
    abandoned: bool,
    kind: u32,
    in_transaction: bool,
    req_id: u32,
    /// Requests go out in this order.
    order: u64,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Slot {
    const fn new() -> Self {
        Self {
            state: State::Free,
            abandoned: false,
            kind: 0,
            in_transaction: false,
            req_id: 0,
            order: 0,
            request: Vec::new(),
            reply: Vec::new(),
        }
    }

    fn is_under_way(&self) -> bool {
        matches!(self.state, State::Queued(_) | State::Sent)
    }

    /// Settles the request. Returns whether somebody waits for that.
    fn settle(&mut self, outcome: Result<(), Error>) -> bool {
        self.state = if self.abandoned {
            State::Free
        } else {
            State::Done(outcome)
        };
        !self.abandoned
    }
}

/// The client's end of a connection to xenstored.
#[derive(Debug)]
pub struct Client<'p> {
    ring: Ring<'p>,
    receiver: Receiver,
    /// [`SLOTS`] of them. Not in place: a client passes over the small stacks of a kernel by value.
    slots: Vec<Slot>,
    watches: Watches,
    /// Counts resumes: what was made in an earlier epoch is inactive.
    epoch: u32,
    next: u64,
    broken: Option<Broken>,
    strays: u32,
}

impl<'p> Client<'p> {
    /// A client on `page`. `seed` makes the request ids differ from those of an earlier client of the same page.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn new(page: &'p XenstoreInterface, seed: u32) -> Result<Self, Error> {
        let mut slots = Vec::new();
        slots
            .try_reserve_exact(SLOTS)
            .map_err(|_| Error::NoMemory)?;
        slots.extend((0..SLOTS).map(|_| Slot::new()));
        Ok(Self {
            ring: Ring::new(page),
            receiver: Receiver::new()?,
            slots,
            watches: Watches::default(),
            epoch: 0,
            next: u64::from(seed),
            broken: None,
            strays: 0,
        })
    }

    /// Takes a request. Its bytes go out with the next [`Self::poll`].
    ///
    /// # Errors
    /// [`Error::Broken`], [`Error::Inactive`], [`Error::Busy`], [`Error::TooLong`], [`Error::NoMemory`].
    pub fn submit(
        &mut self,
        tx: Option<&Transaction>,
        operation: Operation<'_>,
    ) -> Result<Ticket, Error> {
        if let Some(reason) = self.broken {
            return Err(Error::Broken(reason));
        }
        if tx.is_some_and(|tx| tx.epoch != self.epoch) {
            return Err(Error::Inactive);
        }
        if let Operation::Watch(_, id) | Operation::Unwatch(_, id) = operation
            && !self.watches.is_active(id)
        {
            return Err(Error::Inactive);
        }
        let index = self
            .slots
            .iter()
            .position(|s| s.state == State::Free)
            .ok_or(Error::Busy)?;
        let slot = self.slots.get_mut(index).ok_or(Error::Busy)?;
        // The reply's memory is there before the request goes out: what xenstored did, its caller learns.
        slot.reply.clear();
        slot.reply
            .try_reserve_exact(PAYLOAD_MAX)
            .map_err(|_| Error::NoMemory)?;
        let req_id = ((self.next as u32) << 8) | index as u32;
        operation.encode(req_id, tx, &mut slot.request)?;
        slot.state = State::Queued(0);
        slot.abandoned = false;
        slot.kind = operation.kind();
        slot.in_transaction = tx.is_some();
        slot.req_id = req_id;
        slot.order = self.next;
        self.next = self.next.wrapping_add(1);
        Ok(Ticket {
            slot: index,
            req_id,
        })
    }

    /// The outcome of a request, once there is one.
    pub fn outcome(&self, ticket: &Ticket) -> Option<Result<&[u8], Error>> {
        let slot = self
            .slots
            .get(ticket.slot)
            .filter(|s| s.req_id == ticket.req_id)?;
        match slot.state {
            State::Done(outcome) => Some(outcome.map(|()| slot.reply.as_slice())),
            _ => None,
        }
    }

    /// Gives the slot back. A request without outcome is abandoned: it is withdrawn if nothing of it has gone out, else its
    /// slot stays taken until the reply comes, so that the reply cannot be mistaken for another's.
    pub fn finish(&mut self, ticket: Ticket) {
        let Some(slot) = self
            .slots
            .get_mut(ticket.slot)
            .filter(|s| s.req_id == ticket.req_id)
        else {
            return;
        };
        match slot.state {
            State::Done(_) | State::Queued(0) => slot.state = State::Free,
            State::Queued(_) | State::Sent => slot.abandoned = true,
            State::Free => {}
        }
    }

    /// The transaction that a reply to [`Operation::TransactionStart`] announces.
    ///
    /// # Errors
    /// [`Error::MalformedReply`].
    pub fn transaction(&self, reply: &[u8]) -> Result<Transaction, Error> {
        let digits = reply.split(|&b| b == 0).next().unwrap_or_default();
        let id = core::str::from_utf8(digits)
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .filter(|&id| id != 0)
            .ok_or(Error::MalformedReply)?;
        Ok(Transaction {
            id,
            epoch: self.epoch,
        })
    }

    /// Whether xenstored still knows the transaction.
    pub fn is_current(&self, tx: &Transaction) -> bool {
        tx.epoch == self.epoch
    }

    /// Makes a name for a watch. It hears events from the time when [`Operation::Watch`] is sent.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Busy`].
    pub fn open_watch(&mut self) -> Result<WatchId, Error> {
        self.watches.open()
    }

    /// Forgets a watch: events that are still to come are dropped.
    pub fn close_watch(&mut self, id: WatchId) {
        self.watches.close(id);
    }

    /// Whether xenstored still knows the watch.
    pub fn is_watching(&mut self, id: WatchId) -> bool {
        self.watches.is_active(id)
    }

    /// Messages that belonged to no request and no watch.
    pub fn strays(&self) -> u32 {
        self.strays
    }

    /// Why the connection is of no use, if it is.
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Moves bytes both ways and reports what became known.
    pub fn poll(&mut self, mut report: impl FnMut(Event)) -> Progress {
        let mut progress = Progress::default();
        if self.broken.is_some() {
            return progress;
        }
        for _ in 0..STEPS {
            match self.step(&mut report) {
                Ok(true) => progress.notify = true,
                Ok(false) => return progress,
                Err(reason) => {
                    self.broken = Some(reason);
                    self.settle_all(Error::Broken(reason), &mut report);
                    return progress;
                }
            }
        }
        progress.more = true;
        progress
    }

    /// After a migration or a resume: xenstored has forgotten the guest's watches, transactions and requests.
    ///
    /// Requests that stand alone are sent again with the next poll. What belonged to a transaction or a watch fails with
    /// [`Error::Inactive`]; the owners renew those.
    pub fn resume(&mut self, mut report: impl FnMut(Event)) {
        self.epoch = self.epoch.wrapping_add(1);
        self.broken = None;
        self.watches.deactivate();
        self.receiver.reset();
        self.ring.adopt();
        for (index, slot) in self
            .slots
            .iter_mut()
            .enumerate()
            .filter(|(_, s)| s.is_under_way())
        {
            let tied = slot.in_transaction || matches!(slot.kind, XS_WATCH | XS_UNWATCH);
            if slot.abandoned {
                slot.state = State::Free;
            } else if tied {
                slot.settle(Err(Error::Inactive));
                report(Event::Reply(index));
            } else {
                slot.state = State::Queued(0);
            }
        }
    }

    /// Sends a piece, receives a piece. Returns whether anything moved.
    fn step(&mut self, report: &mut impl FnMut(Event)) -> Result<bool, Broken> {
        let sent = self.send()?;
        let step = self.receiver.step(&mut self.ring)?;
        if let Step::Message { kind, req_id } = step {
            self.dispatch(kind, req_id, report);
        }
        Ok(sent || step != Step::Idle)
    }

    fn send(&mut self) -> Result<bool, Broken> {
        let oldest = self
            .slots
            .iter_mut()
            .filter(|s| matches!(s.state, State::Queued(_)))
            .min_by_key(|s| s.order);
        let Some(slot) = oldest else { return Ok(false) };
        let State::Queued(gone) = slot.state else {
            return Ok(false);
        };
        let moved = self
            .ring
            .write(slot.request.get(gone..).unwrap_or_default())?;
        let gone = gone.saturating_add(moved);
        slot.state = if gone < slot.request.len() {
            State::Queued(gone)
        } else {
            State::Sent
        };
        Ok(moved != 0)
    }

    fn dispatch(&mut self, kind: u32, req_id: u32, report: &mut impl FnMut(Event)) {
        let payload = self.receiver.payload();
        if kind == XS_WATCH_EVENT {
            match self.watches.fired(payload) {
                Some(id) => report(Event::Watch(id)),
                None => self.strays = self.strays.saturating_add(1),
            }
            return;
        }
        let index = (req_id & 0xFF) as usize;
        let waiting = self
            .slots
            .get_mut(index)
            .filter(|s| s.req_id == req_id && s.state == State::Sent);
        let Some(slot) = waiting else {
            self.strays = self.strays.saturating_add(1);
            return;
        };
        let outcome = if kind == XS_ERROR {
            Err(error::parse(payload))
        } else if kind == slot.kind {
            // Within the capacity: the receiver takes no longer payload.
            slot.reply.extend_from_slice(payload);
            Ok(())
        } else {
            Err(Error::MalformedReply)
        };
        if slot.settle(outcome) {
            report(Event::Reply(index));
        }
    }

    fn settle_all(&mut self, error: Error, report: &mut impl FnMut(Event)) {
        for (index, slot) in self
            .slots
            .iter_mut()
            .enumerate()
            .filter(|(_, s)| s.is_under_way())
        {
            if slot.settle(Err(error)) {
                report(Event::Reply(index));
            }
        }
    }
}

#[cfg(test)]
mod tests;
