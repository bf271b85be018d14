//! Each object, each kind of request, each length.

use super::facts;
use crate::block::{TYPE_DEFAULT, put};
use crate::number::*;
use crate::rss::State;
use crate::{Answer, Failure, Kind, Request, Status, request};

/// What an object answers, in bytes; `None` if it is no query.
fn answer_length(oid: u32) -> Option<usize> {
    Some(match oid {
        OID_GEN_SUPPORTED_LIST => SUPPORTED.len() * 4,
        OID_GEN_VENDOR_DESCRIPTION => "Xen Project\0".len(),
        OID_GEN_DRIVER_VERSION => 2,
        OID_GEN_STATISTICS => 152,
        OID_TCP_RSC_STATISTICS => 40,
        OID_GEN_INTERRUPT_MODERATION => 12,
        OID_GEN_RECEIVE_HASH => 60,
        OID_PM_CURRENT_CAPABILITIES => 60,
        OID_802_3_PERMANENT_ADDRESS | OID_802_3_CURRENT_ADDRESS => 6,
        OID_802_3_MULTICAST_LIST => 18,
        OID_GEN_RECEIVE_SCALE_PARAMETERS
        | OID_GEN_LINK_PARAMETERS
        | OID_OFFLOAD_ENCAPSULATION
        | OID_TCP_OFFLOAD_PARAMETERS
        | OID_PNP_SET_POWER
        | OID_PM_PARAMETERS => return None,
        oid if counts(oid) => 8,
        _ => 4,
    })
}

fn counts(oid: u32) -> bool {
    let statistics = [0x0002_0100, 0x0002_0200, 0x0102_0100];
    statistics.contains(&(oid & 0xFFFF_FF00))
        && ![
            OID_GEN_STATISTICS,
            OID_GEN_TRANSMIT_QUEUE_LENGTH,
            OID_TCP_RSC_STATISTICS,
        ]
        .contains(&oid)
}

fn query(oid: u32, out: &mut [u8]) -> Result<Answer, Failure> {
    let Request::Query(query) = request(oid, Kind::Query, out)? else {
        panic!("{oid:#x}: a query is a query");
    };
    query.answer(&facts(Some(&State::OFF)), out)
}

#[test]
fn every_query_answers_what_fits_and_says_what_would() {
    for (oid, name) in NAMES {
        for length in 0..300 {
            let mut out = vec![0xA5; length];
            let found = query(*oid, &mut out);
            let Some(needed) = answer_length(*oid) else {
                assert_eq!(found, Err(Failure::of(Status::NOT_SUPPORTED)), "{name}");
                continue;
            };
            let written = match length {
                _ if *oid == OID_PNP_QUERY_POWER && length >= 4 => 0,
                4..8 if counts(*oid) => 4,
                _ => needed,
            };
            if written <= length {
                let needed = if counts(*oid) { 8 } else { written };
                assert_eq!(found, Ok(Answer { written, needed }), "{name} in {length}");
            } else {
                let failure = Failure {
                    status: Status::BUFFER_TOO_SHORT,
                    needed: needed as u32,
                };
                assert_eq!(found, Err(failure), "{name} in {length}");
            }
            let touched = if found.is_ok() { written } else { 0 };
            assert!(out[touched..].iter().all(|byte| *byte == 0xA5), "{name}");
        }
    }
}

/// A good request of each object that can be set, how much of it is read, and whether what follows is welcome.
fn good_requests() -> Vec<(u32, Vec<u8>, usize, bool)> {
    let block = |revision: u8, size: usize| {
        let mut bytes = vec![0; size];
        put(&mut bytes, 0, [TYPE_DEFAULT, revision]);
        put(&mut bytes, 2, (size as u16).to_le_bytes());
        bytes
    };
    let number = |number: u32| number.to_le_bytes().to_vec();
    let mut scale = block(3, 44);
    put(&mut scale, 8, 0x1301_u32.to_le_bytes());
    put(&mut scale, 12, 32_u16.to_le_bytes());
    put(&mut scale, 16, 84_u32.to_le_bytes());
    put(&mut scale, 20, 40_u16.to_le_bytes());
    put(&mut scale, 24, 44_u32.to_le_bytes());
    scale.resize(44 + 40 + 32, 1);
    let mut hash = block(1, 20);
    put(&mut hash, 4, 1_u32.to_le_bytes());
    put(&mut hash, 8, 0x0301_u32.to_le_bytes());
    put(&mut hash, 12, 40_u16.to_le_bytes());
    put(&mut hash, 16, 20_u32.to_le_bytes());
    hash.resize(60, 1);
    vec![
        (OID_GEN_CURRENT_PACKET_FILTER, number(9), 4, false),
        (OID_GEN_CURRENT_LOOKAHEAD, number(128), 4, false),
        (OID_GEN_VLAN_ID, number(7), 4, false),
        (OID_PNP_SET_POWER, number(4), 4, false),
        (OID_OFFLOAD_ENCAPSULATION, block(1, 28), 28, true),
        (OID_TCP_OFFLOAD_PARAMETERS, block(1, 20), 20, true),
        (OID_TCP_OFFLOAD_PARAMETERS, block(2, 22), 22, true),
        (OID_TCP_OFFLOAD_PARAMETERS, block(3, 26), 26, true),
        (OID_TCP_OFFLOAD_PARAMETERS, block(4, 32), 32, true),
        (OID_TCP_OFFLOAD_PARAMETERS, block(5, 34), 34, true),
        (OID_TCP_OFFLOAD_PARAMETERS, block(6, 35), 35, true),
        (OID_PM_PARAMETERS, block(1, 16), 16, true),
        (OID_PM_PARAMETERS, block(2, 20), 20, true),
        (OID_GEN_RECEIVE_SCALE_PARAMETERS, scale, 116, true),
        (OID_GEN_RECEIVE_HASH, hash, 60, true),
    ]
}

#[test]
fn every_set_takes_its_length_and_names_it_otherwise() {
    for (oid, good, read, longer) in good_requests() {
        let name = name(oid).unwrap();
        for length in 0..300 {
            let mut bytes = good.clone();
            bytes.resize(length, 0x5A);
            let found = request(oid, Kind::Set, &bytes);
            if length == good.len() || longer && length > good.len() {
                assert!(
                    matches!(found, Ok(Request::Set(_, r)) if r == read),
                    "{name} {length}"
                );
            } else {
                let failure = found.unwrap_err();
                assert_eq!(failure.status, Status::INVALID_LENGTH, "{name} {length}");
                // A longer request that is told this length gets further; the last one succeeds.
                let needed = failure.needed as usize;
                assert!(
                    needed <= good.len() && (needed > length || !longer),
                    "{name} {length}"
                );
            }
        }
    }
}

#[test]
fn following_the_needed_lengths_leads_to_success() {
    for (oid, good, _, _) in good_requests() {
        let mut length = 0;
        let steps = (0..6).find(|_| {
            match request(oid, Kind::Set, &good[..length]) {
                Ok(_) => return true,
                Err(failure) => length = failure.needed as usize,
            }
            false
        });
        assert!(
            steps.is_some(),
            "{}: still failing at {length}",
            name(oid).unwrap()
        );
    }
}

#[test]
fn what_there_is_no_setting_for_is_refused_by_a_whole_request_alone() {
    for (oid, whole, status) in [
        (OID_GEN_INTERRUPT_MODERATION, 12, Status::INVALID_DATA),
        (OID_GEN_LINK_PARAMETERS, 32, Status::NOT_SUPPORTED),
    ] {
        for length in 0..50 {
            let mut bytes = vec![0; 50];
            put(&mut bytes, 0, [TYPE_DEFAULT, 1, whole, 0]);
            let failure = request(oid, Kind::Set, &bytes[..length]).unwrap_err();
            match length < usize::from(whole) {
                true => assert_eq!(failure, Failure::length(whole.into())),
                false => assert_eq!(failure, Failure::of(status)),
            }
        }
    }
}

#[test]
fn power_states_are_those_there_are_and_nothing_wakes() {
    for state in 0..10_u32 {
        let found = request(OID_PNP_SET_POWER, Kind::Set, &state.to_le_bytes());
        assert_eq!(found.is_ok(), (1..=4).contains(&state), "{state}");
    }
    for at in 4..20 {
        let mut bytes = [0; 20];
        put(&mut bytes, 0, [TYPE_DEFAULT, 2, 20, 0]);
        bytes[at] = 1;
        let found = request(OID_PM_PARAMETERS, Kind::Set, &bytes);
        assert_eq!(found, Err(Failure::of(Status::NOT_SUPPORTED)), "{at}");
    }
}

#[test]
fn what_is_not_known_or_not_for_setting_is_not_supported() {
    let refused = Err(Failure::of(Status::NOT_SUPPORTED));
    for (oid, name) in NAMES {
        assert_eq!(request(*oid, Kind::Method, &[0; 64]), refused, "{name}");
    }
    for oid in [0, 1, 0x0001_0107, 0x0101_0105, 0xFF01_0101, u32::MAX] {
        for kind in [Kind::Query, Kind::Set, Kind::Method] {
            assert_eq!(request(oid, kind, &[0; 64]), refused, "{oid:#x}");
        }
    }
    for oid in [
        OID_GEN_XMIT_OK,
        OID_802_3_CURRENT_ADDRESS,
        OID_GEN_SUPPORTED_LIST,
    ] {
        assert_eq!(request(oid, Kind::Set, &[0; 64]), refused, "{oid:#x}");
    }
}

#[test]
fn what_is_listed_is_served() {
    for oid in SUPPORTED {
        let settable = good_requests().iter().any(|(good, ..)| good == oid)
            || [OID_802_3_MULTICAST_LIST].contains(oid);
        assert!(
            answer_length(*oid).is_some() || settable,
            "{:?}",
            name(*oid)
        );
    }
}

#[test]
fn without_a_hash_the_list_is_shorter_and_the_object_is_none() {
    let mut out = [0; 400];
    let Ok(Request::Query(list)) = request(OID_GEN_SUPPORTED_LIST, Kind::Query, &out) else {
        panic!("a list is a query");
    };
    let answer = list.answer(&facts(None), &mut out).unwrap();
    assert_eq!(answer.written, (SUPPORTED.len() - 2) * 4);
    let Ok(Request::Query(hash)) = request(OID_GEN_RECEIVE_HASH, Kind::Query, &out) else {
        panic!("a hash is a query");
    };
    let refused = Err(Failure::of(Status::NOT_SUPPORTED));
    assert_eq!(hash.answer(&facts(None), &mut out), refused);
}

#[test]
fn numbers_are_what_the_facts_say() {
    let number = |oid| {
        let mut out = [0; 8];
        let answer = query(oid, &mut out).unwrap();
        (u64::from_le_bytes(out), answer.written)
    };
    assert_eq!(number(OID_GEN_MAXIMUM_LOOKAHEAD), (9018, 4));
    assert_eq!(number(OID_GEN_MAXIMUM_FRAME_SIZE), (9000, 4));
    assert_eq!(number(OID_GEN_MAXIMUM_TOTAL_SIZE), (9014, 4));
    assert_eq!(number(OID_GEN_TRANSMIT_BUFFER_SPACE), (256 * 9018, 4));
    assert_eq!(number(OID_GEN_RECEIVE_BUFFER_SPACE), (512 * 9018, 4));
    assert_eq!(number(OID_GEN_DRIVER_VERSION), (0x0653, 2));
    assert_eq!(number(OID_GEN_VENDOR_DRIVER_VERSION), (0x0009_0001, 4));
    assert_eq!(number(OID_GEN_VENDOR_ID), (0x5853, 4));
    assert_eq!(number(OID_GEN_PHYSICAL_MEDIUM_EX), (14, 4));
    assert_eq!(number(OID_GEN_MAC_OPTIONS), (0x02CD, 4));
    assert_eq!(number(OID_GEN_CURRENT_PACKET_FILTER), (9, 4));
    // Three counters above 32 bits each: of packets sent 3, 5, 7; received 12, 14, 16.
    assert_eq!(number(OID_GEN_XMIT_OK), ((3 << 33) + 0x00A8, 8));
    assert_eq!(number(OID_GEN_RCV_OK), ((3 << 33) + 0x0001_5000, 8));
    assert_eq!(number(OID_GEN_XMIT_ERROR), ((2 << 33) + 0x06, 8));
    assert_eq!(number(OID_GEN_RCV_ERROR), ((2 << 33) + 0x0C00, 8));
    assert_eq!(
        number(OID_GEN_BROADCAST_BYTES_RCV),
        ((1 << 33) + (1 << 17), 8)
    );
    let mut half = [0; 4];
    query(OID_GEN_XMIT_OK, &mut half).unwrap();
    assert_eq!(u32::from_le_bytes(half), 0x00A8);
    let mut text = [0; 12];
    query(OID_GEN_VENDOR_DESCRIPTION, &mut text).unwrap();
    assert_eq!(&text, b"Xen Project\0");
    let mut address = [0; 6];
    query(OID_802_3_CURRENT_ADDRESS, &mut address).unwrap();
    assert_eq!(address, [2, 0x16, 0x3E, 1, 2, 3]);
}
