//! Does to any bytes everything that a driver does to a frame, and looks that nothing leaves the frame. Shared by the
//! property tests of this crate and by the fuzz target.

use packet::coalesce::{Arrival, Checksum, Unit};
use packet::flow::{Flow, HashTypes, spread, toeplitz};
use packet::gso::{Gso, accept, prepare};
use packet::segment::Segments;
use packet::toeplitz::Key;
use packet::{Extent, Layout, MAX_HEADERS, Span, Tci, Transport, Version, parse, transport, vlan};

/// Every place that a layout names lies inside the headers.
fn check(layout: &Layout, length: usize) {
    assert_eq!(layout.length, length);
    assert_eq!(layout.headers + layout.payload + layout.padding, length);
    let inside = |span: Span| assert!(span.end() <= layout.headers, "{layout:?}");
    inside(layout.ethernet);
    inside(layout.llc);
    if let Some(ip) = layout.ip {
        inside(ip.header);
        inside(ip.options);
    }
    match layout.transport {
        Some(Transport::Tcp { header, options }) => {
            inside(header);
            inside(options);
        }
        Some(Transport::Udp { header, length }) => {
            inside(header);
            assert!(header.start() + usize::from(length) <= layout.headers + layout.payload);
        }
        None => {}
    }
}

/// `fragments` are the frame; `mss` and `tag` are what comes with it.
pub fn exercise(fragments: &[&[u8]], mss: u16, tag: u16) {
    let frame = || fragments.iter().copied();
    let length = packet::length(frame());
    for extent in [Extent::Header, Extent::Frame] {
        let mut buffer = [0; MAX_HEADERS + 4];
        let parsed = parse(frame(), extent, &mut buffer[..MAX_HEADERS]);
        let layout = parsed.layout;
        check(&layout, length);
        assert_eq!(packet::length(layout.payload_of(frame())), layout.payload);
        let headers = &buffer[..layout.headers];

        let _ = spread(headers, &layout);
        let _ = toeplitz(&Key([0x6d; 40]), HashTypes(0xf), headers, &layout);
        assert!(layout.transport.is_none() || Flow::of(headers, &layout).is_some());
        if let Some(ip) = layout.ip {
            assert!(ip.addresses(headers).is_ok());
            let _ = ip.verify_checksum(headers);
        }

        if let Ok(before) = transport::verify(headers, &layout, layout.payload_of(frame())) {
            let mut right = buffer;
            let right = &mut right[..layout.headers];
            transport::write(right, &layout, layout.payload_of(frame())).expect("verified");
            let after = transport::verify(right, &layout, layout.payload_of(frame()));
            assert_eq!(after, Ok(transport::Verdict::Good), "was {before:?}");
        }

        segments(fragments, headers, &layout, usize::from(mss));
        for version in [Version::V4, Version::V6] {
            let _ = accept(headers, &layout, Gso { version, mss }, true);
        }
        let _ = prepare(&mut buffer.clone(), &layout, usize::from(mss));

        if let Ok(tagged) = vlan::insert(&mut buffer, &layout, Tci(tag)) {
            check(&tagged, length + 4);
            let again = vlan::remove(&mut buffer, &tagged);
            let (found, again) = again.expect("tagged").expect("tagged");
            assert_eq!(found, Tci(tag));
            check(&again, length);
        }
    }
}

/// Cuts the frame, and puts the pieces together as far as they go.
fn segments(fragments: &[&[u8]], headers: &[u8], layout: &Layout, mss: usize) {
    let Ok(segments) = Segments::new(headers, layout, mss) else {
        return;
    };
    let payload = || layout.payload_of(fragments.iter().copied());
    let mut next = 0;
    let mut unit: Option<Unit> = None;
    for segment in segments {
        assert_eq!(segment.payload.start, next);
        next = segment.payload.end;
        assert!(segment.payload.len() <= mss);
        assert_eq!(
            packet::length(segment.data_of(payload())),
            segment.payload.len()
        );
        let mut buffer = [0; MAX_HEADERS];
        segment.write(headers, &mut buffer).expect("room");
        segment.complete(&mut buffer, payload()).expect("written");
        check(
            &segment.layout,
            segment.layout.headers + segment.payload.len(),
        );
        let arrival = Arrival {
            headers: &buffer,
            layout: &segment.layout,
            segments: 1,
            checksum: Checksum::Good,
        };
        match &mut unit {
            Some(unit) => {
                let _ = unit.append(&arrival);
            }
            None => unit = Unit::start(&arrival),
        }
    }
    assert_eq!(next, layout.payload);
    if let Some(unit) = unit {
        let mut buffer = [0; MAX_HEADERS];
        for (to, from) in buffer.iter_mut().zip(headers) {
            *to = *from;
        }
        let finished = unit.finish(&mut buffer).expect("the first one's headers");
        assert!(finished.layout.payload <= layout.payload);
    }
}
