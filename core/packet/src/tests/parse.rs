//! What the parser finds, beside what the etherparse crate finds; and the ways in which frames are wrong.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::{Fault, MAX_EXTENSION_BYTES, MAX_EXTENSIONS, Span, Tci, Transport, Version};

fn span(offset: u16, length: u16) -> Span {
    Span { offset, length }
}

/// A frame with this type and content.
fn frame(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(kind.to_be_bytes());
    frame.extend(content);
    frame
}

/// An IPv6 packet with these headers behind the first, each given by its type and content without the next type.
fn chain(extensions: &[(u8, Vec<u8>)], last: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![];
    for (index, (_, content)) in extensions.iter().enumerate() {
        body.push(extensions.get(index + 1).map_or(last, |next| next.0));
        body.extend(content);
    }
    body.extend(payload);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([extensions.first().map_or(last, |first| first.0), 64]);
    packet.extend(SOURCE_V6);
    packet.extend(DESTINATION_V6);
    packet.extend(body);
    frame(0x86dd, &packet)
}

fn fault(frame: &[u8]) -> Option<Fault> {
    parse(frame, Extent::Header).1.fault
}

#[test]
fn a_tcp_segment_with_a_tag() {
    let mut sample = Sample::tcp();
    sample.tag = Some(5);
    sample.tcp.as_mut().unwrap().options = vec![1; 12];
    let (_, layout) = well(&sample.build());
    assert_eq!(layout.tag, Some(Tci(5)));
    assert_eq!(layout.ethernet, span(0, 18));
    let ip = layout.ip.unwrap();
    assert_eq!(
        (ip.version, ip.header, ip.options.length),
        (Version::V4, span(18, 20), 0)
    );
    let transport = Transport::Tcp {
        header: span(38, 20),
        options: span(58, 12),
    };
    assert_eq!(layout.transport, Some(transport));
    assert_eq!((layout.headers, layout.payload, layout.padding), (70, 7, 0));
}

#[test]
fn padding_behind_the_packet_is_no_payload() {
    let mut frame = Sample::default().build();
    assert_eq!(frame.len(), 49);
    frame.resize(60, 0);
    let (_, layout) = well(&frame);
    assert_eq!(
        (layout.headers, layout.payload, layout.padding),
        (42, 7, 11)
    );
}

#[test]
fn a_large_send_has_no_length_in_its_header() {
    for v6 in [false, true] {
        let mut frame = Sample {
            v6,
            ..Sample::tcp()
        }
        .build();
        let at = if v6 { 18 } else { 16 };
        frame[at..at + 2].fill(0);
        assert_eq!(
            fault(&frame),
            Some(if v6 {
                Fault::Transport
            } else {
                Fault::IpLength
            })
        );
        let layout = parse(&frame, Extent::Frame).1.whole().unwrap();
        assert_eq!(layout.payload, 7);
    }
}

#[test]
fn a_udp_datagram_may_be_shorter_than_its_packet() {
    let mut frame = Sample::default().build();
    frame[38..40].copy_from_slice(&12u16.to_be_bytes());
    let (_, layout) = well(&frame);
    assert_eq!(layout.payload, 7);
    let header = span(34, 8);
    assert_eq!(
        layout.transport,
        Some(Transport::Udp { header, length: 12 })
    );
    for length in [0u16, 7, 16, 0xffff] {
        frame[38..40].copy_from_slice(&length.to_be_bytes());
        assert_eq!(fault(&frame), Some(Fault::UdpLength), "{length}");
    }
}

#[test]
fn llc_and_snap() {
    let (_, layout) = well(&frame(10, &[0xe0, 0xe0, 3, 1, 2, 3, 4, 5, 6, 7, 0, 0]));
    assert_eq!(layout.llc, span(14, 3));
    assert_eq!((layout.headers, layout.payload, layout.padding), (17, 7, 2));
    let (_, layout) = well(&frame(1500, &[0xaa, 0xab, 3, 0, 0, 0, 8, 0, 0x45, 0]));
    assert_eq!(layout.llc, span(14, 8));
    assert_eq!((layout.payload, layout.padding, layout.ip), (2, 0, None));
    assert_eq!(fault(&frame(3, &[0xaa, 0xaa])), Some(Fault::Truncated));
    // Neither a length nor a type.
    assert_eq!(well(&frame(1501, &[0xe0; 8])).1.llc.length, 0);
}

#[test]
fn only_the_outermost_tag_is_looked_through() {
    let (_, layout) = well(&frame(0x8100, &[0x20, 1, 0x81, 0, 0, 2, 8, 0]));
    assert_eq!(layout.tag, Some(Tci(0x2001)));
    assert_eq!((layout.headers, layout.payload, layout.ip), (18, 4, None));
}

#[test]
fn frames_that_end_too_early() {
    for length in 0..14 {
        let parsed = parse(&vec![0; length], Extent::Header).1;
        assert_eq!(parsed.fault, Some(Fault::Truncated));
        assert_eq!((parsed.layout.headers, parsed.layout.payload), (0, length));
        assert_eq!(parsed.layout.ethernet.length, 0);
    }
    assert_eq!(fault(&frame(0x8100, &[0, 1, 8])), Some(Fault::Truncated));
}

#[test]
fn ip_headers_that_cannot_be() {
    let good = Sample::tcp().build();
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        fault(&frame)
    };
    assert_eq!(with(14, 0x65), Some(Fault::IpHeader));
    assert_eq!(with(14, 0x44), Some(Fault::IpHeader));
    assert_eq!(with(14, 0x4f), Some(Fault::IpLength));
    assert_eq!(
        with(17, 62),
        Some(Fault::IpLength),
        "a byte more than there is"
    );
    assert_eq!(with(17, 19), Some(Fault::IpLength), "less than its header");
    assert_eq!(
        with(17, 39),
        Some(Fault::Transport),
        "not all of TCP's header"
    );
    assert_eq!(with(46, 0x40), Some(Fault::Transport));
    assert_eq!(with(46, 0xf0), Some(Fault::Transport));
    assert_eq!(fault(&good[..33]), Some(Fault::IpLength));
}

#[test]
fn what_was_copied_before_a_fault_is_not_lost() {
    let mut frame = Sample::tcp().build();
    frame[14] = 0x65;
    let (headers, parsed) = parse(&frame, Extent::Header);
    assert_eq!(parsed.fault, Some(Fault::IpHeader));
    assert_eq!((parsed.layout.headers, parsed.layout.payload), (34, 27));
    assert_eq!(
        (parsed.layout.ethernet.length, parsed.layout.ip),
        (14, None)
    );
    assert_eq!(headers, frame[..34]);
}

#[test]
fn fragments_have_no_transport_header() {
    for (field, fragment) in [
        (0x2000u16, true),
        (1, true),
        (0x1fff, true),
        (0x4000, false),
    ] {
        let mut frame = Sample::tcp().build();
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        let (_, layout) = well(&frame);
        assert_eq!(layout.ip.unwrap().fragment, fragment, "{field:#x}");
        assert_eq!(layout.transport.is_none(), fragment, "{field:#x}");
    }
    let udp = &Sample::default().build()[34..];
    for (low, fragment) in [(0u8, false), (1, true), (8, true), (6, false)] {
        let (_, layout) = well(&chain(&[(44, vec![0, 0, low, 0, 0, 0, 1])], 17, udp));
        assert_eq!(layout.ip.unwrap().fragment, fragment, "{low}");
        assert_eq!(layout.transport.is_none(), fragment, "{low}");
        assert_eq!(layout.ip.unwrap().protocol, 17);
    }
}

#[test]
fn extension_headers_are_walked() {
    let udp = &Sample::default().build()[34..];
    let options = vec![0; 7];
    let routing = |left| vec![0, 0, left, 0, 0, 0, 0];
    let authentication = [vec![4], vec![0; 22]].concat();
    let extensions = [
        (0, options.clone()),
        (60, options.clone()),
        (43, routing(0)),
        (51, authentication),
        (60, [vec![1], vec![0; 14]].concat()),
    ];
    let (_, layout) = well(&chain(&extensions, 17, udp));
    let ip = layout.ip.unwrap();
    assert_eq!(
        (ip.header, ip.options, ip.routed),
        (span(14, 40), span(54, 64), false)
    );
    assert_eq!(layout.transport.unwrap().header(), span(118, 8));
    let (_, layout) = well(&chain(&[(43, routing(1))], 17, udp));
    assert!(layout.ip.unwrap().routed);
    // A home address behind two other options, and what looks like one but is another's content.
    let home = [vec![3, 0, 1, 3, 9, 9, 9, 0xc9, 16], vec![0; 16]].concat();
    let home = [home, vec![0; 6]].concat();
    let (_, layout) = well(&chain(&[(60, home)], 17, udp));
    assert!(layout.ip.unwrap().routed);
    let content = vec![0, 1, 4, 0xc9, 16, 0, 0];
    let (_, layout) = well(&chain(&[(60, content)], 17, udp));
    assert!(!layout.ip.unwrap().routed);
    // No next header, ESP, mobility: the walk ends.
    for protocol in [59, 50, 135] {
        let (_, layout) = well(&chain(&[(0, options.clone())], protocol, udp));
        assert_eq!(
            (layout.ip.unwrap().protocol, layout.transport),
            (protocol, None)
        );
    }
}

#[test]
fn extension_headers_are_bounded() {
    let udp = &Sample::default().build()[34..];
    let short = |count| vec![(60, vec![0; 7]); count];
    let long = |units: usize| vec![(60, [vec![units as u8], vec![0; 6 + 8 * units]].concat())];
    let most = MAX_EXTENSION_BYTES / 8 - 1;
    assert_eq!(fault(&chain(&short(MAX_EXTENSIONS), 17, udp)), None);
    assert_eq!(
        fault(&chain(&short(MAX_EXTENSIONS + 1), 17, udp)),
        Some(Fault::Extensions)
    );
    assert_eq!(fault(&chain(&long(most), 17, udp)), None);
    assert_eq!(
        fault(&chain(&long(most + 1), 17, udp)),
        Some(Fault::Extensions)
    );
    assert_eq!(fault(&chain(&long(255), 17, udp)), Some(Fault::Extensions));
    let mut cut = chain(&long(most), 17, &[]);
    cut.pop();
    assert_eq!(fault(&cut), Some(Fault::IpLength));
    // The chain says that it goes on, and the packet ends.
    assert_eq!(
        fault(&chain(&[(0, vec![0; 7])], 60, &[])),
        Some(Fault::IpLength)
    );
}

#[test]
fn a_buffer_that_is_too_small_is_a_fault() {
    let frame = Sample::tcp().build();
    for size in 0..54 {
        let mut headers = vec![0; size];
        let parsed = crate::parse([frame.as_slice()].into_iter(), Extent::Header, &mut headers);
        assert_eq!(parsed.fault, Some(Fault::Buffer), "{size}");
    }
}

proptest! {
    /// Frames of every kind, however they are scattered, are understood as etherparse does.
    #[test]
    fn two_parsers_agree(sample in samples(), cuts in cuts(), padding in 0usize..20) {
        let mut frame = sample.build();
        let length = frame.len();
        frame.resize(length + padding, 0xee);
        let fragments = scatter(&frame, &cuts);
        let mut headers = [0; MAX_HEADERS];
        let parsed = crate::parse(fragments.iter().copied(), Extent::Header, &mut headers);
        let layout = parsed.whole().unwrap();
        prop_assert_eq!(&headers[..layout.headers], &frame[..layout.headers]);
        prop_assert_eq!(layout.padding, padding);
        prop_assert_eq!(layout.tag.map(|tag| tag.vlan()), sample.tag);
        prop_assert_eq!(layout.payload_of(fragments.iter().copied()).collect::<Vec<_>>().concat(), sample.payload);

        let other = SlicedPacket::from_ethernet(&frame).unwrap();
        let offset = |slice: &[u8]| slice.as_ptr() as usize - frame.as_ptr() as usize;
        let ip = layout.ip.unwrap();
        match other.net.unwrap() {
            NetSlice::Ipv4(slice) => {
                let header = slice.header();
                prop_assert_eq!(ip.header.start(), offset(header.slice()));
                prop_assert_eq!(ip.options.of(&headers).unwrap(), header.options());
                prop_assert_eq!(ip.addresses(&headers).unwrap(), crate::Addresses::V4(header.source(), header.destination()));
            }
            NetSlice::Ipv6(slice) => {
                prop_assert_eq!(ip.header.start(), offset(slice.header().slice()));
                prop_assert_eq!(ip.options.of(&headers).unwrap(), slice.extensions().slice());
                let header = slice.header();
                prop_assert_eq!(ip.addresses(&headers).unwrap(), crate::Addresses::V6(header.source(), header.destination()));
            }
            other => panic!("{other:?}"),
        }
        match (layout.transport.unwrap(), other.transport.unwrap()) {
            (Transport::Tcp { header, options }, TransportSlice::Tcp(slice)) => {
                prop_assert_eq!(header.start(), offset(slice.slice()));
                prop_assert_eq!(options.of(&headers).unwrap(), slice.options());
                let read = crate::tcp::Header::read(&headers, header).unwrap();
                prop_assert_eq!(read.ports, (slice.source_port(), slice.destination_port()));
                prop_assert_eq!((read.sequence, read.acknowledgement), (slice.sequence_number(), slice.acknowledgment_number()));
                prop_assert_eq!((read.window, read.urgent), (slice.window_size(), slice.urgent_pointer()));
            }
            (Transport::Udp { header, length }, TransportSlice::Udp(slice)) => {
                prop_assert_eq!(header.start(), offset(slice.slice()));
                prop_assert_eq!(length, slice.length());
            }
            other => panic!("{other:?}"),
        }
    }
}
