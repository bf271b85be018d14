//! The Internet Protocol's headers: IPv4 (RFC 791), IPv6 (RFC 8200).

use crate::checksum::Sum;
use crate::field::{get8, get16, put16};
use crate::layout::{Layout, Mismatch, Span};

/// Bytes of an IPv4 header without options.
pub(crate) const HEADER_V4: usize = 20;
/// Bytes of an IPv6 header without extensions.
pub(crate) const HEADER_V6: usize = 40;

/// Protocol numbers (IANA).
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 4.
    V4,
    /// 6.
    V6,
}

/// An IP header's place and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Its version.
    pub version: Version,
    /// The fixed part: 20 or 40 bytes.
    pub header: Span,
    /// IPv4 options, or all IPv6 extension headers.
    pub options: Span,
    /// Of what follows.
    pub protocol: u8,
    /// Whether it is one of several fragments; an IPv6 packet that is all of its fragments in one is none.
    pub fragment: bool,
    /// Whether the transport's checksum is over other addresses than those of the header: an IPv6 routing header has
    /// stations left (RFC 8200 section 8.1), or a mobile node tells its home address (RFC 6275 section 6.3).
    pub routed: bool,
}

/// Source and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// 4 bytes each.
    V4([u8; 4], [u8; 4]),
    /// 16 bytes each.
    V6([u8; 16], [u8; 16]),
}

impl Ip {
    /// Source and destination as they stand in the packet, one behind the other.
    ///
    /// # Errors
    /// The headers are not this packet's.
    pub fn address_bytes<'a>(&self, headers: &'a [u8]) -> Result<&'a [u8], Mismatch> {
        let range = match self.version {
            Version::V4 => 12..20,
            Version::V6 => 8..40,
        };
        self.header.of(headers)?.get(range).ok_or(Mismatch)
    }

    /// Source and destination.
    ///
    /// # Errors
    /// The headers are not this packet's.
    pub fn addresses(&self, headers: &[u8]) -> Result<Addresses, Mismatch> {
        let bytes = self.address_bytes(headers)?;
        let addresses = match self.version {
            Version::V4 => bytes
                .first_chunk()
                .zip(bytes.last_chunk())
                .map(|(source, destination)| Addresses::V4(*source, *destination)),
            Version::V6 => bytes
                .first_chunk()
                .zip(bytes.last_chunk())
                .map(|(source, destination)| Addresses::V6(*source, *destination)),
        };
        addresses.ok_or(Mismatch)
    }

    /// IPv4's identification.
    pub(crate) fn identification(&self, headers: &[u8]) -> Option<u16> {
        match self.version {
            Version::V4 => get16(self.header.of(headers).ok()?, 4),
            Version::V6 => None,
        }
    }

    pub(crate) fn set_identification(
        &self,
        headers: &mut [u8],
        value: u16,
    ) -> Result<(), Mismatch> {
        put16(self.header.of_mut(headers)?, 4, value)
    }

    /// Time to live, or hop limit.
    pub(crate) fn hops(&self, headers: &[u8]) -> Option<u8> {
        get8(self.header.of(headers).ok()?, self.hops_at())
    }

    pub(crate) fn set_hops(&self, headers: &mut [u8], value: u8) -> Result<(), Mismatch> {
        let at = self.hops_at();
        let field = self.header.of_mut(headers)?.get_mut(at).ok_or(Mismatch)?;
        *field = value;
        Ok(())
    }

    fn hops_at(&self) -> usize {
        match self.version {
            Version::V4 => 8,
            Version::V6 => 7,
        }
    }

    /// Writes the length that the layout has: IPv4's total length, IPv6's payload length.
    pub(crate) fn set_length(&self, headers: &mut [u8], layout: &Layout) -> Result<(), Mismatch> {
        let length = layout.ip_length(self);
        let header = self.header.of_mut(headers)?;
        let (at, length) = match self.version {
            Version::V4 => (2, length),
            Version::V6 => (4, length.checked_sub(HEADER_V6).ok_or(Mismatch)?),
        };
        put16(header, at, u16::try_from(length).map_err(|_| Mismatch)?)
    }

    fn sum(&self, headers: &[u8]) -> Result<Sum, Mismatch> {
        let mut sum = Sum::default();
        sum.add(self.header.of(headers)?);
        sum.add(self.options.of(headers)?);
        Ok(sum)
    }

    /// Whether an IPv4 header's checksum is right. IPv6 has none, which is right too.
    ///
    /// # Errors
    /// The headers are not this packet's.
    pub fn verify_checksum(&self, headers: &[u8]) -> Result<bool, Mismatch> {
        match self.version {
            Version::V4 => Ok(self.sum(headers)?.checksum() == 0),
            Version::V6 => Ok(true),
        }
    }

    /// Writes an IPv4 header's checksum; IPv6 has none.
    ///
    /// # Errors
    /// The headers are not this packet's.
    pub fn write_checksum(&self, headers: &mut [u8]) -> Result<(), Mismatch> {
        if self.version == Version::V4 {
            put16(self.header.of_mut(headers)?, 10, 0)?;
            let checksum = self.sum(headers)?.checksum();
            put16(self.header.of_mut(headers)?, 10, checksum)?;
        }
        Ok(())
    }
}
