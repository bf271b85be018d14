//! `NDIS_OFFLOAD` (ntddndis.h): offloads as NDIS is told of them, in the attributes and when they change.

use super::Hardware;
use super::encapsulation::{IEEE_802_3, TAGGED_OUT_OF_BAND};
use crate::block::{TYPE_OFFLOAD, begin, put};
use crate::tasks::Tasks;

// Offsets (ntddndis.h of the WDK; up to revision 3 also mingw-w64's). Members that stay 0 are not named: IPsec, flags,
// encapsulated packets, 464XLAT, UDP coalescing.
pub(crate) const TX_IPV4: usize = 0x04;
pub(crate) const RX_IPV4: usize = 0x0C;
pub(crate) const TX_IPV6: usize = 0x14;
pub(crate) const RX_IPV6: usize = 0x1C;
pub(crate) const LSO_V1: usize = 0x24;
pub(crate) const LSO_V2_IPV4: usize = 0x50;
pub(crate) const LSO_V2_IPV6: usize = 0x5C;
pub(crate) const RSC_IPV4: usize = 0x90;
pub(crate) const RSC_IPV6: usize = 0x91;
pub(crate) const USO_IPV4: usize = 0xBC;
pub(crate) const USO_IPV6: usize = 0xC8;

/// `NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_1` (NDIS 6.0), _2 (6.1), _3 (6.30), _4 (6.50), _5 (6.70), _6 (6.83).
pub(crate) const SIZES: [usize; 6] = [0x70, 0x90, 0x9C, 0xB1, 0xBC, 0xD8];

/// Bytes of the longest.
pub const MAX_RECORD: usize = 0xD8;

/// Which of its revisions NDIS gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(u8);

impl Revision {
    /// The newest that NDIS 6.`minor` knows.
    pub const fn of_ndis(minor: u8) -> Self {
        Self(match minor {
            0 => 1,
            1..30 => 2,
            30..50 => 3,
            50..70 => 4,
            70..83 => 5,
            _ => 6,
        })
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its length in bytes.
    pub const fn size(self) -> usize {
        let [first, second, third, fourth, fifth, sixth] = SIZES;
        match self.0 {
            1 => first,
            2 => second,
            3 => third,
            4 => fourth,
            5 => fifth,
            _ => sixth,
        }
    }

    /// Whether it has members for UDP segmentation.
    pub(super) const fn has_udp_segmentation(self) -> bool {
        self.0 >= 6
    }

    const fn has_coalescing(self) -> bool {
        self.0 >= 3
    }
}

/// `NDIS_OFFLOAD_SUPPORTED` in the fields of two bits of a checksum's word: options of IP, of TCP, then checksums.
const IP_OPTIONS: u32 = 1;
const TCP_OPTIONS: u32 = 1 << 2;
const TCP: u32 = 1 << 4;
const UDP: u32 = 1 << 6;
const IP: u32 = 1 << 8;
/// In a large send's word, the first bits of which are TCP's in version 1 and IP's in version 2.
const BOTH_OPTIONS: u32 = 1 | 1 << 2;
/// A packet is cut into two segments at least.
const MIN_SEGMENTS: u32 = 2;
/// In the word of UDP segmentation: the last segment may be shorter (bit 6, behind MinSegmentCount).
const SHORT_LAST_SEGMENT: u32 = 1 << 6;

/// A block that is written.
struct Record<'a> {
    out: &'a mut [u8],
    encapsulation: u32,
}

impl Record<'_> {
    /// An encapsulation, and the words behind it.
    fn words<const N: usize>(&mut self, at: usize, words: [u32; N]) {
        put(self.out, at, self.encapsulation.to_le_bytes());
        for (word, at) in words.iter().zip((at + 4..).step_by(4)) {
            put(self.out, at, word.to_le_bytes());
        }
    }
}

pub(super) fn write(
    hardware: &Hardware,
    tasks: Tasks,
    tags: bool,
    out: &mut [u8; MAX_RECORD],
) -> usize {
    let revision = hardware.revision;
    let size = revision.size();
    let Some(out) = out.get_mut(..size) else {
        return 0;
    };
    begin(out, TYPE_OFFLOAD, revision.number());
    let mut record = Record {
        out,
        encapsulation: match tags {
            true => IEEE_802_3 | TAGGED_OUT_OF_BAND,
            false => IEEE_802_3,
        },
    };
    let when = |task, bits: u32| if tasks.has(task) { bits } else { 0 };
    let tx_ipv4 = when(Tasks::TX_IPV4, IP | IP_OPTIONS)
        | when(Tasks::TX_TCP_IPV4, TCP | TCP_OPTIONS)
        | when(Tasks::TX_UDP_IPV4, UDP);
    let rx_ipv4 = when(Tasks::RX_IPV4, IP | IP_OPTIONS)
        | when(Tasks::RX_TCP_IPV4, TCP | TCP_OPTIONS)
        | when(Tasks::RX_UDP_IPV4, UDP);
    // What is options in IPv4's word is extension headers in IPv6's.
    let tx_ipv6 = when(Tasks::TX_TCP_IPV6, TCP | TCP_OPTIONS | IP_OPTIONS)
        | when(Tasks::TX_UDP_IPV6, UDP | IP_OPTIONS);
    let rx_ipv6 = when(Tasks::RX_TCP_IPV6, TCP | TCP_OPTIONS | IP_OPTIONS)
        | when(Tasks::RX_UDP_IPV6, UDP | IP_OPTIONS);
    for (at, bits) in [
        (TX_IPV4, tx_ipv4),
        (RX_IPV4, rx_ipv4),
        (TX_IPV6, tx_ipv6),
        (RX_IPV6, rx_ipv6),
    ] {
        if bits != 0 {
            record.words(at, [bits]);
        }
    }
    if tasks.has(Tasks::LSO_V1) {
        record.words(LSO_V1, [hardware.large, MIN_SEGMENTS, BOTH_OPTIONS]);
    }
    if tasks.has(Tasks::LSO_V2_IPV4) {
        record.words(LSO_V2_IPV4, [hardware.large, MIN_SEGMENTS]);
    }
    if tasks.has(Tasks::LSO_V2_IPV6) {
        record.words(LSO_V2_IPV6, [hardware.large, MIN_SEGMENTS, BOTH_OPTIONS]);
    }
    if revision.has_coalescing() {
        put(record.out, RSC_IPV4, [tasks.has(Tasks::RSC_IPV4).into()]);
        put(record.out, RSC_IPV6, [tasks.has(Tasks::RSC_IPV6).into()]);
    }
    let udp = MIN_SEGMENTS | SHORT_LAST_SEGMENT;
    if tasks.has(Tasks::USO_IPV4) {
        record.words(USO_IPV4, [hardware.udp, udp]);
    }
    if tasks.has(Tasks::USO_IPV6) {
        record.words(USO_IPV6, [hardware.udp, udp, IP_OPTIONS]);
    }
    size
}
