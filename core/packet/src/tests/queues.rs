//! Hashes: Microsoft's vectors ("Verifying the RSS Hash Calculation"), and what is hashed of which frame.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::flow::{HashType, HashTypes, spread, toeplitz};
use crate::toeplitz::Key;

const KEY: Key = Key([
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
]);

/// Destination, its port, source, its port, hash without and with ports.
const V4: [(&str, u16, &str, u16, u32, u32); 5] = [
    (
        "161.142.100.80",
        1766,
        "66.9.149.187",
        2794,
        0x323e_8fc2,
        0x51cc_c178,
    ),
    (
        "65.69.140.83",
        4739,
        "199.92.111.2",
        14230,
        0xd718_262a,
        0xc626_b0ea,
    ),
    (
        "12.22.207.184",
        38024,
        "24.19.198.95",
        12898,
        0xd2d0_a5de,
        0x5c2b_394a,
    ),
    (
        "209.142.163.6",
        2217,
        "38.27.205.30",
        48228,
        0x8298_9176,
        0xafc7_327f,
    ),
    (
        "202.188.127.2",
        1303,
        "153.39.163.191",
        44251,
        0x5d18_09c5,
        0x10e8_28a2,
    ),
];
const V6: [(&str, u16, &str, u16, u32, u32); 3] = [
    (
        "3ffe:2501:200:3::1",
        1766,
        "3ffe:2501:200:1fff::7",
        2794,
        0x2cc1_8cd5,
        0x4020_7d3d,
    ),
    (
        "ff02::1",
        4739,
        "3ffe:501:8::260:97ff:fe40:efab",
        14230,
        0x0f0c_461c,
        0xdde5_1bbf,
    ),
    (
        "fe80::200:f8ff:fe21:67cf",
        38024,
        "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
        44251,
        0x4b61_e985,
        0x02d1_feef,
    ),
];

const ALL: HashTypes = HashTypes(0xf);

/// Puts addresses into a frame and looks at both of its hashes.
fn check(
    mut frame: Vec<u8>,
    at: usize,
    addresses: &[u8],
    plain: (HashType, u32),
    tcp: (HashType, u32),
) {
    frame[at..at + addresses.len()].copy_from_slice(addresses);
    let (headers, layout) = well(&frame);
    assert_eq!(toeplitz(&KEY, ALL, &headers, &layout), Some(tcp));
    let only = HashTypes(1 << plain.0.number());
    assert_eq!(toeplitz(&KEY, only, &headers, &layout), Some(plain));
    let only = HashTypes(1 << tcp.0.number());
    assert_eq!(toeplitz(&KEY, only, &headers, &layout), Some(tcp));
}

#[test]
fn microsofts_vectors() {
    for (destination, to, source, from, plain, tcp) in V4 {
        let [source, destination] =
            [source, destination].map(|text| text.parse::<Ipv4Addr>().unwrap().octets());
        let sample = Sample {
            ports: (from, to),
            ..Sample::tcp()
        };
        let addresses = [source, destination].concat();
        check(
            sample.build(),
            26,
            &addresses,
            (HashType::Ipv4, plain),
            (HashType::TcpIpv4, tcp),
        );
    }
    for (destination, to, source, from, plain, tcp) in V6 {
        let [source, destination] =
            [source, destination].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
        let sample = Sample {
            v6: true,
            ports: (from, to),
            ..Sample::tcp()
        };
        let addresses = [source, destination].concat();
        check(
            sample.build(),
            22,
            &addresses,
            (HashType::Ipv6, plain),
            (HashType::TcpIpv6, tcp),
        );
    }
}

#[test]
fn behind_the_key_there_are_zeros() {
    let last = Key(core::array::from_fn(|at| u8::from(at == 39)));
    // The last bit of the key meets the 32 bits before it, and those alone.
    let hash = |at: usize| {
        last.hash(&core::array::from_fn::<u8, 50, _>(|byte| {
            u8::from(byte == at)
        }))
    };
    assert_eq!(hash(39), 1 << 31);
    assert_eq!(hash(36), 1 << 7);
    assert_eq!(hash(35), 0);
    assert_eq!(hash(40), 0);
    assert_eq!(KEY.hash(&[0; 50]), 0);
}

#[test]
fn ports_are_hashed_for_tcp_only() {
    let udp = well(&Sample::default().build()).1;
    assert_eq!(ALL.choose(&udp), Some(HashType::Ipv4));
    assert_eq!(HashTypes(0b1010).choose(&udp), None);
    assert_eq!(HashTypes(0).choose(&udp), None);
    let tcp = well(
        &Sample {
            v6: true,
            ..Sample::tcp()
        }
        .build(),
    )
    .1;
    assert_eq!(ALL.choose(&tcp), Some(HashType::TcpIpv6));
    assert_eq!(HashTypes(0b0111).choose(&tcp), Some(HashType::Ipv6));
    assert_eq!(HashTypes(0b0011).choose(&tcp), None);
    let mut fragment = Sample::tcp().build();
    fragment[20] = 0x20;
    assert_eq!(ALL.choose(&well(&fragment).1), Some(HashType::Ipv4));
    assert_eq!(ALL.choose(&parse(&[0; 60], Extent::Header).1.layout), None);
}

#[test]
fn types_have_the_protocols_numbers() {
    for number in 0..4 {
        assert_eq!(HashType::from_number(number).unwrap().number(), number);
    }
    assert_eq!(HashType::from_number(4), None);
    assert_eq!(HashType::TcpIpv4.number(), 1);
    assert_eq!(HashType::Ipv6.number(), 2);
}

#[test]
fn frames_that_are_not_ip_are_not_spread() {
    let (headers, parsed) = parse(&[0; 60], Extent::Header);
    assert_eq!(spread(&headers, &parsed.layout), None);
}

#[test]
fn the_spreading_hash_by_hand() {
    let mut frame = Sample::default().build();
    frame[26..34].fill(0);
    frame[34..38].copy_from_slice(&[0, 0, 0x12, 0x34]);
    let (headers, layout) = well(&frame);
    // (0x12 << 4) + 0x34 = 0x154; its bit 8 is folded down to bit 0 and cleared.
    assert_eq!(spread(&headers, &layout), Some(0x55));
}

proptest! {
    /// Bit by bit, as Microsoft writes it down.
    #[test]
    fn the_hash_of_anything(key in any::<[u8; 32]>(), input in proptest::collection::vec(any::<u8>(), 0..50)) {
        let key = Key(core::array::from_fn(|at| key.get(at).copied().unwrap_or(at as u8)));
        let bit = |bytes: &[u8], at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 != 0);
        let mut expected = 0u32;
        for at in (0..input.len() * 8).filter(|at| bit(&input, *at)) {
            expected ^= (0..32).fold(0, |window, next| window << 1 | u32::from(bit(&key.0, at + next)));
        }
        prop_assert_eq!(key.hash(&input), expected);
    }

    /// Every fragment of a packet goes where the others go; other flows mostly do not.
    #[test]
    fn all_of_a_flow_is_spread_alike(sample in samples(), payload in proptest::collection::vec(any::<u8>(), 0..50)) {
        let hash = |sample: &Sample| {
            let (headers, layout) = well(&sample.build());
            spread(&headers, &layout).unwrap()
        };
        let other = Sample { payload, tag: None, identification: 0, ..sample.clone() };
        prop_assert_eq!(hash(&sample), hash(&other));
    }
}
