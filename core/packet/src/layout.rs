//! Where the parts of a frame are.
//!
//! ```text
//!   |Ethernet [tag]|[LLC/SNAP]|[IP]|[options, extensions]|[TCP][options] or [UDP]|payload|padding|
//!   |◀───────────────────────── headers ────────────────────────────────────────▶|
//!   |◀───────────────────────── length ─────────────────────────────────────────────────────────▶|
//! ```
//!
//! Always `headers + payload + padding == length`. Offsets count from the frame's first byte.

use crate::checksum::Sum;
use crate::ethernet::Tci;
use crate::fragments::{Cursor, Pieces};
use crate::ip::Ip;

/// A header's place; all zero if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Of the first byte.
    pub offset: u16,
    /// Bytes.
    pub length: u16,
}

impl Span {
    /// Offset of the first byte.
    pub fn start(self) -> usize {
        usize::from(self.offset)
    }

    /// Offset of the first byte behind it.
    pub fn end(self) -> usize {
        self.start() + usize::from(self.length)
    }

    /// Its bytes.
    ///
    /// # Errors
    /// The headers end before it does.
    pub fn of(self, headers: &[u8]) -> Result<&[u8], Mismatch> {
        headers.get(self.start()..self.end()).ok_or(Mismatch)
    }

    /// The same.
    ///
    /// # Errors
    /// The headers end before it does.
    pub fn of_mut(self, headers: &mut [u8]) -> Result<&mut [u8], Mismatch> {
        headers.get_mut(self.start()..self.end()).ok_or(Mismatch)
    }
}

/// Bytes and the layout of another frame were given together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch;

/// The header behind IP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp {
        /// Its 20 fixed bytes.
        header: Span,
        /// Behind them.
        options: Span,
    },
    /// UDP (RFC 768).
    Udp {
        /// Its 8 bytes.
        header: Span,
        /// What the datagram says of itself: bytes of header and data. Never beyond IP's length, at times below.
        length: u16,
    },
}

impl Transport {
    /// The fixed part of the header.
    pub fn header(&self) -> Span {
        match self {
            Transport::Tcp { header, .. } | Transport::Udp { header, .. } => *header,
        }
    }
}

/// What [`parse`](crate::parse()) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the frame.
    pub length: usize,
    /// Bytes of all headers, which are those in the header buffer.
    pub headers: usize,
    /// Bytes of data, up to where IP (or LLC) says that it ends.
    pub payload: usize,
    /// Bytes behind that, which mean nothing.
    pub padding: usize,
    /// With its tag; of no length if the frame is too short to have one.
    pub ethernet: Span,
    /// The outermost 802.1Q tag.
    pub tag: Option<Tci>,
    /// LLC, with SNAP if it follows.
    pub llc: Span,
    /// An IP header, complete with options or extension headers.
    pub ip: Option<Ip>,
    /// A TCP or UDP header, complete with options. A fragment has none.
    pub transport: Option<Transport>,
}

impl Layout {
    /// The payload within the whole frame.
    pub fn payload_of<'a, I: Iterator<Item = &'a [u8]>>(
        &self,
        frame: impl IntoIterator<IntoIter = I>,
    ) -> Pieces<'a, I> {
        let mut cursor = Cursor::new(frame);
        cursor.skip(self.headers);
        cursor.take(self.payload)
    }

    /// Bytes of the IP packet, header included.
    pub(crate) fn ip_length(&self, ip: &Ip) -> usize {
        (self.headers + self.payload).saturating_sub(ip.header.start())
    }

    /// Bytes that the transport's checksum covers, header included.
    pub(crate) fn transport_length(&self, transport: &Transport) -> usize {
        match transport {
            Transport::Tcp { header, .. } => {
                (self.headers + self.payload).saturating_sub(header.start())
            }
            Transport::Udp { length, .. } => usize::from(*length),
        }
    }

    /// The same frame with so much payload instead, without padding.
    pub(crate) fn with_payload(&self, payload: usize) -> Layout {
        let transport = self.transport.map(|transport| match transport {
            Transport::Udp { header, .. } => Transport::Udp {
                header,
                length: u16::try_from(usize::from(header.length) + payload).unwrap_or(u16::MAX),
            },
            tcp => tcp,
        });
        Layout {
            length: self.headers + payload,
            payload,
            padding: 0,
            transport,
            ..*self
        }
    }

    /// Every header `by` bytes further from the start.
    pub(crate) fn moved(&self, by: i16) -> Layout {
        let span = |span: Span| match span.length {
            0 => span,
            _ => Span {
                offset: span.offset.saturating_add_signed(by),
                ..span
            },
        };
        let move_size = |size: usize| size.saturating_add_signed(isize::from(by));
        Layout {
            length: move_size(self.length),
            headers: move_size(self.headers),
            llc: span(self.llc),
            ip: self.ip.map(|ip| Ip {
                header: span(ip.header),
                options: span(ip.options),
                ..ip
            }),
            transport: self.transport.map(|transport| match transport {
                Transport::Tcp { header, options } => Transport::Tcp {
                    header: span(header),
                    options: span(options),
                },
                Transport::Udp { header, length } => Transport::Udp {
                    header: span(header),
                    length,
                },
            }),
            ..*self
        }
    }

    /// The sum of TCP's or UDP's pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1) for `length` bytes.
    pub(crate) fn pseudo_header(&self, headers: &[u8], length: usize) -> Result<Sum, Mismatch> {
        let ip = self.ip.ok_or(Mismatch)?;
        let mut sum = Sum::default();
        sum.add(ip.address_bytes(headers)?);
        sum.add(&u32::try_from(length).map_err(|_| Mismatch)?.to_be_bytes());
        sum.add(&u16::from(ip.protocol).to_be_bytes());
        Ok(sum)
    }
}
