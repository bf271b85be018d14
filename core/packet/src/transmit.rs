//! What is done to a frame before it goes to a backend: which of the work the client left over is done here, and which is
//! the backend's.
//!
//! ```text
//!   client's wishes × backend's features ──▶ headers rewritten, and
//!       one frame        checksum blank or right
//!       one large frame  checksum blank, cut by the backend
//!       segments         cut here: no such feature, or UDP, which no backend cuts
//! ```

use crate::ethernet::Tci;
use crate::gso::{self, Gso};
use crate::ip::Version;
use crate::layout::{Layout, Transport};
use crate::segment::{Refusal, Segments};
use crate::{transport, vlan};

/// What the client left over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// A tag to put in.
    pub tag: Option<Tci>,
    /// IPv4's checksum.
    pub ip_checksum: bool,
    /// TCP's, if the frame has such a header.
    pub tcp_checksum: bool,
    /// UDP's, if the frame has such a header.
    pub udp_checksum: bool,
    /// A large TCP segment or UDP datagram, to be cut into ones with so much data. Includes all checksums.
    pub mss: Option<usize>,
}

/// What the backend does, and what its link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Completes checksums of TCP and UDP over IPv4.
    pub checksum_v4: bool,
    /// Over IPv6.
    pub checksum_v6: bool,
    /// Cuts large TCP segments over IPv4.
    pub gso_v4: bool,
    /// Over IPv6.
    pub gso_v6: bool,
    /// Longest frame, header included, in bytes.
    pub max_frame: usize,
}

impl Backend {
    fn completes(&self, version: Version) -> bool {
        match version {
            Version::V4 => self.checksum_v4,
            Version::V6 => self.checksum_v6,
        }
    }

    /// A large frame has a blank checksum, so who cuts has to complete too.
    fn cuts(&self, version: Version) -> bool {
        let gso = match version {
            Version::V4 => self.gso_v4,
            Version::V6 => self.gso_v6,
        };
        gso && self.completes(version)
    }
}

/// Who cuts a frame.
#[derive(Clone, Debug)]
pub enum Cut {
    /// Nobody: it is short enough.
    None,
    /// The backend.
    Backend(Gso),
    /// The caller. The headers are the template; [`Plan::blank`] says whether each segment is to be completed.
    Here(Segments),
}

/// How a frame is sent.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of the frame, with the headers as they are now. Its payload is the original one's.
    pub layout: Layout,
    /// Whether the transport's checksum is left to the backend.
    pub blank: bool,
    /// Who cuts it.
    pub cut: Cut,
}

/// Rewrites a frame's headers and says how to send it. `headers` are those that were parsed, with room for a tag behind
/// them; of a large frame parsed with [`Extent::Frame`](crate::Extent). `payload` is [`Layout::payload_of`] the frame.
///
/// # Errors
/// [`Refusal`]: the frame cannot be sent. The headers may be half rewritten.
pub fn prepare<'a>(
    headers: &mut [u8],
    layout: &Layout,
    wishes: &Wishes,
    backend: &Backend,
    payload: impl Iterator<Item = &'a [u8]>,
) -> Result<Plan, Refusal> {
    let layout = match wishes.tag {
        Some(tag) => vlan::insert(headers, layout, tag)?,
        None => *layout,
    };
    if let Some(mss) = wishes.mss {
        let (large, version) = large(headers, &layout, mss, backend)?;
        if let Some(cut) = large {
            return Ok(Plan {
                layout,
                blank: backend.completes(version),
                cut,
            });
        }
    }
    if layout.length > backend.max_frame {
        return Err(Refusal::TooLong);
    }
    let wishes = match wishes.mss {
        None => *wishes,
        Some(_) => Wishes {
            ip_checksum: true,
            tcp_checksum: true,
            // A large datagram without a checksum is to stay without.
            udp_checksum: transport::read(headers, &layout) != Ok(0),
            ..*wishes
        },
    };
    Ok(Plan {
        layout,
        blank: checksums(headers, &layout, &wishes, backend, payload)?,
        cut: Cut::None,
    })
}

/// Who cuts; `None` if one segment is enough.
fn large(
    headers: &mut [u8],
    layout: &Layout,
    mss: usize,
    backend: &Backend,
) -> Result<(Option<Cut>, Version), Refusal> {
    let ip = layout.ip.ok_or(Refusal::NotApplicable)?;
    let mut segments = Segments::new(headers, layout, mss)?;
    if segments.len() == 1 {
        // The client may have left the lengths open.
        let only = segments.next().ok_or(Refusal::Mismatch)?;
        only.write_lengths(headers)?;
        return Ok((None, ip.version));
    }
    if layout.headers + mss > backend.max_frame {
        return Err(Refusal::TooLong);
    }
    let tcp = matches!(layout.transport, Some(Transport::Tcp { .. }));
    let cut = match tcp && backend.cuts(ip.version) {
        true => gso::prepare(headers, layout, mss)?.map(Cut::Backend),
        false => Some(Cut::Here(segments)),
    };
    Ok((cut, ip.version))
}

/// Does what is wished, or leaves it to the backend, which is told.
fn checksums<'a>(
    headers: &mut [u8],
    layout: &Layout,
    wishes: &Wishes,
    backend: &Backend,
    payload: impl Iterator<Item = &'a [u8]>,
) -> Result<bool, Refusal> {
    let Some(ip) = layout.ip else {
        return Ok(false);
    };
    if wishes.ip_checksum {
        ip.write_checksum(headers)?;
    }
    let wished = match layout.transport {
        Some(Transport::Tcp { .. }) => wishes.tcp_checksum,
        Some(Transport::Udp { .. }) => wishes.udp_checksum,
        None => false,
    };
    if !wished {
        return Ok(false);
    }
    let blank = backend.completes(ip.version);
    let done = match blank {
        true => transport::blank(headers, layout),
        false => transport::write(headers, layout, payload),
    };
    match done {
        Ok(()) => Ok(blank),
        // Under way to another destination first: nobody here knows the pseudo-header, and the client must not have asked.
        Err(transport::Error::NotApplicable) => Err(Refusal::NotApplicable),
        Err(transport::Error::Mismatch) => Err(Refusal::Mismatch),
    }
}
