//! Cuts a large TCP segment, or UDP datagram, into ones that the link can carry.
//!
//! ```text
//!   |headers|payload..............................|   sequence s, identification i, flags
//!   |headers|mss bytes|                               s,         i,     without FIN, PSH
//!           |headers|mss bytes|                       s + mss,   i + 1, without FIN, PSH, CWR
//!                      …     |headers|the rest|       s + n mss, i + n, without CWR
//! ```
//!
//! The headers of the large frame are a template, from which [`Segment::write`] makes those of each segment. The payload is
//! never touched: a segment knows its range. Options and extension headers are repeated as they are.

use core::ops::Range;

use crate::field::put16;
use crate::fragments::{Cursor, Pieces};
use crate::layout::{Layout, Mismatch, Transport};
use crate::tcp::{self, CWR, FIN, PSH, RST, SYN, URG};
use crate::transport;

/// Least data of a TCP segment. Linux lets a peer press its segments down to 48 bytes of options and data
/// (`tcp_min_snd_mss`), and 40 may be options; what is below has been made up to produce work.
pub const MIN_MSS: usize = 8;

/// Longest IP packet.
pub(crate) const MAX_PACKET: usize = 0xffff;

/// Why a frame is not cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It holds no whole TCP segment or UDP datagram of the kind that was said, or will have another destination.
    NotApplicable,
    /// Segments of this size cannot be.
    Mss,
    /// A TCP segment with SYN or RST, which stand for themselves.
    Flags,
    /// A packet, or one of the segments, is longer than IP can say.
    TooLong,
    /// It was not announced as having a blank checksum, without which its segments cannot be vouched for.
    Checksum,
    /// Headers and layout are not of one frame.
    Mismatch,
}

impl From<Mismatch> for Refusal {
    fn from(Mismatch: Mismatch) -> Self {
        Refusal::Mismatch
    }
}

/// What both ways of cutting demand of a frame.
pub(crate) fn check(headers: &[u8], layout: &Layout, mss: usize) -> Result<Transport, Refusal> {
    let ip = layout.ip.ok_or(Refusal::NotApplicable)?;
    let transport = layout
        .transport
        .filter(|_| !ip.routed)
        .ok_or(Refusal::NotApplicable)?;
    let least = match transport {
        Transport::Tcp { header, .. } => {
            if tcp::Header::read(headers, header)?.flags & (SYN | RST) != 0 {
                return Err(Refusal::Flags);
            }
            MIN_MSS
        }
        Transport::Udp { .. } => 1,
    };
    match mss {
        mss if mss < least => Err(Refusal::Mss),
        mss if layout.with_payload(mss.min(layout.payload)).ip_length(&ip) > MAX_PACKET => {
            Err(Refusal::TooLong)
        }
        _ => Ok(transport),
    }
}

/// The segments of a frame, in their order; at least one.
#[derive(Clone, Debug)]
pub struct Segments {
    whole: Layout,
    first: usize,
    step: usize,
    index: usize,
    count: usize,
    /// Whether the segments get a checksum: a UDP datagram may have none.
    checksum: bool,
}

impl Segments {
    /// Cuts a frame into segments of `mss` bytes of data.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn new(headers: &[u8], layout: &Layout, mss: usize) -> Result<Segments, Refusal> {
        let transport = check(headers, layout, mss)?;
        let checksum = matches!(transport, Transport::Tcp { .. })
            || !matches!(transport::read(headers, layout), Ok(0));
        Ok(Segments {
            whole: *layout,
            first: mss,
            step: mss,
            index: 0,
            count: layout.payload.div_ceil(mss).max(1),
            checksum,
        })
    }

    /// Cuts the first `mss` bytes of data off; the rest stays one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn first_and_rest(
        headers: &[u8],
        layout: &Layout,
        mss: usize,
    ) -> Result<Segments, Refusal> {
        let segments = Segments::new(headers, layout, mss)?;
        let rest = layout.payload.saturating_sub(mss).max(1);
        check(headers, layout, rest.max(MIN_MSS))?;
        Ok(Segments {
            step: rest,
            count: segments.count.min(2),
            ..segments
        })
    }
}

impl Iterator for Segments {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        if self.index == self.count {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let start = match index {
            0 => 0,
            _ => self.first + (index - 1) * self.step,
        };
        let size = if index == 0 { self.first } else { self.step };
        let payload = start..(start + size).min(self.whole.payload);
        Some(Segment {
            layout: self.whole.with_payload(payload.len()),
            payload,
            index,
            last: self.index == self.count,
            checksum: self.checksum,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count - self.index;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Segments {}

/// One of the segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Of the frame that it becomes. Its headers are as long as those of the large one.
    pub layout: Layout,
    /// Its data, counted from the start of the large frame's payload.
    pub payload: Range<usize>,
    index: usize,
    last: bool,
    checksum: bool,
}

impl Segment {
    /// Its data within those of the large frame, [`Layout::payload_of`].
    pub fn data_of<'a, I: Iterator<Item = &'a [u8]>>(
        &self,
        payload: impl IntoIterator<IntoIter = I>,
    ) -> Pieces<'a, I> {
        let mut cursor = Cursor::new(payload);
        cursor.skip(self.payload.start);
        cursor.take(self.payload.len())
    }

    /// Writes its headers, made of the large frame's, to the start of `to`. IPv4's checksum is right, TCP's or UDP's is
    /// blank; of a datagram without a checksum it stays so.
    ///
    /// # Errors
    /// There is no room, or these are the headers of another frame.
    pub fn write(&self, template: &[u8], to: &mut [u8]) -> Result<(), transport::Error> {
        let to = to.get_mut(..self.layout.headers).ok_or(Mismatch)?;
        let template = template.get(..self.layout.headers).ok_or(Mismatch)?;
        to.copy_from_slice(template);
        let ip = self.layout.ip.ok_or(Mismatch)?;
        self.write_lengths(to)?;
        match self.layout.transport.ok_or(Mismatch)? {
            Transport::Tcp { header, .. } => {
                if let Some(first) = ip.identification(to) {
                    // NDIS leaves a large send the lower half of the identifications ("Offloading the Segmentation of
                    // Large TCP Packets"); who began in the upper half stays there.
                    let next = first.wrapping_add(self.index as u16) & 0x7fff;
                    ip.set_identification(to, first & 0x8000 | next)?;
                }
                self.edit(tcp::Header::read(to, header)?)
                    .write(to, header)?;
            }
            Transport::Udp { .. } => {
                if let Some(first) = ip.identification(to) {
                    ip.set_identification(to, first.wrapping_add(self.index as u16))?;
                }
            }
        }
        ip.write_checksum(to)?;
        match self.checksum {
            true => transport::blank(to, &self.layout),
            false => Ok(()),
        }
    }

    /// Writes the lengths of IP and UDP.
    pub(crate) fn write_lengths(&self, headers: &mut [u8]) -> Result<(), Mismatch> {
        let ip = self.layout.ip.ok_or(Mismatch)?;
        ip.set_length(headers, &self.layout)?;
        match self.layout.transport {
            Some(Transport::Udp { header, length }) => put16(header.of_mut(headers)?, 4, length),
            _ => Ok(()),
        }
    }

    /// Puts the checksum into headers that [`Self::write`] wrote, unless the datagram has none. `payload` is that of the
    /// large frame.
    ///
    /// # Errors
    /// These are not the headers, or not the payload.
    pub fn complete<'a, I: Iterator<Item = &'a [u8]>>(
        &self,
        headers: &mut [u8],
        payload: impl IntoIterator<IntoIter = I>,
    ) -> Result<(), transport::Error> {
        match self.checksum {
            true => transport::write(headers, &self.layout, self.data_of(payload)),
            false => Ok(()),
        }
    }

    fn edit(&self, header: tcp::Header) -> tcp::Header {
        let start = self.payload.start;
        let mut flags = header.flags;
        if !self.last {
            flags &= !(FIN | PSH);
        }
        if self.index != 0 {
            flags &= !CWR;
        }
        // The urgent pointer counts from the segment's own sequence number.
        let urgent = usize::from(header.urgent).saturating_sub(start);
        if urgent == 0 {
            flags &= !URG;
        }
        tcp::Header {
            sequence: header.sequence.wrapping_add(start as u32),
            flags,
            urgent: urgent as u16,
            ..header
        }
    }
}
