//! Requests of NDIS to a miniport, and the objects that they are about.

use crate::PVOID;
use crate::ndis::{NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OID, NDIS_PORT_NUMBER};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_OID_QUERY {
    pub Oid: NDIS_OID,
    pub InformationBuffer: PVOID,
    pub InformationBufferLength: u32,
    pub BytesWritten: u32,
    pub BytesNeeded: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_OID_SET {
    pub Oid: NDIS_OID,
    pub InformationBuffer: PVOID,
    pub InformationBufferLength: u32,
    pub BytesRead: u32,
    pub BytesNeeded: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_OID_METHOD {
    pub Oid: NDIS_OID,
    pub InformationBuffer: PVOID,
    pub InputBufferLength: u32,
    pub OutputBufferLength: u32,
    pub MethodId: u32,
    pub BytesWritten: u32,
    pub BytesRead: u32,
    pub BytesNeeded: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union NDIS_OID_REQUEST_DATA {
    pub QUERY_INFORMATION: NDIS_OID_QUERY,
    pub SET_INFORMATION: NDIS_OID_SET,
    pub METHOD_INFORMATION: NDIS_OID_METHOD,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct NDIS_OID_REQUEST {
    pub Header: NDIS_OBJECT_HEADER,
    /// `NdisRequest*`, which says what of `DATA` holds.
    pub RequestType: i32,
    pub PortNumber: NDIS_PORT_NUMBER,
    /// Seconds.
    pub Timeout: u32,
    pub RequestId: PVOID,
    pub RequestHandle: NDIS_HANDLE,
    pub DATA: NDIS_OID_REQUEST_DATA,
    pub NdisReserved: [PVOID; 16],
    pub MiniportReserved: [PVOID; 2],
    pub SourceReserved: [PVOID; 2],
    pub SupportedRevision: u8,
    pub Reserved1: u8,
    pub Reserved2: u16,
    /// NDIS 6.50, revision 2, as the next two.
    pub SwitchId: u32,
    pub VPortId: u32,
    pub Flags: u32,
}

pub const NDIS_OID_REQUEST_REVISION_1: u8 = 1;
pub const NDIS_OID_REQUEST_REVISION_2: u8 = 2;
pub const NDIS_SIZEOF_OID_REQUEST_REVISION_1: u16 = 0xEC;
pub const NDIS_SIZEOF_OID_REQUEST_REVISION_2: u16 = 0xF8;

// NDIS_REQUEST_TYPE (ndis.h)
pub const NdisRequestQueryInformation: i32 = 0;
pub const NdisRequestSetInformation: i32 = 1;
pub const NdisRequestQueryStatistics: i32 = 2;
pub const NdisRequestMethod: i32 = 12;

// NDIS_HARDWARE_STATUS, the answer to OID_GEN_HARDWARE_STATUS (ntddndis.h)
pub const NdisHardwareStatusReady: u32 = 0;

// NDIS_MEDIA_STATE, the answer to OID_GEN_MEDIA_CONNECT_STATUS (ntddndis.h)
pub const NdisMediaStateConnected: u32 = 0;
pub const NdisMediaStateDisconnected: u32 = 1;

// General (ntddndis.h)
pub const OID_GEN_SUPPORTED_LIST: NDIS_OID = 0x0001_0101;
pub const OID_GEN_HARDWARE_STATUS: NDIS_OID = 0x0001_0102;
pub const OID_GEN_MEDIA_SUPPORTED: NDIS_OID = 0x0001_0103;
pub const OID_GEN_MEDIA_IN_USE: NDIS_OID = 0x0001_0104;
pub const OID_GEN_MAXIMUM_LOOKAHEAD: NDIS_OID = 0x0001_0105;
pub const OID_GEN_MAXIMUM_FRAME_SIZE: NDIS_OID = 0x0001_0106;
pub const OID_GEN_LINK_SPEED: NDIS_OID = 0x0001_0107;
pub const OID_GEN_TRANSMIT_BUFFER_SPACE: NDIS_OID = 0x0001_0108;
pub const OID_GEN_RECEIVE_BUFFER_SPACE: NDIS_OID = 0x0001_0109;
pub const OID_GEN_TRANSMIT_BLOCK_SIZE: NDIS_OID = 0x0001_010A;
pub const OID_GEN_RECEIVE_BLOCK_SIZE: NDIS_OID = 0x0001_010B;
pub const OID_GEN_VENDOR_ID: NDIS_OID = 0x0001_010C;
pub const OID_GEN_VENDOR_DESCRIPTION: NDIS_OID = 0x0001_010D;
pub const OID_GEN_CURRENT_PACKET_FILTER: NDIS_OID = 0x0001_010E;
pub const OID_GEN_CURRENT_LOOKAHEAD: NDIS_OID = 0x0001_010F;
pub const OID_GEN_DRIVER_VERSION: NDIS_OID = 0x0001_0110;
pub const OID_GEN_MAXIMUM_TOTAL_SIZE: NDIS_OID = 0x0001_0111;
pub const OID_GEN_PROTOCOL_OPTIONS: NDIS_OID = 0x0001_0112;
pub const OID_GEN_MAC_OPTIONS: NDIS_OID = 0x0001_0113;
pub const OID_GEN_MEDIA_CONNECT_STATUS: NDIS_OID = 0x0001_0114;
pub const OID_GEN_MAXIMUM_SEND_PACKETS: NDIS_OID = 0x0001_0115;
pub const OID_GEN_VENDOR_DRIVER_VERSION: NDIS_OID = 0x0001_0116;
pub const OID_GEN_SUPPORTED_GUIDS: NDIS_OID = 0x0001_0117;
pub const OID_GEN_NETWORK_LAYER_ADDRESSES: NDIS_OID = 0x0001_0118;
pub const OID_GEN_PHYSICAL_MEDIUM: NDIS_OID = 0x0001_0202;
pub const OID_GEN_RECEIVE_SCALE_CAPABILITIES: NDIS_OID = 0x0001_0203;
pub const OID_GEN_RECEIVE_SCALE_PARAMETERS: NDIS_OID = 0x0001_0204;
pub const OID_GEN_MAC_ADDRESS: NDIS_OID = 0x0001_0205;
pub const OID_GEN_MAX_LINK_SPEED: NDIS_OID = 0x0001_0206;
pub const OID_GEN_LINK_STATE: NDIS_OID = 0x0001_0207;
pub const OID_GEN_LINK_PARAMETERS: NDIS_OID = 0x0001_0208;
pub const OID_GEN_INTERRUPT_MODERATION: NDIS_OID = 0x0001_0209;
pub const OID_GEN_PHYSICAL_MEDIUM_EX: NDIS_OID = 0x0001_0213;
pub const OID_GEN_MACHINE_NAME: NDIS_OID = 0x0001_021A;
pub const OID_GEN_VLAN_ID: NDIS_OID = 0x0001_021C;
pub const OID_GEN_RECEIVE_HASH: NDIS_OID = 0x0001_021F;
pub const OID_GEN_XMIT_OK: NDIS_OID = 0x0002_0101;
pub const OID_GEN_RCV_OK: NDIS_OID = 0x0002_0102;
pub const OID_GEN_XMIT_ERROR: NDIS_OID = 0x0002_0103;
pub const OID_GEN_RCV_ERROR: NDIS_OID = 0x0002_0104;
pub const OID_GEN_RCV_NO_BUFFER: NDIS_OID = 0x0002_0105;
pub const OID_GEN_STATISTICS: NDIS_OID = 0x0002_0106;
pub const OID_GEN_DIRECTED_BYTES_XMIT: NDIS_OID = 0x0002_0201;
pub const OID_GEN_DIRECTED_FRAMES_XMIT: NDIS_OID = 0x0002_0202;
pub const OID_GEN_MULTICAST_BYTES_XMIT: NDIS_OID = 0x0002_0203;
pub const OID_GEN_MULTICAST_FRAMES_XMIT: NDIS_OID = 0x0002_0204;
pub const OID_GEN_BROADCAST_BYTES_XMIT: NDIS_OID = 0x0002_0205;
pub const OID_GEN_BROADCAST_FRAMES_XMIT: NDIS_OID = 0x0002_0206;
pub const OID_GEN_DIRECTED_BYTES_RCV: NDIS_OID = 0x0002_0207;
pub const OID_GEN_DIRECTED_FRAMES_RCV: NDIS_OID = 0x0002_0208;
pub const OID_GEN_MULTICAST_BYTES_RCV: NDIS_OID = 0x0002_0209;
pub const OID_GEN_MULTICAST_FRAMES_RCV: NDIS_OID = 0x0002_020A;
pub const OID_GEN_BROADCAST_BYTES_RCV: NDIS_OID = 0x0002_020B;
pub const OID_GEN_BROADCAST_FRAMES_RCV: NDIS_OID = 0x0002_020C;
pub const OID_GEN_RCV_CRC_ERROR: NDIS_OID = 0x0002_020D;
pub const OID_GEN_TRANSMIT_QUEUE_LENGTH: NDIS_OID = 0x0002_020E;
pub const OID_GEN_INIT_TIME_MS: NDIS_OID = 0x0002_0213;
pub const OID_GEN_RESET_COUNTS: NDIS_OID = 0x0002_0214;
pub const OID_GEN_MEDIA_SENSE_COUNTS: NDIS_OID = 0x0002_0215;
pub const OID_GEN_BYTES_RCV: NDIS_OID = 0x0002_0219;
pub const OID_GEN_BYTES_XMIT: NDIS_OID = 0x0002_021A;
pub const OID_GEN_RCV_DISCARDS: NDIS_OID = 0x0002_021B;
pub const OID_GEN_XMIT_DISCARDS: NDIS_OID = 0x0002_021C;

// Ethernet
pub const OID_802_3_PERMANENT_ADDRESS: NDIS_OID = 0x0101_0101;
pub const OID_802_3_CURRENT_ADDRESS: NDIS_OID = 0x0101_0102;
pub const OID_802_3_MULTICAST_LIST: NDIS_OID = 0x0101_0103;
pub const OID_802_3_MAXIMUM_LIST_SIZE: NDIS_OID = 0x0101_0104;
pub const OID_802_3_MAC_OPTIONS: NDIS_OID = 0x0101_0105;
pub const OID_802_3_ADD_MULTICAST_ADDRESS: NDIS_OID = 0x0101_0208;
pub const OID_802_3_DELETE_MULTICAST_ADDRESS: NDIS_OID = 0x0101_0209;
pub const OID_802_3_RCV_ERROR_ALIGNMENT: NDIS_OID = 0x0102_0101;
pub const OID_802_3_XMIT_ONE_COLLISION: NDIS_OID = 0x0102_0102;
pub const OID_802_3_XMIT_MORE_COLLISIONS: NDIS_OID = 0x0102_0103;

// Offloads
pub const OID_OFFLOAD_ENCAPSULATION: NDIS_OID = 0x0101_010A;
pub const OID_TCP_OFFLOAD_CURRENT_CONFIG: NDIS_OID = 0xFC01_020B;
pub const OID_TCP_OFFLOAD_PARAMETERS: NDIS_OID = 0xFC01_020C;
pub const OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES: NDIS_OID = 0xFC01_020D;
pub const OID_TCP_RSC_STATISTICS: NDIS_OID = 0x0002_021D;
pub const OID_IP4_OFFLOAD_STATS: NDIS_OID = 0xFC01_0209;
pub const OID_IP6_OFFLOAD_STATS: NDIS_OID = 0xFC01_020A;

// Power
pub const OID_PNP_CAPABILITIES: NDIS_OID = 0xFD01_0100;
pub const OID_PNP_SET_POWER: NDIS_OID = 0xFD01_0101;
pub const OID_PNP_QUERY_POWER: NDIS_OID = 0xFD01_0102;
pub const OID_PM_CURRENT_CAPABILITIES: NDIS_OID = 0xFD01_0107;
pub const OID_PM_HARDWARE_CAPABILITIES: NDIS_OID = 0xFD01_0108;
pub const OID_PM_PARAMETERS: NDIS_OID = 0xFD01_0109;

layouts! {
    NDIS_OID_QUERY = 32 {
        Oid: 0, InformationBuffer: 8, InformationBufferLength: 16, BytesWritten: 20, BytesNeeded: 24,
    }
    NDIS_OID_SET = 32 {
        Oid: 0, InformationBuffer: 8, InformationBufferLength: 16, BytesRead: 20, BytesNeeded: 24,
    }
    NDIS_OID_METHOD = 40 {
        Oid: 0, InformationBuffer: 8, InputBufferLength: 16, OutputBufferLength: 20, MethodId: 24,
        BytesWritten: 28, BytesRead: 32, BytesNeeded: 36,
    }
    NDIS_OID_REQUEST = 248 {
        Header: 0, RequestType: 4, PortNumber: 8, Timeout: 12, RequestId: 16, RequestHandle: 24,
        DATA: 32, NdisReserved: 72, MiniportReserved: 200, SourceReserved: 216,
        SupportedRevision: 232, SwitchId: 236, VPortId: 240, Flags: 244,
    }
}
