//! What goes into the transmit ring for one packet: its parts, and what is said of it as a whole.

use crate::{Checksum, Grants, Gso, Hash};
use xen_abi::netif::{MAX_TX_SIZE, NR_SLOTS_MIN};
use xen_abi::{Gref, PAGE_SIZE};

/// What is said of a packet as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// [`Checksum::Blank`] asks the backend to complete the checksum.
    pub checksum: Checksum,
    /// Asks the backend to cut the packet. The checksum has to be blank.
    pub gso: Option<Gso>,
    /// The packet's hash, for a backend whose hash algorithm is Toeplitz.
    pub hash: Option<Hash>,
}

impl Packet {
    /// Extras that this takes.
    pub fn extras(&self) -> u32 {
        u32::from(self.gso.is_some()) + u32::from(self.hash.is_some())
    }
}

/// Why a packet is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room for it until responses have come.
    Full,
    /// The ring is broken, or there is none.
    Stopped,
    /// More parts than the backend takes.
    TooManyParts,
    /// A part is empty, or not within its page.
    BadPart,
    /// More bytes than the protocol can say.
    TooLong,
    /// Less than an Ethernet header.
    Runt,
    /// A large send without segment size, or whose checksum is not blank.
    BadGso,
}

/// A part of a packet: granted bytes within one page.
pub(super) struct Part<G> {
    pub(super) grant: G,
    pub(super) gref: Gref,
    pub(super) offset: u16,
    pub(super) length: u16,
}

/// The parts of one packet. One list serves one packet after the other.
pub struct Parts<G: Grants> {
    list: [Option<Part<G::Grant>>; NR_SLOTS_MIN],
    count: usize,
    length: u32,
}

impl<G: Grants> Default for Parts<G> {
    fn default() -> Self {
        Self {
            list: [const { None }; NR_SLOTS_MIN],
            count: 0,
            length: 0,
        }
    }
}

impl<G: Grants> Parts<G> {
    /// Adds `length` granted bytes at `offset` in their page. The grant comes back with the reason why not.
    pub fn add(
        &mut self,
        grants: &G,
        grant: G::Grant,
        offset: u32,
        length: u32,
    ) -> Result<(), (G::Grant, Refusal)> {
        let within = length != 0
            && offset
                .checked_add(length)
                .is_some_and(|end| end <= PAGE_SIZE as u32);
        if !within {
            return Err((grant, Refusal::BadPart));
        }
        if self.length + length > MAX_TX_SIZE as u32 {
            return Err((grant, Refusal::TooLong));
        }
        let Some(place) = self.list.get_mut(self.count) else {
            return Err((grant, Refusal::TooManyParts));
        };
        *place = Some(Part {
            gref: grants.gref(&grant),
            grant,
            // Both are below the page's size.
            offset: offset as u16,
            length: length as u16,
        });
        self.count += 1;
        self.length += length;
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all parts together.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Takes the last part's grant back: for a packet that is not sent after all.
    pub fn pop(&mut self) -> Option<G::Grant> {
        let index = self.count.checked_sub(1)?;
        let part = self.list.get_mut(index)?.take()?;
        self.count = index;
        self.length = self.length.saturating_sub(u32::from(part.length));
        Some(part.grant)
    }

    /// Takes all parts, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Part<G::Grant>> {
        self.length = 0;
        let count = core::mem::take(&mut self.count);
        self.list.iter_mut().take(count).filter_map(Option::take)
    }
}
