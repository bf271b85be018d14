//! Checksums, beside those of the etherparse crate.

use proptest::prelude::*;

use super::*;
use crate::transport::{Error, Verdict, blank, read, verify, write};

fn payload<'a>(layout: &Layout, frame: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    layout.payload_of([frame])
}

/// Bytes of a UDP datagram whose checksum comes out as zero, hence is sent as 0xffff.
fn udp_with_zero(v6: bool) -> Sample {
    let mut sample = Sample {
        v6,
        payload: vec![0, 0],
        ..Sample::default()
    };
    let (headers, layout) = well(&sample.build());
    // With this in the payload, the sum is all ones.
    let checksum = read(&headers, &layout).unwrap();
    sample.payload = checksum.to_be_bytes().to_vec();
    sample
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_all_ones() {
    for v6 in [false, true] {
        let frame = udp_with_zero(v6).build();
        let (mut headers, layout) = well(&frame);
        write(&mut headers, &layout, payload(&layout, &frame)).unwrap();
        assert_eq!(read(&headers, &layout), Ok(0xffff));
        assert_eq!(headers, frame[..headers.len()]);
        assert_eq!(
            verify(&headers, &layout, payload(&layout, &frame)),
            Ok(Verdict::Good)
        );
    }
}

#[test]
fn udp_without_a_checksum() {
    let frame = Sample::default().build();
    let (mut headers, layout) = well(&frame);
    headers[40..42].fill(0);
    assert_eq!(
        verify(&headers, &layout, payload(&layout, &frame)),
        Ok(Verdict::Absent)
    );
}

#[test]
fn a_blank_field_holds_the_pseudo_header() {
    // 192.0.2.1 + 198.51.100.7 + TCP + 27 bytes, by hand.
    let frame = Sample::tcp().build();
    let (mut headers, layout) = well(&frame);
    blank(&mut headers, &layout).unwrap();
    let sum: u32 = 0xc000 + 0x0201 + 0xc633 + 0x6407 + 6 + 27;
    let folded = (sum & 0xffff) + (sum >> 16);
    assert_eq!(read(&headers, &layout), Ok(folded as u16));
}

#[test]
fn bytes_behind_the_datagram_are_not_summed() {
    let mut frame = Sample::default().build();
    // Four bytes that belong to the packet, but not to the datagram.
    frame.extend([1, 2, 3, 4]);
    frame[17] += 4;
    let (headers, layout) = well(&frame);
    assert_eq!(layout.payload, 11);
    assert_eq!(
        verify(&headers, &layout, payload(&layout, &frame)),
        Ok(Verdict::Good)
    );
}

#[test]
fn there_is_nothing_to_sum_in_other_frames() {
    let mut frame = Sample::tcp().build();
    frame[20] = 0x20;
    let (mut headers, layout) = well(&frame);
    assert_eq!(
        verify(&headers, &layout, payload(&layout, &frame)),
        Err(Error::NotApplicable)
    );
    assert_eq!(blank(&mut headers, &layout), Err(Error::NotApplicable));
    // A routing header with a station left: the pseudo-header has an address that is not the packet's destination.
    let mut sample = Sample {
        v6: true,
        ip_options: Some(vec![0; 6]),
        ..Sample::tcp()
    };
    sample.payload.clear();
    let mut frame = sample.build();
    (frame[20], frame[57]) = (43, 1);
    let (headers, layout) = well(&frame);
    assert_eq!(
        verify(&headers, &layout, payload(&layout, &frame)),
        Err(Error::NotApplicable)
    );
}

#[test]
fn a_payload_that_is_too_short_is_told() {
    let frame = Sample::tcp().build();
    let (mut headers, layout) = well(&frame);
    let short = payload(&layout, &frame[..frame.len() - 1]);
    assert_eq!(write(&mut headers, &layout, short), Err(Error::Mismatch));
    assert_eq!(
        write(&mut headers[..50], &layout, payload(&layout, &frame)),
        Err(Error::Mismatch)
    );
}

proptest! {
    /// What etherparse computed is good, is what is written, and is no longer good when a bit changes.
    #[test]
    fn checksums_are_those_of_the_other_implementation(
        sample in samples(),
        cuts in cuts(),
        bit in any::<usize>(),
    ) {
        let frame = sample.build();
        let fragments = scatter(&frame, &cuts);
        let (original, layout) = well(&frame);
        let data = || layout.payload_of(fragments.iter().copied());
        prop_assert_eq!(verify(&original, &layout, data()), Ok(Verdict::Good));

        let mut headers = original.clone();
        blank(&mut headers, &layout).unwrap();
        prop_assert_ne!(&headers, &original);
        write(&mut headers, &layout, data()).unwrap();
        prop_assert_eq!(&headers, &original);

        let mut damaged = frame.clone();
        let start = layout.transport.unwrap().header().start();
        let at = start * 8 + bit % ((frame.len() - start) * 8);
        damaged[at / 8] ^= 1 << (at % 8);
        // A checksum of UDP may have become none, or a header one that is no header.
        let (damaged_headers, parsed) = parse(&damaged, Extent::Header);
        if parsed.layout.headers == layout.headers && parsed.layout.transport == layout.transport {
            let verdict = verify(&damaged_headers, &parsed.layout, payload(&layout, &damaged));
            prop_assert!(matches!(verdict, Ok(Verdict::Bad | Verdict::Absent)), "{:?}", verdict);
            prop_assert!(verdict == Ok(Verdict::Bad) || read(&damaged_headers, &layout) == Ok(0));
        }
    }

    /// The same for IPv4's header.
    #[test]
    fn ipv4_checksums_are_those_of_the_other_implementation(sample in samples(), bit in 0usize..160) {
        let frame = sample.build();
        let (original, layout) = well(&frame);
        let ip = layout.ip.unwrap();
        prop_assert_eq!(ip.verify_checksum(&original), Ok(true));
        let mut headers = original.clone();
        if !sample.v6 {
            headers[ip.header.start() + 10..][..2].fill(0xa5);
        }
        ip.write_checksum(&mut headers).unwrap();
        prop_assert_eq!(&headers, &original);
        headers[ip.header.start() + bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(ip.verify_checksum(&headers), Ok(sample.v6));
    }
}
