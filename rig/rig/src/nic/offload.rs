//! What TCP/IP asks of an adapter for a frame, and what an adapter says of one: vnet headers on Linux's side, what belongs
//! to a NET_BUFFER_LIST on Windows'.
//!
//! | vnet header | asked of the adapter |
//! |---|---|
//! | partial checksum | TCP's or UDP's checksum, and IPv4's header, if it offers that; else completed here |
//! | segments of TCP, UDP | large send version 2, UDP segmentation: lengths 0, the pseudo header's sum without length |
//!
//! Microsoft Learn: "Offloading Checksum Tasks", "Offloading the Segmentation of Large TCP Packets", "UDP segmentation
//! offload (USO)", "Exposing RSC".

use tap::frame::{self, Layout, TCP, UDP};
use tap::vnet::{Gso, Header, Kind, Partial};

/// Bytes of a received frame that are looked at and may be changed: all headers.
pub const HEAD: usize = 192;

/// What an adapter does for the frames that it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Able {
    /// The checksum of IPv4's header.
    pub ip4: bool,
    /// TCP over IPv4, over IPv6.
    pub tcp: [bool; 2],
    /// UDP.
    pub udp: [bool; 2],
    /// Most bytes of data of a large send.
    pub lso: [Option<u32>; 2],
    /// Most bytes of data of UDP that is to be cut.
    pub uso: [Option<u32>; 2],
}

impl Able {
    /// What Linux may leave undone. It has one switch for all checksums; those that the adapter cannot do are completed
    /// by [`ask`].
    pub fn offloads(&self) -> tap::Offloads {
        let [tso4, tso6] = self.lso.map(|most| most.is_some());
        tap::Offloads {
            checksums: [self.tcp, self.udp].as_flattened().contains(&true),
            tso4,
            tso6,
            uso: self.uso.iter().all(Option::is_some),
        }
    }

    /// The most data that Linux may put into a frame that is to be cut; it has one number for all kinds.
    pub fn largest(&self) -> Option<u32> {
        let all = [self.lso, self.uso];
        all.as_flattened().iter().copied().flatten().min()
    }
}

/// What is asked of the adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// TCP's or UDP's checksum.
    pub checksum: Option<Checksum>,
    /// To be cut.
    pub segments: Option<Segments>,
}

/// A checksum for the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// IPv6, not IPv4.
    pub v6: bool,
    /// IPv4's header, too.
    pub ip_header: bool,
    /// UDP, not TCP.
    pub udp: bool,
    /// Where TCP or UDP begins.
    pub transport: u16,
}

/// Segments that the adapter is to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// IPv6, not IPv4.
    pub v6: bool,
    /// UDP, not TCP.
    pub udp: bool,
    /// Bytes of data in each.
    pub size: u32,
    /// Where TCP or UDP begins.
    pub transport: u16,
}

/// What to ask of an adapter that is able to do so much; the frame's headers become as Windows has them then. `None`: a
/// frame that cannot be sent any more, since the adapter was able to do more when Linux made it.
pub fn ask(header: &Header, frame: &mut [u8], able: &Able) -> Option<Asked> {
    let Some(Partial { start, offset }) = header.partial else {
        return header.gso.is_none().then(Asked::default);
    };
    let layout = Layout::of(frame).filter(|layout| {
        layout.transport == usize::from(start) && layout.checksum() == Some(usize::from(offset))
    });
    if let Some(gso) = header.gso {
        return cut(gso, frame, &layout?, able);
    }
    let Some(layout) = layout else {
        let done = frame::complete(frame, start.into(), offset.into());
        return done.then(Asked::default);
    };
    let (v6, udp) = (layout.v6, layout.protocol == Some(UDP));
    let offered = if udp { able.udp } else { able.tcp };
    if !offered[usize::from(v6)] {
        let done = frame::complete(frame, start.into(), offset.into());
        return done.then(Asked::default);
    }
    let ip_header = !v6 && able.ip4;
    if ip_header {
        clear(frame, layout.network + 10);
    }
    let checksum = Checksum {
        v6,
        ip_header,
        udp,
        transport: start,
    };
    Some(Asked {
        checksum: Some(checksum),
        segments: None,
    })
}

fn cut(gso: Gso, frame: &mut [u8], layout: &Layout, able: &Able) -> Option<Asked> {
    let (v6, udp) = (layout.v6, gso.kind == Kind::Udp);
    let fits = match gso.kind {
        Kind::Tcp4 => !v6 && layout.protocol == Some(TCP),
        Kind::Tcp6 => v6 && layout.protocol == Some(TCP),
        Kind::Udp => layout.protocol == Some(UDP),
    };
    let most = if udp { able.uso } else { able.lso }[usize::from(v6)]?;
    let data = layout.end - layout.transport - layout.transport_header(frame)?;
    if !fits || data > most as usize || gso.size == 0 {
        return None;
    }
    match v6 {
        false => {
            clear(frame, layout.network + 2);
            clear(frame, layout.network + 10);
        }
        true => clear(frame, layout.network + 4),
    }
    let sum = layout.pseudo_without_length(frame) as u16;
    let at = layout.transport + layout.checksum()?;
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let segments = Segments {
        v6,
        udp,
        size: gso.size.into(),
        transport: layout.transport as u16,
    };
    Some(Asked {
        checksum: None,
        segments: Some(segments),
    })
}

fn clear(frame: &mut [u8], at: usize) {
    frame[at..at + 2].fill(0);
}

/// What an adapter says of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// TCP's or UDP's checksum is right, whatever its field holds.
    pub good: bool,
    /// A checksum is wrong: TCP/IP drops the frame.
    pub bad: bool,
    /// Segments that were made one.
    pub segments: Option<u16>,
}

/// What Linux is told of a frame of `length` bytes, the first of which are in `head`. What Windows would believe of a
/// checksum Linux believes of a partial one, so the field becomes that. `None`: TCP/IP drops the frame.
pub fn tell(head: &mut [u8], length: usize, found: Found) -> Option<Header> {
    if found.bad {
        return None;
    }
    let plain = Header::default();
    if !found.good && found.segments.is_none() {
        return Some(plain);
    }
    let Some(layout) = Layout::within(head, length) else {
        return Some(plain);
    };
    let Some(offset) = layout.checksum() else {
        return Some(plain);
    };
    let at = layout.transport + offset;
    let Some(headers) = layout.transport_header(head) else {
        return Some(plain);
    };
    if at + 2 > head.len() || head[at..at + 2] == [0, 0] && layout.protocol == Some(UDP) {
        return Some(plain);
    }
    let sum = layout.pseudo(head) as u16;
    head[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let data = layout.end - layout.transport - headers;
    let gso = found.segments.filter(|&count| count > 1).map(|count| Gso {
        kind: if layout.v6 { Kind::Tcp6 } else { Kind::Tcp4 },
        size: data.div_ceil(usize::from(count)) as u16,
        ecn: false,
        headers: (layout.transport + headers) as u16,
    });
    Some(Header {
        partial: Some(Partial {
            start: layout.transport as u16,
            offset: offset as u16,
        }),
        valid: false,
        gso,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Able = Able {
        ip4: true,
        tcp: [true; 2],
        udp: [true; 2],
        lso: [Some(65_535); 2],
        uso: [Some(65_535); 2],
    };

    /// TCP or UDP over IPv4 or IPv6 as Linux leaves it to a device: the sum of the pseudo header.
    fn partial(v6: bool, udp: bool, data: usize) -> (Vec<u8>, Header) {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let (protocol, header, offset) = if udp { (UDP, 8, 6) } else { (TCP, 20, 16) };
        let length = (header + data) as u16;
        match v6 {
            false => {
                let [high, low] = (20 + length).to_be_bytes();
                frame.extend([8, 0, 0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0]);
                frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
                let sum = !frame::sum(&frame[14..34], 0) as u16;
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            true => {
                let [high, low] = length.to_be_bytes();
                frame.extend([0x86, 0xDD, 0x60, 0, 0, 0, high, low, protocol, 64]);
                frame.extend([7; 32]);
            }
        }
        let start = frame.len();
        frame.extend([1, 2, 3, 4]);
        match udp {
            true => frame.extend([length.to_be_bytes(), [0, 0]].concat()),
            false => frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 9, 9, 0, 0, 0, 0]),
        }
        frame.extend((0..data).map(|at| at as u8));
        let layout = Layout::of(&frame).unwrap();
        let sum = layout.pseudo(&frame) as u16;
        frame[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
        let header = Header {
            partial: Some(Partial {
                start: start as u16,
                offset: offset as u16,
            }),
            ..Header::default()
        };
        (frame, header)
    }

    const KINDS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

    #[test]
    fn an_able_adapter_is_asked_for_checksums() {
        for (v6, udp) in KINDS {
            let (mut frame, header) = partial(v6, udp, 99);
            let before = frame.clone();
            let asked = ask(&header, &mut frame, &ALL).unwrap();
            let expected = Checksum {
                v6,
                ip_header: !v6,
                udp,
                transport: header.partial.unwrap().start,
            };
            assert_eq!(asked.checksum, Some(expected));
            if !v6 {
                assert_eq!(frame[24..26], [0, 0]);
                frame[24..26].copy_from_slice(&before[24..26]);
            }
            assert_eq!(frame, before);
        }
    }

    #[test]
    fn an_adapter_that_is_not_able_gets_whole_checksums() {
        for (v6, udp) in KINDS {
            let (mut frame, header) = partial(v6, udp, 99);
            let asked = ask(&header, &mut frame, &Able::default());
            assert_eq!(asked, Some(Asked::default()));
            assert_eq!(Layout::of(&frame).unwrap().is_right(&frame), Some(true));
        }
    }

    #[test]
    fn a_large_frame_has_no_lengths_in_it() {
        for (v6, udp) in KINDS {
            let (mut frame, mut header) = partial(v6, udp, 30_000);
            let layout = Layout::of(&frame).unwrap();
            let kind = match (v6, udp) {
                (_, true) => Kind::Udp,
                (false, false) => Kind::Tcp4,
                (true, false) => Kind::Tcp6,
            };
            header.gso = Some(Gso {
                kind,
                size: 1400,
                ecn: false,
                headers: 0,
            });
            let without = Able {
                lso: [None; 2],
                uso: [None; 2],
                ..ALL
            };
            assert_eq!(ask(&header, &mut frame.clone(), &without), None);
            let small = Able {
                lso: [Some(29_999); 2],
                uso: [Some(29_999); 2],
                ..ALL
            };
            assert_eq!(ask(&header, &mut frame.clone(), &small), None);
            let asked = ask(&header, &mut frame, &ALL).unwrap();
            let transport = header.partial.unwrap().start;
            let expected = Segments {
                v6,
                udp,
                size: 1400,
                transport,
            };
            assert_eq!((asked.segments, asked.checksum), (Some(expected), None));
            let length = if v6 { 18..20 } else { 16..18 };
            assert_eq!(frame[length], [0, 0]);
            let at = layout.transport + layout.checksum().unwrap();
            let sum = layout.pseudo_without_length(&frame) as u16;
            assert_eq!(frame[at..at + 2], sum.to_be_bytes());
        }
    }

    #[test]
    fn what_an_adapter_found_right_linux_believes() {
        for (v6, udp) in KINDS {
            let (partial_frame, header) = partial(v6, udp, 99);
            let mut frame = partial_frame.clone();
            let Partial { start, offset } = header.partial.unwrap();
            assert!(frame::complete(&mut frame, start.into(), offset.into()));
            let found = Found {
                good: true,
                ..Found::default()
            };
            let length = frame.len();
            let told = tell(&mut frame[..90], length, found);
            assert_eq!(told, Some(header));
            assert_eq!(frame, partial_frame);
        }
    }

    #[test]
    fn what_an_adapter_did_not_look_at_linux_looks_at_itself() {
        let (mut frame, _) = partial(false, false, 99);
        let before = frame.clone();
        let length = frame.len();
        assert_eq!(
            tell(&mut frame, length, Found::default()),
            Some(Header::default())
        );
        assert_eq!(frame, before);
        let bad = Found {
            bad: true,
            ..Found::default()
        };
        assert_eq!(tell(&mut frame, length, bad), None);
    }

    #[test]
    fn coalesced_segments_are_told_as_such() {
        let (mut frame, header) = partial(true, false, 2900);
        let found = Found {
            good: true,
            bad: false,
            segments: Some(3),
        };
        let length = frame.len();
        let told = tell(&mut frame[..HEAD], length, found).unwrap();
        assert_eq!(told.partial, header.partial);
        let gso = told.gso.unwrap();
        assert_eq!((gso.kind, gso.size, gso.headers), (Kind::Tcp6, 967, 74));
    }

    #[test]
    fn a_datagram_without_a_checksum_stays_so() {
        let (mut frame, _) = partial(false, true, 99);
        frame[40..42].fill(0);
        let found = Found {
            good: true,
            ..Found::default()
        };
        let length = frame.len();
        assert_eq!(tell(&mut frame, length, found), Some(Header::default()));
        assert_eq!(frame[40..42], [0, 0]);
    }
}
