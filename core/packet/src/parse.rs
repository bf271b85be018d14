//! Finds the headers of a frame, and copies them out of its fragments.
//!
//! One header after the other is copied into the caller's buffer and read there, so what the frame's owner writes later
//! changes nothing. A header that is wrong, or that does not fit into what the one before it encloses, ends the search: it
//! and what is behind it are payload, and the fault is told. All of it is bounded: one tag, [`MAX_EXTENSIONS`] extension
//! headers with [`MAX_EXTENSION_BYTES`], hence [`MAX_HEADERS`].

use crate::ethernet::{self, Tci};
use crate::field::{get8, get16};
use crate::fragments::{Cursor, length};
use crate::ip::{self, Ip, Version};
use crate::layout::{Layout, Span, Transport};

/// IPv6 extension headers of a packet that are looked through.
pub const MAX_EXTENSIONS: usize = 8;
/// Their bytes. With them the longest headers are those for which large sends have been limited to 65201 bytes.
pub const MAX_EXTENSION_BYTES: usize = 216;
/// The longest headers: Ethernet with a tag, IPv6 with extensions, TCP with options.
pub const MAX_HEADERS: usize =
    ethernet::HEADER + ethernet::TAG + ip::HEADER_V6 + MAX_EXTENSION_BYTES + 60;

/// What says how long an IP packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Its header; there may be padding behind it.
    Header,
    /// The frame's end. Headers of a large send may hold any length, 0 included.
    Frame,
}

/// Why the search for headers ended before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The frame ends within its Ethernet or LLC header.
    Truncated,
    /// The buffer for the headers is too small.
    Buffer,
    /// IP does not begin where its type says, or its header is shorter than it can be.
    IpHeader,
    /// An IP packet that is longer than its frame, or shorter than its header.
    IpLength,
    /// More extension headers than are looked through.
    Extensions,
    /// A TCP or UDP header that does not end within its IP packet, or is shorter than it can be.
    Transport,
    /// A UDP datagram that is longer than its IP packet, or shorter than its header.
    UdpLength,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Up to the fault, if there is one.
    pub layout: Layout,
    /// Why there is no more.
    pub fault: Option<Fault>,
}

impl Parsed {
    /// The layout of a frame without faults.
    ///
    /// # Errors
    /// The fault.
    pub fn whole(self) -> Result<Layout, Fault> {
        self.fault.map_or(Ok(self.layout), Err)
    }
}

/// Finds the headers of a frame and copies them to the start of `headers`, [`MAX_HEADERS`] bytes at best.
pub fn parse<'a, I>(frame: I, extent: Extent, headers: &mut [u8]) -> Parsed
where
    I: Iterator<Item = &'a [u8]> + Clone,
{
    let length = length(frame.clone());
    let limit = headers.len().min(MAX_HEADERS);
    let mut search = Search {
        cursor: Cursor::new(frame),
        headers: headers.get_mut(..limit).unwrap_or_default(),
        extent,
        end: length,
        layout: Layout {
            length,
            headers: 0,
            payload: length,
            padding: 0,
            ethernet: Span::default(),
            tag: None,
            llc: Span::default(),
            ip: None,
            transport: None,
        },
    };
    let fault = search.ethernet().err();
    let mut layout = search.layout;
    // What was copied before a fault is not lost: it counts as header, and its bytes are in the buffer.
    layout.payload = search.end.saturating_sub(layout.headers);
    layout.padding = length.saturating_sub(layout.headers + layout.payload);
    Parsed { layout, fault }
}

struct Search<'a, 'h, I> {
    cursor: Cursor<'a, I>,
    headers: &'h mut [u8],
    extent: Extent,
    /// Offset behind the last byte that means something, as far as known.
    end: usize,
    layout: Layout,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Search<'a, '_, I> {
    /// Copies the next `bytes` bytes; `fault` if the frame, or what encloses them, ends before.
    fn pull(&mut self, bytes: usize, fault: Fault) -> Result<Span, Fault> {
        if bytes == 0 {
            return Ok(Span::default());
        }
        let start = self.layout.headers;
        let end = start + bytes;
        if end > self.end {
            return Err(fault);
        }
        let room = self.headers.get_mut(start..end).ok_or(Fault::Buffer)?;
        let copied = self.cursor.copy(room);
        self.layout.headers = start + copied;
        if copied < bytes {
            return Err(fault);
        }
        Ok(Span {
            offset: u16::try_from(start).map_err(|_| Fault::Buffer)?,
            length: u16::try_from(bytes).map_err(|_| Fault::Buffer)?,
        })
    }

    /// One of the bytes copied.
    fn byte(&self, span: Span, at: usize) -> u8 {
        get8(self.headers, span.start() + at).unwrap_or(0)
    }

    fn word(&self, span: Span, at: usize) -> u16 {
        get16(self.headers, span.start() + at).unwrap_or(0)
    }

    fn ethernet(&mut self) -> Result<(), Fault> {
        let header = self.pull(ethernet::HEADER, Fault::Truncated)?;
        self.layout.ethernet = header;
        let mut kind = self.word(header, ethernet::ADDRESSES);
        if kind == ethernet::TAGGED {
            let tag = self.pull(ethernet::TAG, Fault::Truncated)?;
            self.layout.tag = Some(Tci(self.word(tag, 0)));
            self.layout.ethernet.length += tag.length;
            kind = self.word(tag, 2);
        }
        match kind {
            ethernet::IPV4 => self.ipv4(),
            ethernet::IPV6 => self.ipv6(),
            length if length <= ethernet::MAX_LENGTH => self.llc(usize::from(length)),
            _ => Ok(()),
        }
    }

    /// IEEE 802.2, with the SNAP extension. What follows is not looked at, not even if it is IP.
    fn llc(&mut self, length: usize) -> Result<(), Fault> {
        let inside = self.layout.headers + length;
        let mut llc = self.pull(3, Fault::Truncated)?;
        let snap = (0..2).all(|at| self.byte(llc, at) & 0xfe == 0xaa) && self.byte(llc, 2) == 3;
        if snap {
            llc.length += self.pull(5, Fault::Truncated)?.length;
        }
        self.layout.llc = llc;
        // Some senders put a length of their own there, so one that cannot be right is no fault.
        if inside >= self.layout.headers {
            self.end = self.end.min(inside);
        }
        Ok(())
    }

    fn ipv4(&mut self) -> Result<(), Fault> {
        let header = self.pull(ip::HEADER_V4, Fault::IpLength)?;
        let first = self.byte(header, 0);
        let header_length = usize::from(first & 0xf) * 4;
        if first >> 4 != 4 || header_length < ip::HEADER_V4 {
            return Err(Fault::IpHeader);
        }
        let end = match self.extent {
            Extent::Frame => self.end,
            Extent::Header => header.start() + usize::from(self.word(header, 2)),
        };
        if end > self.end || end < header.start() + header_length {
            return Err(Fault::IpLength);
        }
        let options = self.pull(header_length - ip::HEADER_V4, Fault::IpLength)?;
        // More fragments follow, or this is not the first one.
        let fragment = self.word(header, 6) & 0x3fff != 0;
        self.end = end;
        self.layout.ip = Some(Ip {
            version: Version::V4,
            header,
            options,
            protocol: self.byte(header, 9),
            fragment,
            routed: false,
        });
        self.transport()
    }

    fn ipv6(&mut self) -> Result<(), Fault> {
        let header = self.pull(ip::HEADER_V6, Fault::IpLength)?;
        if self.byte(header, 0) >> 4 != 6 {
            return Err(Fault::IpHeader);
        }
        let end = match self.extent {
            Extent::Frame => self.end,
            Extent::Header => header.end() + usize::from(self.word(header, 4)),
        };
        if end > self.end {
            return Err(Fault::IpLength);
        }
        let outside = core::mem::replace(&mut self.end, end);
        let protocol = self.byte(header, 6);
        self.layout.ip = self
            .extensions(header, protocol)
            .inspect_err(|_| self.end = outside)
            .map(Some)?;
        self.transport()
    }

    /// RFC 8200 section 4; Authentication Header: RFC 4302 section 2.
    fn extensions(&mut self, header: Span, mut protocol: u8) -> Result<Ip, Fault> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const AUTHENTICATION: u8 = 51;
        const DESTINATION: u8 = 60;
        let mut options = Span::default();
        let mut fragment = false;
        let mut routed = false;
        let mut count = 0;
        while !fragment
            && matches!(
                protocol,
                HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
            )
        {
            let first = self.pull(8, Fault::IpLength)?;
            let units = usize::from(self.byte(first, 1));
            let bytes = match protocol {
                FRAGMENT => 8,
                AUTHENTICATION => (units + 2) * 4,
                _ => (units + 1) * 8,
            };
            let total = usize::from(options.length) + bytes;
            if count == MAX_EXTENSIONS || total > MAX_EXTENSION_BYTES {
                return Err(Fault::Extensions);
            }
            self.pull(bytes - 8, Fault::IpLength)?;
            count += 1;
            options = Span {
                offset: header.offset + header.length,
                length: total as u16,
            };
            match protocol {
                // An offset, or more to come. Neither: all fragments in one (RFC 6946).
                FRAGMENT => fragment = self.word(first, 2) & 0xfff9 != 0,
                ROUTING => routed |= self.byte(first, 3) != 0,
                DESTINATION => routed |= self.home_address(first.start() + 2, bytes - 2),
                _ => {}
            }
            protocol = self.byte(first, 0);
        }
        Ok(Ip {
            version: Version::V6,
            header,
            options,
            protocol,
            fragment,
            routed,
        })
    }

    /// Whether a home address is among the options of a destination options header.
    fn home_address(&self, start: usize, bytes: usize) -> bool {
        const PAD_1: u8 = 0;
        const HOME_ADDRESS: u8 = 0xc9;
        let mut options = self
            .headers
            .get(start..)
            .unwrap_or_default()
            .iter()
            .take(bytes);
        while let Some(option) = options.next() {
            match *option {
                PAD_1 => {}
                HOME_ADDRESS => return true,
                _ => {
                    let length = options.next().copied().unwrap_or(0);
                    options.by_ref().take(usize::from(length)).for_each(drop);
                }
            }
        }
        false
    }

    fn transport(&mut self) -> Result<(), Fault> {
        let Some(ip) = self.layout.ip.filter(|ip| !ip.fragment) else {
            return Ok(());
        };
        self.layout.transport = match ip.protocol {
            ip::TCP => Some(self.tcp()?),
            ip::UDP => Some(self.udp()?),
            _ => None,
        };
        Ok(())
    }

    fn tcp(&mut self) -> Result<Transport, Fault> {
        let header = self.pull(20, Fault::Transport)?;
        let length = usize::from(self.byte(header, 12) >> 4) * 4;
        let options = length.checked_sub(20).ok_or(Fault::Transport)?;
        Ok(Transport::Tcp {
            header,
            options: self.pull(options, Fault::Transport)?,
        })
    }

    fn udp(&mut self) -> Result<Transport, Fault> {
        let header = self.pull(8, Fault::Transport)?;
        let room = self.end - header.start();
        let length = match self.extent {
            Extent::Frame => u16::try_from(room).map_err(|_| Fault::UdpLength)?,
            Extent::Header => self.word(header, 4),
        };
        if length < 8 || usize::from(length) > room {
            return Err(Fault::UdpLength);
        }
        Ok(Transport::Udp { header, length })
    }
}
