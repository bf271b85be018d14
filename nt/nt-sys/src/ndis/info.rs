//! Out-of-band information of a `NET_BUFFER_LIST`: the slots of `NetBufferListInfo`, and what is in them.
//!
//! A slot is as wide as a pointer; what NDIS declares as bit fields is here a number in the lower 32 bits with the
//! functions that read and make it. Numbers: ndis/nblinfo.h, nblchecksum.h, nbllso.h, nbluso.h, nbl8021q.h, nblrsc.h.

// Slots (NDIS_NET_BUFFER_LIST_INFO, x64)
pub const TcpIpChecksumNetBufferListInfo: usize = 0;
pub const TcpLargeSendNetBufferListInfo: usize = 2;
pub const ClassificationHandleNetBufferListInfo: usize = 3;
pub const Ieee8021QNetBufferListInfo: usize = 4;
pub const NetBufferListCancelId: usize = 5;
pub const MediaSpecificInformation: usize = 6;
pub const NetBufferListFrameType: usize = 7;
pub const NetBufferListHashValue: usize = 8;
pub const NetBufferListHashInfo: usize = 9;
pub const NetBufferListFilteringInfo: usize = 14;
/// On receive: how many segments were coalesced.
pub const TcpRecvSegCoalesceInfo: usize = 22;
/// On send: a large UDP datagram. The same slot.
pub const UdpSegmentationOffloadInfo: usize = 22;
pub const RscTcpTimestampDelta: usize = 23;
pub const NetBufferListInfoReserved3: usize = 26;
pub const MaxNetBufferListInfo: usize = 27;

/// `NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO.Transmit`: checksums that the miniport is to fill in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransmitChecksum(pub u32);

impl TransmitChecksum {
    pub const IS_IPV4: u32 = 1 << 0;
    pub const IS_IPV6: u32 = 1 << 1;
    pub const TCP_CHECKSUM: u32 = 1 << 2;
    pub const UDP_CHECKSUM: u32 = 1 << 3;
    pub const IP_HEADER_CHECKSUM: u32 = 1 << 4;

    /// Bytes from the frame's start to the TCP header, in ten bits.
    pub const fn with_tcp_header_offset(self, offset: u32) -> TransmitChecksum {
        TransmitChecksum(self.0 & !(0x3FF << 16) | (offset & 0x3FF) << 16)
    }

    pub const fn tcp_header_offset(self) -> u32 {
        self.0 >> 16 & 0x3FF
    }

    pub const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

/// `NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO.Receive`: what the miniport found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveChecksum(pub u32);

impl ReceiveChecksum {
    pub const TCP_FAILED: u32 = 1 << 0;
    pub const UDP_FAILED: u32 = 1 << 1;
    pub const IP_FAILED: u32 = 1 << 2;
    pub const TCP_SUCCEEDED: u32 = 1 << 3;
    pub const UDP_SUCCEEDED: u32 = 1 << 4;
    pub const IP_SUCCEEDED: u32 = 1 << 5;
    pub const LOOPBACK: u32 = 1 << 6;
    pub const TCP_VALUE_INVALID: u32 = 1 << 7;
    pub const IP_VALUE_INVALID: u32 = 1 << 8;

    pub const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

/// `NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO`: a TCP segment to be cut. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeSend(pub u32);

pub const NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE: u32 = 0;
pub const NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE: u32 = 1;
pub const NDIS_TCP_LARGE_SEND_OFFLOAD_IPv4: u32 = 0;
pub const NDIS_TCP_LARGE_SEND_OFFLOAD_IPv6: u32 = 1;

impl LargeSend {
    pub const fn v1(mss: u32, tcp_header_offset: u32) -> LargeSend {
        LargeSend(mss & 0xF_FFFF | (tcp_header_offset & 0x3FF) << 20)
    }

    /// `ip_version`: `NDIS_TCP_LARGE_SEND_OFFLOAD_IPv4` or `…IPv6`.
    pub const fn v2(mss: u32, tcp_header_offset: u32, ip_version: u32) -> LargeSend {
        LargeSend(LargeSend::v1(mss, tcp_header_offset).0 | 1 << 30 | (ip_version & 1) << 31)
    }

    /// What a completed send of version 1 says: bytes of TCP payload sent.
    pub const fn v1_complete(tcp_payload: u32) -> LargeSend {
        LargeSend(tcp_payload & 0x3FFF_FFFF)
    }

    /// What a completed send of version 2 says: nothing but its type.
    pub const fn v2_complete() -> LargeSend {
        LargeSend(1 << 30)
    }

    pub const fn mss(self) -> u32 {
        self.0 & 0xF_FFFF
    }

    pub const fn tcp_header_offset(self) -> u32 {
        self.0 >> 20 & 0x3FF
    }

    /// `NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE` or `…V2_TYPE`.
    pub const fn version(self) -> u32 {
        self.0 >> 30 & 1
    }

    /// Of version 2.
    pub const fn ip_version(self) -> u32 {
        self.0 >> 31
    }

    /// Of a completed send of version 1.
    pub const fn tcp_payload(self) -> u32 {
        self.0 & 0x3FFF_FFFF
    }
}

/// `NDIS_UDP_SEGMENTATION_OFFLOAD_NET_BUFFER_LIST_INFO.Transmit`: a UDP datagram to be cut. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSegmentation(pub u32);

pub const NDIS_UDP_SEGMENTATION_OFFLOAD_IPV4: u32 = 0;
pub const NDIS_UDP_SEGMENTATION_OFFLOAD_IPV6: u32 = 1;

impl UdpSegmentation {
    pub const fn new(mss: u32, udp_header_offset: u32, ip_version: u32) -> UdpSegmentation {
        UdpSegmentation(mss & 0xF_FFFF | (udp_header_offset & 0x3FF) << 20 | (ip_version & 1) << 31)
    }

    pub const fn mss(self) -> u32 {
        self.0 & 0xF_FFFF
    }

    pub const fn udp_header_offset(self) -> u32 {
        self.0 >> 20 & 0x3FF
    }

    pub const fn ip_version(self) -> u32 {
        self.0 >> 31
    }
}

/// `NDIS_NET_BUFFER_LIST_8021Q_INFO.TagHeader`: priority and VLAN beside the frame. 0 is no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ieee8021Q(pub u32);

impl Ieee8021Q {
    pub const fn new(priority: u32, canonical_format: u32, vlan: u32) -> Ieee8021Q {
        Ieee8021Q(priority & 7 | (canonical_format & 1) << 3 | (vlan & 0xFFF) << 4)
    }

    pub const fn priority(self) -> u32 {
        self.0 & 7
    }

    pub const fn canonical_format(self) -> u32 {
        self.0 >> 3 & 1
    }

    pub const fn vlan(self) -> u32 {
        self.0 >> 4 & 0xFFF
    }

    /// As in the tag on the wire: VLAN in bits 0 to 11, format in 12, priority in 13 to 15.
    pub const fn tag_control(self) -> u16 {
        (self.vlan() | self.canonical_format() << 12 | self.priority() << 13) as u16
    }

    pub const fn from_tag_control(tag: u16) -> Ieee8021Q {
        let tag = tag as u32;
        Ieee8021Q::new(tag >> 13, tag >> 12 & 1, tag & 0xFFF)
    }
}

/// `NDIS_RSC_NBL_INFO`: a unit of coalesced segments. 0 segments: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalesced(pub u32);

impl Coalesced {
    pub const fn new(segments: u16, duplicate_acks: u16) -> Coalesced {
        Coalesced(segments as u32 | (duplicate_acks as u32) << 16)
    }

    pub const fn segments(self) -> u16 {
        self.0 as u16
    }

    pub const fn duplicate_acks(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_send_says_what_it_was_made_of() {
        let send = LargeSend::v2(1460, 34, NDIS_TCP_LARGE_SEND_OFFLOAD_IPv6);
        assert_eq!(send.0, 0xC220_05B4);
        assert_eq!((send.mss(), send.tcp_header_offset()), (1460, 34));
        assert_eq!((send.version(), send.ip_version()), (1, 1));
        assert_eq!(LargeSend::v1(1460, 34).version(), 0);
        assert_eq!(LargeSend::v1_complete(70_000).tcp_payload(), 70_000);
    }

    #[test]
    fn a_tag_is_the_same_on_the_wire_and_beside_the_frame() {
        for tag in [0_u16, 1, 0x0FFF, 0x1000, 0xE000, 0xFFFF, 0x6064] {
            assert_eq!(Ieee8021Q::from_tag_control(tag).tag_control(), tag);
        }
        assert_eq!(Ieee8021Q::new(5, 0, 100).tag_control(), 0xA064);
    }

    #[test]
    fn a_large_datagram_has_no_type_bit() {
        let send = UdpSegmentation::new(1400, 42, NDIS_UDP_SEGMENTATION_OFFLOAD_IPV6);
        assert_eq!(send.0 & 1 << 30, 0);
        assert_eq!(
            (send.mss(), send.udp_header_offset(), send.ip_version()),
            (1400, 42, 1)
        );
    }

    #[test]
    fn a_checksum_request_keeps_its_bits_beside_the_offset() {
        let request = TransmitChecksum(TransmitChecksum::IS_IPV4 | TransmitChecksum::TCP_CHECKSUM)
            .with_tcp_header_offset(34);
        assert_eq!(request.0, 0x0022_0005);
        assert_eq!(request.tcp_header_offset(), 34);
    }
}
