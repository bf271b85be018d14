//! The transmitting half of a queue, under its lock: packets that wait, and those in the ring.
//!
//! A packet is copied into pages of the queue's own (`pool.rs`): what else lies on the client's pages is nobody's business,
//! and the client can have a packet back whatever the backend does.

use crate::client::Cookie;
use crate::grants::{Link, RingPages};
use crate::pool::{PAGES, Pool, Standing};
use crate::statistics::{self as stats, Facts, Statistics};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use netfront::tx::{self, Multicast, Outcome, Parts, Refusal, Tx};
use netfront::{Checksum, Hash};
use nt::mdl::Chain;
use nt::sys::{MDL, PAGE_SIZE};
use nt::{NtStatus, Result};
use packet::receive::{self, Checks, Wanted};
use packet::transmit::{Backend, Cut, Wishes};
use packet::{Extent, MAX_HEADERS, Mac, Version, transmit};
use pv_interfaces::vif::{
    ADDRESS_BROADCAST, ADDRESS_MULTICAST, ADDRESS_UNICAST, COMPLETION_DROPPED, COMPLETION_ERROR,
    COMPLETION_OK, CompletionInfo, OffloadOptions, Statistic,
};
use xen_abi::netif::MAX_TX_SIZE;

/// Pages of the longest packet.
const LONGEST: usize = MAX_TX_SIZE.div_ceil(PAGE_SIZE);
/// Room for headers, with a tag that is put in.
const HEADERS: usize = MAX_HEADERS + 4;
/// Packets that may wait without memory being asked for.
const WAITING: usize = 256;

/// A packet that a client has queued.
#[derive(Debug)]
pub struct Waiting {
    pub mdl: *mut MDL,
    pub offset: u32,
    pub length: u32,
    pub options: OffloadOptions,
    pub mss: u16,
    pub tci: u16,
    pub hash: Option<Hash>,
    pub cookie: Cookie,
}

// SAFETY: the client leaves the packet to us until it is returned.
unsafe impl Send for Waiting {}

/// A packet that goes back to its client.
#[derive(Debug)]
pub struct Done {
    pub cookie: Cookie,
    outcome: Outcome,
    facts: Option<Facts>,
    payload: u32,
    checks: Option<Checks>,
}

impl Done {
    fn dropped(cookie: Cookie) -> Self {
        Self {
            cookie,
            outcome: Outcome::Dropped,
            facts: None,
            payload: 0,
            checks: None,
        }
    }

    /// Counts the packet, and says what the client is told of it.
    pub fn completion(&self, statistics: &Statistics) -> CompletionInfo {
        match (self.outcome, &self.facts) {
            (Outcome::Sent, Some(facts)) => {
                statistics.sent(facts);
                if let Some(checks) = &self.checks {
                    statistics.checked(checks, &stats::SENT);
                }
                let kind = match facts.kind {
                    packet::Kind::Unicast => ADDRESS_UNICAST,
                    packet::Kind::Multicast => ADDRESS_MULTICAST,
                    packet::Kind::Broadcast => ADDRESS_BROADCAST,
                };
                CompletionInfo {
                    kind: kind as u8,
                    status: COMPLETION_OK,
                    packet_length: u16::try_from(facts.length).unwrap_or(u16::MAX),
                    payload_length: u16::try_from(self.payload).unwrap_or(u16::MAX),
                }
            }
            (outcome, _) => {
                statistics.count(Statistic::TransmitterPacketsDropped);
                let status = if outcome == Outcome::Failed {
                    statistics.count(Statistic::TransmitterBackendErrors);
                    COMPLETION_ERROR
                } else {
                    COMPLETION_DROPPED
                };
                CompletionInfo {
                    status,
                    ..CompletionInfo::default()
                }
            }
        }
    }
}

/// A packet in the ring.
struct Sent {
    /// `None`: the client has it back already.
    cookie: Option<Cookie>,
    pages: [u16; LONGEST],
    count: usize,
    facts: Facts,
    payload: u32,
    /// What was found of its checksums, if anybody looked.
    checks: Option<Checks>,
}

impl Sent {
    fn pages(&self) -> &[u16] {
        self.pages.get(..self.count).unwrap_or_default()
    }
}

/// What became of an attempt to send.
enum Attempt {
    Sent,
    /// It has to wait until others are done.
    Full,
    /// It cannot be sent.
    Refused,
}

/// The half.
pub struct Transmitter {
    /// A packet is known by the number of its first page.
    engine: Tx<Standing, u16, RingPages>,
    link: Option<Link>,
    pool: Pool,
    in_ring: Vec<Option<Sent>>,
    waiting: VecDeque<Waiting>,
    backend: Backend,
    /// Checksums are looked at, for the statistics.
    validates: bool,
    open: bool,
}

impl Transmitter {
    /// Without a ring, and shut. PASSIVE_LEVEL.
    pub fn new(validates: bool) -> Result<Self> {
        let mut in_ring = Vec::new();
        in_ring.try_reserve_exact(PAGES)?;
        in_ring.resize_with(PAGES, || None);
        let mut waiting = VecDeque::new();
        waiting.try_reserve(WAITING)?;
        Ok(Self {
            engine: Tx::try_new().ok_or(NtStatus::NO_MEMORY)?,
            link: None,
            pool: Pool::new()?,
            in_ring,
            waiting,
            backend: Backend {
                checksum_v4: false,
                checksum_v6: false,
                gso_v4: false,
                gso_v6: false,
                max_frame: 0,
            },
            validates,
            open: false,
        })
    }

    /// Begins with a new ring.
    pub fn connect(&mut self, ring: tx::Ring<RingPages>, link: Link, backend: Backend) {
        self.engine.connect(ring);
        self.pool.begin();
        self.link = Some(link);
        self.backend = backend;
    }

    /// Ends the connection. Packets in the ring are done; their pages come back by [`Transmitter::reclaim`].
    pub fn disconnect(&mut self) -> Option<RingPages> {
        let ring = self.engine.disconnect(&mut Standing);
        self.link = None;
        self.pool.finish();
        ring
    }

    /// Takes back pages that the backend has let go of after the end of a connection; whether there may be more. Some at a
    /// time, as the queue's spin lock is held.
    #[must_use = "there may be more"]
    pub fn reclaim(&mut self) -> bool {
        self.pool.reclaim()
    }

    /// Takes packets from the client, or no more.
    pub fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    /// Takes a packet in; it is sent by [`Transmitter::pump`].
    pub fn queue(&mut self, packet: Waiting) -> Result<()> {
        if !self.open {
            return Err(NtStatus::UNSUCCESSFUL);
        }
        self.waiting.try_reserve(1)?;
        self.waiting.push_back(packet);
        Ok(())
    }

    /// Sends what waits, as far as there is room; a packet that cannot be sent comes back, and there may be more to send.
    #[inline(never)]
    pub fn pump(&mut self) -> Option<Done> {
        while let Some(packet) = self.waiting.pop_front() {
            match self.send(&packet) {
                Attempt::Sent => {}
                Attempt::Full => {
                    // There is room, as it was taken out.
                    self.waiting.push_front(packet);
                    return None;
                }
                Attempt::Refused => return Some(Done::dropped(packet.cookie)),
            }
        }
        None
    }

    /// Shows the backend what was sent; whether it is to be notified.
    #[must_use = "a notification that is not sent is a packet that is not seen"]
    pub fn publish(&mut self) -> bool {
        self.engine.publish()
    }

    /// Takes answers; whether there may be more.
    #[inline(never)]
    pub fn poll(&mut self, limit: u32) -> core::result::Result<bool, tx::Broken> {
        self.engine.poll(limit, &mut Standing)
    }

    /// The next packet that is done.
    #[inline(never)]
    pub fn done(&mut self) -> Option<Done> {
        while let Some((first, outcome)) = self.engine.next_finished() {
            let place = self.in_ring.get_mut(usize::from(first));
            let Some(sent) = place.and_then(Option::take) else {
                continue;
            };
            self.pool.give(sent.pages());
            if let Some(cookie) = sent.cookie {
                return Some(Done {
                    cookie,
                    outcome,
                    facts: Some(sent.facts),
                    payload: sent.payload,
                    checks: sent.checks,
                });
            }
        }
        None
    }

    /// A packet that the client is to have back unsent, or before the backend has answered.
    pub fn abort(&mut self) -> Option<Done> {
        let cookie = match self.waiting.pop_front() {
            Some(packet) => Some(packet.cookie),
            None => {
                let mut sent = self.in_ring.iter_mut().flatten();
                sent.find_map(|sent| sent.cookie.take())
            }
        };
        cookie.map(Done::dropped)
    }

    /// Tells the backend of a multicast address; whether there was room.
    pub fn push_multicast(&mut self, multicast: Multicast) -> bool {
        self.engine.push_multicast(multicast).is_ok()
    }

    /// A multicast address that the backend did not take, since this was last asked.
    pub fn refused_multicast(&mut self) -> Option<Multicast> {
        self.engine.refused_multicast()
    }

    /// Whether the backend has answered everything.
    pub fn is_idle(&self) -> bool {
        self.engine.is_empty()
    }

    /// Whether the backend still uses pages after the end of the connection.
    pub fn is_held(&self) -> bool {
        self.link.is_none() && self.pool.is_held()
    }

    fn send(&mut self, packet: &Waiting) -> Attempt {
        let most = (packet.length as usize).saturating_add(4);
        let pages = most.max(1).div_ceil(PAGE_SIZE);
        if pages > LONGEST {
            return Attempt::Refused;
        }
        // A GSO and a hash.
        if self.pool.free() < pages || !self.engine.has_room(pages as u32, 2) {
            return Attempt::Full;
        }
        // SAFETY: the client's MDLs stay as they are until the packet is returned.
        match unsafe { Chain::new(packet.mdl, packet.offset, packet.length) } {
            Ok(chain) => self.copy_and_send(packet, chain),
            Err(NtStatus::INSUFFICIENT_RESOURCES) if !self.engine.is_empty() => Attempt::Full,
            Err(_) => Attempt::Refused,
        }
    }

    #[inline(never)]
    fn copy_and_send(&mut self, packet: &Waiting, chain: Chain<'_>) -> Attempt {
        let mut headers = [0; HEADERS];
        let large = packet
            .options
            .has(OffloadOptions::IPV4_LARGE_PACKET | OffloadOptions::IPV6_LARGE_PACKET);
        let extent = if large { Extent::Frame } else { Extent::Header };
        let room = headers.get_mut(..MAX_HEADERS).unwrap_or_default();
        let layout = packet::parse(chain.pieces(), extent, room).layout;
        let Some(kind) = Mac::from_start(&headers)
            .map(Mac::kind)
            .filter(|_| layout.ethernet.length != 0)
        else {
            return Attempt::Refused;
        };
        let wishes = wishes(packet, large, layout.ip.map(|ip| ip.version));
        let payload = layout.payload_of(chain.pieces());
        let Ok(plan) = transmit::prepare(&mut headers, &layout, &wishes, &self.backend, payload)
        else {
            return Attempt::Refused;
        };
        let gso = match plan.cut {
            Cut::None => None,
            Cut::Backend(gso) => Some(gso),
            // What the backend does not cut was not offered.
            Cut::Here(_) => return Attempt::Refused,
        };
        let checks = self.validates.then(|| {
            let wanted = Wanted {
                ip: !wishes.ip_checksum && gso.is_none(),
                tcp: !wishes.tcp_checksum && gso.is_none(),
                udp: !wishes.udp_checksum && gso.is_none(),
            };
            let payload = layout.payload_of(chain.pieces());
            receive::check(&headers, &plan.layout, payload, false, wanted)
        });
        let Some(head) = headers.get(..plan.layout.headers) else {
            return Attempt::Refused;
        };
        let mut rest = packet::Cursor::new(chain.pieces());
        rest.skip(layout.headers);
        let rest = rest.take(chain.length().saturating_sub(layout.headers));
        let Some((pages, count, total)) = self.copy(core::iter::once(head).chain(rest)) else {
            return Attempt::Refused;
        };
        let about = tx::Packet {
            checksum: if plan.blank {
                Checksum::Blank
            } else {
                Checksum::Unknown
            },
            gso,
            hash: packet.hash,
        };
        let length = plan.layout.length;
        let sent = Sent {
            cookie: Some(packet.cookie),
            pages,
            count,
            facts: Facts::of(kind, &plan.layout, length as u32, gso.is_some()),
            payload: plan.layout.payload as u32,
            checks: checks.and_then(core::result::Result::ok),
        };
        self.push_packet(sent, &about, total)
    }

    /// Copies a packet to free pages, and zeros behind one that is too short: the pages, their number, the bytes.
    fn copy<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Option<([u16; LONGEST], usize, usize)> {
        const NOTHING: [u8; packet::MIN_FRAME] = [0; packet::MIN_FRAME];
        let mut pages = [0; LONGEST];
        let (mut count, mut total) = (0, 0usize);
        let mut put = |mut bytes: &[u8]| {
            while !bytes.is_empty() {
                let offset = total % PAGE_SIZE;
                if offset == 0 {
                    let (Some(page), Some(place)) = (self.pool.take(), pages.get_mut(count)) else {
                        return false;
                    };
                    *place = page;
                    count += 1;
                }
                let Some(page) = pages.get(count.wrapping_sub(1)) else {
                    return false;
                };
                let now = bytes.len().min(PAGE_SIZE - offset);
                let Some((part, later)) = bytes.split_at_checked(now) else {
                    return false;
                };
                let to = self.pool.start(*page).wrapping_add(offset);
                // SAFETY: within a page of the pool that was free: nobody but the backend looks at it.
                unsafe { to.copy_from_nonoverlapping(part.as_ptr(), now) };
                total += now;
                bytes = later;
            }
            true
        };
        let mut whole = pieces.into_iter().all(&mut put);
        // The closure's hold on the numbers ends with each use.
        let _ = &mut put;
        if whole && total < packet::MIN_FRAME {
            let missing = NOTHING.get(total..).unwrap_or_default();
            let offset = total;
            if let Some(page) = pages.first().filter(|_| count == 1) {
                let to = self.pool.start(*page).wrapping_add(offset);
                // SAFETY: as above; a short packet is on one page.
                unsafe { to.copy_from_nonoverlapping(missing.as_ptr(), missing.len()) };
                total = packet::MIN_FRAME;
            } else {
                whole = false;
            }
        }
        if !whole {
            self.pool.give(pages.get(..count).unwrap_or_default());
            return None;
        }
        Some((pages, count, total))
    }

    /// Sends a frame of our own; whether there was room.
    #[inline(never)]
    pub fn announce(&mut self, frame: &[u8]) -> bool {
        let mut headers = [0; MAX_HEADERS];
        let pieces = core::iter::once(frame);
        let layout = packet::parse(pieces.clone(), Extent::Frame, &mut headers).layout;
        let Some(kind) = Mac::from_start(frame).map(Mac::kind) else {
            return false;
        };
        if !self.open || self.pool.free() == 0 || !self.engine.has_room(1, 0) {
            return false;
        }
        let Some((pages, count, total)) = self.copy(pieces) else {
            return false;
        };
        let sent = Sent {
            cookie: None,
            pages,
            count,
            facts: Facts::of(kind, &layout, frame.len() as u32, false),
            payload: 0,
            checks: None,
        };
        let about = tx::Packet {
            checksum: Checksum::Unknown,
            gso: None,
            hash: None,
        };
        matches!(self.push_packet(sent, &about, total), Attempt::Sent)
    }

    /// Puts a packet into the ring, and grants pages that the backend does not know yet.
    #[inline(never)]
    fn push_packet(&mut self, sent: Sent, about: &tx::Packet, total: usize) -> Attempt {
        let mut parts: Parts<Standing> = Parts::default();
        let mut left = total;
        let mut outcome = Ok(());
        for page in sent.pages.iter().take(sent.count) {
            let length = left.min(PAGE_SIZE);
            left -= length;
            let added = self.pool.gref(*page, self.link.as_ref()).and_then(|gref| {
                let added = parts.add(&Standing, gref, 0, length as u32);
                added.map_err(|_| NtStatus::INVALID_PARAMETER)
            });
            if added.is_err() {
                outcome = Err(Refusal::Full);
                break;
            }
        }
        let first = sent.pages.first().copied().unwrap_or(0);
        let outcome = outcome.and_then(|()| {
            self.engine
                .push(first, about, &mut parts)
                .map_err(|(_, refusal)| refusal)
        });
        match outcome {
            Ok(()) => {
                if let Some(place) = self.in_ring.get_mut(usize::from(first)) {
                    *place = Some(sent);
                }
                Attempt::Sent
            }
            Err(refusal) => {
                self.pool.give(sent.pages());
                match refusal {
                    // Others' ends bring back what was short; without others there is no such end.
                    Refusal::Full | Refusal::Stopped if !self.engine.is_empty() => Attempt::Full,
                    _ => Attempt::Refused,
                }
            }
        }
    }
}

/// What the client left over for us or the backend.
fn wishes(packet: &Waiting, large: bool, version: Option<Version>) -> Wishes {
    let options = packet.options;
    let v6 = version == Some(Version::V6);
    let either = |v4: u16, over_v6: u16| options.has(if v6 { over_v6 } else { v4 });
    Wishes {
        tag: options
            .has(OffloadOptions::TAG_MANIPULATION)
            .then_some(packet::Tci(packet.tci)),
        ip_checksum: options.has(OffloadOptions::IPV4_HEADER_CHECKSUM),
        tcp_checksum: either(
            OffloadOptions::IPV4_TCP_CHECKSUM,
            OffloadOptions::IPV6_TCP_CHECKSUM,
        ),
        udp_checksum: either(
            OffloadOptions::IPV4_UDP_CHECKSUM,
            OffloadOptions::IPV6_UDP_CHECKSUM,
        ),
        mss: large.then_some(usize::from(packet.mss)),
    }
}
