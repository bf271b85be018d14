//! From what a backend sent to what the client is given: checked, filtered, cut if it must be, with its checksums judged.

use crate::queue::Common;
use crate::rx::{Loan, Receiver};
use crate::statistics::{self as stats, Facts};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::sync::atomic::Ordering;
use netfront::rx::Packet;
use netfront::{Checksum, MacAddress};
use nt::sys::PAGE_SIZE;
use nt::{Pages, SpinLock};
use packet::receive::{self, Check, Checks, Large, Wanted};
use packet::segment::Segments;
use packet::{
    Extent, Kind, Layout, MAX_HEADERS, Span, Tci, Transport, Version, gso, transport, vlan,
};
use pv_interfaces::vif::{
    ChecksumFlags, OffloadOptions, PacketHeader, PacketInfo, QueuePacketV9, Statistic,
};

/// A packet that can be given to the client.
pub struct Ready {
    pub loan: Box<Loan>,
    pub facts: Facts,
    length: u32,
    flags: ChecksumFlags,
    mss: u16,
    tag: Option<Tci>,
}

impl Ready {
    /// What the client is told. The loan is its own from here on.
    pub fn describe(self, more: bool) -> QueuePacketV9 {
        let mut loan = self.loan;
        let (index, mdl) = (loan.queue, loan.chain());
        let loan = Box::into_raw(loan);
        QueuePacketV9 {
            index,
            mdl: mdl.cast(),
            offset: 0,
            length: self.length,
            flags: self.flags,
            maximum_segment_size: self.mss,
            tag_control_information: self.tag.map_or(0, |tag| tag.0),
            // SAFETY: the loan lives until it is given back.
            info: unsafe { &raw const (*loan).info },
            // SAFETY: as above.
            hash: unsafe { &raw const (*loan).hash },
            more: more.into(),
            cookie: loan.cast(),
        }
    }
}

/// What a queue's packets go through.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    pub queue: u32,
    pub receiver: &'a SpinLock<Receiver>,
    pub common: &'a Common,
}

/// A packet on its way, with its headers copied out.
struct Frame {
    loan: Box<Loan>,
    layout: Layout,
    kind: Kind,
    checksum: Checksum,
    /// The segments' size, if it is a large one.
    large: Option<u16>,
}

impl Delivery<'_> {
    /// Makes a received packet ready; it may be dropped, or become several.
    #[inline(never)]
    pub fn receive(&self, packet: Packet<Pages>, ready: &mut VecDeque<Ready>) {
        let (checksum, said, hash) = (packet.checksum, packet.gso, packet.hash);
        let Some(mut loan) = self.receiver.lock().lend(self.queue, packet) else {
            return self
                .common
                .statistics
                .count(Statistic::ReceiverPacketsDropped);
        };
        loan.hash = self.common.hash.for_client(hash);
        let mut headers = [0; MAX_HEADERS];
        let parsed = packet::parse(loan.pieces(), Extent::Header, &mut headers).whole();
        let destination = packet::Mac::from_start(&headers);
        let (Ok(layout), Some(destination)) = (parsed, destination) else {
            return self.malformed(loan);
        };
        if !self.common.mac.wants(MacAddress(destination.0)) {
            return self.give_back(loan);
        }
        let large = match said {
            None => Ok(None),
            Some(said) => gso::accept(&headers, &layout, said, checksum == Checksum::Blank),
        };
        let Ok(large) = large else {
            return self.malformed(loan);
        };
        let frame = Frame {
            loan,
            layout,
            kind: destination.kind(),
            checksum,
            large: large.map(|large| large.mss),
        };
        match large {
            Some(gso) if self.takes(gso.version) != Large::Whole => {
                let delivery = receive::deliver(&headers, &layout, gso, self.takes(gso.version));
                match delivery {
                    Ok(receive::Delivery::Pieces(segments)) => {
                        self.cut(frame, &headers, segments, ready);
                    }
                    Ok(receive::Delivery::Whole) => self.finish(frame, &mut headers, ready),
                    Err(_) => self.malformed(frame.loan),
                }
            }
            _ => self.finish(frame, &mut headers, ready),
        }
    }

    /// What the client takes of large packets.
    fn takes(&self, version: Version) -> Large {
        let options = self.common.mac.options();
        let bit = match version {
            Version::V4 => OffloadOptions::IPV4_LARGE_PACKET,
            Version::V6 => OffloadOptions::IPV6_LARGE_PACKET,
        };
        match (
            options.has(bit),
            options.has(OffloadOptions::NEED_LARGE_PACKET_SPLIT),
        ) {
            (false, _) => Large::Cut,
            (true, true) => Large::Split,
            (true, false) => Large::Whole,
        }
    }

    fn give_back(&self, loan: Box<Loan>) {
        self.receiver.lock().give_back(loan);
    }

    fn malformed(&self, loan: Box<Loan>) {
        self.common
            .statistics
            .count(Statistic::ReceiverFrontendErrors);
        self.drop_packet(loan);
    }

    fn drop_packet(&self, loan: Box<Loan>) {
        self.common
            .statistics
            .count(Statistic::ReceiverPacketsDropped);
        self.give_back(loan);
    }

    /// Where a packet that begins at `start` of its page has to begin instead, in a page of its own; 0: it is well there.
    fn lead(&self, start: usize) -> usize {
        // There is to be room for the headers behind it.
        let backfill = self.common.backfill.load(Ordering::Relaxed) as usize;
        let backfill = backfill.min(PAGE_SIZE - MAX_HEADERS);
        let align = self.common.align as usize;
        match start < backfill {
            true => backfill.max(align),
            false => align,
        }
    }

    /// Copies a large packet's segments.
    #[inline(never)]
    fn cut(&self, frame: Frame, headers: &[u8], segments: Segments, ready: &mut VecDeque<Ready>) {
        let mss = usize::from(frame.large.unwrap_or(0));
        for segment in segments {
            let length = segment.layout.length;
            let fresh = self.receiver.lock().fresh(self.queue, length, 0);
            let Some(mut loan) = fresh else {
                self.common
                    .statistics
                    .count(Statistic::ReceiverPacketsDropped);
                break;
            };
            loan.hash = frame.loan.hash;
            let mut own = [0; MAX_HEADERS];
            let written = segment.write(headers, &mut own).and_then(|()| {
                segment.complete(&mut own, frame.layout.payload_of(frame.loan.pieces()))
            });
            let Some(head) = own
                .get(..segment.layout.headers)
                .filter(|_| written.is_ok())
            else {
                self.malformed(loan);
                break;
            };
            loan.write(0, head);
            let mut at = head.len();
            for piece in segment.data_of(frame.layout.payload_of(frame.loan.pieces())) {
                loan.write(at, piece);
                at += piece.len();
            }
            let piece = Frame {
                loan,
                layout: segment.layout,
                kind: frame.kind,
                checksum: Checksum::Validated,
                large: frame.large.filter(|_| segment.layout.payload > mss),
            };
            self.finish(piece, &mut own, ready);
        }
        self.give_back(frame.loan);
    }

    /// Judges the checksums, takes the tag out, and puts the packet where it is delivered from.
    #[inline(never)]
    fn finish(&self, frame: Frame, headers: &mut [u8], ready: &mut VecDeque<Ready>) {
        let Frame {
            mut loan,
            mut layout,
            kind,
            checksum,
            large,
        } = frame;
        let options = self.common.mac.options();
        let facts = Facts::of(kind, &layout, layout.length as u32, large.is_some());
        let wanted = wanted(options, layout.ip.map(|ip| ip.version));
        let payload = layout.payload_of(loan.pieces());
        let vouched = checksum != Checksum::Unknown;
        let Ok(checks) = receive::check(headers, &layout, payload, vouched, wanted) else {
            return self.malformed(loan);
        };
        let blank = checksum == Checksum::Blank
            && (self.common.fill_checksums || options.has(OffloadOptions::NEED_CHECKSUM_VALUE));
        let filled = blank && {
            let payload = layout.payload_of(loan.pieces());
            transport::write(headers, &layout, payload).is_ok()
        };
        let mut tag = None;
        let before = layout.headers;
        if options.has(OffloadOptions::TAG_MANIPULATION)
            && let Ok(Some((found, untagged))) = vlan::remove(headers, &layout)
        {
            (tag, layout) = (Some(found), untagged);
        }
        if filled || tag.is_some() {
            loan.write(0, headers.get(..before).unwrap_or_default());
        }
        let length = facts.length as usize;
        let (start, together) = loan.first();
        let lead = self.lead(start);
        // Who reads headers wants each in one piece, and frames of LLC as a whole.
        let whole = (self.common.pull_up || layout.llc.length != 0) && length + lead <= PAGE_SIZE;
        let needed = if whole { length } else { before };
        if together < needed || lead != 0 {
            let fresh = self.receiver.lock().fresh(self.queue, length, lead);
            let Some(mut copy) = fresh else {
                return self.drop_packet(loan);
            };
            let mut at = 0;
            for piece in loan.pieces() {
                copy.write(at, piece);
                at += piece.len();
            }
            copy.hash = loan.hash;
            self.give_back(loan);
            loan = copy;
        }
        // The addresses have moved up by the tag's length.
        loan.cut((before - layout.headers) as u32);
        loan.info = info(&layout);
        if ready.try_reserve(1).is_err() {
            return self.drop_packet(loan);
        }
        self.common.statistics.checked(&checks, &stats::RECEIVED);
        ready.push_back(Ready {
            loan,
            facts,
            length: layout.length as u32,
            flags: flags(&checks),
            mss: large.unwrap_or(0),
            tag,
        });
    }
}

fn wanted(options: OffloadOptions, version: Option<Version>) -> Wanted {
    let v6 = version == Some(Version::V6);
    let either = |v4: u16, over_v6: u16| options.has(if v6 { over_v6 } else { v4 });
    Wanted {
        ip: options.has(OffloadOptions::IPV4_HEADER_CHECKSUM),
        tcp: either(
            OffloadOptions::IPV4_TCP_CHECKSUM,
            OffloadOptions::IPV6_TCP_CHECKSUM,
        ),
        udp: either(
            OffloadOptions::IPV4_UDP_CHECKSUM,
            OffloadOptions::IPV6_UDP_CHECKSUM,
        ),
    }
}

fn flags(checks: &Checks) -> ChecksumFlags {
    let bits = [checks.ip, checks.tcp, checks.udp]
        .into_iter()
        .zip([0u32, 3, 6])
        .map(|(check, at)| match check {
            Check::Absent => 0,
            Check::Good => ChecksumFlags::IP_SUCCEEDED << at,
            Check::Bad => ChecksumFlags::IP_FAILED << at,
            Check::NotValidated => ChecksumFlags::IP_NOT_VALIDATED << at,
        });
    ChecksumFlags(bits.fold(0, |all, bit| all | bit))
}

fn info(layout: &Layout) -> PacketInfo {
    let header = |span: Span| PacketHeader {
        offset: span.offset.into(),
        length: span.length.into(),
    };
    let mut info = PacketInfo {
        length: layout.headers as u32,
        ethernet: header(layout.ethernet),
        llc_snap: header(layout.llc),
        ..PacketInfo::default()
    };
    if let Some(ip) = layout.ip {
        info.is_a_fragment = ip.fragment.into();
        info.ip = header(ip.header);
        info.ip_options = header(ip.options);
    }
    match layout.transport {
        Some(Transport::Tcp {
            header: tcp,
            options,
        }) => {
            info.tcp = header(tcp);
            info.tcp_options = header(options);
        }
        Some(Transport::Udp { header: udp, .. }) => info.udp = header(udp),
        None => {}
    }
    info
}
