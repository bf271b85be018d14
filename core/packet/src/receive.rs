//! What is done to a frame that comes from a backend: what is said of its checksums, and in which pieces it is handed on.

use crate::gso::Gso;
use crate::ip::Version;
use crate::layout::{Layout, Mismatch, Transport};
use crate::segment::{Refusal, Segments};
use crate::transport::{self, Verdict};

/// Which checksums the client wants to hear of. For the IP version of the frame at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// IPv4's header.
    pub ip: bool,
    /// TCP.
    pub tcp: bool,
    /// UDP.
    pub udp: bool,
}

/// What is said of one checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// There is no such header.
    Absent,
    /// It is right, or the backend vouches for it.
    Good,
    /// It is wrong.
    Bad,
    /// Nobody looked.
    NotValidated,
}

/// What is said of a frame's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// IPv4's header.
    pub ip: Check,
    /// TCP.
    pub tcp: Check,
    /// UDP. A datagram without a checksum is good over IPv4; over IPv6 only its receiver knows.
    pub udp: Check,
}

/// Looks at a frame's checksums. `validated`: the backend vouches for TCP's or UDP's, as it does for every blank one.
///
/// # Errors
/// Headers, layout and payload are not of one frame.
pub fn check<'a>(
    headers: &[u8],
    layout: &Layout,
    payload: impl Iterator<Item = &'a [u8]>,
    validated: bool,
    wanted: Wanted,
) -> Result<Checks, Mismatch> {
    let mut checks = Checks {
        ip: Check::Absent,
        tcp: Check::Absent,
        udp: Check::Absent,
    };
    let Some(ip) = layout.ip else {
        return Ok(checks);
    };
    if ip.version == Version::V4 {
        checks.ip = match wanted.ip {
            false => Check::NotValidated,
            true if ip.verify_checksum(headers)? => Check::Good,
            true => Check::Bad,
        };
    }
    let verdict = || match transport::verify(headers, layout, payload) {
        Ok(Verdict::Good) => Ok(Check::Good),
        Ok(Verdict::Bad) => Ok(Check::Bad),
        Ok(Verdict::Absent) if ip.version == Version::V4 => Ok(Check::Good),
        Ok(Verdict::Absent) | Err(transport::Error::NotApplicable) => Ok(Check::NotValidated),
        Err(transport::Error::Mismatch) => Err(Mismatch),
    };
    let (check, wanted) = match layout.transport {
        Some(Transport::Tcp { .. }) => (&mut checks.tcp, wanted.tcp),
        Some(Transport::Udp { .. }) => (&mut checks.udp, wanted.udp),
        None => return Ok(checks),
    };
    *check = match wanted {
        false => Check::NotValidated,
        true if validated => Check::Good,
        true => verdict()?,
    };
    Ok(checks)
}

/// What the client takes of large frames, for the IP version at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Large {
    /// None: each segment alone.
    Cut,
    /// The first segment alone, the rest as one frame.
    Split,
    /// All as one frame.
    Whole,
}

/// In which pieces a large frame is handed on.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// As it is.
    Whole,
    /// As these, each with headers of its own. One that has more than `mss` bytes is itself large.
    Pieces(Segments),
}

/// Decides how to hand a frame on that [`gso::accept`](crate::gso::accept) took for a large one.
///
/// # Errors
/// [`Refusal`]: it cannot be cut.
pub fn deliver(
    headers: &[u8],
    layout: &Layout,
    gso: Gso,
    large: Large,
) -> Result<Delivery, Refusal> {
    let mss = usize::from(gso.mss);
    match large {
        Large::Whole => Ok(Delivery::Whole),
        Large::Cut => Segments::new(headers, layout, mss).map(Delivery::Pieces),
        Large::Split => Segments::first_and_rest(headers, layout, mss).map(Delivery::Pieces),
    }
}
