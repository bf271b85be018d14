//! Fields of TCP headers (RFC 9293 section 3.1), and the one option that coalescing understands.

use crate::field::{get8, get16, get32, put16, put32};
use crate::layout::{Mismatch, Span};

/// The sender has no more data.
pub const FIN: u8 = 0x01;
/// The connection begins.
pub const SYN: u8 = 0x02;
/// The connection is refused or gone.
pub const RST: u8 = 0x04;
/// Data to hand on at once.
pub const PSH: u8 = 0x08;
/// The acknowledgement counts.
pub const ACK: u8 = 0x10;
/// The urgent pointer counts.
pub const URG: u8 = 0x20;
/// Congestion was met (RFC 3168).
pub const ECE: u8 = 0x40;
/// The congestion window is reduced (RFC 3168).
pub const CWR: u8 = 0x80;

/// The fixed part of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Ports of source and destination.
    pub ports: (u16, u16),
    /// Number of the first byte of data.
    pub sequence: u32,
    /// Number of the byte expected from the other side.
    pub acknowledgement: u32,
    /// Of [`FIN`] and the others.
    pub flags: u8,
    /// Bytes that the sender has room for, unscaled.
    pub window: u16,
    /// Behind the first byte of data, where [`URG`] is set.
    pub urgent: u16,
}

impl Header {
    /// The header at a place.
    ///
    /// # Errors
    /// The headers end before it does.
    pub fn read(headers: &[u8], span: Span) -> Result<Header, Mismatch> {
        let bytes = span.of(headers)?;
        let read = || {
            Some(Header {
                ports: (get16(bytes, 0)?, get16(bytes, 2)?),
                sequence: get32(bytes, 4)?,
                acknowledgement: get32(bytes, 8)?,
                flags: get8(bytes, 13)?,
                window: get16(bytes, 14)?,
                urgent: get16(bytes, 18)?,
            })
        };
        read().ok_or(Mismatch)
    }

    /// Writes these fields, and neither the ports nor the header's length and checksum.
    pub(crate) fn write(&self, headers: &mut [u8], span: Span) -> Result<(), Mismatch> {
        let bytes = span.of_mut(headers)?;
        put32(bytes, 4, self.sequence)?;
        put32(bytes, 8, self.acknowledgement)?;
        *bytes.get_mut(13).ok_or(Mismatch)? = self.flags;
        put16(bytes, 14, self.window)?;
        put16(bytes, 18, self.urgent)
    }
}

pub(crate) fn set_checksum(headers: &mut [u8], span: Span, value: u16) -> Result<(), Mismatch> {
    put16(span.of_mut(headers)?, 16, value)
}

/// When a segment was sent, and what it answers (RFC 7323 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval.
    pub value: u32,
    /// TSecr.
    pub echo: u32,
}

impl Timestamps {
    /// If they are all that there is among the options, but for the two empty ones before (RFC 7323 appendix A).
    pub fn read(options: &[u8]) -> Option<Timestamps> {
        if options.len() != 12 || get32(options, 0)? != 0x0101_080a {
            return None;
        }
        Some(Timestamps {
            value: get32(options, 4)?,
            echo: get32(options, 8)?,
        })
    }

    pub(crate) fn write(&self, options: &mut [u8]) -> Result<(), Mismatch> {
        put32(options, 4, self.value)?;
        put32(options, 8, self.echo)
    }
}

/// Whether `a` comes not before `b`, for numbers that begin anew behind the last one (RFC 9293 section 3.4).
pub(crate) fn not_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 1 << 31
}
