//! Frames on their way to backends that can more or less: what would be on the link in the end is always right.

use proptest::prelude::*;

use super::*;
use crate::segment::Refusal;
use crate::transmit::{Backend, Cut, Plan, Wishes, prepare};
use crate::transport::{self, Verdict};
use crate::{Tci, Transport};

const ABLE: Backend = Backend {
    checksum_v4: true,
    checksum_v6: true,
    gso_v4: true,
    gso_v6: true,
    max_frame: 1518,
};
const UNABLE: Backend = Backend {
    checksum_v4: false,
    checksum_v6: false,
    gso_v4: false,
    gso_v6: false,
    max_frame: 1518,
};
const ALL: Wishes = Wishes {
    tag: None,
    ip_checksum: true,
    tcp_checksum: true,
    udp_checksum: true,
    mss: None,
};

fn plan(frame: &[u8], wishes: &Wishes, backend: &Backend) -> Result<(Vec<u8>, Plan), Refusal> {
    let extent = match wishes.mss {
        Some(_) => Extent::Frame,
        None => Extent::Header,
    };
    let (mut headers, parsed) = parse(frame, extent);
    let layout = parsed.layout;
    headers.resize(layout.headers + 4, 0);
    let plan = prepare(
        &mut headers,
        &layout,
        wishes,
        backend,
        layout.payload_of([frame]),
    )?;
    headers.truncate(plan.layout.headers);
    Ok((headers, plan))
}

/// What is on the link behind an able backend.
fn sent(frame: &[u8], wishes: &Wishes, backend: &Backend) -> Result<Vec<Vec<u8>>, Refusal> {
    let (mut headers, plan) = plan(frame, wishes, backend)?;
    let payload = &frame[frame.len() - plan.layout.payload - plan.layout.padding..];
    let segments = match plan.cut {
        Cut::None => {
            if plan.blank {
                transport::write(&mut headers, &plan.layout, [payload].into_iter()).unwrap();
            }
            return Ok(vec![[&headers, payload].concat()]);
        }
        // The backend cuts as is done here; that it is told the right things is looked at elsewhere.
        Cut::Backend(gso) => {
            assert!(plan.blank);
            let mss = usize::from(gso.mss);
            crate::segment::Segments::new(&headers, &plan.layout, mss).unwrap()
        }
        Cut::Here(segments) => segments,
    };
    let build = |segment: crate::segment::Segment| {
        let mut one = vec![0; segment.layout.headers];
        segment.write(&headers, &mut one).unwrap();
        segment.complete(&mut one, [payload]).unwrap();
        one.extend(segment.data_of([payload]).flatten());
        one
    };
    Ok(segments.map(build).collect())
}

fn large(v6: bool) -> Sample {
    Sample {
        v6,
        payload: (0..5000).map(|byte| byte as u8).collect(),
        ..Sample::tcp()
    }
}

#[test]
fn a_backend_cuts_what_it_can() {
    for v6 in [false, true] {
        let frame = large(v6).build();
        let wishes = Wishes {
            mss: Some(1400),
            ..Wishes::default()
        };
        let (_, whole) = plan(&frame, &wishes, &ABLE).unwrap();
        assert!(matches!(whole.cut, Cut::Backend(gso) if gso.mss == 1400));
        // Who cuts has to complete checksums too.
        for lack in [
            Backend {
                gso_v4: false,
                gso_v6: false,
                ..ABLE
            },
            Backend {
                checksum_v4: false,
                checksum_v6: false,
                ..ABLE
            },
        ] {
            let (_, here) = plan(&frame, &wishes, &lack).unwrap();
            assert!(matches!(&here.cut, Cut::Here(segments) if segments.len() == 4));
            assert_eq!(here.blank, lack.checksum_v4);
            assert_eq!(sent(&frame, &wishes, &lack), sent(&frame, &wishes, &ABLE));
        }
        let other = Backend {
            gso_v4: v6,
            gso_v6: !v6,
            ..ABLE
        };
        assert!(matches!(
            plan(&frame, &wishes, &other).unwrap().1.cut,
            Cut::Here(_)
        ));
    }
}

#[test]
fn large_datagrams_are_always_cut_here() {
    let frame = Sample {
        tcp: None,
        ..large(false)
    }
    .build();
    let wishes = Wishes {
        mss: Some(1400),
        ..Wishes::default()
    };
    let (_, here) = plan(&frame, &wishes, &ABLE).unwrap();
    assert!(here.blank && matches!(&here.cut, Cut::Here(segments) if segments.len() == 4));
}

#[test]
fn a_large_frame_of_one_segment_is_an_ordinary_one() {
    for tcp in [true, false] {
        for v6 in [true, false] {
            let mut sample = Sample {
                v6,
                ..Sample::tcp()
            };
            if !tcp {
                sample.tcp = None;
            }
            let right = sample.build();
            let mut frame = right.clone();
            let length = if v6 { 18 } else { 16 };
            frame[length..length + 2].fill(0);
            if !tcp {
                let length = if v6 { 58 } else { 38 };
                frame[length..length + 2].fill(0);
            }
            let wishes = Wishes {
                mss: Some(1400),
                ..Wishes::default()
            };
            for backend in [ABLE, UNABLE] {
                assert_eq!(
                    sent(&frame, &wishes, &backend).unwrap(),
                    vec![right.clone(); 1]
                );
            }
        }
    }
    let mut frame = Sample::default().build();
    frame[40..42].fill(0);
    let wishes = Wishes {
        mss: Some(1400),
        ..Wishes::default()
    };
    assert_eq!(sent(&frame, &wishes, &ABLE).unwrap()[0][40..42], [0, 0]);
}

#[test]
fn frames_that_are_too_long_for_the_link_are_refused() {
    let refusal = |frame: &[u8], wishes| plan(frame, &wishes, &ABLE).unwrap_err();
    let frame = large(false).build();
    assert_eq!(refusal(&frame, ALL), Refusal::TooLong);
    let mss = |mss| Wishes {
        mss: Some(mss),
        ..Wishes::default()
    };
    assert_eq!(refusal(&frame, mss(1465)), Refusal::TooLong);
    assert!(plan(&frame, &mss(1464), &ABLE).is_ok());
    let tag = Some(Tci(1));
    assert_eq!(
        refusal(&frame, Wishes { tag, ..mss(1461) }),
        Refusal::TooLong
    );
    assert!(plan(&frame, &Wishes { tag, ..mss(1460) }, &ABLE).is_ok());
    assert_eq!(refusal(&[0x33; 60], mss(100)), Refusal::NotApplicable);
}

#[test]
fn frames_that_nobody_understands_are_sent_as_they_are() {
    let mut frame = Sample::tcp().build();
    frame[14] = 0x65;
    for wishes in [ALL, Wishes::default()] {
        assert_eq!(
            sent(&frame, &wishes, &ABLE).unwrap(),
            vec![frame.clone(); 1]
        );
    }
    let arp = crate::announce::arp(crate::Mac([2; 6]), [192, 0, 2, 1]).unwrap();
    assert_eq!(sent(&arp, &ALL, &UNABLE).unwrap(), [arp.to_vec()]);
}

proptest! {
    /// Whoever does the work, the same frames come out, and they are right.
    #[test]
    fn the_link_carries_the_same(
        mut sample in samples(),
        tag in proptest::option::of(any::<u16>()),
        mss in proptest::option::of(8usize..700),
        able in any::<[bool; 4]>(),
    ) {
        sample.tag = None;
        if let Some(tcp) = &mut sample.tcp {
            tcp.flags &= !6;
        }
        let frame = sample.build();
        let mut spoilt = frame.clone();
        // The client leaves the checksums open.
        let (_, layout) = well(&frame);
        let transport = layout.transport.unwrap();
        let at = transport.header().start() + if matches!(transport, Transport::Tcp { .. }) { 16 } else { 6 };
        spoilt[at..at + 2].fill(0x5a);
        if !sample.v6 {
            spoilt[24..26].fill(0x5a);
        }
        let wishes = Wishes { tag: tag.map(Tci), mss, ..ALL };
        let [checksum_v4, checksum_v6, gso_v4, gso_v6] = able;
        let backend = Backend { checksum_v4, checksum_v6, gso_v4, gso_v6, max_frame: 2000 };
        let frames = sent(&spoilt, &wishes, &backend).unwrap();
        prop_assert_eq!(&frames, &sent(&spoilt, &wishes, &Backend { max_frame: 2000, ..UNABLE }).unwrap());
        let mut data: Vec<u8> = vec![];
        for one in &frames {
            let (headers, layout) = well(one);
            prop_assert_eq!(layout.tag, tag.map(Tci));
            prop_assert_eq!(layout.ip.unwrap().verify_checksum(&headers), Ok(true));
            let verdict = transport::verify(&headers, &layout, layout.payload_of([one.as_slice()]));
            prop_assert_eq!(verdict, Ok(Verdict::Good));
            data.extend(layout.payload_of([one.as_slice()]).flatten());
        }
        prop_assert_eq!(&data, &sample.payload);
        if mss.is_none() && tag.is_none() {
            prop_assert_eq!(&frames[0], &frame);
        }
    }
}
