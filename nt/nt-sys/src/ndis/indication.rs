//! What a miniport tells without being asked, and its statistics.

use crate::ndis::{NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_PORT_NUMBER, NDIS_STATUS};
use crate::{GUID, PVOID};

/// `NdisMIndicateStatusEx`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_STATUS_INDICATION {
    pub Header: NDIS_OBJECT_HEADER,
    pub SourceHandle: NDIS_HANDLE,
    pub PortNumber: NDIS_PORT_NUMBER,
    pub StatusCode: NDIS_STATUS,
    pub Flags: u32,
    pub DestinationHandle: NDIS_HANDLE,
    pub RequestId: PVOID,
    pub StatusBuffer: PVOID,
    /// Bytes.
    pub StatusBufferSize: u32,
    pub Guid: GUID,
    pub NdisReserved: [PVOID; 4],
}

pub const NDIS_STATUS_INDICATION_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_STATUS_INDICATION_REVISION_1: u16 = 112;

/// The buffer of `NDIS_STATUS_LINK_STATE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NDIS_LINK_STATE {
    pub Header: NDIS_OBJECT_HEADER,
    /// `MediaConnectState*`.
    pub MediaConnectState: i32,
    /// `MediaDuplexState*`.
    pub MediaDuplexState: i32,
    /// Bits per second.
    pub XmitLinkSpeed: u64,
    pub RcvLinkSpeed: u64,
    /// `NdisPauseFunctions*`.
    pub PauseFunctions: i32,
    pub AutoNegotiationFlags: u32,
}

pub const NDIS_LINK_STATE_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_LINK_STATE_REVISION_1: u16 = 40;

// NDIS_SUPPORTED_PAUSE_FUNCTIONS (ntddndis.h)
pub const NdisPauseFunctionsUnsupported: i32 = 0;
pub const NdisPauseFunctionsSendOnly: i32 = 1;
pub const NdisPauseFunctionsReceiveOnly: i32 = 2;
pub const NdisPauseFunctionsSendAndReceive: i32 = 3;
pub const NdisPauseFunctionsUnknown: i32 = 4;

/// OID_GEN_STATISTICS.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NDIS_STATISTICS_INFO {
    pub Header: NDIS_OBJECT_HEADER,
    /// `NDIS_STATISTICS_FLAGS_VALID_*`.
    pub SupportedStatistics: u32,
    pub ifInDiscards: u64,
    pub ifInErrors: u64,
    pub ifHCInOctets: u64,
    pub ifHCInUcastPkts: u64,
    pub ifHCInMulticastPkts: u64,
    pub ifHCInBroadcastPkts: u64,
    pub ifHCOutOctets: u64,
    pub ifHCOutUcastPkts: u64,
    pub ifHCOutMulticastPkts: u64,
    pub ifHCOutBroadcastPkts: u64,
    pub ifOutErrors: u64,
    pub ifOutDiscards: u64,
    pub ifHCInUcastOctets: u64,
    pub ifHCInMulticastOctets: u64,
    pub ifHCInBroadcastOctets: u64,
    pub ifHCOutUcastOctets: u64,
    pub ifHCOutMulticastOctets: u64,
    pub ifHCOutBroadcastOctets: u64,
}

pub const NDIS_STATISTICS_INFO_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_STATISTICS_INFO_REVISION_1: u16 = 152;

// SupportedStatistics (ntddndis.h)
pub const NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_RCV: u32 = 0x0000_0001;
pub const NDIS_STATISTICS_FLAGS_VALID_MULTICAST_FRAMES_RCV: u32 = 0x0000_0002;
pub const NDIS_STATISTICS_FLAGS_VALID_BROADCAST_FRAMES_RCV: u32 = 0x0000_0004;
pub const NDIS_STATISTICS_FLAGS_VALID_BYTES_RCV: u32 = 0x0000_0008;
pub const NDIS_STATISTICS_FLAGS_VALID_RCV_DISCARDS: u32 = 0x0000_0010;
pub const NDIS_STATISTICS_FLAGS_VALID_RCV_ERROR: u32 = 0x0000_0020;
pub const NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_XMIT: u32 = 0x0000_0040;
pub const NDIS_STATISTICS_FLAGS_VALID_MULTICAST_FRAMES_XMIT: u32 = 0x0000_0080;
pub const NDIS_STATISTICS_FLAGS_VALID_BROADCAST_FRAMES_XMIT: u32 = 0x0000_0100;
pub const NDIS_STATISTICS_FLAGS_VALID_BYTES_XMIT: u32 = 0x0000_0200;
pub const NDIS_STATISTICS_FLAGS_VALID_XMIT_ERROR: u32 = 0x0000_0400;
pub const NDIS_STATISTICS_FLAGS_VALID_XMIT_DISCARDS: u32 = 0x0000_8000;
pub const NDIS_STATISTICS_FLAGS_VALID_DIRECTED_BYTES_RCV: u32 = 0x0001_0000;
pub const NDIS_STATISTICS_FLAGS_VALID_MULTICAST_BYTES_RCV: u32 = 0x0002_0000;
pub const NDIS_STATISTICS_FLAGS_VALID_BROADCAST_BYTES_RCV: u32 = 0x0004_0000;
pub const NDIS_STATISTICS_FLAGS_VALID_DIRECTED_BYTES_XMIT: u32 = 0x0008_0000;
pub const NDIS_STATISTICS_FLAGS_VALID_MULTICAST_BYTES_XMIT: u32 = 0x0010_0000;
pub const NDIS_STATISTICS_FLAGS_VALID_BROADCAST_BYTES_XMIT: u32 = 0x0020_0000;

layouts! {
    NDIS_STATUS_INDICATION = 112 {
        Header: 0, SourceHandle: 8, PortNumber: 16, StatusCode: 20, Flags: 24,
        DestinationHandle: 32, RequestId: 40, StatusBuffer: 48, StatusBufferSize: 56, Guid: 60,
        NdisReserved: 80,
    }
    NDIS_LINK_STATE = 40 {
        Header: 0, MediaConnectState: 4, MediaDuplexState: 8, XmitLinkSpeed: 16, RcvLinkSpeed: 24,
        PauseFunctions: 32, AutoNegotiationFlags: 36,
    }
    NDIS_STATISTICS_INFO = 152 {
        Header: 0, SupportedStatistics: 4, ifInDiscards: 8, ifInErrors: 16, ifHCInOctets: 24,
        ifHCInUcastPkts: 32, ifHCInMulticastPkts: 40, ifHCInBroadcastPkts: 48,
        ifHCOutOctets: 56, ifHCOutUcastPkts: 64, ifHCOutMulticastPkts: 72,
        ifHCOutBroadcastPkts: 80, ifOutErrors: 88, ifOutDiscards: 96, ifHCInUcastOctets: 104,
        ifHCInMulticastOctets: 112, ifHCInBroadcastOctets: 120, ifHCOutUcastOctets: 128,
        ifHCOutMulticastOctets: 136, ifHCOutBroadcastOctets: 144,
    }
}
