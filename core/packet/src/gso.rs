//! Large TCP segments that the other side cuts, or has put together: what is written into their headers before they go to a
//! backend, and what is demanded of those that come from one.

use crate::ip::Version;
use crate::layout::{Layout, Transport};
use crate::segment::{MAX_PACKET, Refusal, check};
use crate::{MAX_EXTENSION_BYTES, transport};

/// Most data of a large send, over IPv4 and IPv6 alike, in bytes: what the longest headers of IPv6, with extensions and TCP
/// options, leave of the 65535 bytes of a frame in Xen's network protocol. NDIS' tests want both versions to have the same.
pub const MAX_LARGE_SEND: usize = MAX_PACKET - 18 - 40 - MAX_EXTENSION_BYTES - 60;

/// How a frame is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// TCP over which IP.
    pub version: Version,
    /// Bytes of data in each segment but the last; fewer than the frame has.
    pub mss: u16,
}

fn tcp(headers: &[u8], layout: &Layout, mss: usize) -> Result<Option<Gso>, Refusal> {
    let Transport::Tcp { .. } = check(headers, layout, mss)? else {
        return Err(Refusal::NotApplicable);
    };
    let ip = layout.ip.ok_or(Refusal::NotApplicable)?;
    if layout.length - layout.padding > MAX_PACKET {
        return Err(Refusal::TooLong);
    }
    match u16::try_from(mss) {
        Ok(mss) if usize::from(mss) < layout.payload => Ok(Some(Gso {
            version: ip.version,
            mss,
        })),
        // One segment is enough, so it is a frame like any other.
        _ => Ok(None),
    }
}

/// Makes the headers of a large send what a backend expects: IP's length and IPv4's checksum are those of the whole, TCP's
/// checksum is blank. `None` if one segment is enough; the headers are right for that too.
///
/// # Errors
/// [`Refusal`]; the headers may be half written.
pub fn prepare(headers: &mut [u8], layout: &Layout, mss: usize) -> Result<Option<Gso>, Refusal> {
    let gso = tcp(headers, layout, mss)?;
    let ip = layout.ip.ok_or(Refusal::NotApplicable)?;
    ip.set_length(headers, layout)?;
    ip.write_checksum(headers)?;
    transport::blank(headers, layout).map_err(|_| Refusal::Mismatch)?;
    Ok(gso)
}

/// Checks a frame of which the backend says that it is a large one. `None` if it is no longer than a segment.
///
/// # Errors
/// [`Refusal`]: the frame is not what was said.
pub fn accept(
    headers: &[u8],
    layout: &Layout,
    said: Gso,
    blank: bool,
) -> Result<Option<Gso>, Refusal> {
    if layout.ip.is_none_or(|ip| ip.version != said.version) {
        return Err(Refusal::NotApplicable);
    }
    if !blank {
        return Err(Refusal::Checksum);
    }
    tcp(headers, layout, usize::from(said.mss))
}
