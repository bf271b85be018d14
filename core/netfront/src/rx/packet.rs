//! A received packet: while its responses come in, and when it is whole.

use crate::{Checksum, Gso, Hash, HashType};
use ::packet::Version;
use xen_abi::PAGE_SIZE;
use xen_abi::netif::{
    Extra, GSO_TYPE_TCPV4, GSO_TYPE_TCPV6, HASH_ALGORITHM_TOEPLITZ, MAX_TX_SIZE, NR_SLOTS_MIN,
    RX_CSUM_BLANK, RX_DATA_VALIDATED, RX_GSO_PREFIX, RxResponse,
};

/// Parts that a packet can have: as many as the protocol promises for a packet in the other direction, and one more for
/// backends that put the headers into a page of their own.
pub const MAX_PARTS: usize = NR_SLOTS_MIN + 1;
/// Bytes of the shortest packet: an Ethernet header.
const MIN_LENGTH: u32 = 14;

/// A part of a packet: bytes within one page, which is the guest's own again.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<P> {
    /// The page.
    pub page: P,
    /// Where the data is in it.
    pub offset: u32,
    /// Bytes, not 0. Offset and length together are at most a page.
    pub length: u32,
}

/// What was received. Its parts are checked to be within their pages; what they hold is not.
#[derive(Debug)]
pub struct Packet<P> {
    parts: [Option<Part<P>>; MAX_PARTS],
    count: usize,
    length: u32,
    /// What the backend says of the checksums.
    pub checksum: Checksum,
    /// Several TCP segments in one, says the backend.
    pub gso: Option<Gso>,
    /// Its hash, computed by the backend.
    pub hash: Option<Hash>,
}

impl<P> Packet<P> {
    /// Bytes of all parts together: from 14 to 65535.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The parts, in order; at least one.
    pub fn parts(&self) -> impl Iterator<Item = &Part<P>> {
        self.parts.iter().take(self.count).flatten()
    }

    /// The parts, in order, for whoever takes the packet apart.
    pub fn into_parts(self) -> impl Iterator<Item = Part<P>> {
        self.parts.into_iter().flatten()
    }
}

/// Why a packet was dropped. The first reason counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The backend says that it failed.
    Backend,
    /// It claims what cannot be.
    Malformed,
    /// More bytes or parts than a packet can have.
    TooLong,
    /// Less than an Ethernet header.
    Runt,
}

/// A page and the grant by which the backend writes to it.
pub(super) struct Buffer<P, G> {
    pub(super) page: P,
    pub(super) grant: G,
}

struct Piece<P, G> {
    page: P,
    /// `None` once the page is the guest's own again.
    grant: Option<G>,
    offset: u32,
    length: u32,
}

/// A packet whose responses are coming in, or that waits for its pages.
pub(super) struct Assembly<P, G> {
    pieces: [Option<Piece<P, G>>; MAX_PARTS],
    count: usize,
    length: u32,
    /// Responses and extras so far.
    slots: u32,
    /// An extra comes next.
    expects_extra: bool,
    /// A response comes next, or after the extras.
    expects_more: bool,
    checksum: Checksum,
    gso: Option<Gso>,
    hash: Option<Hash>,
    fault: Option<Fault>,
}

impl<P, G> Default for Assembly<P, G> {
    fn default() -> Self {
        Self {
            pieces: [const { None }; MAX_PARTS],
            count: 0,
            length: 0,
            slots: 0,
            expects_extra: false,
            expects_more: false,
            checksum: Checksum::Unknown,
            gso: None,
            hash: None,
            fault: None,
        }
    }
}

impl<P, G> Assembly<P, G> {
    /// Pages in it.
    pub(super) fn pages(&self) -> u32 {
        self.count as u32
    }

    /// Slots of the ring that it has had.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// Whether the next slot holds an extra.
    pub(super) fn expects_extra(&self) -> bool {
        self.expects_extra
    }

    /// Whether the packet is whole.
    pub(super) fn is_whole(&self) -> bool {
        self.slots != 0 && !self.expects_extra && !self.expects_more
    }

    /// Takes a response and its buffer. The buffer comes back if nothing of it is used.
    pub(super) fn add(
        &mut self,
        response: RxResponse,
        more: bool,
        extra: bool,
        buffer: Buffer<P, G>,
    ) -> Option<Buffer<P, G>> {
        if self.slots == 0 {
            self.checksum = match response.flags {
                flags if flags & RX_CSUM_BLANK != 0 => Checksum::Blank,
                flags if flags & RX_DATA_VALIDATED != 0 => Checksum::Validated,
                _ => Checksum::Unknown,
            };
        }
        self.slots += 1;
        self.expects_extra = extra;
        self.expects_more = more;
        if response.flags & RX_GSO_PREFIX != 0 {
            self.fail(Fault::Malformed);
        }
        let Ok(length) = u32::try_from(response.status) else {
            self.fail(Fault::Backend);
            return Some(buffer);
        };
        let offset = u32::from(response.offset);
        if offset + length > PAGE_SIZE as u32 {
            self.fail(Fault::Malformed);
        }
        if self.length + length > MAX_TX_SIZE as u32 {
            self.fail(Fault::TooLong);
        }
        // A packet that will be dropped needs no more pages; neither does one from an empty slot.
        if length == 0 || self.fault.is_some() {
            return Some(buffer);
        }
        match self.pieces.get_mut(self.count) {
            Some(place) => {
                *place = Some(Piece {
                    page: buffer.page,
                    grant: Some(buffer.grant),
                    offset,
                    length,
                });
                self.count += 1;
                self.length += length;
                None
            }
            None => {
                self.fail(Fault::TooLong);
                Some(buffer)
            }
        }
    }

    /// Takes an extra.
    pub(super) fn add_extra(&mut self, extra: Extra, more: bool) {
        self.slots += 1;
        self.expects_extra = more;
        match extra {
            Extra::Gso { size, kind, .. }
                if size != 0
                    && self.gso.is_none()
                    && matches!(kind, GSO_TYPE_TCPV4 | GSO_TYPE_TCPV6) =>
            {
                self.gso = Some(Gso {
                    version: match kind {
                        GSO_TYPE_TCPV4 => Version::V4,
                        _ => Version::V6,
                    },
                    mss: size,
                });
            }
            Extra::Hash {
                kind,
                algorithm,
                value,
            } if self.hash.is_none() => {
                // A hash of a kind that is not known says nothing, and does no harm.
                self.hash = HashType::from_number(kind)
                    .filter(|_| algorithm == HASH_ALGORITHM_TOEPLITZ)
                    .map(|kind| Hash { kind, value });
            }
            _ => self.fail(Fault::Malformed),
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Why the packet, which is whole, is to be dropped. `max_frame` is the longest that is not a large packet.
    pub(super) fn fault(&self, max_frame: u32) -> Option<Fault> {
        match self.length {
            _ if self.fault.is_some() => self.fault,
            length if length < MIN_LENGTH => Some(Fault::Runt),
            length if length > max_frame && self.gso.is_none() => Some(Fault::TooLong),
            _ => None,
        }
    }

    /// Takes a page of a packet that is dropped, granted as it is.
    pub(super) fn pop(&mut self) -> Option<Buffer<P, G>> {
        self.count = self.count.checked_sub(1)?;
        let piece = self.pieces.get_mut(self.count)?.take()?;
        let grant = piece.grant?;
        Some(Buffer {
            page: piece.page,
            grant,
        })
    }

    /// Ends the grants; whether all of them have ended.
    pub(super) fn revoke(&mut self, mut revoke: impl FnMut(G) -> Result<(), G>) -> bool {
        let mut all = true;
        for piece in self.pieces.iter_mut().take(self.count).flatten() {
            if let Some(grant) = piece.grant.take()
                && let Err(grant) = revoke(grant)
            {
                piece.grant = Some(grant);
                all = false;
            }
        }
        all
    }

    /// The packet, whose grants have all ended, and room for the next one.
    pub(super) fn take_packet(&mut self) -> Packet<P> {
        let packet = Packet {
            parts: core::array::from_fn(|index| {
                let piece = self.pieces.get_mut(index)?.take()?;
                Some(Part {
                    page: piece.page,
                    offset: piece.offset,
                    length: piece.length,
                })
            }),
            count: self.count,
            length: self.length,
            checksum: self.checksum,
            gso: self.gso,
            hash: self.hash,
        };
        self.count = 0;
        self.clear();
        packet
    }

    /// Makes room for the next packet; the pages have been taken.
    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.slots = 0;
        self.expects_extra = false;
        self.expects_more = false;
        self.checksum = Checksum::Unknown;
        self.gso = None;
        self.hash = None;
        self.fault = None;
    }
}
