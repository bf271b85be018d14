//! Segments: each a frame that etherparse understands and whose checksum is right, all together the large one.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::gso::{Gso, MAX_LARGE_SEND, accept, prepare};
use crate::segment::{MIN_MSS, Refusal, Segment, Segments};
use crate::tcp::{ACK, CWR, FIN, Header, PSH, RST, SYN, URG};
use crate::transport::{self, Verdict};
use crate::{Transport, Version};

/// The frame of a segment, complete.
fn build(segment: &Segment, template: &[u8], fragments: &[&[u8]]) -> Vec<u8> {
    let payload = || {
        let mut cursor = crate::Cursor::new(fragments.iter().copied());
        cursor.skip(template.len());
        cursor.take(usize::MAX)
    };
    let mut frame = vec![0xcc; segment.layout.headers];
    segment.write(template, &mut frame).unwrap();
    segment.complete(&mut frame, payload()).unwrap();
    for piece in segment.data_of(payload()) {
        frame.extend(piece);
    }
    assert_eq!(frame.len(), segment.layout.length);
    frame
}

fn cut(frame: &[u8], mss: usize) -> Result<Vec<Vec<u8>>, Refusal> {
    let (headers, parsed) = parse(frame, Extent::Frame);
    let segments = Segments::new(&headers, &parsed.layout, mss)?;
    Ok(segments
        .map(|segment| build(&segment, &headers, &[frame]))
        .collect())
}

fn tcp_of(frame: &[u8]) -> Header {
    let (headers, layout) = well(frame);
    Header::read(&headers, layout.transport.unwrap().header()).unwrap()
}

fn identification(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[18], frame[19]])
}

fn large(bytes: usize, flags: u8) -> Sample {
    let mut sample = Sample::tcp();
    sample.tcp.as_mut().unwrap().flags = flags;
    sample.payload = (0..bytes).map(|byte| byte as u8).collect();
    sample
}

#[test]
fn numbers_and_flags_of_the_segments() {
    let frame = large(2500, ACK | PSH | FIN | CWR).build();
    let segments = cut(&frame, 1000).unwrap();
    let lengths: Vec<usize> = segments.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1054, 1054, 554]);
    let headers: Vec<Header> = segments.iter().map(|segment| tcp_of(segment)).collect();
    let sequences: Vec<u32> = headers.iter().map(|header| header.sequence).collect();
    assert_eq!(sequences, [1_000_000, 1_001_000, 1_002_000]);
    let flags: Vec<u8> = headers.iter().map(|header| header.flags).collect();
    assert_eq!(flags, [ACK | CWR, ACK, ACK | PSH | FIN]);
    assert!(
        headers
            .iter()
            .all(|header| header.acknowledgement == 77 && header.window == 512)
    );
    let ids: Vec<u16> = segments
        .iter()
        .map(|segment| identification(segment))
        .collect();
    assert_eq!(ids, [0x1234, 0x1235, 0x1236]);
}

#[test]
fn identifications_stay_in_their_half_for_tcp() {
    let ids = |first, sample: Sample| -> Vec<u16> {
        let frame = Sample {
            identification: first,
            ..sample
        }
        .build();
        cut(&frame, 10)
            .unwrap()
            .iter()
            .map(|segment| identification(segment))
            .collect()
    };
    assert_eq!(ids(0x7ffe, large(30, ACK)), [0x7ffe, 0x7fff, 0]);
    assert_eq!(ids(0xffff, large(20, ACK)), [0xffff, 0x8000]);
    let udp = Sample {
        payload: vec![7; 30],
        ..Sample::default()
    };
    assert_eq!(ids(0xfffe, udp.clone()), [0xfffe, 0xffff, 0]);
    assert_eq!(ids(0x7fff, udp), [0x7fff, 0x8000, 0x8001]);
}

#[test]
fn urgent_data_are_counted_from_each_segment() {
    let mut frame = large(30, ACK | URG).build();
    frame[52..54].copy_from_slice(&15u16.to_be_bytes());
    let segments = cut(&frame, 10).unwrap();
    let urgent: Vec<_> = segments
        .iter()
        .map(|segment| (tcp_of(segment).flags & URG != 0, tcp_of(segment).urgent))
        .collect();
    assert_eq!(urgent, [(true, 15), (true, 5), (false, 0)]);
}

#[test]
fn a_datagram_without_a_checksum_gives_such_datagrams() {
    let mut frame = Sample {
        payload: vec![7; 25],
        ..Sample::default()
    }
    .build();
    frame[40..42].fill(0);
    for segment in cut(&frame, 10).unwrap() {
        assert_eq!(segment[40..42], [0, 0]);
        let length = u16::from_be_bytes([segment[38], segment[39]]);
        assert_eq!(usize::from(length), segment.len() - 34);
    }
}

#[test]
fn a_frame_of_one_segment_is_itself() {
    for bytes in [0, 1, 1000] {
        let frame = large(bytes, ACK | PSH | FIN | CWR).build();
        assert_eq!(cut(&frame, 1000).unwrap(), [frame]);
    }
}

#[test]
fn what_cannot_be_cut() {
    let refusal = |frame: &[u8], mss| cut(frame, mss).unwrap_err();
    let frame = large(3000, ACK).build();
    assert_eq!(refusal(&frame, 0), Refusal::Mss);
    assert_eq!(refusal(&frame, MIN_MSS - 1), Refusal::Mss);
    for flags in [SYN, RST] {
        assert_eq!(
            refusal(&large(3000, ACK | flags).build(), 1000),
            Refusal::Flags
        );
    }
    let mut fragment = frame.clone();
    fragment[20] = 0x20;
    assert_eq!(refusal(&fragment, 1000), Refusal::NotApplicable);
    assert_eq!(refusal(&[0; 60], 1000), Refusal::NotApplicable);
    let mut huge = frame.clone();
    huge.resize(54 + 65_496, 1);
    assert_eq!(refusal(&huge, 65_496), Refusal::TooLong);
    assert_eq!(cut(&huge, 65_495).unwrap().len(), 2);
    let udp = Sample {
        payload: vec![7; 3],
        ..Sample::default()
    }
    .build();
    assert_eq!(refusal(&udp, 0), Refusal::Mss);
    assert_eq!(cut(&udp, 1).unwrap().len(), 3);
}

#[test]
fn the_first_segment_and_the_rest() {
    let frame = large(2500, ACK | PSH).build();
    let (headers, layout) = well(&frame);
    let both: Vec<Segment> = Segments::first_and_rest(&headers, &layout, 1000)
        .unwrap()
        .collect();
    assert_eq!(
        both.iter()
            .map(|one| one.payload.clone())
            .collect::<Vec<_>>(),
        [0..1000, 1000..2500]
    );
    let rest = build(&both[1], &headers, &[&frame]);
    assert_eq!(
        (tcp_of(&rest).sequence, tcp_of(&rest).flags),
        (1_001_000, ACK | PSH)
    );
    let whole: Vec<Segment> = Segments::first_and_rest(&headers, &layout, 2500)
        .unwrap()
        .collect();
    assert_eq!(
        whole
            .iter()
            .map(|one| one.payload.clone())
            .collect::<Vec<_>>(),
        vec![0..2500; 1]
    );
}

#[test]
fn a_large_send_is_prepared_for_the_wire() {
    for v6 in [false, true] {
        let mut frame = Sample {
            v6,
            ..large(3000, ACK)
        }
        .build();
        let right = frame.clone();
        // As NDIS hands it down: no length, no checksum.
        let length = if v6 { 18 } else { 16 };
        frame[length..length + 2].fill(0);
        frame[24..26].fill(if v6 { 0x20 } else { 0 });
        let (mut headers, parsed) = parse(&frame, Extent::Frame);
        frame[24..26].copy_from_slice(&right[24..26]);
        headers[24..26].copy_from_slice(&frame[24..26]);
        let layout = parsed.whole().unwrap();
        let version = if v6 { Version::V6 } else { Version::V4 };
        let gso = Gso { version, mss: 1000 };
        assert_eq!(prepare(&mut headers, &layout, 1000), Ok(Some(gso)));
        assert_eq!(accept(&headers, &layout, gso, true), Ok(Some(gso)));
        transport::write(&mut headers, &layout, layout.payload_of([frame.as_slice()])).unwrap();
        assert_eq!(headers, right[..headers.len()]);
        // One segment is enough.
        assert_eq!(prepare(&mut headers, &layout, 3000), Ok(None));
        assert_eq!(prepare(&mut headers, &layout, 65_536), Ok(None));
    }
}

#[test]
fn a_large_frame_that_is_not_what_the_backend_says() {
    let said = |version, mss| Gso { version, mss };
    let frame = large(3000, ACK).build();
    let (headers, layout) = well(&frame);
    let check = |gso, blank| accept(&headers, &layout, gso, blank);
    assert_eq!(
        check(said(Version::V6, 1000), true),
        Err(Refusal::NotApplicable)
    );
    assert_eq!(check(said(Version::V4, 0), true), Err(Refusal::Mss));
    assert_eq!(
        check(said(Version::V4, 1000), false),
        Err(Refusal::Checksum)
    );
    assert_eq!(check(said(Version::V4, 3000), true), Ok(None));
    let udp = Sample {
        payload: vec![0; 3000],
        ..Sample::default()
    }
    .build();
    let (headers, layout) = well(&udp);
    assert_eq!(
        accept(&headers, &layout, said(Version::V4, 1000), true),
        Err(Refusal::NotApplicable)
    );
    let (headers, parsed) = parse(&[0x33; 60], Extent::Header);
    assert_eq!(
        accept(&headers, &parsed.layout, said(Version::V4, 9), true),
        Err(Refusal::NotApplicable)
    );
}

#[test]
fn the_longest_large_send_fits_the_protocol() {
    assert_eq!(MAX_LARGE_SEND, 65_201);
    let mut frame = Sample {
        v6: true,
        ..Sample::tcp()
    }
    .build();
    frame.resize(74 + MAX_LARGE_SEND, 1);
    let (mut headers, parsed) = parse(&frame, Extent::Frame);
    assert!(prepare(&mut headers, &parsed.layout, 1440).is_ok());
    frame.resize(65_536, 1);
    let (mut headers, parsed) = parse(&frame, Extent::Frame);
    assert_eq!(
        prepare(&mut headers, &parsed.layout, 1440),
        Err(Refusal::TooLong)
    );
}

proptest! {
    #[test]
    fn segments_are_the_large_frame(mut sample in samples(), cuts in cuts(), mss in 8usize..200) {
        if let Some(tcp) = &mut sample.tcp {
            tcp.flags &= !(SYN | RST);
        }
        let frame = sample.build();
        let fragments = scatter(&frame, &cuts);
        let (template, layout) = well(&frame);
        let segments = Segments::new(&template, &layout, mss).unwrap();
        let count = segments.len();
        prop_assert_eq!(count, sample.payload.len().div_ceil(mss).max(1));
        let mut data = vec![];
        for (index, segment) in segments.enumerate() {
            let built = build(&segment, &template, &fragments);
            let (headers, parsed) = well(&built);
            prop_assert_eq!(parsed, segment.layout);
            let payload = segment.data_of(layout.payload_of(fragments.iter().copied()));
            prop_assert!(parsed.payload == mss || index + 1 == count);
            prop_assert_eq!(transport::verify(&headers, &parsed, payload), Ok(Verdict::Good));
            prop_assert_eq!(parsed.ip.unwrap().verify_checksum(&headers), Ok(true));
            // Everything but lengths, numbers, flags and checksums is as it was.
            let start = layout.transport.unwrap().header().start();
            prop_assert_eq!(&headers[start..start + 4], &template[start..start + 4]);
            if let Transport::Tcp { options, .. } = layout.transport.unwrap() {
                prop_assert_eq!(options.of(&headers), options.of(&template));
            }
            let other = SlicedPacket::from_ethernet(&built).unwrap();
            let sums = match (other.net.unwrap(), other.transport.unwrap()) {
                (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
                    let ip = ip.header();
                    (tcp.checksum(), tcp.calc_checksum_ipv4(ip.source(), ip.destination()).unwrap())
                }
                (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
                    let ip = ip.header();
                    (tcp.checksum(), tcp.calc_checksum_ipv6(ip.source(), ip.destination()).unwrap())
                }
                (_, TransportSlice::Udp(udp)) => {
                    prop_assert_eq!(usize::from(udp.length()), 8 + parsed.payload);
                    (0, 0)
                }
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(sums.0, sums.1);
            data.extend_from_slice(&built[parsed.headers..]);
        }
        prop_assert_eq!(data, sample.payload);
    }
}
