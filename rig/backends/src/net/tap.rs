//! A Linux network stack behind an interface: vnet headers on the one side, flags and extras of the protocol on the other.
//!
//! | vnet header | to the guest | from the guest |
//! |---|---|---|
//! | partial checksum | `csum_blank`, `data_validated` | `csum_blank` |
//! | data valid | `data_validated` | `data_validated` |
//! | segments of TCP | extra GSO | extra GSO |
//!
//! Where a checksum lies the protocol does not say: it is that of TCP or UDP, as the frame's headers tell.

use std::io;
use std::sync::Arc;

use ::tap::frame::{self, Layout};
use ::tap::vnet::{self, Header, Kind, Partial};
use ::tap::{Offloads, Tap, Waker};
use xen_model::dom0::Doorbell;

use super::{Accepts, Frame, Gso, Wire};

/// Room for the longest frame that Linux makes: an IP packet of 64 KiB, with its Ethernet header and tags.
const LONGEST: usize = 65536 + 22;

/// Who is shown each frame on its way.
pub type Witness = Box<dyn FnMut(&[u8]) + Send>;

/// A TAP device as a wire.
pub struct TapWire {
    tap: Arc<Tap>,
    waker: Waker,
    accepts: Accepts,
    witness: Witness,
    buffer: Box<[u8]>,
    /// The tag control information of the frames on the wire; those of Linux have no tag.
    tag: Option<u16>,
}

impl TapWire {
    /// A wire that rings domain 0's bell when there are frames for the guest.
    pub fn new(tap: Arc<Tap>, bell: &Arc<Doorbell>, witness: Witness) -> io::Result<Self> {
        let bell = Arc::clone(bell);
        let waker = Waker::new(Arc::clone(&tap), move || bell.ring())?;
        Ok(Self {
            tap,
            waker,
            accepts: Accepts::default(),
            witness,
            buffer: vec![0; LONGEST].into_boxed_slice(),
            tag: None,
        })
    }

    /// Puts the stack into a VLAN: frames for the guest get this tag, and of those that the guest sends only the ones of
    /// the same VLAN arrive, without it. IEEE 802.1Q.
    pub fn with_tag(mut self, tag: u16) -> Self {
        self.tag = Some(tag);
        self
    }

    /// Reads until there is a frame that the guest takes. Returns whether there is one.
    fn next(&mut self, frame: &mut Frame) -> bool {
        // A device that cannot be read has no frames.
        while let Ok(Some((header, length))) = self.tap.read(&mut self.buffer) {
            frame.bytes.clear();
            frame.bytes.extend_from_slice(&self.buffer[..length]);
            if describe(&header, frame, self.accepts) {
                if let Some(tag) = self.tag {
                    let [high, low] = tag.to_be_bytes();
                    frame.bytes.splice(12..12, [0x81, 0x00, high, low]);
                }
                return true;
            }
        }
        // If this fails, the device has gone.
        let _ = self.waker.found_none();
        false
    }
}

impl Wire for TapWire {
    fn receive(&mut self, frame: &mut Frame) -> bool {
        let found = self.waker.is_due() && self.next(frame);
        if found {
            (self.witness)(&frame.bytes);
        }
        found
    }

    fn transmit(&mut self, frame: &mut Frame) {
        (self.witness)(&frame.bytes);
        if self.tag.is_some_and(|tag| !take_tag(frame, tag)) {
            return;
        }
        if let Some(header) = header(frame) {
            // Linux drops what it does not like, as a network does.
            let _ = self.tap.write(&header, &[&frame.bytes]);
        }
    }

    fn queue(&mut self, frame: &Frame, queues: usize) -> usize {
        match queues {
            1 => 0,
            _ => flow(&frame.bytes) as usize % queues,
        }
    }

    fn connected(&mut self, accepts: Accepts) {
        self.accepts = accepts;
        // Linux has one switch for the checksums of both versions; what the guest does not take is completed here.
        let _ = self.tap.set_offloads(Offloads {
            checksums: accepts.checksums4 || accepts.checksums6,
            tso4: accepts.gso4,
            tso6: accepts.gso6,
            uso: false,
        });
    }

    fn idle(&mut self) {
        let mut frame = Frame::default();
        while self.waker.is_due() && self.next(&mut frame) {}
    }
}

/// Takes the tag out of a frame of the same VLAN; whether it is one.
fn take_tag(frame: &mut Frame, tag: u16) -> bool {
    const ID: u16 = 0x0FFF;
    let Some(&[0x81, 0x00, high, low]) = frame.bytes.get(12..16) else {
        return false;
    };
    let is_same = u16::from_be_bytes([high, low]) & ID == tag & ID;
    if is_same {
        frame.bytes.drain(12..16);
    }
    is_same
}

/// What a guest is told of a frame. Returns whether it can be given to a guest that takes so much: offloads may have
/// been switched while the frame was under way.
fn describe(header: &Header, frame: &mut Frame, accepts: Accepts) -> bool {
    frame.blank = false;
    frame.validated = header.valid;
    frame.gso = None;
    if let Some(gso) = header.gso {
        let (v6, taken) = match gso.kind {
            Kind::Tcp4 => (false, accepts.gso4),
            Kind::Tcp6 => (true, accepts.gso6),
            Kind::Udp => return false,
        };
        if !taken {
            return false;
        }
        frame.gso = Some(Gso { size: gso.size, v6 });
    }
    let Some(Partial { start, offset }) = header.partial else {
        return true;
    };
    let layout = Layout::of(&frame.bytes);
    let told = layout.is_some_and(|layout| {
        let same = layout.transport == usize::from(start)
            && layout.checksum() == Some(usize::from(offset));
        same && match layout.v6 {
            true => accepts.checksums6,
            false => accepts.checksums4,
        }
    });
    if told {
        frame.blank = true;
        frame.validated = true;
        return true;
    }
    frame.gso.is_none() && frame::complete(&mut frame.bytes, start.into(), offset.into())
}

/// What Linux is told of a frame; `None` if the guest says what cannot be.
fn header(frame: &Frame) -> Option<Header> {
    if !frame.blank && frame.gso.is_none() {
        return Some(Header {
            valid: frame.validated,
            ..Header::default()
        });
    }
    let layout = Layout::of(&frame.bytes)?;
    let offset = layout.checksum()?;
    let gso = match frame.gso {
        None => None,
        Some(Gso { size, v6 }) => {
            if layout.protocol != Some(frame::TCP) || layout.v6 != v6 || size == 0 {
                return None;
            }
            let headers = layout.transport + layout.transport_header(&frame.bytes)?;
            // TCP's CWR.
            let ecn = frame.bytes[layout.transport + 13] & 0x80 != 0;
            Some(vnet::Gso {
                kind: if v6 { Kind::Tcp6 } else { Kind::Tcp4 },
                size,
                ecn,
                headers: headers as u16,
            })
        }
    };
    Some(Header {
        partial: Some(Partial {
            start: layout.transport as u16,
            offset: offset as u16,
        }),
        valid: false,
        gso,
    })
}

/// A number that is the same for all frames of a connection: FNV-1a over addresses and ports.
fn flow(bytes: &[u8]) -> u32 {
    let Some(layout) = Layout::of(bytes) else {
        return 0;
    };
    let ports = match layout.protocol {
        Some(frame::TCP | frame::UDP) => bytes.get(layout.transport..layout.transport + 4),
        _ => None,
    };
    let addresses = bytes[layout.addresses].iter();
    let hash = addresses
        .chain(ports.unwrap_or_default())
        .fold(0x811C_9DC5u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
    // The low bits of this hash depend on the low bits of each byte alone.
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Accepts = Accepts {
        checksums4: true,
        checksums6: true,
        gso4: true,
        gso6: true,
    };

    /// TCP over IPv4 or IPv6 with so much data; its checksum is the sum of the pseudo header, or whole.
    fn tcp(v6: bool, data: usize, blank: bool) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let length = (20 + data) as u16;
        let (addresses, transport) = match v6 {
            false => {
                let [high, low] = (20 + length).to_be_bytes();
                frame.extend([0x08, 0, 0x45, 0, high, low, 0, 1, 0, 0, 64, 6, 0, 0]);
                frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
                (26..34, 34)
            }
            true => {
                let [high, low] = length.to_be_bytes();
                frame.extend([0x86, 0xDD, 0x60, 0, 0, 0, high, low, 6, 64]);
                frame.extend([7; 32]);
                (22..54, 54)
            }
        };
        frame.extend([
            1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x90, 9, 9, 0, 0, 0, 0,
        ]);
        frame.extend((0..data).map(|at| at as u8));
        let pseudo = frame::sum(&frame[addresses], 6 + u32::from(length)) as u16;
        frame[transport + 16..transport + 18].copy_from_slice(&pseudo.to_be_bytes());
        if !blank {
            assert!(frame::complete(&mut frame, transport, 16));
        }
        frame
    }

    fn partial(v6: bool) -> Option<Partial> {
        Some(Partial {
            start: if v6 { 54 } else { 34 },
            offset: 16,
        })
    }

    #[test]
    fn what_the_guest_takes_it_is_told_and_told_back_it_is_the_same() {
        for v6 in [false, true] {
            let large = vnet::Gso {
                kind: if v6 { Kind::Tcp6 } else { Kind::Tcp4 },
                size: 1000,
                ecn: true,
                headers: if v6 { 74 } else { 54 },
            };
            for gso in [None, Some(large)] {
                let header = Header {
                    partial: partial(v6),
                    valid: false,
                    gso,
                };
                let mut frame = Frame {
                    bytes: tcp(v6, 3000, true),
                    ..Frame::default()
                };
                assert!(describe(&header, &mut frame, ALL));
                assert!(frame.blank && frame.validated);
                assert_eq!(frame.gso, gso.map(|_| Gso { size: 1000, v6 }));
                assert_eq!(super::header(&frame), Some(header));
            }
        }
    }

    #[test]
    fn a_checksum_that_the_guest_does_not_take_is_completed() {
        for (v6, accepts) in [
            (
                false,
                Accepts {
                    checksums4: false,
                    ..ALL
                },
            ),
            (
                true,
                Accepts {
                    checksums6: false,
                    ..ALL
                },
            ),
        ] {
            let header = Header {
                partial: partial(v6),
                ..Header::default()
            };
            let mut frame = Frame {
                bytes: tcp(v6, 99, true),
                ..Frame::default()
            };
            assert!(describe(&header, &mut frame, accepts));
            assert_eq!((frame.blank, frame.bytes), (false, tcp(v6, 99, false)));
        }
    }

    #[test]
    fn segments_that_the_guest_does_not_take_are_dropped() {
        let header = Header {
            partial: partial(false),
            valid: false,
            gso: Some(vnet::Gso {
                kind: Kind::Tcp4,
                size: 1000,
                ecn: false,
                headers: 54,
            }),
        };
        let mut frame = Frame {
            bytes: tcp(false, 3000, true),
            ..Frame::default()
        };
        let accepts = Accepts { gso4: false, ..ALL };
        assert!(!describe(&header, &mut frame, accepts));
    }

    #[test]
    fn a_guest_that_says_what_cannot_be_is_not_believed() {
        let frame = |bytes, gso| Frame {
            bytes,
            blank: true,
            gso,
            ..Frame::default()
        };
        for odd in [
            frame(vec![0; 60], None),
            frame(tcp(false, 0, true)[..40].to_vec(), None),
            frame(tcp(false, 9, true), Some(Gso { size: 0, v6: false })),
            frame(tcp(false, 9, true), Some(Gso { size: 9, v6: true })),
        ] {
            assert_eq!(header(&odd), None);
        }
    }

    #[test]
    fn connections_spread_over_queues_and_keep_to_theirs() {
        let mut counts = [0; 4];
        for port in 0..64 {
            let mut frame = tcp(false, 10, false);
            frame[35] = port;
            assert_eq!(flow(&frame), flow(&frame.clone()));
            counts[flow(&frame) as usize % 4] += 1;
        }
        assert!(counts.iter().all(|count| *count > 4), "{counts:?}");
    }
}
