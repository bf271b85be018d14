//! What has been sent and received, as NDIS counts it: sums of VIF's counters, in 64 bits.

use crate::block::{TYPE_DEFAULT, begin, put, room};
use crate::status::Failure;
use pv_interfaces::vif::Statistic::{self, *};

/// `NDIS_SIZEOF_STATISTICS_INFO_REVISION_1` (ntddndis.h): header, SupportedStatistics, 18 numbers.
pub(crate) const INFO: usize = 152;
/// Where SupportedStatistics is.
const SUPPORTED: usize = 4;

/// All `NDIS_STATISTICS_FLAGS_VALID_*` (ntddndis.h): of receiving frames 0x7, octets 0x8, discards 0x10, errors 0x20; of
/// sending frames 0x1C0, octets 0x200, errors 0x400, discards 0x8000; octets by class 0x3F0000.
const VALID: u32 = 0x003F_87FF;

/// The numbers of `NDIS_STATISTICS_INFO` from offset 8 on, in its order, each a sum of counters.
const FIELDS: [&[Statistic]; 18] = [
    // ifInDiscards, ifInErrors
    &[ReceiverPacketsDropped],
    RCV_ERROR,
    // ifHCInOctets, then packets: unicast, multicast, broadcast
    &[
        ReceiverUnicastOctets,
        ReceiverMulticastOctets,
        ReceiverBroadcastOctets,
    ],
    &[ReceiverUnicastPackets],
    &[ReceiverMulticastPackets],
    &[ReceiverBroadcastPackets],
    // ifHCOutOctets, then packets
    &[
        TransmitterUnicastOctets,
        TransmitterMulticastOctets,
        TransmitterBroadcastOctets,
    ],
    &[TransmitterUnicastPackets],
    &[TransmitterMulticastPackets],
    &[TransmitterBroadcastPackets],
    // ifOutErrors, ifOutDiscards
    XMIT_ERROR,
    &[TransmitterPacketsDropped],
    // Octets received, octets sent: unicast, multicast, broadcast
    &[ReceiverUnicastOctets],
    &[ReceiverMulticastOctets],
    &[ReceiverBroadcastOctets],
    &[TransmitterUnicastOctets],
    &[TransmitterMulticastOctets],
    &[TransmitterBroadcastOctets],
];

/// OID_GEN_XMIT_OK.
pub(crate) const XMIT_OK: &[Statistic] = &[
    TransmitterUnicastPackets,
    TransmitterMulticastPackets,
    TransmitterBroadcastPackets,
];
/// OID_GEN_RCV_OK.
pub(crate) const RCV_OK: &[Statistic] = &[
    ReceiverUnicastPackets,
    ReceiverMulticastPackets,
    ReceiverBroadcastPackets,
];
/// OID_GEN_XMIT_ERROR.
pub(crate) const XMIT_ERROR: &[Statistic] = &[TransmitterBackendErrors, TransmitterFrontendErrors];
/// OID_GEN_RCV_ERROR.
pub(crate) const RCV_ERROR: &[Statistic] = &[ReceiverBackendErrors, ReceiverFrontendErrors];

/// `NDIS_STATISTICS_*_SUPPORTED` (ndis.h), for the general attributes: everything that is counted here.
pub const SUPPORTED_STATISTICS: u32 = 0x1 // XMIT_OK
    | 0x2 // RCV_OK
    | 0x4 // XMIT_ERROR
    | 0x8 // RCV_ERROR
    | 0x07E0 // bytes and frames sent, by class
    | 0x0001_F800 // bytes and frames received, by class
    | 0x0040_0000; // GEN_STATISTICS

/// What receive segment coalescing has done (Learn, "OID_TCP_RSC_STATISTICS").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coalescing {
    /// Segments that became part of a larger packet.
    pub packets: u64,
    /// Bytes of TCP's payload in them.
    pub octets: u64,
    /// Larger packets.
    pub events: u64,
    /// Segments that could not become part of one.
    pub aborts: u64,
}

/// `NDIS_SIZEOF_RSC_STATISTICS_REVISION_1` (ntddndis.h): header, four numbers from offset 8 on.
const COALESCING: usize = 40;

impl Coalescing {
    pub(crate) fn write(&self, out: &mut [u8]) -> Result<usize, Failure> {
        let numbers = [self.packets, self.octets, self.events, self.aborts];
        let out = room(out, COALESCING)?;
        begin(out, TYPE_DEFAULT, 1);
        for (number, at) in numbers.iter().zip((8..).step_by(8)) {
            put(out, at, number.to_le_bytes());
        }
        Ok(COALESCING)
    }
}

/// A sum of counters.
pub(crate) fn sum(counters: &[Statistic], counter: &dyn Fn(Statistic) -> u64) -> u64 {
    counters
        .iter()
        .fold(0, |sum, statistic| counter(*statistic).wrapping_add(sum))
}

/// Answers OID_GEN_STATISTICS.
pub(crate) fn write(out: &mut [u8], counter: &dyn Fn(Statistic) -> u64) -> Result<usize, Failure> {
    let out = room(out, INFO)?;
    begin(out, TYPE_DEFAULT, 1);
    put(out, SUPPORTED, VALID.to_le_bytes());
    for (counters, at) in FIELDS.iter().zip((8..).step_by(8)) {
        put(out, at, sum(counters, counter).to_le_bytes());
    }
    Ok(INFO)
}
