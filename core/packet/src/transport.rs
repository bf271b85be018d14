//! Checksums of TCP and UDP, over IPv4 and IPv6.
//!
//! ```text
//!   blank   the field holds the sum of the pseudo-header; who comes later adds the rest and complements it
//!   write   the field holds the checksum
//!   verify  the field is compared with what it should be
//! ```
//!
//! A blank field is completed by [`write`], which sums everything anew.

use crate::checksum::Sum;
use crate::field::{get16, put16};
use crate::layout::{Layout, Mismatch, Transport};

/// What a checksum says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The segment arrived as it was sent.
    Good,
    /// It did not.
    Bad,
    /// UDP without a checksum. Right in IPv4; in IPv6 only some tunnels may do that (RFC 6936), and who receives the
    /// datagram has to know.
    Absent,
}

/// Why there is nothing to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No whole TCP segment or UDP datagram is in the frame, or its packet will have another destination at the end of its way.
    NotApplicable,
    /// Headers, layout and payload are not of one frame.
    Mismatch,
}

impl From<Mismatch> for Error {
    fn from(Mismatch: Mismatch) -> Self {
        Error::Mismatch
    }
}

/// Offset of the checksum in the transport's header.
fn field(transport: &Transport) -> usize {
    match transport {
        Transport::Tcp { .. } => 16,
        Transport::Udp { .. } => 6,
    }
}

fn transport(layout: &Layout) -> Result<Transport, Error> {
    let ip = layout.ip.ok_or(Error::NotApplicable)?;
    match layout.transport {
        Some(transport) if !ip.routed => Ok(transport),
        _ => Err(Error::NotApplicable),
    }
}

/// The checksum's field, as it is.
///
/// # Errors
/// [`Error`].
pub fn read(headers: &[u8], layout: &Layout) -> Result<u16, Error> {
    let transport = transport(layout)?;
    let header = transport.header().of(headers)?;
    get16(header, field(&transport)).ok_or(Error::Mismatch)
}

fn set(headers: &mut [u8], transport: &Transport, value: u16) -> Result<(), Error> {
    let header = transport.header().of_mut(headers)?;
    Ok(put16(header, field(transport), value)?)
}

/// The sum of pseudo-header, header and data.
fn sum<'a>(
    headers: &[u8],
    layout: &Layout,
    transport: &Transport,
    payload: impl Iterator<Item = &'a [u8]>,
) -> Result<Sum, Error> {
    let length = layout.transport_length(transport);
    let mut sum = layout.pseudo_header(headers, length)?;
    let header = headers
        .get(transport.header().start()..layout.headers)
        .ok_or(Error::Mismatch)?;
    sum.add(header);
    let mut left = length.checked_sub(header.len()).ok_or(Error::Mismatch)?;
    for piece in payload {
        let piece = piece.get(..left).unwrap_or(piece);
        sum.add(piece);
        left -= piece.len();
    }
    match left {
        0 => Ok(sum),
        _ => Err(Error::Mismatch),
    }
}

/// Leaves the checksum to who comes later: puts the sum of the pseudo-header into its place, as the frames of Xen's
/// network protocol with a blank checksum have it.
///
/// # Errors
/// [`Error`].
pub fn blank(headers: &mut [u8], layout: &Layout) -> Result<(), Error> {
    let transport = transport(layout)?;
    let sum = layout.pseudo_header(headers, layout.transport_length(&transport))?;
    set(headers, &transport, sum.folded())
}

/// Computes the checksum and writes it; whatever was in its place is gone.
///
/// # Errors
/// [`Error`].
pub fn write<'a>(
    headers: &mut [u8],
    layout: &Layout,
    payload: impl Iterator<Item = &'a [u8]>,
) -> Result<(), Error> {
    let transport = transport(layout)?;
    set(headers, &transport, 0)?;
    let checksum = sum(headers, layout, &transport, payload)?.checksum();
    set(headers, &transport, sent_as(&transport, checksum))
}

/// In UDP zero means that there is no checksum, so the other zero of ones' complement is sent (RFC 768, RFC 8200
/// section 8.1).
pub(crate) fn sent_as(transport: &Transport, checksum: u16) -> u16 {
    match transport {
        Transport::Udp { .. } if checksum == 0 => 0xffff,
        _ => checksum,
    }
}

/// Whether the checksum is right.
///
/// # Errors
/// [`Error`].
pub fn verify<'a>(
    headers: &[u8],
    layout: &Layout,
    payload: impl Iterator<Item = &'a [u8]>,
) -> Result<Verdict, Error> {
    let transport = transport(layout)?;
    if matches!(transport, Transport::Udp { .. }) && read(headers, layout)? == 0 {
        return Ok(Verdict::Absent);
    }
    match sum(headers, layout, &transport, payload)?.checksum() {
        0 => Ok(Verdict::Good),
        _ => Ok(Verdict::Bad),
    }
}
