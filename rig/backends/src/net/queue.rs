//! One queue of a connected interface: its rings and channels, and the frames that go through them. public/io/netif.h.

use std::collections::VecDeque;
use std::ptr;
use std::sync::Arc;

use xen_abi::PAGE_SIZE;
use xen_abi::netif::*;
use xen_model::dom0::Dom0;
use xen_model::{Access, EventEnd, Xen};

use super::lying::{self, Lying, NetLie, RxLie};
use super::multicast::Multicast;
use super::ring::{BackRing, Overflow};
use super::{Frame, FrameHash, Gso, Traffic, Wire};
use crate::hostile::Lie;

/// Slots of a packet, extras included, that are taken.
const MAX_SLOTS: u32 = NR_SLOTS_MIN as u32 + 4;

/// A packet in the ring: its slots, its data requests, its extras.
struct Taken {
    slots: u32,
    parts: Vec<TxRequest>,
    extras: Vec<Extra>,
}

pub(super) struct Queue {
    pub(super) tx: BackRing<TX_WORDS>,
    pub(super) rx: BackRing<RX_WORDS>,
    /// Of the transmit ring, or of both.
    pub(super) tx_end: Arc<EventEnd>,
    /// Of the receive ring, if it has one of its own.
    pub(super) rx_end: Option<Arc<EventEnd>>,
    /// Frames for the guest.
    pub(super) waiting: VecDeque<Frame>,
    pub(super) traffic: Traffic,
    pub(super) lying: Lying,
    /// A lie that is the whole device's.
    pub(super) of_device: Option<Lie>,
    /// What the ring's next index is off the truth.
    wrong_index: Option<i32>,
    pub(super) broken: bool,
}

impl Queue {
    pub(super) fn new(
        tx: BackRing<TX_WORDS>,
        rx: BackRing<RX_WORDS>,
        tx_end: Arc<EventEnd>,
        rx_end: Option<Arc<EventEnd>>,
        lie: Option<(u64, NetLie)>,
    ) -> Self {
        Self {
            tx,
            rx,
            tx_end,
            rx_end,
            waiting: VecDeque::new(),
            traffic: Traffic::default(),
            lying: Lying::new(lie),
            of_device: None,
            wrong_index: None,
            broken: false,
        }
    }

    pub(super) fn close(&self, xen: &Xen) {
        for end in [Some(&self.tx_end), self.rx_end.as_ref()]
            .into_iter()
            .flatten()
        {
            xen.dom0_close(end);
        }
    }

    /// Takes what the guest sent to the wire, by way of `frame`. Returns whether there was anything.
    pub(super) fn take_sent(
        &mut self,
        dom0: &Dom0,
        frame: &mut Frame,
        multicast: &mut Multicast,
        wire: &mut dyn Wire,
    ) -> bool {
        self.tx_end.take();
        if self.broken || self.lying.is_silent() {
            return false;
        }
        let taken = self.serve_tx(dom0.xen(), frame, multicast, wire);
        if self.tx.publish() && !self.lying.swallows_event() {
            dom0.xen().dom0_notify(&self.tx_end);
        }
        if let Some(by) = self.wrong_index.take() {
            self.tx.publish_wrong(by);
            dom0.xen().dom0_notify(&self.tx_end);
        }
        for _ in 0..self.lying.go_on(&self.tx, &self.rx).unwrap_or(0) {
            dom0.xen().dom0_notify(&self.tx_end);
            // Who storms has work without end.
            dom0.bell().ring();
        }
        taken.unwrap_or_else(|Overflow| {
            self.give_up(dom0);
            false
        })
    }

    /// Gives the guest what waits, as far as there are places for it; the frames' memory goes to `spare`. Returns
    /// whether there was anything.
    pub(super) fn give(&mut self, dom0: &Dom0, spare: &mut Vec<Frame>) -> bool {
        if let Some(end) = &self.rx_end {
            end.take();
        }
        if self.broken || self.lying.is_silent() {
            return false;
        }
        let given = self.serve_rx(dom0.xen(), spare);
        let end = self.rx_end.as_ref().unwrap_or(&self.tx_end);
        if self.rx.publish() {
            dom0.xen().dom0_notify(end);
        }
        if let Some(by) = self.wrong_index.take() {
            self.rx.publish_wrong(by);
            dom0.xen().dom0_notify(end);
        }
        given.unwrap_or_else(|Overflow| {
            self.give_up(dom0);
            false
        })
    }

    fn give_up(&mut self, dom0: &Dom0) {
        dom0.log("vif: frontend provided bogus requests");
        self.broken = true;
        self.waiting.clear();
    }

    fn serve_tx(
        &mut self,
        xen: &Arc<Xen>,
        frame: &mut Frame,
        multicast: &mut Multicast,
        wire: &mut dyn Wire,
    ) -> Result<bool, Overflow> {
        let mut worked = false;
        loop {
            let ready = self.tx.ready()?;
            if ready == 0 {
                if self.tx.rearm(0) {
                    continue;
                }
                return Ok(worked);
            }
            let Some(taken) = self.read_packet(ready, frame)? else {
                // The rest of the packet is still to come.
                return Ok(worked | self.tx.rearm(ready));
            };
            worked = true;
            let Taken {
                slots,
                parts,
                extras,
            } = taken;
            let done = extras.iter().find_map(|extra| multicast.apply(extra));
            let status = done.unwrap_or_else(|| match gather(xen, &parts, &mut frame.bytes) {
                Some(()) => RSP_OKAY,
                None => RSP_ERROR,
            });
            self.tx.consume(slots);
            if !self.lie(xen, &parts) {
                for id in parts.iter().map(|part| part.id) {
                    self.tx.respond(TxResponse { id, status }.to_words());
                }
                for _ in parts.len() as u32..slots {
                    let status = RSP_NULL;
                    self.tx.respond(TxResponse { id: 0, status }.to_words());
                }
            }
            if done.is_none() && status == RSP_OKAY {
                self.traffic.sent += 1;
                wire.transmit(frame);
            }
        }
    }

    /// Tells the lie whose turn a packet of the guest's is. Returns whether that is all the answer there is.
    fn lie(&mut self, xen: &Arc<Xen>, parts: &[TxRequest]) -> bool {
        let Some(lie) = self.lying.of_sent() else {
            return false;
        };
        if let NetLie::Tx(lie @ (Lie::HoldRing | Lie::Close | Lie::Mute | Lie::Flap)) = lie {
            self.of_device = Some(lie);
        }
        self.wrong_index = Lying::index(lie, self.tx.outstanding());
        self.lying.answer(&mut self.tx, xen, parts, lie)
    }

    /// The packet at the head of the ring, and what is said of it to `frame`. `None` if it is not whole.
    fn read_packet(&self, ready: u32, frame: &mut Frame) -> Result<Option<Taken>, Overflow> {
        (frame.gso, frame.hash) = (None, None);
        let mut extras = Vec::new();
        let first = TxRequest::from_words(&self.tx.peek(0));
        frame.blank = first.flags & TX_CSUM_BLANK != 0;
        frame.validated = first.flags & TX_DATA_VALIDATED != 0;
        let mut slots = 1;
        let mut extra = first.flags & TX_EXTRA_INFO != 0;
        while extra {
            if slots >= MAX_SLOTS {
                return Err(Overflow);
            }
            if slots >= ready {
                return Ok(None);
            }
            let info = ExtraInfo::from_words(&self.tx.peek(slots));
            let meaning = Extra::decode(info);
            match meaning {
                Extra::Gso { size, kind, .. } => {
                    frame.gso = Some(Gso {
                        size,
                        v6: kind == GSO_TYPE_TCPV6,
                    });
                }
                Extra::Hash { kind, value, .. } => frame.hash = Some(FrameHash { kind, value }),
                _ => {}
            }
            extras.push(meaning);
            extra = info.flags & EXTRA_FLAG_MORE != 0;
            slots += 1;
        }
        let mut parts = vec![first];
        while parts
            .last()
            .is_some_and(|part| part.flags & TX_MORE_DATA != 0)
        {
            if slots >= MAX_SLOTS {
                return Err(Overflow);
            }
            if slots >= ready {
                return Ok(None);
            }
            parts.push(TxRequest::from_words(&self.tx.peek(slots)));
            slots += 1;
        }
        Ok(Some(Taken {
            slots,
            parts,
            extras,
        }))
    }

    fn serve_rx(&mut self, xen: &Xen, spare: &mut Vec<Frame>) -> Result<bool, Overflow> {
        let mut worked = false;
        while let Some(frame) = self.waiting.front() {
            let slots = frame.bytes.len().div_ceil(PAGE_SIZE).max(1) as u32;
            let needed = slots + extras(frame).count() as u32;
            let ready = self.rx.ready()?;
            if ready < needed {
                if self.rx.rearm(ready) {
                    continue;
                }
                break;
            }
            if let Some(frame) = self.waiting.pop_front() {
                self.scatter(xen, &frame, slots);
                self.traffic.received += 1;
                spare.push(frame);
            }
            worked = true;
        }
        Ok(worked)
    }

    fn scatter(&mut self, xen: &Xen, frame: &Frame, slots: u32) {
        let lie = self.lying.of_received();
        let off;
        let frame = match lie {
            Some(RxLie::IpLength(by)) => {
                off = lying::with_ip_length(frame, by);
                &off
            }
            _ => frame,
        };
        if lie == Some(RxLie::Empty) {
            for _ in 0..5 {
                self.slot(|id| RxResponse {
                    id,
                    flags: RX_MORE_DATA,
                    ..RxResponse::default()
                });
            }
        }
        let mut flags = 0;
        if frame.blank {
            flags |= RX_CSUM_BLANK | RX_DATA_VALIDATED;
        } else if frame.validated {
            flags |= RX_DATA_VALIDATED;
        }
        let pieces = frame.bytes.chunks(PAGE_SIZE);
        for (index, piece) in pieces.enumerate() {
            let request = RxRequest::from_words(&self.rx.peek(0));
            self.rx.consume(1);
            let status = match xen.map(request.gref, Access::Write) {
                Ok(page) => {
                    // SAFETY: within the page, whose mapping lives.
                    unsafe {
                        ptr::copy_nonoverlapping(piece.as_ptr(), page.as_ptr(), piece.len());
                    }
                    xen.count_copy(piece.len());
                    piece.len() as i16
                }
                Err(_) => RSP_ERROR,
            };
            let more = if index as u32 + 1 < slots {
                RX_MORE_DATA
            } else {
                0
            };
            let first = match index {
                0 if extras(frame).next().is_some() => flags | RX_EXTRA_INFO,
                0 => flags,
                _ => 0,
            };
            let mut response = RxResponse {
                id: request.id,
                offset: 0,
                flags: first | more,
                status,
            };
            if let Some(lie) = lie.filter(|lie| index == 0 || *lie == RxLie::Endless) {
                lying::slot(lie, &mut response);
            }
            self.rx.respond(response.to_words());
            let mut following = extras(frame).filter(|_| index == 0).peekable();
            while let Some(extra) = following.next() {
                // The slot of a request whose page is not used.
                self.rx.consume(1);
                let more = following.peek().is_some();
                self.rx.respond(extra.encode(more).to_words());
            }
            if let (0, Some(lie)) = (index, lie) {
                for extra in lying::extras(lie) {
                    if matches!(self.rx.ready(), Ok(1..)) {
                        self.rx.consume(1);
                        self.rx.respond(extra.to_words());
                    }
                }
            }
        }
        match lie {
            Some(RxLie::Repeat) => self.rx.respond([0; RX_WORDS]),
            Some(RxLie::Index(by)) => self.wrong_index = Some(by),
            _ => {}
        }
    }

    /// Answers the next request, if there is one.
    fn slot(&mut self, response: impl FnOnce(u16) -> RxResponse) {
        if matches!(self.rx.ready(), Ok(1..)) {
            let request = RxRequest::from_words(&self.rx.peek(0));
            self.rx.consume(1);
            self.rx.respond(response(request.id).to_words());
        }
    }
}

/// Copies a packet's bytes to `bytes`; `None` if they cannot be had.
fn gather(xen: &Xen, parts: &[TxRequest], bytes: &mut Vec<u8>) -> Option<()> {
    let total = usize::from(parts.first()?.size);
    let rest: usize = parts
        .iter()
        .skip(1)
        .map(|part| usize::from(part.size))
        .sum();
    let mut length = total.checked_sub(rest)?;
    bytes.clear();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            length = usize::from(part.size);
        }
        let offset = usize::from(part.offset);
        if offset + length > PAGE_SIZE {
            return None;
        }
        let page = xen.map(part.gref, Access::Read).ok()?;
        let start = bytes.len();
        bytes.resize(start + length, 0);
        let (from, to) = (page.as_ptr().wrapping_add(offset), &mut bytes[start..]);
        // SAFETY: within the page, whose mapping lives; the guest may change it, which makes for odd bytes.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), length) };
        xen.count_copy(length);
    }
    Some(())
}

/// What is said of a frame in extras.
fn extras(frame: &Frame) -> impl Iterator<Item = Extra> {
    let gso = frame.gso.map(|gso| Extra::Gso {
        size: gso.size,
        kind: if gso.v6 {
            GSO_TYPE_TCPV6
        } else {
            GSO_TYPE_TCPV4
        },
        features: 0,
    });
    let hash = frame.hash.map(|hash| Extra::Hash {
        kind: hash.kind,
        algorithm: HASH_ALGORITHM_TOEPLITZ,
        value: hash.value,
    });
    gso.into_iter().chain(hash)
}
