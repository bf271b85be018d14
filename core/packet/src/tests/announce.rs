//! Announcements, as etherparse reads them.

use etherparse::{ArpPacketSlice, Icmpv6Slice, Icmpv6Type, Ipv6Slice};

use crate::announce::{advertisement, arp};
use crate::{Kind, Mac};

const OWN: Mac = Mac([0, 0x16, 0x3e, 1, 2, 3]);

#[test]
fn a_gratuitous_arp_asks_for_the_own_address() {
    let frame = arp(OWN, [192, 0, 2, 9]).unwrap();
    assert_eq!(Mac::from_start(&frame).unwrap().kind(), Kind::Broadcast);
    assert_eq!(frame[6..14], [0, 0x16, 0x3e, 1, 2, 3, 8, 6]);
    let packet = ArpPacketSlice::from_slice(&frame[14..]).unwrap();
    assert_eq!(
        (packet.hw_addr_type().0, packet.proto_addr_type().0),
        (1, 0x0800)
    );
    assert_eq!(packet.operation().0, 1);
    assert_eq!(packet.sender_hw_addr(), OWN.0);
    assert_eq!(packet.sender_protocol_addr(), [192, 0, 2, 9]);
    assert_eq!(packet.target_hw_addr(), [0xff; 6]);
    assert_eq!(packet.target_protocol_addr(), [192, 0, 2, 9]);
    assert_eq!(frame[42..], [0; 18]);
}

#[test]
fn an_advertisement_overrides_what_neighbours_know() {
    let own = "fe80::216:3eff:fe01:203"
        .parse::<std::net::Ipv6Addr>()
        .unwrap();
    let frame = advertisement(OWN, own.octets()).unwrap();
    assert_eq!(
        frame[..14],
        [0x33, 0x33, 0, 0, 0, 1, 0, 0x16, 0x3e, 1, 2, 3, 0x86, 0xdd]
    );
    let packet = Ipv6Slice::from_slice(&frame[14..]).unwrap();
    let header = packet.header();
    assert_eq!((header.source_addr(), header.hop_limit()), (own, 255));
    assert_eq!(
        header.destination_addr(),
        "ff02::1".parse::<std::net::Ipv6Addr>().unwrap()
    );
    let message = Icmpv6Slice::from_slice(packet.payload().payload).unwrap();
    assert!(message.is_checksum_valid(header.source(), header.destination()));
    // Type 136, code 0, override and nothing else; the target; option 2 of 8 bytes: the own link-layer address.
    let bytes = message.slice();
    assert_eq!((bytes[0], bytes[1]), (136, 0));
    assert!(!matches!(message.icmp_type(), Icmpv6Type::Unknown { type_u8, .. } if type_u8 != 136));
    assert_eq!(bytes[4..8], [0x20, 0, 0, 0]);
    assert_eq!(bytes[8..24], own.octets());
    assert_eq!(bytes[24..], [2, 1, 0, 0x16, 0x3e, 1, 2, 3]);
}

#[test]
fn addresses_that_nobody_has_are_not_announced() {
    for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
        assert_eq!(arp(OWN, address), None);
    }
    for address in ["::", "::1", "ff02::1"] {
        let address = address.parse::<std::net::Ipv6Addr>().unwrap();
        assert_eq!(advertisement(OWN, address.octets()), None);
    }
    assert_eq!(arp(Mac::BROADCAST, [192, 0, 2, 9]), None);
    assert_eq!(advertisement(Mac([1; 6]), [0x20; 16]), None);
}
