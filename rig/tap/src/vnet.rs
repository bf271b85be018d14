//! The header before each frame of a TAP device with IFF_VNET_HDR: struct virtio_net_hdr of the virtio specification 1.2,
//! 5.1.6, in the machine's byte order.

/// Its bytes, without the number of buffers.
pub const SIZE: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`.
const DATA_VALID: u8 = 2;

/// `VIRTIO_NET_HDR_GSO_*`.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What a frame's segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either.
    Udp,
}

/// Segments in one frame: to be cut, or put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// Of what.
    pub kind: Kind,
    /// Bytes of data in each.
    pub size: u16,
    /// The first has TCP's CWR, the others have not.
    pub ecn: bool,
    /// Bytes of all headers: a hint.
    pub headers: u16,
}

/// A checksum that is to be completed: the sum from `start` to the end goes to `start + offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Where the sum begins.
    pub start: u16,
    /// Where it goes, from there.
    pub offset: u16,
}

/// What is said of a frame beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// A checksum that holds the pseudo header's sum alone.
    pub partial: Option<Partial>,
    /// Checksums were found right.
    pub valid: bool,
    /// The frame stands for several.
    pub gso: Option<Gso>,
}

impl Header {
    /// As it comes from a device. A kind of segments that nobody asked for counts as none.
    pub fn from_bytes(bytes: &[u8; SIZE]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let kind = match bytes[1] & !GSO_ECN {
            GSO_TCPV4 => Some(Kind::Tcp4),
            GSO_TCPV6 => Some(Kind::Tcp6),
            GSO_UDP_L4 => Some(Kind::Udp),
            _ => None,
        };
        Self {
            partial: (bytes[0] & NEEDS_CSUM != 0).then(|| Partial {
                start: word(6),
                offset: word(8),
            }),
            valid: bytes[0] & DATA_VALID != 0,
            gso: kind.map(|kind| Gso {
                kind,
                size: word(4),
                ecn: bytes[1] & GSO_ECN != 0,
                headers: word(2),
            }),
        }
    }

    /// As it goes to a device.
    pub fn to_bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        if self.valid {
            bytes[0] |= DATA_VALID;
        }
        let mut put = |at: usize, word: u16| {
            bytes[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        };
        if let Some(partial) = self.partial {
            put(6, partial.start);
            put(8, partial.offset);
        }
        if let Some(gso) = self.gso {
            put(2, gso.headers);
            put(4, gso.size);
        }
        if self.partial.is_some() {
            bytes[0] |= NEEDS_CSUM;
        }
        bytes[1] = match self.gso {
            None => GSO_NONE,
            Some(gso) => {
                let kind = match gso.kind {
                    Kind::Tcp4 => GSO_TCPV4,
                    Kind::Tcp6 => GSO_TCPV6,
                    Kind::Udp => GSO_UDP_L4,
                };
                kind | if gso.ecn { GSO_ECN } else { 0 }
            }
        };
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_bytes() {
        let gso = |kind, ecn| {
            Some(Gso {
                kind,
                size: 1448,
                ecn,
                headers: 66,
            })
        };
        let partial = Some(Partial {
            start: 34,
            offset: 16,
        });
        for header in [
            Header::default(),
            Header {
                valid: true,
                ..Header::default()
            },
            Header {
                partial,
                ..Header::default()
            },
            Header {
                partial,
                valid: false,
                gso: gso(Kind::Tcp4, true),
            },
            Header {
                partial,
                valid: true,
                gso: gso(Kind::Tcp6, false),
            },
            Header {
                partial,
                valid: false,
                gso: gso(Kind::Udp, false),
            },
        ] {
            assert_eq!(Header::from_bytes(&header.to_bytes()), header);
        }
    }

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        let header = Header {
            partial: Some(Partial {
                start: 0x0102,
                offset: 0x0304,
            }),
            valid: false,
            gso: Some(Gso {
                kind: Kind::Tcp6,
                size: 0x0506,
                ecn: true,
                headers: 0x0708,
            }),
        };
        let expected = [1, 0x84, 8, 7, 6, 5, 2, 1, 4, 3];
        assert_eq!(header.to_bytes(), expected, "on a little-endian machine");
    }
}
