//! Frames that tell a network where an address is now, sent after a migration.
//!
//! ```text
//!   ARP request (RFC 826, RFC 5227 section 3: "announcement")    sender = target = the address, to all stations
//!   neighbour advertisement (RFC 4861 sections 4.4, 7.2.6)       override, with the link-layer address, to all nodes
//! ```

use crate::checksum::Sum;
use crate::ethernet::{IPV6, Kind, MIN_FRAME, Mac};

/// Bytes of a neighbour advertisement: Ethernet, IPv6, ICMPv6 with one option.
pub const ADVERTISEMENT: usize = 14 + 40 + 32;

const ARP: u16 = 0x0806;
const ICMPV6: u8 = 58;
/// ICMPv6's type of a neighbour advertisement.
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Its flag: what is known of the address is to be replaced.
const OVERRIDE: u32 = 0x2000_0000;
/// RFC 4861 section 4.6.1: type and length, in units of 8 bytes, of the target link-layer address.
const TARGET_ADDRESS: [u8; 2] = [2, 1];
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// Parts laid one behind the other; what is left stays zero.
fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut frame = [0; N];
    for (to, from) in frame.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
    frame
}

/// A gratuitous ARP, padded; `None` if no station can have this address, or not this MAC address.
pub fn arp(mac: Mac, address: [u8; 4]) -> Option<[u8; MIN_FRAME]> {
    let nobody = matches!(address[0], 0 | 127 | 224..);
    (!nobody && mac.kind() == Kind::Unicast).then(|| {
        join(&[
            &Mac::BROADCAST.0,
            &mac.0,
            &ARP.to_be_bytes(),
            // Ethernet, IPv4, their addresses' lengths, request.
            &[0, 1, 8, 0, 6, 4, 0, 1],
            &mac.0,
            &address,
            &Mac::BROADCAST.0,
            &address,
        ])
    })
}

/// An unsolicited neighbour advertisement; `None` if no station can have this address, or not this MAC address.
pub fn advertisement(mac: Mac, address: [u8; 16]) -> Option<[u8; ADVERTISEMENT]> {
    let nobody = address[0] == 0xff || u128::from_be_bytes(address) <= 1;
    if nobody || mac.kind() != Kind::Unicast {
        return None;
    }
    let message = |checksum: u16| -> [u8; 32] {
        join(&[
            &[NEIGHBOUR_ADVERTISEMENT, 0],
            &checksum.to_be_bytes(),
            &OVERRIDE.to_be_bytes(),
            &address,
            &TARGET_ADDRESS,
            &mac.0,
        ])
    };
    // The pseudo-header (RFC 8200 section 8.1), then the message with no checksum in it.
    let mut sum = Sum::default();
    sum.add(&address);
    sum.add(&ALL_NODES);
    sum.add(&[0, 0, 0, 32, 0, 0, 0, ICMPV6]);
    sum.add(&message(0));
    Some(join(&[
        &ALL_NODES_MAC.0,
        &mac.0,
        &IPV6.to_be_bytes(),
        // Version 6, a payload of 32 bytes, a hop limit that no router can have lowered (RFC 4861 section 7.1.2).
        &[0x60, 0, 0, 0, 0, 32, ICMPV6, 255],
        &address,
        &ALL_NODES,
        &message(sum.checksum()),
    ]))
}
