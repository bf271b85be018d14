//! Tags put in and taken out, beside frames that were built with and without them.

use proptest::prelude::*;

use super::*;
use crate::vlan::{insert, remove};
use crate::{Mismatch, Tci};

#[test]
fn a_tag_moves_llc_too() {
    let mut frame = vec![2; 12];
    frame.extend([0, 8, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]);
    let (mut headers, layout) = well(&frame);
    headers.resize(26, 0);
    let tagged = insert(&mut headers, &layout, Tci(7)).unwrap();
    assert_eq!((tagged.llc.offset, tagged.llc.length), (18, 8));
    assert_eq!(
        (tagged.ethernet.length, tagged.headers, tagged.length),
        (18, 26, 26)
    );
    assert_eq!(headers[12..18], [0x81, 0, 0, 7, 0, 8]);
}

#[test]
fn without_room_or_header_there_is_no_tag() {
    let (mut headers, layout) = well(&Sample::tcp().build());
    assert_eq!(insert(&mut headers, &layout, Tci(7)), Err(Mismatch));
    let short = parse(&[0; 13], Extent::Header).1.layout;
    assert_eq!(insert(&mut [0; 64], &short, Tci(7)), Err(Mismatch));
    let cut = Layout {
        headers: 8,
        ..layout
    };
    assert_eq!(insert(&mut [0; 64], &cut, Tci(7)), Err(Mismatch));
    assert_eq!(remove(&mut headers, &layout), Ok(None));
    let tagged = well(
        &Sample {
            tag: Some(3),
            ..Sample::tcp()
        }
        .build(),
    )
    .1;
    assert_eq!(remove(&mut [0; 15], &tagged), Err(Mismatch));
}

proptest! {
    #[test]
    fn tags_come_and_go(mut sample in samples(), vlan in 0u16..4096) {
        sample.tag = None;
        let plain = sample.build();
        sample.tag = Some(vlan);
        let tagged = sample.build();
        let (plain_headers, plain_layout) = well(&plain);
        let (tagged_headers, tagged_layout) = well(&tagged);

        let mut headers = plain_headers.clone();
        headers.resize(plain_headers.len() + 4, 0);
        prop_assert_eq!(insert(&mut headers, &plain_layout, Tci(vlan)), Ok(tagged_layout));
        prop_assert_eq!(&headers, &tagged_headers);

        let (tag, layout) = remove(&mut headers, &tagged_layout).unwrap().unwrap();
        prop_assert_eq!(tag, Tci(vlan));
        prop_assert_eq!(layout, plain_layout);
        prop_assert_eq!(&headers[4..], &plain_headers);
    }
}
