//! Receive segment coalescing: TCP segments of a flow that arrive one behind the other become one (NDIS, "Rules for
//! Coalescing TCP/IP Segments", "Exception Conditions that Terminate Coalescing").
//!
//! ```text
//!   |headers|data|   start ──▶ Unit
//!   |headers|data|   append ─▶ grows: acknowledgement, window and time stamp become the newer ones
//!   |headers|        append ─▶ a window update changes the window; any other segment without data is refused
//!   |headers|data|   append ─▶ another flow, a gap, an option, a flag: refused; the unit is handed on first
//!                    finish ─▶ the first segment's headers, made right for all of the data
//! ```
//!
//! Only decisions and headers: the data stay where they are, and the caller chains them. The checksum of the whole is told
//! by those of the parts, without reading the data.

use crate::checksum::Sum;
use crate::field::get16;
use crate::flow::{Flow, class};
use crate::layout::{Layout, Mismatch, Span, Transport};
use crate::segment::MAX_PACKET;
use crate::tcp::{self, ACK, CWR, ECE, Header, PSH, Timestamps, not_before};
use crate::transport;

/// What is known of a segment's checksums. One with a wrong checksum must not come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// IPv4's and TCP's are right.
    Good,
    /// IPv4's is right, TCP's is blank.
    Blank,
}

/// A segment that has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its headers.
    pub headers: &'a [u8],
    /// Where they are.
    pub layout: &'a Layout,
    /// How many it was on its way: more than one if the backend has put it together.
    pub segments: u32,
    /// What is known of its checksums.
    pub checksum: Checksum,
}

/// Why a segment does not join a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It belongs to another flow; the unit may go on.
    OtherFlow,
    /// Together they would be longer than an IP packet can be. Hand the unit on; the segment can start one.
    TooLong,
    /// It does not continue the unit, or is of a kind that never does. Hand the unit on, then the segment, unless it can
    /// start one itself.
    Exception,
}

/// Bytes of an Ethernet header with a tag.
const LINK: usize = 18;

/// What has to be equal in all segments of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Common {
    flow: Flow,
    /// Addresses, tag and type of the frame.
    link: [u8; LINK],
    /// Differentiated services, ECN, flow label.
    class: u32,
    /// IPv4's flags.
    fragmentation: u16,
    congestion: u8,
    stamped: bool,
}

/// A segment of a kind that can be coalesced.
struct Candidate {
    common: Common,
    header: Header,
    timestamps: Option<Timestamps>,
    hops: u8,
    data: Option<Sum>,
}

impl Candidate {
    fn of(arrival: &Arrival, flow: Flow) -> Option<Candidate> {
        let (headers, layout) = (arrival.headers, arrival.layout);
        let ip = layout.ip.filter(|ip| ip.options.length == 0)?;
        let Transport::Tcp { header, options } = layout.transport? else {
            return None;
        };
        let read = Header::read(headers, header).ok()?;
        if read.flags & !(PSH | ECE | CWR) != ACK {
            return None;
        }
        let options = options.of(headers).ok()?;
        let timestamps = Timestamps::read(options);
        if timestamps.is_none() && !options.is_empty() {
            return None;
        }
        let mut link = [0; LINK];
        for (to, from) in link.iter_mut().zip(layout.ethernet.of(headers).ok()?) {
            *to = *from;
        }
        let data = match arrival.checksum {
            Checksum::Blank => None,
            Checksum::Good => {
                let mut sum = layout
                    .pseudo_header(headers, layout.transport_length(&layout.transport?))
                    .ok()?;
                sum.add(headers.get(header.start()..layout.headers)?);
                Some(sum.rest(layout.payload % 2 == 1))
            }
        };
        Some(Candidate {
            common: Common {
                flow,
                link,
                class: class(headers, layout)?,
                fragmentation: match ip.identification(headers) {
                    Some(_) => get16(ip.header.of(headers).ok()?, 6)?,
                    None => 0,
                },
                congestion: read.flags & (ECE | CWR),
                stamped: timestamps.is_some(),
            },
            header: read,
            timestamps,
            hops: ip.hops(headers)?,
            data,
        })
    }
}

fn flow_of(arrival: &Arrival) -> Option<Flow> {
    match arrival.layout.transport? {
        Transport::Tcp { .. } => Flow::of(arrival.headers, arrival.layout),
        Transport::Udp { .. } => None,
    }
}

/// Segments that have become one.
#[derive(Clone, Debug)]
pub struct Unit {
    layout: Layout,
    common: Common,
    header: Header,
    timestamps: Option<Timestamps>,
    /// The earliest one's value.
    stamped: u32,
    hops: u8,
    segments: u32,
    /// The sum of the data, unless a blank checksum left it unknown.
    data: Option<Sum>,
}

/// A unit's headers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Of the unit.
    pub layout: Layout,
    /// Whether TCP's checksum is right or blank.
    pub checksum: Checksum,
}

impl Unit {
    /// Begins with a segment; `None` if it is of a kind that is never coalesced, or has no data.
    pub fn start(arrival: &Arrival) -> Option<Unit> {
        let candidate = Candidate::of(arrival, flow_of(arrival)?)?;
        (arrival.layout.payload > 0).then_some(Unit {
            layout: arrival.layout.with_payload(arrival.layout.payload),
            common: candidate.common,
            header: candidate.header,
            timestamps: candidate.timestamps,
            stamped: candidate.timestamps.map_or(0, |stamps| stamps.value),
            hops: candidate.hops,
            segments: arrival.segments,
            data: candidate.data,
        })
    }

    /// Takes another segment in, so that its data are to be chained behind those of the unit.
    ///
    /// # Errors
    /// Why not; the unit is as it was.
    pub fn append(&mut self, arrival: &Arrival) -> Result<(), Refusal> {
        let flow = flow_of(arrival).filter(|flow| *flow == self.common.flow);
        let flow = flow.ok_or(Refusal::OtherFlow)?;
        let next = Candidate::of(arrival, flow)
            .filter(|next| next.common == self.common && self.continues(next))
            .ok_or(Refusal::Exception)?;
        let payload = arrival.layout.payload;
        if payload == 0 {
            // The same acknowledgement and another window: an update of that. With the same window too, it tells the sender
            // of a loss, and every one of these has to be seen by TCP.
            let update = next.header.acknowledgement == self.header.acknowledgement
                && next.header.window != self.header.window;
            if !update {
                return Err(Refusal::Exception);
            }
        } else {
            let longer = self.layout.with_payload(self.layout.payload + payload);
            if longer
                .ip
                .is_none_or(|ip| longer.ip_length(&ip) > MAX_PACKET)
            {
                return Err(Refusal::TooLong);
            }
            self.layout = longer;
            self.segments = self.segments.saturating_add(arrival.segments);
            self.header.flags |= next.header.flags;
            self.data = self.data.zip(next.data).map(|(mut sum, data)| {
                sum.join(data);
                sum
            });
        }
        self.header.acknowledgement = next.header.acknowledgement;
        self.header.window = next.header.window;
        self.timestamps = next.timestamps;
        self.hops = self.hops.min(next.hops);
        Ok(())
    }

    /// Whether a segment comes next in all that is counted.
    fn continues(&self, next: &Candidate) -> bool {
        let expected = self
            .header
            .sequence
            .wrapping_add(self.layout.payload as u32);
        next.header.sequence == expected
            && not_before(next.header.acknowledgement, self.header.acknowledgement)
            && self
                .timestamps
                .zip(next.timestamps)
                .is_none_or(|(last, next)| not_before(next.value, last.value))
    }

    /// The connection.
    pub fn flow(&self) -> Flow {
        self.common.flow
    }

    /// Segments with data in it: NDIS' `CoalescedSegCount`.
    pub fn segments(&self) -> u32 {
        self.segments
    }

    /// From the earliest time stamp to the latest, if there are any: NDIS' `RscTcpTimestampDelta`.
    pub fn timestamp_delta(&self) -> Option<u32> {
        Some(self.timestamps?.value.wrapping_sub(self.stamped))
    }

    /// Turns the headers of the first segment into those of the unit.
    ///
    /// # Errors
    /// They are others.
    pub fn finish(&self, headers: &mut [u8]) -> Result<Finished, Mismatch> {
        let layout = self.layout;
        let ip = layout.ip.ok_or(Mismatch)?;
        let Some(Transport::Tcp { header, options }) = layout.transport else {
            return Err(Mismatch);
        };
        ip.set_length(headers, &layout)?;
        ip.set_hops(headers, self.hops)?;
        ip.write_checksum(headers)?;
        self.header.write(headers, header)?;
        if let Some(timestamps) = self.timestamps {
            timestamps.write(options.of_mut(headers)?)?;
        }
        transport::blank(headers, &layout).map_err(|_| Mismatch)?;
        let checksum = match self.data {
            None => Checksum::Blank,
            Some(data) => {
                self.write_checksum(headers, header, data)?;
                Checksum::Good
            }
        };
        Ok(Finished { layout, checksum })
    }

    /// The field holds the sum of the pseudo-header; header and data are added to that.
    fn write_checksum(&self, headers: &mut [u8], header: Span, data: Sum) -> Result<(), Mismatch> {
        let mut sum = Sum::default();
        sum.add(
            headers
                .get(header.start()..self.layout.headers)
                .ok_or(Mismatch)?,
        );
        sum.join(data);
        tcp::set_checksum(headers, header, sum.checksum())
    }
}
