//! What becomes one segment and what does not. The examples are those of NDIS' documentation.

use proptest::prelude::*;

use super::*;
use crate::coalesce::{Arrival, Checksum, Finished, Refusal, Unit};
use crate::segment::Segments;
use crate::tcp::{ACK, CWR, ECE, FIN, Header, PSH, RST, SYN, URG};
use crate::transport::{self, Verdict};

/// Segments as they arrive.
struct Received {
    headers: Vec<u8>,
    layout: Layout,
    frame: Vec<u8>,
}

impl Received {
    fn new(frame: Vec<u8>) -> Received {
        let (headers, layout) = well(&frame);
        Received {
            headers,
            layout,
            frame,
        }
    }

    fn arrival(&self, checksum: Checksum) -> Arrival<'_> {
        Arrival {
            headers: &self.headers,
            layout: &self.layout,
            segments: 1,
            checksum,
        }
    }

    fn good(&self) -> Arrival<'_> {
        self.arrival(Checksum::Good)
    }
}

/// A segment at a distance from the first one's sequence number.
fn segment(at: u32, payload: &[u8], change: impl FnOnce(&mut Tcp)) -> Received {
    let mut sample = Sample {
        payload: payload.to_vec(),
        ..Sample::tcp()
    };
    let tcp = sample.tcp.as_mut().unwrap();
    tcp.sequence = tcp.sequence.wrapping_add(at);
    change(tcp);
    Received::new(sample.build())
}

fn data(at: u32, payload: &[u8]) -> Received {
    segment(at, payload, |_| {})
}

fn stamps(value: u32, echo: u32) -> Vec<u8> {
    [
        &[1, 1, 8, 10],
        &value.to_be_bytes()[..],
        &echo.to_be_bytes(),
    ]
    .concat()
}

/// The header of a unit that begins with this segment.
fn finish(unit: &Unit, first: &Received) -> (Header, Finished, Vec<u8>) {
    let mut headers = first.headers.clone();
    let finished = unit.finish(&mut headers).unwrap();
    let header = Header::read(&headers, finished.layout.transport.unwrap().header()).unwrap();
    (header, finished, headers)
}

#[test]
fn data_segments_become_one() {
    let segments: Vec<_> = (0..10).map(|index| data(index * 3, b"abc")).collect();
    let mut unit = Unit::start(&segments[0].good()).unwrap();
    for next in &segments[1..] {
        assert_eq!(unit.append(&next.good()), Ok(()));
    }
    assert_eq!(unit.segments(), 10);
    let (_, finished, headers) = finish(&unit, &segments[0]);
    assert_eq!(
        (finished.layout.payload, finished.checksum),
        (30, Checksum::Good)
    );
    let payload = [b"abc".as_slice(); 10].concat();
    let verdict = transport::verify(&headers, &finished.layout, [payload.as_slice()].into_iter());
    assert_eq!(verdict, Ok(Verdict::Good));
    assert_eq!(
        finished.layout.ip.unwrap().verify_checksum(&headers),
        Ok(true)
    );
}

#[test]
fn an_acknowledgement_with_sack_ends_a_unit() {
    let first = data(0, b"abc");
    let mut unit = Unit::start(&first.good()).unwrap();
    let sack = segment(3, b"", |tcp| {
        tcp.options = [&[1, 1, 5, 10], [9; 8].as_slice()].concat()
    });
    assert_eq!(unit.append(&sack.good()), Err(Refusal::Exception));
    assert!(Unit::start(&sack.good()).is_none());
    let (header, finished, headers) = finish(&unit, &first);
    assert_eq!(headers, first.headers, "the unit is as it was");
    assert_eq!(
        (header.sequence, finished.layout),
        (1_000_000, first.layout)
    );
}

#[test]
fn window_updates_join_and_do_not_count() {
    let first = data(0, b"abc");
    let mut unit = Unit::start(&first.good()).unwrap();
    for window in [600, 700] {
        let update = segment(3, b"", |tcp| tcp.window = window);
        assert_eq!(unit.append(&update.good()), Ok(()));
    }
    assert_eq!(unit.segments(), 1);
    let (header, finished, headers) = finish(&unit, &first);
    assert_eq!((header.window, finished.layout.payload), (700, 3));
    let verdict = transport::verify(&headers, &finished.layout, [b"abc".as_slice()].into_iter());
    assert_eq!(verdict, Ok(Verdict::Good));
}

#[test]
fn data_with_newer_acknowledgements_join() {
    let first = data(0, b"abc");
    let mut unit = Unit::start(&first.good()).unwrap();
    let newer = segment(3, b"def", |tcp| tcp.acknowledgement = 100);
    assert_eq!(unit.append(&newer.good()), Ok(()));
    let older = segment(6, b"ghi", |tcp| tcp.acknowledgement = 99);
    assert_eq!(unit.append(&older.good()), Err(Refusal::Exception));
    assert_eq!(finish(&unit, &first).0.acknowledgement, 100);
}

#[test]
fn segments_that_do_not_continue_end_a_unit() {
    let first = data(0, b"abc");
    let exceptions = [
        ("a gap", data(4, b"x")),
        ("a repetition", data(0, b"abc")),
        ("a duplicate acknowledgement", data(3, b"")),
        (
            "a pure acknowledgement",
            segment(3, b"", |tcp| tcp.acknowledgement = 78),
        ),
        ("SYN", segment(3, b"x", |tcp| tcp.flags = ACK | SYN)),
        ("FIN", segment(3, b"x", |tcp| tcp.flags = ACK | FIN)),
        ("RST", segment(3, b"x", |tcp| tcp.flags = ACK | RST)),
        ("URG", segment(3, b"x", |tcp| tcp.flags = ACK | URG)),
        ("no ACK", segment(3, b"x", |tcp| tcp.flags = PSH)),
        ("ECE", segment(3, b"x", |tcp| tcp.flags = ACK | ECE)),
        ("CWR", segment(3, b"x", |tcp| tcp.flags = ACK | CWR)),
        (
            "a time stamp",
            segment(3, b"x", |tcp| tcp.options = stamps(1, 1)),
        ),
        (
            "another option",
            segment(3, b"x", |tcp| tcp.options = vec![1; 4]),
        ),
    ];
    for (name, next) in exceptions {
        let mut unit = Unit::start(&first.good()).unwrap();
        assert_eq!(unit.append(&next.good()), Err(Refusal::Exception), "{name}");
        assert_eq!(finish(&unit, &first).2, first.headers, "{name}");
    }
}

#[test]
fn packets_that_differ_end_a_unit() {
    let first = data(0, b"abc");
    let next = data(3, b"def");
    let with = |at: usize, value: u8| {
        let mut frame = next.frame.clone();
        frame[at] = value;
        let mut unit = Unit::start(&first.good()).unwrap();
        unit.append(&Received::new(frame).good())
    };
    assert_eq!(with(15, 1), Err(Refusal::Exception), "ECN");
    assert_eq!(
        with(15, 4),
        Err(Refusal::Exception),
        "differentiated services"
    );
    assert_eq!(with(20, 0), Err(Refusal::Exception), "may be fragmented");
    assert_eq!(with(6, 8), Err(Refusal::Exception), "another station");
    assert_eq!(with(18, 9), Ok(()), "any identification");
    assert_eq!(with(29, 2), Err(Refusal::OtherFlow));
    assert_eq!(with(37, 2), Err(Refusal::OtherFlow));
    let mut unit = Unit::start(&first.good()).unwrap();
    let udp = Received::new(Sample::default().build());
    assert_eq!(unit.append(&udp.good()), Err(Refusal::OtherFlow));
    let tagged = Sample {
        tag: Some(1),
        ..Sample::tcp()
    };
    assert!(Unit::start(&Received::new(tagged.build()).good()).is_some());
}

#[test]
fn packets_with_ip_options_or_without_data_start_nothing() {
    for v6 in [false, true] {
        let ip_options = Some(vec![0; if v6 { 6 } else { 4 }]);
        let sample = Sample {
            v6,
            ip_options,
            ..Sample::tcp()
        };
        assert!(Unit::start(&Received::new(sample.build()).good()).is_none());
    }
    assert!(Unit::start(&data(0, b"").good()).is_none());
}

#[test]
fn the_lowest_hop_count_remains_and_every_push() {
    let first = data(0, b"abc");
    let mut unit = Unit::start(&first.good()).unwrap();
    let push = segment(3, b"def", |tcp| tcp.flags = ACK | PSH);
    let mut far = push.frame.clone();
    far[22] = 7;
    assert_eq!(unit.append(&Received::new(far).good()), Ok(()));
    assert_eq!(unit.append(&data(6, b"g").good()), Ok(()));
    let (header, finished, headers) = finish(&unit, &first);
    assert_eq!((header.flags, headers[22]), (ACK | PSH, 7));
    assert_eq!(
        finished.layout.ip.unwrap().verify_checksum(&headers),
        Ok(true)
    );
}

#[test]
fn the_latest_time_stamp_remains() {
    let stamped = |at, value, echo| segment(at, b"abc", |tcp| tcp.options = stamps(value, echo));
    let first = stamped(0, u32::MAX - 1, 5);
    let mut unit = Unit::start(&first.good()).unwrap();
    assert_eq!(unit.append(&stamped(3, u32::MAX, 5).good()), Ok(()));
    assert_eq!(unit.append(&stamped(6, 3, 6).good()), Ok(()));
    assert_eq!(
        unit.append(&stamped(9, 2, 6).good()),
        Err(Refusal::Exception)
    );
    assert_eq!(unit.timestamp_delta(), Some(5));
    let (_, finished, headers) = finish(&unit, &first);
    assert_eq!(headers[54..], stamps(3, 6));
    let payload = [b"abc".as_slice(); 3];
    let verdict = transport::verify(&headers, &finished.layout, payload.into_iter());
    assert_eq!(verdict, Ok(Verdict::Good));
    assert_eq!(
        Unit::start(&data(0, b"a").good())
            .unwrap()
            .timestamp_delta(),
        None
    );
}

#[test]
fn a_unit_is_no_longer_than_a_packet() {
    for v6 in [false, true] {
        let piece = |at: u32, bytes| {
            let mut sample = Sample {
                v6,
                payload: vec![1; bytes],
                ..Sample::tcp()
            };
            sample.tcp.as_mut().unwrap().sequence += at;
            Received::new(sample.build())
        };
        let headers = if v6 { 60 } else { 40 };
        let first = piece(0, 60_000);
        let mut unit = Unit::start(&first.good()).unwrap();
        let room = 0xffff - headers - 60_000;
        assert_eq!(
            unit.append(&piece(60_000, room + 1).good()),
            Err(Refusal::TooLong)
        );
        assert_eq!(unit.append(&piece(60_000, room).good()), Ok(()));
        assert_eq!(finish(&unit, &first).1.layout.length, 14 + 0xffff);
    }
}

#[test]
fn a_blank_checksum_makes_the_whole_blank() {
    let first = data(0, b"abc");
    let mut unit = Unit::start(&first.good()).unwrap();
    let mut next = data(3, b"def");
    transport::blank(&mut next.headers, &next.layout).unwrap();
    unit.append(&next.arrival(Checksum::Blank)).unwrap();
    let (_, finished, mut headers) = finish(&unit, &first);
    assert_eq!(finished.checksum, Checksum::Blank);
    let blank = headers.clone();
    transport::blank(&mut headers, &finished.layout).unwrap();
    assert_eq!(headers, blank);
}

proptest! {
    /// What was cut can be put together again: segmentation, then coalescing, changes nothing.
    #[test]
    fn coalescing_undoes_segmentation(
        mut sample in samples(),
        mss in 8usize..100,
        timestamps in any::<Option<(u32, u32)>>(),
        blank in any::<bool>(),
    ) {
        sample.ip_options = None;
        let mut tcp = sample.tcp.take().unwrap_or_default();
        tcp.flags = ACK | tcp.flags & (PSH | ECE);
        tcp.options = timestamps.map_or(vec![], |(value, echo)| stamps(value, echo));
        sample.tcp = Some(tcp);
        sample.payload.push(0);
        let frame = sample.build();
        let (original, whole) = well(&frame);
        let segments: Vec<Received> = Segments::new(&original, &whole, mss).unwrap().map(|segment| {
            let mut headers = vec![0; segment.layout.headers];
            segment.write(&original, &mut headers).unwrap();
            if !blank {
                segment.complete(&mut headers, whole.payload_of([frame.as_slice()])).unwrap();
            }
            Received { headers, layout: segment.layout, frame: vec![] }
        }).collect();
        let checksum = if blank { Checksum::Blank } else { Checksum::Good };
        let mut unit = Unit::start(&segments[0].arrival(checksum)).unwrap();
        for segment in &segments[1..] {
            prop_assert_eq!(unit.append(&segment.arrival(checksum)), Ok(()));
        }
        prop_assert_eq!(unit.segments() as usize, segments.len());
        let mut headers = segments[0].headers.clone();
        let finished = unit.finish(&mut headers).unwrap();
        prop_assert_eq!(finished, Finished { layout: whole, checksum });
        if blank {
            transport::write(&mut headers, &whole, whole.payload_of([frame.as_slice()])).unwrap();
        }
        prop_assert_eq!(headers, original);
    }
}
