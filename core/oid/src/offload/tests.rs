//! Offloads: blocks at their offsets in every revision, and what the two objects make of them.

use super::*;
use crate::Status;
use crate::block::{TYPE_DEFAULT, put};
use core::mem::offset_of;
use windows_sys::Wdk::NetworkManagement::Ndis as ndis;

/// Everything that VIF has for a sender.
const EVERYTHING: OffloadOptions = OffloadOptions(0x00FE);

fn hardware(minor: u8) -> Hardware {
    Hardware::new(EVERYTHING, [65201, 65201], true, Revision::of_ndis(minor))
}

fn offload() -> Offload {
    Offload::new(hardware(83), &Settings::default())
}

fn parameters(fields: &[(usize, u8)]) -> Result<Parameters, Failure> {
    let mut bytes = [0; 35];
    put(&mut bytes, 0, [TYPE_DEFAULT, 6, 35, 0]);
    for (at, value) in fields {
        bytes[*at] = *value;
    }
    Parameters::parse(&bytes)
}

fn encapsulation(ipv4: [u32; 2], ipv6: [u32; 2]) -> Result<Encapsulation, Failure> {
    let mut bytes = [0; 28];
    put(&mut bytes, 0, [0xA8, 1, 28, 0]);
    for (at, [enabled, kind]) in [(4, ipv4), (16, ipv6)] {
        put(&mut bytes, at, enabled.to_le_bytes());
        put(&mut bytes, at + 4, kind.to_le_bytes());
        put(&mut bytes, at + 8, 14_u32.to_le_bytes());
    }
    Encapsulation::parse(&bytes)
}

const ON: [u32; 2] = [1, 2];
const OFF: [u32; 2] = [2, 0];
const SAME: [u32; 2] = [0, 0];

fn record(offload: &Offload) -> Vec<u8> {
    let mut out = [0; MAX_RECORD];
    let size = offload.write_current(&mut out);
    out[..size].to_vec()
}

fn word(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*record[at..].first_chunk().unwrap())
}

#[test]
fn members_lie_where_microsofts_do() {
    use ndis::NDIS_OFFLOAD as Record;
    let checksum = offset_of!(Record, Checksum);
    let member = |offset| checksum + offset;
    use ndis::NDIS_TCP_IP_CHECKSUM_OFFLOAD as Checksum;
    assert_eq!(record::TX_IPV4, member(offset_of!(Checksum, IPv4Transmit)));
    assert_eq!(record::RX_IPV4, member(offset_of!(Checksum, IPv4Receive)));
    assert_eq!(record::TX_IPV6, member(offset_of!(Checksum, IPv6Transmit)));
    assert_eq!(record::RX_IPV6, member(offset_of!(Checksum, IPv6Receive)));
    assert_eq!(record::LSO_V1, offset_of!(Record, LsoV1));
    use ndis::NDIS_TCP_LARGE_SEND_OFFLOAD_V2 as Large;
    let large = offset_of!(Record, LsoV2);
    assert_eq!(record::LSO_V2_IPV4, large + offset_of!(Large, IPv4));
    assert_eq!(record::LSO_V2_IPV6, large + offset_of!(Large, IPv6));
    assert_eq!(record::SIZES[0], size_of::<Record>());
    use ndis::NDIS_OFFLOAD_PARAMETERS as Set;
    assert_eq!(parameters::IPV4_CHECKSUM, offset_of!(Set, IPv4Checksum));
    assert_eq!(
        parameters::TCP_IPV4_CHECKSUM,
        offset_of!(Set, TCPIPv4Checksum)
    );
    assert_eq!(
        parameters::UDP_IPV4_CHECKSUM,
        offset_of!(Set, UDPIPv4Checksum)
    );
    assert_eq!(
        parameters::TCP_IPV6_CHECKSUM,
        offset_of!(Set, TCPIPv6Checksum)
    );
    assert_eq!(
        parameters::UDP_IPV6_CHECKSUM,
        offset_of!(Set, UDPIPv6Checksum)
    );
    assert_eq!(parameters::LSO_V1, offset_of!(Set, LsoV1));
    assert_eq!(parameters::IPSEC_V1, offset_of!(Set, IPsecV1));
    assert_eq!(parameters::LSO_V2_IPV4, offset_of!(Set, LsoV2IPv4));
    assert_eq!(parameters::LSO_V2_IPV6, offset_of!(Set, LsoV2IPv6));
    assert_eq!(
        parameters::TCP_CONNECTION_IPV4,
        offset_of!(Set, TcpConnectionIPv4)
    );
    assert_eq!(
        parameters::TCP_CONNECTION_IPV6,
        offset_of!(Set, TcpConnectionIPv6)
    );
    assert_eq!(parameters::FLAGS, offset_of!(Set, Flags));
    assert_eq!(parameters::SIZES[0], size_of::<Set>());
}

#[test]
fn a_record_of_each_revision_says_what_is_on() {
    for (minor, revision, size) in [
        (0, 1, 112),
        (1, 2, 144),
        (20, 2, 144),
        (30, 3, 156),
        (40, 3, 156),
        (50, 4, 177),
        (60, 4, 177),
        (70, 5, 188),
        (80, 5, 188),
        (83, 6, 216),
        (89, 6, 216),
    ] {
        let record = record(&Offload::new(hardware(minor), &Settings::default()));
        assert_eq!(record.len(), size, "6.{minor}");
        assert_eq!(record[..4], [0xA7, revision, size as u8, 0]);
        // IEEE_802_3, and with a tag beside the packet.
        assert_eq!([word(&record, 0x04), word(&record, 0x08)], [10, 0x155]);
        assert_eq!([word(&record, 0x0C), word(&record, 0x10)], [10, 0x155]);
        assert_eq!([word(&record, 0x14), word(&record, 0x18)], [10, 0x55]);
        assert_eq!([word(&record, 0x1C), word(&record, 0x20)], [10, 0x55]);
        let large: [u32; 4] = core::array::from_fn(|i| word(&record, 0x24 + 4 * i));
        assert_eq!(large, [10, 65201, 2, 5]);
        assert!(record[0x34..0x50].iter().all(|byte| *byte == 0), "no IPsec");
        let large: [u32; 7] = core::array::from_fn(|i| word(&record, 0x50 + 4 * i));
        assert_eq!(large, [10, 65201, 2, 10, 65201, 2, 5]);
        assert!(record[0x6C..size.min(0x90)].iter().all(|byte| *byte == 0));
        if revision >= 3 {
            assert_eq!(record[0x90..0x92], [1, 1]);
            assert!(record[0x92..size.min(0xBC)].iter().all(|byte| *byte == 0));
        }
        if revision >= 6 {
            let large: [u32; 7] = core::array::from_fn(|i| word(&record, 0xBC + 4 * i));
            assert_eq!(large, [10, 65507, 0x42, 10, 65507, 0x42, 1]);
        }
    }
}

#[test]
fn an_interface_that_offers_nothing_still_checks_and_coalesces() {
    let nothing = Hardware::new(OffloadOptions(1), [0, 0], false, Revision::of_ndis(83));
    assert_eq!(nothing.tasks(), Tasks::RX_CHECKSUMS | Tasks::RSC);
    let record = record(&Offload::new(nothing, &Settings::default()));
    for (at, length) in [(0x04, 8), (0x14, 8), (0x24, 0x48), (0xBC, 28)] {
        assert!(
            record[at..at + length].iter().all(|byte| *byte == 0),
            "{at:#x}"
        );
    }
}

#[test]
fn a_large_send_needs_the_option_and_a_size() {
    let tasks = |options, large| {
        let hardware = Hardware::new(OffloadOptions(options), large, false, Revision::of_ndis(30));
        (
            hardware.tasks() & (Tasks::LSO_V1 | Tasks::LSO_V2_IPV4 | Tasks::LSO_V2_IPV6),
            hardware.large,
        )
    };
    let ipv4 = Tasks::LSO_V1 | Tasks::LSO_V2_IPV4;
    assert_eq!(tasks(0x22, [0, 0]), (Tasks::NONE, 0));
    assert_eq!(tasks(0x22, [1000, 0]), (ipv4, 1000));
    assert_eq!(tasks(0x22, [0, 1000]), (Tasks::LSO_V2_IPV6, 1000));
    assert_eq!(tasks(0x02, [1000, 900]), (ipv4, 900));
    assert_eq!(tasks(0x20, [1000, 900]), (Tasks::LSO_V2_IPV6, 900));
}

#[test]
fn nothing_is_asked_for_before_it_was_started() {
    let mut offload = offload();
    assert_eq!(offload.current(), Tasks::ALL);
    assert_eq!(offload.transmit(), Tasks::NONE);
    // Tags, values, and coalesced packets with their first segment apart.
    assert_eq!(offload.receive_options().0, 0x0323);
    offload.set_encapsulation(&encapsulation(ON, SAME).unwrap());
    assert_eq!(
        offload.transmit(),
        Tasks::IPV4 & !(Tasks::RX_CHECKSUMS | Tasks::RSC)
    );
    assert_eq!(offload.receive_options().0, 0x033F);
    offload.set_encapsulation(&encapsulation(SAME, ON).unwrap());
    assert_eq!(offload.transmit(), !(Tasks::RX_CHECKSUMS | Tasks::RSC));
    assert_eq!(offload.receive_options().0, 0x03FF);
    offload.set_encapsulation(&encapsulation(OFF, OFF).unwrap());
    assert_eq!(offload.transmit(), Tasks::NONE);
    assert_eq!(offload.current(), Tasks::RSC);
    assert_eq!(offload.receive_options().0, 0x0323);
    offload.set_encapsulation(&encapsulation(ON, ON).unwrap());
    assert_eq!(offload.current(), Tasks::ALL);
}

#[test]
fn no_change_changes_nothing() {
    let mut offload = offload();
    offload.set_encapsulation(&encapsulation(ON, ON).unwrap());
    let before = offload;
    let nothing = parameters(&[]).unwrap();
    offload.set_parameters(&nothing).unwrap();
    assert_eq!(offload, before);
    let one = parameters(&[(parameters::UDP_IPV4_CHECKSUM, 1)]).unwrap();
    offload.set_parameters(&one).unwrap();
    assert_eq!(
        offload.current(),
        !(Tasks::TX_UDP_IPV4 | Tasks::RX_UDP_IPV4)
    );
    offload.set_parameters(&nothing).unwrap();
    assert_eq!(
        offload.current(),
        !(Tasks::TX_UDP_IPV4 | Tasks::RX_UDP_IPV4)
    );
}

#[test]
fn each_field_switches_its_own_in_each_of_its_values() {
    let checksums = [
        (4, Tasks::TX_IPV4, Tasks::RX_IPV4),
        (5, Tasks::TX_TCP_IPV4, Tasks::RX_TCP_IPV4),
        (6, Tasks::TX_UDP_IPV4, Tasks::RX_UDP_IPV4),
        (7, Tasks::TX_TCP_IPV6, Tasks::RX_TCP_IPV6),
        (8, Tasks::TX_UDP_IPV6, Tasks::RX_UDP_IPV6),
    ];
    for (at, transmit, receive) in checksums {
        let set = |value| parameters(&[(at, value)]).map(|set| (set.on(), set.off()));
        assert_eq!(set(0), Ok((Tasks::NONE, Tasks::NONE)));
        assert_eq!(set(1), Ok((Tasks::NONE, transmit | receive)));
        assert_eq!(set(2), Ok((transmit, receive)));
        assert_eq!(set(3), Ok((receive, transmit)));
        assert_eq!(set(4), Ok((transmit | receive, Tasks::NONE)));
        for value in 5..=255 {
            assert_eq!(set(value), Err(Failure::of(Status::INVALID_DATA)));
        }
    }
    let switches = [
        (9, Tasks::LSO_V1),
        (11, Tasks::LSO_V2_IPV4),
        (12, Tasks::LSO_V2_IPV6),
        (22, Tasks::RSC_IPV4),
        (23, Tasks::RSC_IPV6),
        (32, Tasks::USO_IPV4),
        (33, Tasks::USO_IPV6),
    ];
    for (at, task) in switches {
        let set = |value| parameters(&[(at, value)]).map(|set| (set.on(), set.off()));
        assert_eq!(set(0), Ok((Tasks::NONE, Tasks::NONE)));
        assert_eq!(set(1), Ok((Tasks::NONE, task)));
        assert_eq!(set(2), Ok((task, Tasks::NONE)));
        for value in 3..=255 {
            assert_eq!(set(value), Err(Failure::of(Status::INVALID_DATA)));
        }
    }
    // What there is not may be off, and no more. Encapsulated packets count the other way round.
    for (at, off, highest) in [
        (10, 1, 4),
        (13, 1, 2),
        (14, 1, 2),
        (20, 1, 4),
        (21, 1, 4),
        (24, 2, 2),
        (34, 1, 2),
    ] {
        for value in 0..=255 {
            let status = match value {
                0 => None,
                value if value == off => None,
                value if value > highest => Some(Status::INVALID_DATA),
                _ => Some(Status::NOT_SUPPORTED),
            };
            let found = parameters(&[(at, value)])
                .err()
                .map(|failure| failure.status);
            assert_eq!(found, status, "{at}: {value}");
        }
    }
    // Flags, types of encapsulation, a port: whatever they say.
    for at in [16, 17, 18, 19, 25, 28, 29, 30, 31] {
        assert!(parameters(&[(at, 255)]).is_ok(), "{at}");
    }
}

#[test]
fn what_the_hardware_lacks_is_refused_and_changes_nothing() {
    let options = OffloadOptions(EVERYTHING.0 & !(1 << 5 | 1 << 6));
    let hardware = Hardware::new(options, [65201, 0], true, Revision::of_ndis(60));
    let mut offload = Offload::new(hardware, &Settings::default());
    let before = offload;
    for fields in [
        &[(parameters::LSO_V2_IPV6, 2)][..],
        &[(parameters::TCP_IPV6_CHECKSUM, 2)],
        &[(parameters::USO_IPV4, 2)],
        &[
            (parameters::UDP_IPV4_CHECKSUM, 1),
            (parameters::LSO_V2_IPV6, 2),
        ],
    ] {
        let refused = offload.set_parameters(&parameters(fields).unwrap());
        assert_eq!(refused, Err(Failure::of(Status::NOT_SUPPORTED)));
        assert_eq!(offload, before);
    }
    // Both directions, of which there is one: that one.
    let both = parameters(&[(parameters::TCP_IPV6_CHECKSUM, 4)]).unwrap();
    offload.set_parameters(&both).unwrap();
    assert!(offload.current().has(Tasks::RX_TCP_IPV6));
    assert!(!offload.current().has(Tasks::TX_TCP_IPV6));
}

#[test]
fn parameters_start_what_is_sent_and_leave_received_checksums_to_the_encapsulation() {
    let mut offload = offload();
    let on = parameters(&[
        (parameters::TCP_IPV4_CHECKSUM, 4),
        (parameters::LSO_V2_IPV4, 2),
    ]);
    offload.set_parameters(&on.unwrap()).unwrap();
    assert_eq!(offload.transmit(), Tasks::TX_TCP_IPV4 | Tasks::LSO_V2_IPV4);
    assert_eq!(offload.receive_options().0, 0x0323);
    offload.set_encapsulation(&encapsulation(OFF, SAME).unwrap());
    assert_eq!(offload.transmit(), Tasks::NONE);
    offload.set_parameters(&on.unwrap()).unwrap();
    assert_eq!(offload.transmit(), Tasks::TX_TCP_IPV4 | Tasks::LSO_V2_IPV4);
}

#[test]
fn what_a_keyword_turned_off_an_object_can_turn_on() {
    let settings = Settings::read(|name| (name == "*RscIPv4").then_some(0));
    let mut offload = Offload::new(hardware(30), &settings);
    assert!(!offload.current().has(Tasks::RSC_IPV4));
    assert_eq!(offload.receive_options().0, 0x0321);
    let on = parameters(&[(parameters::RSC_IPV4, 2), (parameters::RSC_IPV6, 1)]).unwrap();
    offload.set_parameters(&on).unwrap();
    assert_eq!(offload.receive_options().0, 0x0303);
    let off = parameters(&[(parameters::RSC_IPV4, 1)]).unwrap();
    offload.set_parameters(&off).unwrap();
    assert_eq!(offload.receive_options().0, 0x0101, "nothing to cut");
}

#[test]
fn another_backend_takes_away_and_gives_back() {
    let mut offload = offload();
    offload.set_encapsulation(&encapsulation(ON, ON).unwrap());
    let poor = Hardware::new(OffloadOptions(0), [0, 0], true, Revision::of_ndis(83));
    assert!(offload.set_hardware(poor));
    assert!(!offload.set_hardware(poor));
    assert_eq!(offload.transmit(), Tasks::USO_IPV4 | Tasks::USO_IPV6);
    assert!(offload.set_hardware(hardware(83)));
    assert_eq!(offload.current(), Tasks::ALL);
    assert!(offload.transmit().has(Tasks::LSO_V2_IPV6));
}

#[test]
fn only_ethernet_frames_are_offloaded() {
    for kind in 0..32 {
        let found = encapsulation([1, kind], SAME);
        let good = [2, 6, 10, 14].contains(&kind);
        match found {
            Ok(found) => assert!(good && found.ipv4 == Switch::On),
            Err(failure) => assert!(!good && failure.status == Status::INVALID_PARAMETER),
        }
        // Where nothing is switched on, the type says nothing.
        assert!(encapsulation([2, kind], [0, kind]).is_ok());
    }
    let failure = encapsulation(SAME, [3, 2]).unwrap_err();
    assert_eq!(failure.status, Status::INVALID_DATA);
}

#[test]
fn without_tags_beside_packets_there_is_one_encapsulation() {
    let settings = Settings::read(|name| (name == "*PriorityVLANTag").then_some(0));
    let record = record(&Offload::new(hardware(83), &settings));
    for at in [0x04, 0x0C, 0x14, 0x1C, 0x24, 0x50, 0x5C, 0xBC, 0xC8] {
        assert_eq!(word(&record, at), 2, "{at:#x}");
    }
}
