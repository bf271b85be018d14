//! Task offloads: what an adapter can do, what it does now (`NDIS_OFFLOAD`), and requests to change it.

use crate::ndis::NDIS_OBJECT_HEADER;
use crate::{BOOLEAN, UCHAR};

/// One direction and IP version of checksums. `Bits`: `CHECKSUM_*`, two bits each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_CHECKSUM_OFFLOAD {
    pub Encapsulation: u32,
    pub Bits: u32,
}

// Places of the two-bit fields in NDIS_CHECKSUM_OFFLOAD.Bits
/// IP options, or IPv6 extension headers.
pub const CHECKSUM_IP_OPTIONS: u32 = 0;
pub const CHECKSUM_TCP_OPTIONS: u32 = 2;
pub const CHECKSUM_TCP: u32 = 4;
pub const CHECKSUM_UDP: u32 = 6;
/// IPv4 only.
pub const CHECKSUM_IP: u32 = 8;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD {
    pub IPv4Transmit: NDIS_CHECKSUM_OFFLOAD,
    pub IPv4Receive: NDIS_CHECKSUM_OFFLOAD,
    pub IPv6Transmit: NDIS_CHECKSUM_OFFLOAD,
    pub IPv6Receive: NDIS_CHECKSUM_OFFLOAD,
}

/// Large send version 1, IPv4. `Bits`: TCP options in bits 0 and 1, IP options in 2 and 3.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1 {
    pub Encapsulation: u32,
    /// Bytes.
    pub MaxOffLoadSize: u32,
    pub MinSegmentCount: u32,
    pub Bits: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_LARGE_SEND_OFFLOAD_V2_IPV4 {
    pub Encapsulation: u32,
    pub MaxOffLoadSize: u32,
    pub MinSegmentCount: u32,
}

/// `Bits`: extension headers in bits 0 and 1, TCP options in 2 and 3.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_LARGE_SEND_OFFLOAD_V2_IPV6 {
    pub Encapsulation: u32,
    pub MaxOffLoadSize: u32,
    pub MinSegmentCount: u32,
    pub Bits: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2 {
    pub IPv4: NDIS_LARGE_SEND_OFFLOAD_V2_IPV4,
    pub IPv6: NDIS_LARGE_SEND_OFFLOAD_V2_IPV6,
}

/// IPsec is not offered, so this is all zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_IPSEC_OFFLOAD_V1 {
    pub Reserved: [u32; 7],
}

/// As version 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_IPSEC_OFFLOAD_V2 {
    pub Reserved: [u32; 8],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD {
    pub IPv4: BOOLEAN,
    pub IPv6: BOOLEAN,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD {
    pub Bits: u32,
    pub MaxHeaderSizeSupported: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2 {
    pub Bits: u32,
    pub MaxHeaderSizeSupported: u32,
    pub EncapsulationProtocolInfo: u32,
    pub Reserved1: u32,
    pub Reserved2: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_RFC6877_464XLAT_OFFLOAD {
    pub XlatOffload: u32,
    pub Flags: u32,
}

/// `Bits`: the least number of segments in bits 0 to 5, whether the last one may be shorter in bit 6.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_UDP_SEGMENTATION_OFFLOAD_IPV4_CAPABILITIES {
    pub Encapsulation: u32,
    pub MaxOffLoadSize: u32,
    pub Bits: u32,
}

/// `ExtensionBits`: extension headers in bits 0 and 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_UDP_SEGMENTATION_OFFLOAD_IPV6_CAPABILITIES {
    pub Encapsulation: u32,
    pub MaxOffLoadSize: u32,
    pub Bits: u32,
    pub ExtensionBits: u32,
}

/// `Bits` of both structures above.
pub const USO_SUB_MSS_FINAL_SEGMENT_SUPPORTED: u32 = 1 << 6;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_UDP_SEGMENTATION_OFFLOAD {
    pub IPv4: NDIS_UDP_SEGMENTATION_OFFLOAD_IPV4_CAPABILITIES,
    pub IPv6: NDIS_UDP_SEGMENTATION_OFFLOAD_IPV6_CAPABILITIES,
}

/// Offloads of an adapter, as of revision 6 (NDIS 6.83).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NDIS_OFFLOAD {
    pub Header: NDIS_OBJECT_HEADER,
    pub Checksum: NDIS_TCP_IP_CHECKSUM_OFFLOAD,
    pub LsoV1: NDIS_TCP_LARGE_SEND_OFFLOAD_V1,
    pub IPsecV1: NDIS_IPSEC_OFFLOAD_V1,
    pub LsoV2: NDIS_TCP_LARGE_SEND_OFFLOAD_V2,
    pub Flags: u32,
    pub IPsecV2: NDIS_IPSEC_OFFLOAD_V2,
    pub Rsc: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD,
    pub EncapsulatedPacketTaskOffloadGre: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD,
    pub EncapsulatedPacketTaskOffloadVxlan: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2,
    pub EncapsulationTypes: UCHAR,
    pub Rfc6877Xlat: NDIS_RFC6877_464XLAT_OFFLOAD,
    pub UdpSegmentation: NDIS_UDP_SEGMENTATION_OFFLOAD,
}

/// NDIS 6.0.
pub const NDIS_OFFLOAD_REVISION_1: u8 = 1;
/// NDIS 6.1: `IPsecV2`.
pub const NDIS_OFFLOAD_REVISION_2: u8 = 2;
/// NDIS 6.30: `Rsc`, `EncapsulatedPacketTaskOffloadGre`.
pub const NDIS_OFFLOAD_REVISION_3: u8 = 3;
/// NDIS 6.50: `EncapsulatedPacketTaskOffloadVxlan`, `EncapsulationTypes`.
pub const NDIS_OFFLOAD_REVISION_4: u8 = 4;
/// NDIS 6.70: `Rfc6877Xlat`.
pub const NDIS_OFFLOAD_REVISION_5: u8 = 5;
/// NDIS 6.83: `UdpSegmentation`.
pub const NDIS_OFFLOAD_REVISION_6: u8 = 6;
pub const NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_1: u16 = 0x70;
pub const NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2: u16 = 0x90;
pub const NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3: u16 = 0x9C;
pub const NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_4: u16 = 0xB1;
pub const NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_5: u16 = 0xBC;
pub const NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_6: u16 = 0xD8;

// What a two-bit field says of a capability, and of the current configuration (ntddndis.h)
pub const NDIS_OFFLOAD_NOT_SUPPORTED: u32 = 0;
pub const NDIS_OFFLOAD_SUPPORTED: u32 = 1;
pub const NDIS_OFFLOAD_SET_NO_CHANGE: u32 = 0;
pub const NDIS_OFFLOAD_SET_ON: u32 = 1;
pub const NDIS_OFFLOAD_SET_OFF: u32 = 2;

// Encapsulation (ntddndis.h)
pub const NDIS_ENCAPSULATION_NOT_SUPPORTED: u32 = 0x00;
pub const NDIS_ENCAPSULATION_NULL: u32 = 0x01;
pub const NDIS_ENCAPSULATION_IEEE_802_3: u32 = 0x02;
pub const NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q: u32 = 0x04;
pub const NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q_IN_OOB: u32 = 0x08;
pub const NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED: u32 = 0x10;

/// OID_TCP_OFFLOAD_PARAMETERS, as of revision 5 (NDIS 6.83).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NDIS_OFFLOAD_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    /// `NDIS_OFFLOAD_PARAMETERS_TX_RX_*`, as the next four.
    pub IPv4Checksum: UCHAR,
    pub TCPIPv4Checksum: UCHAR,
    pub UDPIPv4Checksum: UCHAR,
    pub TCPIPv6Checksum: UCHAR,
    pub UDPIPv6Checksum: UCHAR,
    /// `NDIS_OFFLOAD_PARAMETERS_DISABLED` or `…ENABLED`, as the following ones.
    pub LsoV1: UCHAR,
    pub IPsecV1: UCHAR,
    pub LsoV2IPv4: UCHAR,
    pub LsoV2IPv6: UCHAR,
    pub TcpConnectionIPv4: UCHAR,
    pub TcpConnectionIPv6: UCHAR,
    pub Flags: u32,
    pub IPsecV2: UCHAR,
    pub IPsecV2IPv4: UCHAR,
    pub RscIPv4: UCHAR,
    pub RscIPv6: UCHAR,
    pub EncapsulatedPacketTaskOffload: UCHAR,
    pub EncapsulationTypes: UCHAR,
    pub EncapsulationProtocolParameters: u32,
    pub UdpSegmentationIPv4: UCHAR,
    pub UdpSegmentationIPv6: UCHAR,
}

pub const NDIS_OFFLOAD_PARAMETERS_REVISION_1: u8 = 1;
pub const NDIS_OFFLOAD_PARAMETERS_REVISION_2: u8 = 2;
pub const NDIS_OFFLOAD_PARAMETERS_REVISION_3: u8 = 3;
pub const NDIS_OFFLOAD_PARAMETERS_REVISION_4: u8 = 4;
pub const NDIS_OFFLOAD_PARAMETERS_REVISION_5: u8 = 5;
pub const NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_1: u16 = 20;
pub const NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_2: u16 = 22;
pub const NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_3: u16 = 26;
pub const NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_4: u16 = 32;
pub const NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_5: u16 = 34;

pub const NDIS_OFFLOAD_PARAMETERS_NO_CHANGE: u8 = 0;
pub const NDIS_OFFLOAD_PARAMETERS_TX_RX_DISABLED: u8 = 1;
pub const NDIS_OFFLOAD_PARAMETERS_TX_ENABLED_RX_DISABLED: u8 = 2;
pub const NDIS_OFFLOAD_PARAMETERS_RX_ENABLED_TX_DISABLED: u8 = 3;
pub const NDIS_OFFLOAD_PARAMETERS_TX_RX_ENABLED: u8 = 4;
/// Of large sends, coalescing and UDP segmentation: `NDIS_OFFLOAD_PARAMETERS_LSOV2_DISABLED` and its like.
pub const NDIS_OFFLOAD_PARAMETERS_DISABLED: u8 = 1;
pub const NDIS_OFFLOAD_PARAMETERS_ENABLED: u8 = 2;
/// `Flags`.
pub const NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE: u32 = 0x0000_0001;

/// One IP version of OID_OFFLOAD_ENCAPSULATION.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NDIS_OFFLOAD_ENCAPSULATION_VERSION {
    /// `NDIS_OFFLOAD_SET_*`.
    pub Enabled: u32,
    pub EncapsulationType: u32,
    pub HeaderSize: u32,
}

/// OID_OFFLOAD_ENCAPSULATION.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NDIS_OFFLOAD_ENCAPSULATION {
    pub Header: NDIS_OBJECT_HEADER,
    pub IPv4: NDIS_OFFLOAD_ENCAPSULATION_VERSION,
    pub IPv6: NDIS_OFFLOAD_ENCAPSULATION_VERSION,
}

pub const NDIS_OFFLOAD_ENCAPSULATION_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_OFFLOAD_ENCAPSULATION_REVISION_1: u16 = 28;

layouts! {
    NDIS_TCP_IP_CHECKSUM_OFFLOAD = 32 {
        IPv4Transmit.Encapsulation: 0, IPv4Transmit.Bits: 4, IPv4Receive.Encapsulation: 8,
        IPv6Transmit.Encapsulation: 16, IPv6Receive.Encapsulation: 24,
    }
    NDIS_TCP_LARGE_SEND_OFFLOAD_V1 = 16 {
        Encapsulation: 0, MaxOffLoadSize: 4, MinSegmentCount: 8, Bits: 12,
    }
    NDIS_TCP_LARGE_SEND_OFFLOAD_V2 = 28 {
        IPv4.Encapsulation: 0, IPv4.MaxOffLoadSize: 4, IPv4.MinSegmentCount: 8,
        IPv6.Encapsulation: 12, IPv6.MaxOffLoadSize: 16, IPv6.MinSegmentCount: 20, IPv6.Bits: 24,
    }
    NDIS_IPSEC_OFFLOAD_V1 = 28 { Reserved: 0 }
    NDIS_IPSEC_OFFLOAD_V2 = 32 { Reserved: 0 }
    NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD = 2 { IPv4: 0, IPv6: 1 }
    NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD = 8 { Bits: 0, MaxHeaderSizeSupported: 4 }
    NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2 = 20 { MaxHeaderSizeSupported: 4 }
    NDIS_RFC6877_464XLAT_OFFLOAD = 8 { XlatOffload: 0, Flags: 4 }
    NDIS_UDP_SEGMENTATION_OFFLOAD = 28 {
        IPv4.Encapsulation: 0, IPv4.MaxOffLoadSize: 4, IPv4.Bits: 8, IPv6.Encapsulation: 12,
        IPv6.MaxOffLoadSize: 16, IPv6.Bits: 20, IPv6.ExtensionBits: 24,
    }
    NDIS_OFFLOAD = 0xD8 {
        Header: 0, Checksum: 0x04, LsoV1: 0x24, IPsecV1: 0x34, LsoV2: 0x50, Flags: 0x6C,
        IPsecV2: 0x70, Rsc: 0x90, EncapsulatedPacketTaskOffloadGre: 0x94,
        EncapsulatedPacketTaskOffloadVxlan: 0x9C, EncapsulationTypes: 0xB0, Rfc6877Xlat: 0xB4,
        UdpSegmentation: 0xBC,
    }
    NDIS_OFFLOAD_PARAMETERS = 36 {
        Header: 0, IPv4Checksum: 4, TCPIPv4Checksum: 5, UDPIPv4Checksum: 6, TCPIPv6Checksum: 7,
        UDPIPv6Checksum: 8, LsoV1: 9, IPsecV1: 10, LsoV2IPv4: 11, LsoV2IPv6: 12,
        TcpConnectionIPv4: 13, TcpConnectionIPv6: 14, Flags: 16, IPsecV2: 20, IPsecV2IPv4: 21,
        RscIPv4: 22, RscIPv6: 23, EncapsulatedPacketTaskOffload: 24, EncapsulationTypes: 25,
        EncapsulationProtocolParameters: 28, UdpSegmentationIPv4: 32, UdpSegmentationIPv6: 33,
    }
    NDIS_OFFLOAD_ENCAPSULATION = 28 {
        Header: 0, IPv4.Enabled: 4, IPv4.EncapsulationType: 8, IPv4.HeaderSize: 12,
        IPv6.Enabled: 16, IPv6.EncapsulationType: 20, IPv6.HeaderSize: 24,
    }
}
