//! What the methods and the callback of VIF carry. Layouts are those of C on x64.

use crate::Boolean;
use core::ffi::c_void;
use core::mem::offset_of;

crate::opaque! {
    /// `MDL`: the memory of a packet, or of a part of it.
    Mdl
}

/// XENVIF_VIF_CALLBACK_TYPE: a packet that was queued for transmission is the client's again.
pub const TYPE_RETURN_PACKET: u32 = 0;
/// XENVIF_VIF_CALLBACK_TYPE: a packet was received, and is lent to the client.
pub const TYPE_QUEUE_PACKET: u32 = 1;
/// XENVIF_VIF_CALLBACK_TYPE: MacQueryState may have something new to say. No parameters: the pointer may be null.
pub const TYPE_MAC_STATE_CHANGE: u32 = 2;

/// XENVIF_PACKET_HASH_ALGORITHM: there is no hash.
pub const HASH_ALGORITHM_NONE: u32 = 0;
/// XENVIF_PACKET_HASH_ALGORITHM: a number by which packets of one flow can be told from others.
pub const HASH_ALGORITHM_UNSPECIFIED: u32 = 1;
/// XENVIF_PACKET_HASH_ALGORITHM: the hash of receive-side scaling.
pub const HASH_ALGORITHM_TOEPLITZ: u32 = 2;

/// XENVIF_PACKET_HASH_TYPE: nothing was hashed.
pub const HASH_TYPE_NONE: u32 = 0;
/// XENVIF_PACKET_HASH_TYPE: the addresses of IPv4.
pub const HASH_TYPE_IPV4: u32 = 1;
/// XENVIF_PACKET_HASH_TYPE: the addresses of IPv4 and TCP's ports.
pub const HASH_TYPE_IPV4_TCP: u32 = 2;
/// XENVIF_PACKET_HASH_TYPE: the addresses of IPv6.
pub const HASH_TYPE_IPV6: u32 = 3;
/// XENVIF_PACKET_HASH_TYPE: the addresses of IPv6 and TCP's ports.
pub const HASH_TYPE_IPV6_TCP: u32 = 4;

/// XENVIF_VIF_HASH_KEY_SIZE: bytes of a Toeplitz key.
pub const HASH_KEY_SIZE: usize = 40;

/// Status of a transmitted packet: sent.
pub const COMPLETION_OK: u8 = 2;
/// Status of a transmitted packet: dropped, by either end.
pub const COMPLETION_DROPPED: u8 = 3;
/// Status of a transmitted packet: the backend could not make sense of it.
pub const COMPLETION_ERROR: u8 = 4;

/// ETHERNET_ADDRESS_TYPE: none.
pub const ADDRESS_INVALID: u32 = 0;
/// ETHERNET_ADDRESS_TYPE: one station.
pub const ADDRESS_UNICAST: u32 = 1;
/// ETHERNET_ADDRESS_TYPE: a group.
pub const ADDRESS_MULTICAST: u32 = 2;
/// ETHERNET_ADDRESS_TYPE: everybody.
pub const ADDRESS_BROADCAST: u32 = 3;

/// XENVIF_MAC_FILTER_LEVEL: nothing of the class passes.
pub const FILTER_NONE: u32 = 0;
/// XENVIF_MAC_FILTER_LEVEL: what the addresses match.
pub const FILTER_MATCHING: u32 = 1;
/// XENVIF_MAC_FILTER_LEVEL: everything.
pub const FILTER_ALL: u32 = 2;

/// NET_IF_MEDIA_CONNECT_STATE (ifdef.h): connected.
pub const MEDIA_CONNECTED: u32 = 1;
/// NET_IF_MEDIA_CONNECT_STATE: not connected.
pub const MEDIA_DISCONNECTED: u32 = 2;
/// NET_IF_MEDIA_DUPLEX_STATE (ifdef.h): unknown.
pub const DUPLEX_UNKNOWN: u32 = 0;
/// NET_IF_MEDIA_DUPLEX_STATE: both ways at once.
pub const DUPLEX_FULL: u32 = 2;

/// `PROCESSOR_NUMBER` (miniport.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessorNumber {
    /// Processor group.
    pub group: u16,
    /// Number in the group.
    pub number: u8,
    /// 0.
    pub reserved: u8,
}
const _: () = assert!(size_of::<ProcessorNumber>() == 4);

/// ETHERNET_ADDRESS.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetAddress(pub [u8; 6]);
const _: () = assert!(size_of::<EthernetAddress>() == 6 && align_of::<EthernetAddress>() == 1);

/// XENVIF_VIF_OFFLOAD_OPTIONS: what shall be done with a packet, can be done, or was. It is passed by value like the
/// 16-bit number it is.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffloadOptions(pub u16);

#[allow(missing_docs)]
impl OffloadOptions {
    /// The VLAN tag is beside the packet: sent, insert it; received, take it out.
    pub const TAG_MANIPULATION: u16 = 1 << 0;
    /// Sent: cut the packet into segments. Received: segments may come as one packet.
    pub const IPV4_LARGE_PACKET: u16 = 1 << 1;
    /// Sent: fill the checksum in. Received: check it.
    pub const IPV4_HEADER_CHECKSUM: u16 = 1 << 2;
    pub const IPV4_TCP_CHECKSUM: u16 = 1 << 3;
    pub const IPV4_UDP_CHECKSUM: u16 = 1 << 4;
    pub const IPV6_LARGE_PACKET: u16 = 1 << 5;
    pub const IPV6_TCP_CHECKSUM: u16 = 1 << 6;
    pub const IPV6_UDP_CHECKSUM: u16 = 1 << 7;
    /// Received: fill in a checksum that the sender left out.
    pub const NEED_CHECKSUM_VALUE: u16 = 1 << 8;
    /// Received: the first segment of a large packet comes by itself.
    pub const NEED_LARGE_PACKET_SPLIT: u16 = 1 << 9;

    /// Whether any of `bits` is set.
    pub const fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}
const _: () = assert!(size_of::<OffloadOptions>() == 2);

/// XENVIF_PACKET_CHECKSUM_FLAGS: what is known of a received packet's checksums. Passed like the 32-bit number it is.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumFlags(pub u32);

#[allow(missing_docs)]
impl ChecksumFlags {
    pub const IP_SUCCEEDED: u32 = 1 << 0;
    pub const IP_FAILED: u32 = 1 << 1;
    pub const IP_NOT_VALIDATED: u32 = 1 << 2;
    pub const TCP_SUCCEEDED: u32 = 1 << 3;
    pub const TCP_FAILED: u32 = 1 << 4;
    pub const TCP_NOT_VALIDATED: u32 = 1 << 5;
    pub const UDP_SUCCEEDED: u32 = 1 << 6;
    pub const UDP_FAILED: u32 = 1 << 7;
    pub const UDP_NOT_VALIDATED: u32 = 1 << 8;
}
const _: () = assert!(size_of::<ChecksumFlags>() == 4);

/// XENVIF_PACKET_HASH.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketHash {
    /// HASH_ALGORITHM_*.
    pub algorithm: u32,
    /// HASH_TYPE_*.
    pub kind: u32,
    /// The hash.
    pub value: u32,
}
const _: () = assert!(size_of::<PacketHash>() == 12 && offset_of!(PacketHash, value) == 8);

/// XENVIF_PACKET_HEADER: a header's place in a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketHeader {
    /// From the packet's first byte.
    pub offset: u32,
    /// 0: the packet has no such header.
    pub length: u32,
}
const _: () = assert!(size_of::<PacketHeader>() == 8);

/// XENVIF_PACKET_INFO: the headers of a received packet. Lives until the packet is returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PacketInfo {
    /// All headers together.
    pub length: u32,
    pub is_a_fragment: Boolean,
    /// Without a tag that was taken out.
    pub ethernet: PacketHeader,
    pub llc_snap: PacketHeader,
    pub ip: PacketHeader,
    /// The options of IPv4, or the extension headers of IPv6.
    pub ip_options: PacketHeader,
    pub tcp: PacketHeader,
    pub tcp_options: PacketHeader,
    pub udp: PacketHeader,
}
const _: () = assert!(size_of::<PacketInfo>() == 64);
const _: () = assert!(offset_of!(PacketInfo, is_a_fragment) == 4);
const _: () = assert!(offset_of!(PacketInfo, ethernet) == 8);
const _: () = assert!(offset_of!(PacketInfo, llc_snap) == 16);
const _: () = assert!(offset_of!(PacketInfo, ip) == 24);
const _: () = assert!(offset_of!(PacketInfo, ip_options) == 32);
const _: () = assert!(offset_of!(PacketInfo, tcp) == 40);
const _: () = assert!(offset_of!(PacketInfo, tcp_options) == 48);
const _: () = assert!(offset_of!(PacketInfo, udp) == 56);

/// XENVIF_TRANSMITTER_PACKET_COMPLETION_INFO: what became of a packet. Lives as long as the callback.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompletionInfo {
    /// ADDRESS_* of its destination. As all but the status, only of a packet that was sent.
    pub kind: u8,
    /// COMPLETION_*.
    pub status: u8,
    /// Bytes with headers.
    pub packet_length: u16,
    /// Bytes without.
    pub payload_length: u16,
}
const _: () = assert!(size_of::<CompletionInfo>() == 6 && align_of::<CompletionInfo>() == 1);
const _: () = assert!(offset_of!(CompletionInfo, packet_length) == 2);
const _: () = assert!(offset_of!(CompletionInfo, payload_length) == 4);

/// Parameters of TYPE_RETURN_PACKET.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ReturnPacket {
    /// What TransmitterQueuePacket was given.
    pub cookie: *mut c_void,
    /// What became of it.
    pub completion: *const CompletionInfo,
}

/// Parameters of TYPE_QUEUE_PACKET, as of v9. What they point to lives until the packet is returned.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QueuePacketV9 {
    /// The queue, less than QueryRingCount's number. Packets of a queue come one after another.
    pub index: u32,
    /// The packet's memory.
    pub mdl: *mut Mdl,
    /// Where the packet begins in it.
    pub offset: u32,
    /// Its length.
    pub length: u32,
    /// Its checksums.
    pub flags: ChecksumFlags,
    /// Of a large packet, the length of its segments' payload; else 0.
    pub maximum_segment_size: u16,
    /// The VLAN tag that was taken out.
    pub tag_control_information: u16,
    /// Its headers.
    pub info: *const PacketInfo,
    /// Its hash.
    pub hash: *const PacketHash,
    /// Whether another packet of the queue follows at once.
    pub more: Boolean,
    /// For ReceiverReturnPacket.
    pub cookie: *mut c_void,
}

/// Parameters of TYPE_QUEUE_PACKET, as of v10.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QueuePacketV10 {
    /// As before.
    pub packet: QueuePacketV9,
    /// Out: no more packets for now.
    pub pause: Boolean,
}

macro_rules! packet {
    ($($offset:literal $field:ident,)*) => {$(
        const _: () = assert!(offset_of!(QueuePacketV9, $field) == $offset);
    )*};
}
packet! {
    0 index,
    8 mdl,
    16 offset,
    20 length,
    24 flags,
    28 maximum_segment_size,
    30 tag_control_information,
    32 info,
    40 hash,
    48 more,
    56 cookie,
}
const _: () = assert!(size_of::<ReturnPacket>() == 16 && offset_of!(ReturnPacket, completion) == 8);
const _: () = assert!(offset_of!(QueuePacketV10, packet) == 0);
const _: () = assert!(offset_of!(QueuePacketV10, pause) == 64);

/// XENVIF_VIF_CALLBACK_PARAMETERS of v9: one of these by the callback's type.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub union ParametersV9 {
    pub return_packet: ReturnPacket,
    pub queue_packet: QueuePacketV9,
}
const _: () = assert!(size_of::<ParametersV9>() == 64);

/// XENVIF_VIF_CALLBACK_PARAMETERS of v10.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub union ParametersV10 {
    pub return_packet: ReturnPacket,
    pub queue_packet: QueuePacketV10,
}
const _: () = assert!(size_of::<ParametersV10>() == 72);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_ten_options_and_nine_flags() {
        let options = [
            OffloadOptions::TAG_MANIPULATION,
            OffloadOptions::IPV4_LARGE_PACKET,
            OffloadOptions::IPV4_HEADER_CHECKSUM,
            OffloadOptions::IPV4_TCP_CHECKSUM,
            OffloadOptions::IPV4_UDP_CHECKSUM,
            OffloadOptions::IPV6_LARGE_PACKET,
            OffloadOptions::IPV6_TCP_CHECKSUM,
            OffloadOptions::IPV6_UDP_CHECKSUM,
            OffloadOptions::NEED_CHECKSUM_VALUE,
            OffloadOptions::NEED_LARGE_PACKET_SPLIT,
        ];
        let all = options.iter().fold(0, |all, option| all | option);
        assert_eq!(all, 0x03FF);
        assert!(OffloadOptions(all).has(OffloadOptions::IPV6_LARGE_PACKET));
        assert!(!OffloadOptions(!all).has(all));
        let flags = [
            ChecksumFlags::IP_SUCCEEDED,
            ChecksumFlags::IP_FAILED,
            ChecksumFlags::IP_NOT_VALIDATED,
            ChecksumFlags::TCP_SUCCEEDED,
            ChecksumFlags::TCP_FAILED,
            ChecksumFlags::TCP_NOT_VALIDATED,
            ChecksumFlags::UDP_SUCCEEDED,
            ChecksumFlags::UDP_FAILED,
            ChecksumFlags::UDP_NOT_VALIDATED,
        ];
        assert_eq!(flags.iter().fold(0, |all, flag| all | flag), 0x01FF);
    }
}
