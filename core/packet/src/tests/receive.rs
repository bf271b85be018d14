//! What is said of the checksums of received frames, and how large ones are handed on.

use super::*;
use crate::Version;
use crate::gso::Gso;
use crate::receive::{Check, Checks, Delivery, Large, Wanted, check, deliver};

const ALL: Wanted = Wanted {
    ip: true,
    tcp: true,
    udp: true,
};

fn checks(frame: &[u8], validated: bool, wanted: Wanted) -> (Check, Check, Check) {
    let (headers, layout) = well(frame);
    let payload = layout.payload_of([frame]);
    let Checks { ip, tcp, udp } = check(&headers, &layout, payload, validated, wanted).unwrap();
    (ip, tcp, udp)
}

#[test]
fn checksums_are_looked_at_if_nobody_vouches() {
    use Check::{Absent, Bad, Good, NotValidated};
    let good = Sample::tcp().build();
    assert_eq!(checks(&good, false, ALL), (Good, Good, Absent));
    assert_eq!(
        checks(&good, false, Wanted::default()),
        (NotValidated, NotValidated, Absent)
    );
    let mut bad = good.clone();
    bad[60] ^= 1;
    assert_eq!(checks(&bad, false, ALL), (Good, Bad, Absent));
    assert_eq!(
        checks(&bad, true, ALL),
        (Good, Good, Absent),
        "the backend vouches"
    );
    bad[26] ^= 1;
    assert_eq!(
        checks(&bad, true, ALL),
        (Bad, Good, Absent),
        "but not for IPv4's"
    );
    let v6 = Sample {
        v6: true,
        ..Sample::default()
    }
    .build();
    assert_eq!(checks(&v6, false, ALL), (Absent, Absent, Good));
    let mut fragment = Sample::default().build();
    fragment[20] = 0x20;
    let (ip, tcp, udp) = checks(&fragment, true, ALL);
    assert_eq!(
        (ip, tcp, udp),
        (Bad, Absent, Absent),
        "the flag changed the header"
    );
}

#[test]
fn datagrams_without_a_checksum() {
    let mut v4 = Sample::default().build();
    v4[40..42].fill(0);
    assert_eq!(checks(&v4, false, ALL).2, Check::Good);
    let mut v6 = Sample {
        v6: true,
        ..Sample::default()
    }
    .build();
    v6[60..62].fill(0);
    assert_eq!(checks(&v6, false, ALL).2, Check::NotValidated);
}

#[test]
fn large_frames_are_handed_on_as_the_client_wants_them() {
    let frame = Sample {
        payload: vec![9; 2500],
        ..Sample::tcp()
    }
    .build();
    let (headers, layout) = well(&frame);
    let gso = Gso {
        version: Version::V4,
        mss: 1000,
    };
    let sizes = |large| match deliver(&headers, &layout, gso, large).unwrap() {
        Delivery::Whole => vec![],
        Delivery::Pieces(pieces) => pieces.map(|piece| piece.layout.payload).collect(),
    };
    assert_eq!(sizes(Large::Whole), []);
    assert_eq!(sizes(Large::Cut), [1000, 1000, 500]);
    assert_eq!(sizes(Large::Split), [1000, 1500]);
}
