//! How a frame carries a range of a stream, and how it is found again at the other end: by the place that a plain frame or
//! a datagram says before its data, or by a segment's sequence number, which says it of every segment that it is cut into.

use tap::frame::{self, Layout, TCP, UDP};

/// A type of nobody's (IEEE 802: local experimental).
const PLAIN: [u8; 2] = [0x88, 0xB5];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xDD];
/// What drivers send by themselves, so that others learn where an address is.
const ARP: [u8; 2] = [0x08, 0x06];
const ICMPV6: u8 = 58;

/// Place and length before the data.
const SAID: usize = 6;
const ETHERNET: usize = 14;

/// What carries the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The frame itself.
    Plain,
    /// A datagram.
    Udp {
        /// Over IPv6, not IPv4.
        v6: bool,
    },
    /// A segment.
    Tcp {
        /// Over IPv6, not IPv4.
        v6: bool,
    },
}

impl Form {
    /// Whether IP is in between, and which.
    pub fn v6(self) -> Option<bool> {
        match self {
            Self::Plain => None,
            Self::Udp { v6 } | Self::Tcp { v6 } => Some(v6),
        }
    }

    /// From a frame's start to its data.
    pub fn header(self) -> usize {
        let ip = match self.v6() {
            None => 0,
            Some(false) => 20,
            Some(true) => 40,
        };
        ETHERNET
            + ip
            + match self {
                Self::Plain => SAID,
                Self::Udp { .. } => 8 + SAID,
                Self::Tcp { .. } => 20,
            }
    }

    /// A frame with a stream's `data` from place `at` on; its checksums are whole.
    pub fn build(self, to: [u8; 6], from: [u8; 6], at: u32, data: &[u8]) -> Vec<u8> {
        let mut frame = [to, from].concat();
        let said = [&at.to_be_bytes()[..], &(data.len() as u16).to_be_bytes()].concat();
        let Some(v6) = self.v6() else {
            return [frame, PLAIN.to_vec(), said, data.to_vec()].concat();
        };
        let transport = match self {
            Self::Tcp { .. } => {
                let mut header = vec![0x1F, 0x90, 0xC0, 0];
                header.extend(at.to_be_bytes());
                header.extend([0, 0, 0, 1, 0x50, 0x10, 0xFF, 0xFF, 0, 0, 0, 0]);
                header
            }
            _ => {
                let length = (8 + SAID + data.len()) as u16;
                let mut header = vec![0x1F, 0x90, 0xC0, 0];
                header.extend(length.to_be_bytes());
                header.extend([0, 0]);
                header.extend(said);
                header
            }
        };
        let protocol = match self {
            Self::Tcp { .. } => TCP,
            _ => UDP,
        };
        let length = (transport.len() + data.len()) as u16;
        if v6 {
            frame.extend(IPV6);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            for host in [1, 2] {
                frame.extend([0xFD, 0, 1, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
            }
        } else {
            frame.extend(IPV4);
            frame.extend([0x45, 0]);
            frame.extend((20 + length).to_be_bytes());
            frame.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 117, 0, 1, 10, 117, 0, 2]);
            let sum = !frame::sum(&frame[ETHERNET..], 0) as u16;
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        frame.extend(transport);
        frame.extend(data);
        frame::make_blank(&mut frame, true);
        if let Some((start, offset)) = checksum(&frame) {
            frame::complete(&mut frame, start, offset);
        }
        frame
    }
}

/// Where TCP or UDP begins, and where its checksum is in it.
fn checksum(frame: &[u8]) -> Option<(usize, usize)> {
    let layout = Layout::of(frame)?;
    Some((layout.transport, layout.checksum()?))
}

/// Whether the checksum of TCP or UDP, if the frame has one, is right, or the pseudo header's where it is `blank`.
pub fn is_right(frame: &[u8], blank: bool) -> bool {
    let Some(layout) = Layout::of(frame) else {
        return true;
    };
    let Some(offset) = layout.checksum() else {
        return true;
    };
    let at = layout.transport + offset;
    match blank {
        true => frame[at..at + 2] == (layout.pseudo(frame) as u16).to_be_bytes(),
        false => layout.is_right(frame) == Some(true),
    }
}

/// What of a stream a frame carries: where, and the bytes. None for what a driver says by itself.
pub fn read(frame: &[u8]) -> Result<Option<(u32, &[u8])>, String> {
    let found = find(frame);
    found.ok_or_else(|| {
        let first = &frame[..frame.len().min(60)];
        format!(
            "a frame of {} bytes that nobody sent: {first:02x?}",
            frame.len()
        )
    })
}

fn find(frame: &[u8]) -> Option<Option<(u32, &[u8])>> {
    let kind = frame.get(12..ETHERNET)?;
    if kind == ARP {
        return Some(None);
    }
    if kind == PLAIN {
        return said(frame.get(ETHERNET..)?).map(Some);
    }
    let layout = Layout::of(frame)?;
    match layout.protocol? {
        ICMPV6 => Some(None),
        TCP => {
            let at = frame.get(layout.transport + 4..layout.transport + 8)?;
            let data = layout.transport + layout.transport_header(frame)?;
            let at = u32::from_be_bytes(at.try_into().ok()?);
            Some(Some((at, frame.get(data..layout.end)?)))
        }
        UDP => said(frame.get(layout.transport + 8..layout.end)?).map(Some),
        _ => None,
    }
}

/// Data behind its place and length; padding may follow.
fn said(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let at = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let length = u16::from_be_bytes(bytes.get(4..SAID)?.try_into().ok()?);
    let data = bytes.get(SAID..SAID + usize::from(length))?;
    Some((at, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Form; 5] = [
        Form::Plain,
        Form::Udp { v6: false },
        Form::Udp { v6: true },
        Form::Tcp { v6: false },
        Form::Tcp { v6: true },
    ];

    #[test]
    fn what_is_built_is_read_and_has_right_checksums() {
        for form in ALL {
            for length in [1, 2, 700, 1400] {
                let data: Vec<u8> = (0..length).map(|n| n as u8).collect();
                let mut frame = form.build([2; 6], [4; 6], 0xF1E2_D3C4, &data);
                assert_eq!(frame.len(), form.header() + data.len());
                assert!(is_right(&frame, false), "{form:?}");
                frame.resize(frame.len().max(60), 0);
                assert_eq!(read(&frame), Ok(Some((0xF1E2_D3C4, &data[..]))), "{form:?}");
                frame::make_blank(&mut frame, true);
                assert!(is_right(&frame, true), "{form:?}");
            }
        }
    }

    #[test]
    fn other_frames_are_nobodys() {
        assert!(read(&[0; 60]).is_err());
        let mut short = Form::Plain.build([2; 6], [4; 6], 1, &[5; 100]);
        short.truncate(80);
        assert!(read(&short).is_err());
        let mut arp = vec![0; 60];
        arp[12..14].copy_from_slice(&ARP);
        assert_eq!(read(&arp), Ok(None));
    }
}
