//! Where things are in an Ethernet frame, and what its checksums are. IEEE 802.3 and 802.1Q; RFC 791, 793, 768, 8200, 1071.

use std::ops::Range;

/// Protocol numbers of IANA.
pub const TCP: u8 = 6;
/// User datagrams.
pub const UDP: u8 = 17;

/// Extension headers of IPv6 that may stand before TCP: hop by hop, routing, destination options.
const EXTENSIONS: [u8; 3] = [0, 43, 60];
/// Its fragment header.
const FRAGMENT: u8 = 44;
/// As many are followed.
const MAX_EXTENSIONS: usize = 8;

/// An IP packet in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// IPv6, not IPv4.
    pub v6: bool,
    /// Where IP's header begins.
    pub network: usize,
    /// Where the addresses are: source, destination.
    pub addresses: Range<usize>,
    /// What IP carries, if this is its beginning and all of it: a fragment counts as neither.
    pub protocol: Option<u8>,
    /// Where that begins.
    pub transport: usize,
    /// Where the packet ends; padding may follow.
    pub end: usize,
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

impl Layout {
    /// Of a frame that carries IP and is as long as that says.
    pub fn of(frame: &[u8]) -> Option<Self> {
        Self::within(frame, frame.len())
    }

    /// Of a frame of so many bytes, of which the first are there, IP's headers among them.
    pub fn within(frame: &[u8], length: usize) -> Option<Self> {
        let mut at = 12;
        let mut kind = word(frame, at)?;
        while matches!(kind, 0x8100 | 0x88A8) {
            at += 4;
            kind = word(frame, at)?;
        }
        let network = at + 2;
        match kind {
            0x0800 => Self::v4(frame, network, length),
            0x86DD => Self::v6(frame, network, length),
            _ => None,
        }
    }

    fn v4(frame: &[u8], network: usize, length: usize) -> Option<Self> {
        let first = *frame.get(network)?;
        let header = usize::from(first & 0xF) * 4;
        let total = usize::from(word(frame, network + 2)?);
        let end = network + total;
        if first >> 4 != 4 || header < 20 || total < header || end > length {
            return None;
        }
        // More fragments, or an offset.
        let whole = word(frame, network + 6)? & 0x3FFF == 0;
        Some(Self {
            v6: false,
            network,
            addresses: network + 12..network + 20,
            protocol: match whole {
                true => Some(*frame.get(network + 9)?),
                false => None,
            },
            transport: network + header,
            end,
        })
    }

    fn v6(frame: &[u8], network: usize, length: usize) -> Option<Self> {
        let end = network + 40 + usize::from(word(frame, network + 4)?);
        if frame.get(network)? >> 4 != 6 || end > length {
            return None;
        }
        let mut next = *frame.get(network + 6)?;
        let mut transport = network + 40;
        for _ in 0..MAX_EXTENSIONS {
            if !EXTENSIONS.contains(&next) {
                break;
            }
            let bytes = usize::from(*frame.get(transport + 1)?) * 8 + 8;
            next = frame[transport];
            transport += bytes;
            if transport > end {
                return None;
            }
        }
        let whole = next != FRAGMENT && !EXTENSIONS.contains(&next);
        Some(Self {
            v6: true,
            network,
            addresses: network + 8..network + 40,
            protocol: whole.then_some(next),
            transport,
            end,
        })
    }

    /// Where the checksum of TCP or UDP is, from the beginning of its header.
    pub fn checksum(&self) -> Option<usize> {
        let at = match self.protocol? {
            TCP => 16,
            UDP => 6,
            _ => return None,
        };
        (self.transport + at + 2 <= self.end).then_some(at)
    }

    /// Bytes of TCP's or UDP's header.
    pub fn transport_header(&self, frame: &[u8]) -> Option<usize> {
        match self.protocol? {
            TCP => {
                let length = usize::from(*frame.get(self.transport + 12)? >> 4) * 4;
                (length >= 20 && self.transport + length <= self.end).then_some(length)
            }
            UDP => (self.transport + 8 <= self.end).then_some(8),
            _ => None,
        }
    }

    /// The sum of the pseudo header, the addresses being in `frame`.
    pub fn pseudo(&self, frame: &[u8]) -> u32 {
        let length = (self.end - self.transport) as u32;
        sum(&length.to_be_bytes(), self.pseudo_without_length(frame))
    }

    /// The same as if the length were 0.
    pub fn pseudo_without_length(&self, frame: &[u8]) -> u32 {
        let addresses = frame.get(self.addresses.clone()).unwrap_or_default();
        sum(addresses, self.protocol.unwrap_or(0).into())
    }

    /// Whether the checksum of TCP or UDP is right. UDP over IPv4 may have none.
    pub fn is_right(&self, frame: &[u8]) -> Option<bool> {
        let at = self.transport + self.checksum()?;
        if self.protocol == Some(UDP) && !self.v6 && frame[at..at + 2] == [0, 0] {
            return Some(true);
        }
        let found = sum(&frame[self.transport..self.end], self.pseudo(frame));
        Some(found == 0xFFFF)
    }
}

/// The sum of RFC 1071 from `start` on, folded to 16 bits.
pub fn sum(bytes: &[u8], start: u32) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut total = u64::from(start);
    for pair in pairs {
        total += u64::from(u16::from_be_bytes(*pair));
    }
    if let [last] = rest {
        total += u64::from(*last) << 8;
    }
    while total > 0xFFFF {
        total = (total & 0xFFFF) + (total >> 16);
    }
    total as u32
}

/// Puts the sum of the pseudo header in the checksum's place; without a length for what is to be cut. Frames that have none
/// stay as they are.
pub fn make_blank(frame: &mut [u8], with_length: bool) {
    let Some(layout) = Layout::of(frame) else {
        return;
    };
    let Some(offset) = layout.checksum() else {
        return;
    };
    let sum = match with_length {
        true => layout.pseudo(frame),
        false => layout.pseudo_without_length(frame),
    } as u16;
    let at = layout.transport + offset;
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Completes a checksum that holds the sum of the pseudo header: the sum from `start` on goes to `start + offset`.
/// Returns whether the frame is long enough for it.
pub fn complete(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let at = start + offset;
    if at + 2 > frame.len() {
        return false;
    }
    let end = Layout::of(frame).map_or(frame.len(), |layout| layout.end.max(at + 2));
    let found = !sum(&frame[start..end], 0) as u16;
    // UDP: 0 means that there is none. The other zero says the same.
    let value = if found == 0 { 0xFFFF } else { found };
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    /// Frames of another implementation, with their layouts.
    fn frames() -> Vec<(Vec<u8>, bool, u8)> {
        let data: Vec<u8> = (0..999u32).map(|n| (n * 7) as u8).collect();
        let link = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let tagged = || link().single_vlan(5u16.try_into().unwrap());
        let v4 = ([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let v6 = ([1; 16], [2; 16], 64);
        let mut all = Vec::new();
        macro_rules! add {
            ($builder:expr, $v6:expr, $protocol:expr) => {
                let mut bytes = Vec::new();
                $builder.write(&mut bytes, &data).unwrap();
                all.push((bytes, $v6, $protocol));
            };
        }
        add!(link().ipv4(v4.0, v4.1, v4.2).tcp(1, 2, 3, 4), false, TCP);
        add!(link().ipv4(v4.0, v4.1, v4.2).udp(1, 2), false, UDP);
        add!(tagged().ipv4(v4.0, v4.1, v4.2).tcp(1, 2, 3, 4), false, TCP);
        add!(link().ipv6(v6.0, v6.1, v6.2).tcp(1, 2, 3, 4), true, TCP);
        add!(tagged().ipv6(v6.0, v6.1, v6.2).udp(1, 2), true, UDP);
        all
    }

    #[test]
    fn layouts_and_checksums_are_those_of_another_implementation() {
        for (frame, v6, protocol) in frames() {
            let layout = Layout::of(&frame).unwrap();
            assert_eq!((layout.v6, layout.protocol), (v6, Some(protocol)));
            assert_eq!(layout.end, frame.len());
            assert_eq!(layout.is_right(&frame), Some(true));
            let header = layout.transport_header(&frame).unwrap();
            assert_eq!(layout.transport + header + 999, frame.len());
            let mut changed = frame.clone();
            *changed.last_mut().unwrap() ^= 1;
            assert_eq!(layout.is_right(&changed), Some(false));
        }
    }

    #[test]
    fn a_partial_checksum_is_completed_in_spite_of_padding() {
        for (frame, ..) in frames() {
            let layout = Layout::of(&frame).unwrap();
            let offset = layout.checksum().unwrap();
            let at = layout.transport + offset;
            let mut partial = frame.clone();
            let pseudo = layout.pseudo(&frame) as u16;
            partial[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
            partial.extend([0xAA; 3]);
            assert!(complete(&mut partial, layout.transport, offset));
            assert_eq!(partial[..frame.len()], frame);
        }
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_is_no_danger() {
        for (frame, ..) in frames() {
            for length in 0..frame.len() {
                assert_eq!(Layout::of(&frame[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn a_fragment_carries_no_protocol() {
        let (mut frame, ..) = frames().remove(0);
        frame[20] = 0x20;
        let layout = Layout::of(&frame).unwrap();
        assert_eq!((layout.protocol, layout.checksum()), (None, None));
    }
}
