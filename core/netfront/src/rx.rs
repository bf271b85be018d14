//! One receive ring: lends pages to the backend, and puts packets together from what it answers.
//!
//! ```text
//!   post ──▶ slots ──publish──▶ backend ──next──▶ Assembly ──▶ grants revoked ──▶ Packet
//!             ▲  one page each              responses, extras        │ still in use
//!             └───────── page not used, packet dropped ◀──┘          └▶ held ──tick──▶ Packet
//! ```
//!
//! The response to a request is in the same slot, so a response with another id breaks the ring. A packet may be spread
//! over any number of polls. Its pages are the guest's own before anybody reads them; those of dropped packets go back
//! into the ring as they are. All memory is allocated in [`Rx::try_new`].

use crate::Grants;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use ring::FrontRing;
use xen_abi::Gref;
use xen_abi::netif::{
    EXTRA_FLAG_MORE, Extra, ExtraInfo, InEntry, RX_EXTRA_INFO, RX_MORE_DATA, RX_WORDS, RxRequest,
    RxResponse,
};

mod packet;

use packet::{Assembly, Buffer, Fault};
pub use packet::{MAX_PARTS, Packet, Part};

/// A receive ring.
pub type Ring<M> = FrontRing<M, RX_WORDS>;

/// Entries of a ring, at most.
pub const ENTRIES: u32 = 256;
/// Packets that may wait for pages which the backend still uses.
const HELD: usize = 8;
/// Pages that may be left from earlier connections.
const LEFT: usize = ENTRIES as usize;

/// What the backend did that no backend may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The ring's indices are impossible.
    Ring(ring::Broken),
    /// The response in a slot names another request.
    UnexpectedId {
        /// The slot, which is the id.
        slot: u16,
        /// The id in the response.
        id: u16,
    },
    /// A slot that is said to be answered still holds the request.
    Unanswered {
        /// The slot.
        slot: u16,
    },
    /// Extras behind another response than a packet's first.
    LateExtra,
    /// A packet that has had as many slots as the ring has, and is not whole.
    EndlessPacket,
    /// It keeps using pages that it has answered.
    KeepsPages,
}

/// Events counted since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counters {
    pub packets: u64,
    pub octets: u64,
    pub responses: u64,
    pub extras: u64,
    pub posted: u64,
    pub notifications: u64,
    /// Packets dropped: the backend says that it failed.
    pub backend_errors: u64,
    /// Packets dropped: offsets, lengths, extras or flags that cannot be.
    pub malformed: u64,
    /// Packets dropped: more bytes or parts than a packet can have.
    pub too_long: u64,
    /// Packets dropped: less than an Ethernet header.
    pub runts: u64,
    /// Packets that had to wait for pages which the backend still used.
    pub held: u64,
}

/// The engine of one receive ring. `P` is a page.
pub struct Rx<G: Grants, P, M> {
    ring: Option<Ring<M>>,
    /// What each slot of the ring lends.
    slots: Vec<Option<Buffer<P, G::Grant>>>,
    /// Requests written and responses read on this ring.
    produced: u32,
    consumed: u32,
    assembly: Assembly<P, G::Grant>,
    held: VecDeque<Assembly<P, G::Grant>>,
    /// Pages that are on no ring, and that may still be granted.
    left: Vec<Buffer<P, G::Grant>>,
    max_frame: u32,
    broken: Option<Broken>,
    counters: Counters,
}

impl<G: Grants, P, M: AsRef<[AtomicU32]>> Rx<G, P, M> {
    /// An engine without a ring; `None` if there is no memory for it.
    pub fn try_new() -> Option<Self> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(ENTRIES as usize).ok()?;
        slots.resize_with(ENTRIES as usize, || None);
        let mut held = VecDeque::new();
        held.try_reserve_exact(HELD).ok()?;
        let mut left = Vec::new();
        // One connection has no more pages on the ring and in the packet that is coming in than the ring has slots.
        left.try_reserve_exact(LEFT + ENTRIES as usize).ok()?;
        Some(Self {
            ring: None,
            slots,
            produced: 0,
            consumed: 0,
            assembly: Assembly::default(),
            held,
            left,
            max_frame: 0,
            broken: None,
            counters: Counters::default(),
        })
    }

    /// Begins with a new ring; `max_frame` is the length in bytes of the longest packet that is not a large one. The
    /// ring comes back if it is too large, if there is one already, or if the backend still keeps too many pages of
    /// the last one.
    pub fn connect(&mut self, ring: Ring<M>, max_frame: u32) -> Result<(), Ring<M>> {
        if self.ring.is_some() || self.left.len() > LEFT || ring.entries() > ENTRIES {
            return Err(ring);
        }
        (self.produced, self.consumed) = (0, 0);
        self.ring = Some(ring);
        self.max_frame = max_frame;
        self.broken = None;
        Ok(())
    }

    /// Ends the connection: a packet that is not whole is forgotten. All pages come back through [`Rx::reclaim`].
    ///
    /// Only when the backend is gone or has closed its end: before that it may still write to the pages.
    pub fn disconnect(&mut self) -> Option<M> {
        let ring = self.ring.take();
        for buffer in self.slots.iter_mut().filter_map(Option::take) {
            self.left.push(buffer);
        }
        while let Some(buffer) = self.assembly.pop() {
            self.left.push(buffer);
        }
        self.assembly.clear();
        ring.map(Ring::into_memory)
    }

    /// A page that is on no ring any more and whose grant has ended. `None`: no more, or not now; see [`Rx::kept`].
    pub fn reclaim(&mut self, grants: &mut G) -> Option<P> {
        for index in (0..self.left.len()).rev() {
            if index >= self.left.len() {
                break;
            }
            let Buffer { page, grant } = self.left.swap_remove(index);
            match grants.revoke(grant) {
                Ok(()) => return Some(page),
                Err(grant) => self.left.push(Buffer { page, grant }),
            }
        }
        None
    }

    /// Pages that are on no ring, and that [`Rx::reclaim`] has not given back.
    pub fn kept(&self) -> usize {
        self.left.len()
    }

    /// Pages that can be posted now.
    pub fn vacancies(&self) -> u32 {
        match &self.ring {
            // The pages of the packet that is coming in must find their way back, should it be dropped.
            Some(ring) if self.broken.is_none() => {
                ring.free().saturating_sub(self.assembly.pages())
            }
            _ => 0,
        }
    }

    /// Lends the backend a page, granted for writing. Both come back if there is no vacancy. Nothing is shown to the
    /// backend before [`Rx::publish`].
    pub fn post(&mut self, page: P, grant: G::Grant, grants: &G) -> Result<(), (P, G::Grant)> {
        if self.vacancies() == 0 {
            return Err((page, grant));
        }
        self.lend(Buffer { page, grant }, grants);
        Ok(())
    }

    /// Shows the backend all that was posted. `true`: it must be notified.
    #[must_use = "a notification that is not sent leaves the backend without pages"]
    pub fn publish(&mut self) -> bool {
        let notify = self.ring.as_mut().is_some_and(Ring::publish);
        self.counters.notifications += u64::from(notify);
        notify
    }

    /// The next packet. `None`: there is nothing more, and an event will come when there is.
    ///
    /// Looks at no more slots than were published, however many packets it has to drop. Their pages wait for
    /// [`Rx::publish`].
    pub fn next(&mut self, grants: &mut G) -> Result<Option<Packet<P>>, Broken> {
        loop {
            if let Some(broken) = self.broken {
                return Err(broken);
            }
            let Some(ring) = self.ring.as_mut() else {
                return Ok(None);
            };
            let words = match ring.receive() {
                Ok(Some(words)) => words,
                Ok(None) => return Ok(None),
                Err(broken) => return Err(self.break_off(Broken::Ring(broken))),
            };
            let slot = ring.slot(self.consumed);
            self.consumed = self.consumed.wrapping_add(1);
            self.take(slot, &words, grants)?;
            if self.assembly.is_whole()
                && let Some(packet) = self.finish(grants)?
            {
                return Ok(Some(packet));
            }
        }
    }

    /// Tries again to take back the pages of packets that are held; the first packet whose pages are all back. To be
    /// called before [`Rx::next`] while [`Rx::held`] is not 0.
    pub fn tick(&mut self, grants: &mut G) -> Option<Packet<P>> {
        for _ in 0..self.held.len() {
            let mut assembly = self.held.pop_front()?;
            if assembly.revoke(|grant| grants.revoke(grant)) {
                return Some(self.count(assembly.take_packet()));
            }
            self.held.push_back(assembly);
        }
        None
    }

    /// Packets that wait for pages which the backend still uses.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Pages that the backend has been lent on this ring.
    pub fn lent(&self) -> u32 {
        self.produced.wrapping_sub(self.consumed)
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

    /// Writes a request for a page into the next slot of the ring, which has room.
    fn lend(&mut self, buffer: Buffer<P, G::Grant>, grants: &G) {
        let Some(ring) = self.ring.as_mut() else {
            self.left.push(buffer);
            return;
        };
        let slot = ring.slot(self.produced);
        let request = request(slot, grants.gref(&buffer.grant));
        match self.slots.get_mut(slot as usize) {
            Some(place @ None) if ring.push(&request.to_words()).is_ok() => {
                *place = Some(buffer);
                self.produced = self.produced.wrapping_add(1);
                self.counters.posted += 1;
            }
            _ => self.left.push(buffer),
        }
    }

    /// Takes what is in a slot into the packet that is coming in.
    fn take(&mut self, slot: u32, words: &[u32; RX_WORDS], grants: &G) -> Result<(), Broken> {
        let RxResponse { id, status, .. } = RxResponse::from_words(words);
        let unexpected = Broken::UnexpectedId {
            slot: slot as u16,
            id,
        };
        let Some(buffer) = self.slots.get_mut(slot as usize).and_then(Option::take) else {
            return Err(self.break_off(unexpected));
        };
        // The index has run ahead. From here on the two ends would count differently, and wait for each other.
        let request = request(slot, grants.gref(&buffer.grant)).to_words();
        if status == 0 && *words == request {
            self.left.push(buffer);
            let slot = slot as u16;
            return Err(self.break_off(Broken::Unanswered { slot }));
        }
        if self.assembly.slots() >= ENTRIES {
            self.left.push(buffer);
            return Err(self.break_off(Broken::EndlessPacket));
        }
        if self.assembly.expects_extra() {
            let info = ExtraInfo::from_words(words);
            self.counters.extras += 1;
            self.assembly
                .add_extra(Extra::decode(info), info.flags & EXTRA_FLAG_MORE != 0);
            self.lend(buffer, grants);
            return Ok(());
        }
        let response = RxResponse::from_words(words);
        self.counters.responses += 1;
        let extra = response.flags & RX_EXTRA_INFO != 0;
        let broken = if u32::from(response.id) != slot {
            Some(unexpected)
        } else if extra && self.assembly.slots() != 0 {
            Some(Broken::LateExtra)
        } else {
            None
        };
        if let Some(broken) = broken {
            self.left.push(buffer);
            return Err(self.break_off(broken));
        }
        let more = response.flags & RX_MORE_DATA != 0;
        if let Some(unused) = self.assembly.add(response, more, extra, buffer) {
            self.lend(unused, grants);
        }
        Ok(())
    }

    /// Drops the packet that is whole, or takes its pages back.
    fn finish(&mut self, grants: &mut G) -> Result<Option<Packet<P>>, Broken> {
        let counters = &mut self.counters;
        if let Some(fault) = self.assembly.fault(self.max_frame) {
            match fault {
                Fault::Backend => counters.backend_errors += 1,
                Fault::Malformed => counters.malformed += 1,
                Fault::TooLong => counters.too_long += 1,
                Fault::Runt => counters.runts += 1,
            }
            while let Some(buffer) = self.assembly.pop() {
                self.lend(buffer, grants);
            }
            self.assembly.clear();
            return Ok(None);
        }
        if self.held.len() >= HELD {
            return Err(self.break_off(Broken::KeepsPages));
        }
        if self.assembly.revoke(|grant| grants.revoke(grant)) {
            let packet = self.assembly.take_packet();
            return Ok(Some(self.count(packet)));
        }
        self.counters.held += 1;
        self.held.push_back(core::mem::take(&mut self.assembly));
        Ok(None)
    }

    fn count(&mut self, packet: Packet<P>) -> Packet<P> {
        self.counters.packets += 1;
        self.counters.octets += u64::from(packet.length());
        packet
    }
}

/// What a slot asks with: its own number is the id.
fn request(slot: u32, gref: Gref) -> RxRequest {
    RxRequest {
        id: slot as u16,
        pad: 0,
        gref,
    }
}

#[cfg(test)]
mod exercise;
#[cfg(test)]
mod tests;
