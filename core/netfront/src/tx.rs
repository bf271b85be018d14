//! One transmit ring: takes packets whose pages are granted, sends them as requests, and gives each back exactly once.
//!
//! ```text
//!   Parts ──push──▶ requests and extras ──publish──▶ backend ──poll──▶ parts answered ──▶ finished ──next_finished──▶
//!                   an id for each request                           grants revoked       worst status of the parts
//! ```
//!
//! A packet never finishes before every page it lent is the guest's own again: what the backend still uses after its
//! answer stays here, and [`Tx::tick`] tries again. Requests to the multicast filter go the same way. Packets that do
//! not fit wait with the caller. All memory is allocated in [`Tx::try_new`].

use crate::{Checksum, Grants, MacAddress};
use ::packet::Version;
use alloc::collections::VecDeque;
use core::sync::atomic::AtomicU32;
use ring::{FrontRing, Slots};
use xen_abi::Gref;
use xen_abi::netif::{
    self, Extra, HASH_ALGORITHM_TOEPLITZ, InEntry, RSP_DROPPED, RSP_ERROR, RSP_NULL, RSP_OKAY,
    TX_CSUM_BLANK, TX_DATA_VALIDATED, TX_EXTRA_INFO, TX_MORE_DATA, TX_WORDS, TxRequest, TxResponse,
};

mod packet;

pub use packet::{Packet, Parts, Refusal};

/// A transmit ring.
pub type Ring<M> = FrontRing<M, TX_WORDS>;

/// Requests that can be outstanding: an id has eight bits for the slot and eight that count the slot's uses.
pub const ENTRIES: u32 = 256;
/// Bytes of the shortest packet: an Ethernet header.
const MIN_LENGTH: u32 = 14;

/// How a packet ended. The worst answer to one of its parts decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The backend has taken it.
    Sent,
    /// The backend has dropped it, or is gone.
    Dropped,
    /// The backend reports an error.
    Failed,
}

/// What the backend did that no backend may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The ring's indices are impossible.
    Ring(ring::Broken),
    /// A response to a request that is not outstanding.
    UnknownId(u16),
    /// More responses for extras than there were extras.
    UnexpectedNull,
    /// A status that is not in the protocol.
    UnknownStatus(i16),
}

/// Events counted since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counters {
    pub packets: u64,
    pub requests: u64,
    pub extras: u64,
    pub responses: u64,
    pub sent: u64,
    pub dropped: u64,
    pub failed: u64,
    pub multicast_requests: u64,
    pub notifications: u64,
    /// Times that a grant was still in use after the answer.
    pub held: u64,
}

/// A request of the multicast filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multicast {
    /// Pass packets to this address.
    Add(MacAddress),
    /// Do not any longer.
    Remove(MacAddress),
}

/// A request in the ring, or one that is answered while the backend still uses its page.
struct Request<G> {
    owner: Owner,
    grant: Option<G>,
    answered: bool,
}

#[derive(Clone, Copy)]
enum Owner {
    /// The packet with this id.
    Packet(u64),
    Multicast(Multicast),
}

struct Sending<T> {
    token: T,
    /// Parts whose pages are not back.
    parts: u32,
    worst: Outcome,
}

/// The engine of one transmit ring. `T` names a packet for its owner.
pub struct Tx<G: Grants, T, M> {
    ring: Option<Ring<M>>,
    requests: Slots<Request<G::Grant>>,
    packets: Slots<Sending<T>>,
    finished: VecDeque<(T, Outcome)>,
    /// Extras whose slots have not come back.
    extras: u32,
    /// Requests that are answered and still hold grants.
    held: u32,
    /// The multicast request that the backend did not take.
    refused_multicast: Option<Multicast>,
    broken: Option<Broken>,
    notify: bool,
    counters: Counters,
}

impl<G: Grants, T, M: AsRef<[AtomicU32]>> Tx<G, T, M> {
    /// An engine without a ring; `None` if there is no memory for it.
    pub fn try_new() -> Option<Self> {
        let mut finished = VecDeque::new();
        finished.try_reserve_exact(ENTRIES as usize).ok()?;
        Some(Self {
            ring: None,
            requests: Slots::try_new(ENTRIES)?,
            packets: Slots::try_new(ENTRIES)?,
            finished,
            extras: 0,
            held: 0,
            refused_multicast: None,
            broken: None,
            notify: false,
            counters: Counters::default(),
        })
    }

    /// Begins with a new ring.
    pub fn connect(&mut self, ring: Ring<M>) {
        self.ring = Some(ring);
        self.broken = None;
        self.extras = 0;
        self.notify = false;
        self.refused_multicast = None;
    }

    /// Ends the connection: everything not answered is dropped, and finishes as soon as its pages are back.
    ///
    /// Only when the backend is gone or has closed its end: before that it may still read the pages.
    pub fn disconnect(&mut self, grants: &mut G) -> Option<M> {
        let ring = self.ring.take();
        self.extras = 0;
        let mut from = 0;
        while let Some(id) = self.requests.next_used(from) {
            from = id as u32 + 1;
            if let Some(request) = self.requests.get_mut(id)
                && !request.answered
            {
                request.answered = true;
                self.release(id, Outcome::Dropped, grants);
            }
        }
        self.refused_multicast = None;
        ring.map(Ring::into_memory)
    }

    /// Whether a packet of so many parts and extras can be sent now. Asked before its pages are granted.
    pub fn has_room(&self, parts: u32, extras: u32) -> bool {
        let slots = parts.saturating_add(extras);
        self.broken.is_none()
            && self.ring.as_ref().is_some_and(|ring| ring.free() >= slots)
            && ENTRIES - self.requests.len() >= parts
            && !self.packets.is_full()
            && self.finished.len() as u32 + self.packets.len() < ENTRIES
    }

    /// Sends a packet: takes the parts, and gives the token back through [`Tx::next_finished`]. Nothing is shown to the
    /// backend before [`Tx::publish`], but when a quarter of the ring is waiting for that. With a refusal, token and
    /// parts stay with the caller.
    pub fn push(
        &mut self,
        token: T,
        packet: &Packet,
        parts: &mut Parts<G>,
    ) -> Result<(), (T, Refusal)> {
        if let Err(refusal) = self.check(packet, parts) {
            return Err((token, refusal));
        }
        let (count, length) = (parts.len() as u32, parts.length());
        let owner = match self.packets.insert(Sending {
            token,
            parts: count,
            worst: Outcome::Sent,
        }) {
            Ok(id) => Owner::Packet(id),
            Err(sending) => return Err((sending.token, Refusal::Full)),
        };
        let gso = packet.gso.map(|gso| Extra::Gso {
            size: gso.mss,
            kind: match gso.version {
                Version::V4 => netif::GSO_TYPE_TCPV4,
                Version::V6 => netif::GSO_TYPE_TCPV6,
            },
            features: 0,
        });
        let hash = packet.hash.map(|hash| Extra::Hash {
            kind: hash.kind.number(),
            algorithm: HASH_ALGORITHM_TOEPLITZ,
            value: hash.value,
        });
        let checksum = match packet.checksum {
            Checksum::Unknown => 0,
            Checksum::Validated => TX_DATA_VALIDATED,
            Checksum::Blank => TX_CSUM_BLANK | TX_DATA_VALIDATED,
        };
        let extra = if packet.extras() == 0 {
            0
        } else {
            TX_EXTRA_INFO
        };
        for (index, part) in parts.drain().enumerate() {
            let last = index + 1 == count as usize;
            let more = if last { 0 } else { TX_MORE_DATA };
            // The first request tells the length of the whole, by which the backend knows that of the first part.
            let (flags, size) = match index {
                0 => (checksum | extra | more, length as u16),
                _ => (more, part.length),
            };
            let mut request = TxRequest {
                gref: part.gref,
                offset: part.offset,
                flags,
                id: 0,
                size,
            };
            self.send(owner, Some(part.grant), &mut request);
            if index == 0 {
                self.send_extras([gso, hash]);
            }
        }
        self.counters.packets += 1;
        self.publish_batch();
        Ok(())
    }

    /// Whether a packet can be sent, by itself and by what room there is.
    fn check(&self, packet: &Packet, parts: &Parts<G>) -> Result<(), Refusal> {
        if self.broken.is_some() || self.ring.is_none() {
            return Err(Refusal::Stopped);
        }
        if parts.length() < MIN_LENGTH {
            return Err(Refusal::Runt);
        }
        if packet
            .gso
            .is_some_and(|gso| gso.mss == 0 || packet.checksum != Checksum::Blank)
        {
            return Err(Refusal::BadGso);
        }
        if !self.has_room(parts.len() as u32, packet.extras()) {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// Sends a request to the multicast filter, if there is room. Such requests go before packets, and only on the
    /// first ring.
    pub fn push_multicast(&mut self, multicast: Multicast) -> Result<(), Refusal> {
        if self.broken.is_some() || self.ring.is_none() {
            return Err(Refusal::Stopped);
        }
        if !self.has_room(1, 1) {
            return Err(Refusal::Full);
        }
        let extra = match multicast {
            Multicast::Add(address) => Extra::McastAdd(address.0),
            Multicast::Remove(address) => Extra::McastDel(address.0),
        };
        let mut request = TxRequest {
            gref: Gref(0),
            flags: TX_EXTRA_INFO,
            ..TxRequest::default()
        };
        self.send(Owner::Multicast(multicast), None, &mut request);
        self.send_extras([Some(extra), None]);
        self.counters.multicast_requests += 1;
        self.publish_batch();
        Ok(())
    }

    /// Shows the backend all that was pushed. `true`: it must be notified, now or because of an earlier batch.
    #[must_use = "a notification that is not sent is a packet that is not seen"]
    pub fn publish(&mut self) -> bool {
        let notify = self.ring.as_mut().is_some_and(Ring::publish);
        let notify = core::mem::take(&mut self.notify) || notify;
        self.counters.notifications += u64::from(notify);
        notify
    }

    /// Takes responses, at most `limit` of them. `true`: there are perhaps more, and no event will say so: poll again.
    pub fn poll(&mut self, limit: u32, grants: &mut G) -> Result<bool, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        for _ in 0..limit {
            let Some(ring) = self.ring.as_mut() else {
                return Ok(false);
            };
            match ring.receive() {
                Ok(Some(words)) => self.answer(TxResponse::from_words(&words), grants)?,
                Ok(None) => return Ok(false),
                Err(broken) => return Err(self.break_off(Broken::Ring(broken))),
            }
        }
        Ok(true)
    }

    /// The next finished packet.
    pub fn next_finished(&mut self) -> Option<(T, Outcome)> {
        self.finished.pop_front()
    }

    /// Whether a packet has finished that was not given back yet.
    pub fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// A multicast request that the backend did not take, since this was last asked: it does not filter as it should.
    pub fn refused_multicast(&mut self) -> Option<Multicast> {
        self.refused_multicast.take()
    }

    /// Tries again to take back grants that the backend still used after its answer.
    pub fn tick(&mut self, grants: &mut G) {
        if self.held == 0 {
            return;
        }
        let mut from = 0;
        while let Some(id) = self.requests.next_used(from) {
            from = id as u32 + 1;
            if self.requests.get(id).is_some_and(|it| it.answered) {
                self.held -= 1;
                self.release(id, Outcome::Sent, grants);
            }
        }
    }

    /// Packets that are not finished.
    pub fn len(&self) -> u32 {
        self.packets.len()
    }

    /// Whether no packet is in the ring, or waits for its pages.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Requests that the backend has not answered.
    pub fn outstanding(&self) -> u32 {
        self.requests.len() - self.held
    }

    /// Requests that are answered, or whose ring is gone, while the backend still uses their pages.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Why the ring stopped, if it did.
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The ring, while there is one.
    pub fn ring(&self) -> Option<&Ring<M>> {
        self.ring.as_ref()
    }

    fn break_off(&mut self, broken: Broken) -> Broken {
        self.broken = Some(broken);
        broken
    }

    /// Puts a request into the ring, which has room.
    fn send(&mut self, owner: Owner, grant: Option<G::Grant>, request: &mut TxRequest) {
        let entry = Request {
            owner,
            grant,
            answered: false,
        };
        let (Ok(id), Some(ring)) = (self.requests.insert(entry), self.ring.as_mut()) else {
            return;
        };
        request.id = wire_id(id);
        // There is room: the callers have asked `has_room`.
        let _ = ring.push(&request.to_words());
        self.counters.requests += 1;
    }

    /// Puts extras into the ring, which has room.
    fn send_extras(&mut self, extras: [Option<Extra>; 2]) {
        let Some(ring) = self.ring.as_mut() else {
            return;
        };
        let mut extras = extras.into_iter().flatten().peekable();
        while let Some(extra) = extras.next() {
            let _ = ring.push(&extra.encode(extras.peek().is_some()).to_words());
            self.extras += 1;
            self.counters.extras += 1;
        }
    }

    /// Shows the backend a quarter of the ring at a time, so that it works while more is prepared.
    fn publish_batch(&mut self) {
        if let Some(ring) = self.ring.as_mut() {
            let waiting = ring.entries() - ring.free() - ring.outstanding();
            if waiting >= ring.entries() / 4 {
                self.notify |= ring.publish();
            }
        }
    }

    fn answer(&mut self, response: TxResponse, grants: &mut G) -> Result<(), Broken> {
        self.counters.responses += 1;
        let outcome = match response.status {
            RSP_OKAY => Outcome::Sent,
            RSP_DROPPED => Outcome::Dropped,
            RSP_ERROR => Outcome::Failed,
            RSP_NULL => {
                return match self.extras.checked_sub(1) {
                    Some(extras) => {
                        self.extras = extras;
                        Ok(())
                    }
                    None => Err(self.break_off(Broken::UnexpectedNull)),
                };
            }
            status => return Err(self.break_off(Broken::UnknownStatus(status))),
        };
        let Some(id) = self.find(response.id) else {
            return Err(self.break_off(Broken::UnknownId(response.id)));
        };
        if let Some(request) = self.requests.get_mut(id) {
            request.answered = true;
        }
        self.release(id, outcome, grants);
        Ok(())
    }

    /// The outstanding request that has this id in the ring.
    fn find(&self, id: u16) -> Option<u64> {
        let found = self.requests.next_used(u32::from(id) % ENTRIES)?;
        let request = self.requests.get(found)?;
        (wire_id(found) == id && !request.answered).then_some(found)
    }

    /// Takes the page of an answered request back, and finishes its packet if it was the last.
    fn release(&mut self, id: u64, outcome: Outcome, grants: &mut G) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let owner = request.owner;
        let stuck = match request.grant.take() {
            Some(grant) => match grants.revoke(grant) {
                Ok(()) => false,
                Err(grant) => {
                    request.grant = Some(grant);
                    true
                }
            },
            None => false,
        };
        if let Owner::Packet(packet) = owner
            && let Some(sending) = self.packets.get_mut(packet)
        {
            sending.worst = sending.worst.max(outcome);
        }
        if stuck {
            self.held += 1;
            self.counters.held += 1;
            return;
        }
        self.requests.discard(id);
        match owner {
            Owner::Packet(packet) => self.part_done(packet),
            Owner::Multicast(multicast) if outcome != Outcome::Sent => {
                self.refused_multicast = Some(multicast);
            }
            Owner::Multicast(_) => {}
        }
    }

    fn part_done(&mut self, packet: u64) {
        let Some(sending) = self.packets.get_mut(packet) else {
            return;
        };
        sending.parts = sending.parts.saturating_sub(1);
        if sending.parts == 0
            && let Ok(sending) = self.packets.take(packet)
        {
            match sending.worst {
                Outcome::Sent => self.counters.sent += 1,
                Outcome::Dropped => self.counters.dropped += 1,
                Outcome::Failed => self.counters.failed += 1,
            }
            // There is room: `has_room` keeps the two tables together below the capacity.
            self.finished.push_back((sending.token, sending.worst));
        }
    }
}

/// The id in the ring of a request's slot: its number, and how often it was used.
fn wire_id(id: u64) -> u16 {
    let (slot, uses) = (id as u32, (id >> 32) as u32);
    (slot % ENTRIES) as u16 | (uses as u16) << 8
}

#[cfg(test)]
mod tests;
