//! NDIS' parameter blocks as bytes, for set requests: second readings of their layouts, byte by byte.

use alloc::vec::Vec;

use crate::version;

/// What OID_TCP_OFFLOAD_PARAMETERS can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// IPv4 header checksums.
    Ip4Checksum,
    /// TCP checksums over IPv4.
    Tcp4Checksum,
    /// UDP checksums over IPv4.
    Udp4Checksum,
    /// TCP checksums over IPv6.
    Tcp6Checksum,
    /// UDP checksums over IPv6.
    Udp6Checksum,
    /// Large sends version 1.
    LsoV1,
    /// Large sends version 2 over IPv4.
    LsoV2v4,
    /// Large sends version 2 over IPv6.
    LsoV2v6,
    /// Coalescing over IPv4.
    Rscv4,
    /// Coalescing over IPv6.
    Rscv6,
    /// UDP segmentation over IPv4.
    Usov4,
    /// UDP segmentation over IPv6.
    Usov6,
}

impl Feature {
    /// Its byte in NDIS_OFFLOAD_PARAMETERS (ntddndis.h).
    fn place(self) -> usize {
        match self {
            Self::Ip4Checksum => 4,
            Self::Tcp4Checksum => 5,
            Self::Udp4Checksum => 6,
            Self::Tcp6Checksum => 7,
            Self::Udp6Checksum => 8,
            Self::LsoV1 => 9,
            Self::LsoV2v4 => 11,
            Self::LsoV2v6 => 12,
            Self::Rscv4 => 22,
            Self::Rscv6 => 23,
            Self::Usov4 => 32,
            Self::Usov6 => 33,
        }
    }
}

fn header(kind: u8, revision: u8, size: usize) -> [u8; 4] {
    let size = (size as u16).to_le_bytes();
    [kind, revision, size[0], size[1]]
}

/// NDIS_OFFLOAD_PARAMETERS of the version that is played. Checksums: 1 off, 2 sends, 3 receives, 4 both; all others: 1 off,
/// 2 on. What is not named stays as it is.
pub fn offload_parameters(changes: &[(Feature, u8)]) -> Vec<u8> {
    let (revision, size, room) = match version::minor() {
        ..50 => (3, 26, 28),
        50..83 => (4, 32, 32),
        _ => (5, 34, 36),
    };
    let mut bytes = alloc::vec![0; room];
    bytes[..4].copy_from_slice(&header(0x80, revision, size));
    for &(feature, value) in changes {
        if let Some(byte) = bytes.get_mut(feature.place()) {
            *byte = value;
        }
    }
    bytes
}

/// NDIS_OFFLOAD_ENCAPSULATION: Ethernet frames, IPv4 and IPv6.
pub fn encapsulation() -> Vec<u8> {
    let mut bytes = header(0xA8, 1, 28).to_vec();
    for _ in 0..2 {
        // Enabled: NDIS_OFFLOAD_SET_ON. EncapsulationType: NDIS_ENCAPSULATION_IEEE_802_3. HeaderSize.
        for word in [1u32, 2, 14] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes
}

/// Bytes of NDIS_RECEIVE_SCALE_PARAMETERS, and its revision.
fn scale_header() -> (u8, usize) {
    match version::minor() {
        ..60 => (2, 40),
        _ => (3, 44),
    }
}

/// NDIS_RECEIVE_SCALE_PARAMETERS: Toeplitz with a key, types (NDIS_HASH_*), and a table of processors' numbers.
pub fn rss(key: &[u8], table: &[u8], kinds: u32) -> Vec<u8> {
    let (revision, size) = scale_header();
    let mut bytes = header(0x89, revision, size).to_vec();
    bytes.resize(size, 0);
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    // NdisHashFunctionToeplitz is 1.
    put(8, &(kinds | 1).to_le_bytes());
    // A PROCESSOR_NUMBER has 4 bytes: group, number, reserved.
    put(12, &((table.len() * 4) as u16).to_le_bytes());
    put(16, &(size as u32).to_le_bytes());
    put(20, &(key.len() as u16).to_le_bytes());
    put(24, &((size + table.len() * 4) as u32).to_le_bytes());
    for &number in table {
        bytes.extend([0, 0, number, 0]);
    }
    bytes.extend(key);
    bytes
}

/// NDIS_RECEIVE_SCALE_PARAMETERS that end RSS.
pub fn rss_off() -> Vec<u8> {
    let (revision, size) = scale_header();
    let mut bytes = header(0x89, revision, size).to_vec();
    bytes.resize(size, 0);
    // NDIS_RSS_PARAM_FLAG_DISABLE_RSS.
    bytes[4] = 0x10;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;
    use nt_sys::ndis::*;

    #[test]
    fn places_are_those_of_the_declarations() {
        for (feature, place) in [
            (
                Feature::Ip4Checksum,
                offset_of!(NDIS_OFFLOAD_PARAMETERS, IPv4Checksum),
            ),
            (Feature::LsoV1, offset_of!(NDIS_OFFLOAD_PARAMETERS, LsoV1)),
            (
                Feature::LsoV2v4,
                offset_of!(NDIS_OFFLOAD_PARAMETERS, LsoV2IPv4),
            ),
            (Feature::Rscv6, offset_of!(NDIS_OFFLOAD_PARAMETERS, RscIPv6)),
            (
                Feature::Usov6,
                offset_of!(NDIS_OFFLOAD_PARAMETERS, UdpSegmentationIPv6),
            ),
        ] {
            assert_eq!(feature.place(), place, "{feature:?}");
        }
        let bytes = offload_parameters(&[(Feature::Usov4, 2)]);
        assert_eq!((bytes.len(), bytes[32]), (36, 2));
        assert_eq!(encapsulation().len(), 28);
        let table = [0, 1, 0, 1];
        let bytes = rss(&[7; 40], &table, NDIS_HASH_TCP_IPV4);
        assert_eq!(bytes.len(), 44 + 16 + 40);
        assert_eq!(bytes[44..52], [0, 0, 0, 0, 0, 0, 1, 0]);
    }
}
