//! Answers to queries.
//!
//! A buffer that is too small gets nothing and is told the length that would do; what is behind an answer is left as it
//! is. A counter has 64 bits, and its lower 32 where there is room for no more (Learn, "General Statistics OIDs").

use crate::Status;
use crate::block::{TYPE_DEFAULT, begin, put, room};
use crate::filter::{ADDRESS, Filter, MAX_MULTICAST};
use crate::number::*;
use crate::rss;
use crate::statistics::{self, Coalescing, RCV_ERROR, RCV_OK, XMIT_ERROR, XMIT_OK};
use crate::status::{Failure, NOT_SUPPORTED};
use crate::vlan::{TAG, Tagging};
use pv_interfaces::vif::{EthernetAddress, Statistic};

/// `NdisMedium802_3` (ntddndis.h).
pub const MEDIUM: u32 = 0;
/// `NdisPhysicalMedium802_3`.
pub const PHYSICAL_MEDIUM: u32 = 14;
/// Packets in a call: what a driver of NDIS 6 says has no effect.
pub const MAXIMUM_SEND_PACKETS: u32 = 16;
/// The vendor's number, as of all of Xen's PV drivers: "XS".
pub const VENDOR_ID: u32 = 0x5853;
/// An Ethernet header, in bytes.
pub const ETHERNET_HEADER: u32 = 14;

/// `NDIS_MAC_OPTION_*` (ntddndis.h): COPY_LOOKAHEAD_DATA, TRANSFERS_NOT_PEND, NO_LOOPBACK,
/// SUPPORTS_MAC_ADDRESS_OVERWRITE.
const MAC_OPTIONS: u32 = 0x1 | 0x4 | 0x8 | 0x80;
/// `NDIS_MAC_OPTION_8021P_PRIORITY`.
const PRIORITY: u32 = 0x40;
/// `NDIS_MAC_OPTION_8021Q_VLAN`.
const VLAN: u32 = 0x200;

/// `NdisMediaStateConnected` (ntddndis.h), `NdisMediaStateDisconnected`.
const CONNECTED: u32 = 0;
const DISCONNECTED: u32 = 1;

/// `NDIS_INTERRUPT_MODERATION_PARAMETERS` (ntddndis.h): header, Flags at 4, InterruptModeration at 8.
pub(crate) const MODERATION: usize = 12;
const MODERATION_STATE: usize = 8;
/// `NdisInterruptModerationNotSupported`: an event channel has nothing to set.
const MODERATION_NOT_SUPPORTED: u32 = 1;

/// `NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2` (ntddndis.h). All of it is 0: the adapter wakes nobody.
const PM_CAPABILITIES: usize = 60;

/// A version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Version {
    pub major: u8,
    pub minor: u8,
}

/// What there is to know about an adapter.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Bytes of a frame with Ethernet header and tag, without checksum, at most.
    pub maximum_frame: u32,
    /// Slots of the rings.
    pub transmit_ring: u32,
    #[allow(missing_docs)]
    pub receive_ring: u32,
    /// Whether the link is up.
    pub connected: bool,
    /// The version of NDIS that the driver registered with.
    pub ndis: Version,
    /// The driver's own.
    pub driver: Version,
    /// Who made it, without a zero.
    pub vendor: &'a str,
    /// The address it was made with.
    pub permanent_address: EthernetAddress,
    /// The address it has.
    pub current_address: EthernetAddress,
    /// What OID_GEN_CURRENT_LOOKAHEAD set, or the maximum.
    pub lookahead: u32,
    /// What is received.
    pub filter: Filter,
    /// What is on the multicast list.
    pub multicast: &'a [EthernetAddress],
    /// How tags are treated.
    pub tagging: Tagging,
    /// How received packets are hashed; `None` if they cannot be.
    pub hash: Option<&'a rss::State>,
    /// What was coalesced.
    pub coalescing: Coalescing,
    /// A counter of VIF.
    pub counter: &'a dyn Fn(Statistic) -> u64,
}

/// The MAC options of an adapter, for the general attributes too.
pub fn mac_options(tagging: &Tagging) -> u32 {
    let (priority, vlan) = tagging.serves();
    MAC_OPTIONS | if priority { PRIORITY } else { 0 } | if vlan { VLAN } else { 0 }
}

/// An object that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query(u32);

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `BytesWritten`.
    pub written: usize,
    /// `BytesNeeded`: more than was written where the answer is the lower half of a counter.
    pub needed: usize,
}

/// The objects that are for setting, and what NDIS answers by itself.
const SET_ONLY: [u32; 6] = [
    OID_GEN_RECEIVE_SCALE_PARAMETERS,
    OID_GEN_LINK_PARAMETERS,
    OID_OFFLOAD_ENCAPSULATION,
    OID_TCP_OFFLOAD_PARAMETERS,
    OID_PNP_SET_POWER,
    OID_PM_PARAMETERS,
];

impl Query {
    pub(crate) fn new(oid: u32) -> Option<Self> {
        let known = name(oid).is_some() && !SET_ONLY.contains(&oid);
        known.then_some(Self(oid))
    }

    /// Writes the answer.
    pub fn answer(self, facts: &Facts<'_>, out: &mut [u8]) -> Result<Answer, Failure> {
        let written = match self.value(facts) {
            Value::Number(number) => {
                put(room(out, 4)?, 0, number.to_le_bytes());
                4
            }
            Value::Short(number) => {
                put(room(out, 2)?, 0, number.to_le_bytes());
                2
            }
            Value::Counter(number) => {
                let bytes = number.to_le_bytes();
                let [b0, b1, b2, b3, ..] = bytes;
                let written = if out.len() < bytes.len() { 4 } else { 8 };
                match written {
                    8 => put(out, 0, bytes),
                    _ => put(
                        room(out, 4).map_err(|_| Failure::too_short(8))?,
                        0,
                        [b0, b1, b2, b3],
                    ),
                }
                return Ok(Answer { written, needed: 8 });
            }
            Value::Numbers(numbers) => {
                let room = room(out, numbers.len() * 4)?;
                for (place, number) in room.as_chunks_mut().0.iter_mut().zip(numbers) {
                    *place = number.to_le_bytes();
                }
                numbers.len() * 4
            }
            Value::Text(text) => {
                let room = room(out, text.len() + 1)?;
                let bytes = text.bytes().chain([0]);
                room.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                text.len() + 1
            }
            Value::Addresses(addresses) => {
                let room = room(out, addresses.len() * ADDRESS)?;
                for (place, address) in room.as_chunks_mut().0.iter_mut().zip(addresses) {
                    *place = address.0;
                }
                addresses.len() * ADDRESS
            }
            Value::Address(address) => {
                put(room(out, ADDRESS)?, 0, address.0);
                ADDRESS
            }
            Value::Statistics => statistics::write(out, facts.counter)?,
            Value::Coalescing => facts.coalescing.write(out)?,
            Value::Hash => facts.hash.ok_or(NOT_SUPPORTED)?.answer(out)?,
            Value::Moderation => {
                let out = room(out, MODERATION)?;
                begin(out, TYPE_DEFAULT, 1);
                put(
                    out,
                    MODERATION_STATE,
                    MODERATION_NOT_SUPPORTED.to_le_bytes(),
                );
                MODERATION
            }
            Value::PowerCapabilities => {
                begin(room(out, PM_CAPABILITIES)?, TYPE_DEFAULT, 2);
                PM_CAPABILITIES
            }
            // The state that is asked about comes in the buffer; every one is welcome.
            Value::Nothing => {
                room(out, 4)?;
                0
            }
            Value::Unknown => return Err(Failure::of(Status::NOT_SUPPORTED)),
        };
        Ok(Answer {
            written,
            needed: written,
        })
    }

    fn value<'a>(self, facts: &Facts<'a>) -> Value<'a> {
        let counter = |statistic| Value::Counter((facts.counter)(statistic));
        let sum = |counters| Value::Counter(statistics::sum(counters, facts.counter));
        let mtu = facts.maximum_frame.saturating_sub(ETHERNET_HEADER + TAG);
        let space = |slots: u32| Value::Number(slots.saturating_mul(facts.maximum_frame));
        match self.0 {
            OID_GEN_SUPPORTED_LIST => Value::Numbers(supported(facts.hash.is_some())),
            // NdisHardwareStatusReady
            OID_GEN_HARDWARE_STATUS => Value::Number(0),
            OID_GEN_MEDIA_SUPPORTED | OID_GEN_MEDIA_IN_USE => Value::Number(MEDIUM),
            OID_GEN_PHYSICAL_MEDIUM | OID_GEN_PHYSICAL_MEDIUM_EX => Value::Number(PHYSICAL_MEDIUM),
            OID_GEN_CURRENT_LOOKAHEAD => Value::Number(facts.lookahead),
            OID_GEN_MAXIMUM_LOOKAHEAD
            | OID_GEN_RECEIVE_BLOCK_SIZE
            | OID_GEN_TRANSMIT_BLOCK_SIZE => Value::Number(facts.maximum_frame),
            OID_GEN_MAXIMUM_FRAME_SIZE => Value::Number(mtu),
            OID_GEN_MAXIMUM_TOTAL_SIZE => Value::Number(mtu.saturating_add(ETHERNET_HEADER)),
            OID_GEN_TRANSMIT_BUFFER_SPACE => space(facts.transmit_ring),
            OID_GEN_RECEIVE_BUFFER_SPACE => space(facts.receive_ring),
            OID_GEN_MAC_OPTIONS => Value::Number(mac_options(&facts.tagging)),
            OID_GEN_MEDIA_CONNECT_STATUS => Value::Number(match facts.connected {
                true => CONNECTED,
                false => DISCONNECTED,
            }),
            OID_GEN_VENDOR_DESCRIPTION => Value::Text(facts.vendor),
            OID_GEN_VENDOR_DRIVER_VERSION => {
                Value::Number(u32::from(facts.driver.major) << 16 | u32::from(facts.driver.minor))
            }
            OID_GEN_DRIVER_VERSION => {
                Value::Short(u16::from_be_bytes([facts.ndis.major, facts.ndis.minor]))
            }
            OID_GEN_MAXIMUM_SEND_PACKETS => Value::Number(MAXIMUM_SEND_PACKETS),
            OID_GEN_VENDOR_ID => Value::Number(VENDOR_ID),
            OID_GEN_CURRENT_PACKET_FILTER => Value::Number(facts.filter.bits()),
            OID_GEN_XMIT_OK => sum(XMIT_OK),
            OID_GEN_RCV_OK => sum(RCV_OK),
            OID_GEN_XMIT_ERROR => sum(XMIT_ERROR),
            OID_GEN_RCV_ERROR => sum(RCV_ERROR),
            // A virtual wire has no collisions, and checks no frames.
            OID_GEN_RCV_CRC_ERROR
            | OID_GEN_RCV_NO_BUFFER
            | OID_802_3_RCV_ERROR_ALIGNMENT
            | OID_802_3_XMIT_ONE_COLLISION
            | OID_802_3_XMIT_MORE_COLLISIONS => Value::Counter(0),
            OID_GEN_TRANSMIT_QUEUE_LENGTH => Value::Number(0),
            OID_GEN_STATISTICS => Value::Statistics,
            OID_GEN_DIRECTED_BYTES_XMIT => counter(Statistic::TransmitterUnicastOctets),
            OID_GEN_DIRECTED_FRAMES_XMIT => counter(Statistic::TransmitterUnicastPackets),
            OID_GEN_MULTICAST_BYTES_XMIT => counter(Statistic::TransmitterMulticastOctets),
            OID_GEN_MULTICAST_FRAMES_XMIT => counter(Statistic::TransmitterMulticastPackets),
            OID_GEN_BROADCAST_BYTES_XMIT => counter(Statistic::TransmitterBroadcastOctets),
            OID_GEN_BROADCAST_FRAMES_XMIT => counter(Statistic::TransmitterBroadcastPackets),
            OID_GEN_DIRECTED_BYTES_RCV => counter(Statistic::ReceiverUnicastOctets),
            OID_GEN_DIRECTED_FRAMES_RCV => counter(Statistic::ReceiverUnicastPackets),
            OID_GEN_MULTICAST_BYTES_RCV => counter(Statistic::ReceiverMulticastOctets),
            OID_GEN_MULTICAST_FRAMES_RCV => counter(Statistic::ReceiverMulticastPackets),
            OID_GEN_BROADCAST_BYTES_RCV => counter(Statistic::ReceiverBroadcastOctets),
            OID_GEN_BROADCAST_FRAMES_RCV => counter(Statistic::ReceiverBroadcastPackets),
            OID_GEN_INTERRUPT_MODERATION => Value::Moderation,
            OID_GEN_VLAN_ID => Value::Number(facts.tagging.id().into()),
            OID_GEN_RECEIVE_HASH => Value::Hash,
            OID_TCP_RSC_STATISTICS => Value::Coalescing,
            OID_802_3_PERMANENT_ADDRESS => Value::Address(facts.permanent_address),
            OID_802_3_CURRENT_ADDRESS => Value::Address(facts.current_address),
            OID_802_3_MULTICAST_LIST => Value::Addresses(facts.multicast),
            OID_802_3_MAXIMUM_LIST_SIZE => Value::Number(MAX_MULTICAST as u32),
            OID_PM_CURRENT_CAPABILITIES => Value::PowerCapabilities,
            OID_PNP_QUERY_POWER => Value::Nothing,
            _ => Value::Unknown,
        }
    }
}

enum Value<'a> {
    Number(u32),
    Short(u16),
    Counter(u64),
    Numbers(&'a [u32]),
    Text(&'a str),
    Address(EthernetAddress),
    Addresses(&'a [EthernetAddress]),
    Statistics,
    Coalescing,
    Hash,
    Moderation,
    PowerCapabilities,
    Nothing,
    Unknown,
}
