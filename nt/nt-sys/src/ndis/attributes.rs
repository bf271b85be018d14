//! What a miniport says about an adapter while it initialises it: registration, general and offload attributes.

use crate::ndis::{
    NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OFFLOAD, NDIS_OID, NDIS_RECEIVE_SCALE_CAPABILITIES,
};
use crate::{BOOLEAN, PVOID};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub MiniportAdapterContext: NDIS_HANDLE,
    /// `NDIS_MINIPORT_ATTRIBUTES_*`.
    pub AttributeFlags: u32,
    pub CheckForHangTimeInSeconds: u32,
    /// `NDIS_INTERFACE_TYPE`.
    pub InterfaceType: i32,
}

pub const NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1: u8 = 1;
/// NDIS 6.30: more flags, no more fields.
pub const NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2: u8 = 2;
pub const NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1: u16 = 28;
pub const NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2: u16 = 28;

// AttributeFlags (ndis.h)
pub const NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE: u32 = 0x0000_0001;
pub const NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM: u32 = 0x0000_0002;
pub const NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK: u32 = 0x0000_0004;
pub const NDIS_MINIPORT_ATTRIBUTES_NOT_CO_NDIS: u32 = 0x0000_0008;
pub const NDIS_MINIPORT_ATTRIBUTES_DO_NOT_BIND_TO_ALL_CO: u32 = 0x0000_0010;
pub const NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND: u32 = 0x0000_0020;
pub const NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER: u32 = 0x0000_0040;
pub const NDIS_MINIPORT_ATTRIBUTES_CONTROLS_DEFAULT_PORT: u32 = 0x0000_0080;

// NDIS_INTERFACE_TYPE, whose values are those of INTERFACE_TYPE (wdm.h)
pub const NdisInterfaceInternal: i32 = 0;
pub const NdisInterfacePci: i32 = 5;

/// Longest hardware address in bytes (ifdef.h: IF_MAX_PHYS_ADDRESS_LENGTH).
pub const NDIS_MAX_PHYS_ADDRESS_LENGTH: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub Flags: u32,
    pub MediaType: i32,
    pub PhysicalMediumType: i32,
    /// Bytes of payload of the longest frame.
    pub MtuSize: u32,
    /// Bits per second, as the other speeds.
    pub MaxXmitLinkSpeed: u64,
    pub XmitLinkSpeed: u64,
    pub MaxRcvLinkSpeed: u64,
    pub RcvLinkSpeed: u64,
    /// `MediaConnectState*`.
    pub MediaConnectState: i32,
    /// `MediaDuplexState*`.
    pub MediaDuplexState: i32,
    pub LookaheadSize: u32,
    pub PowerManagementCapabilities: PVOID,
    pub MacOptions: u32,
    pub SupportedPacketFilters: u32,
    pub MaxMulticastListSize: u32,
    pub MacAddressLength: u16,
    pub PermanentMacAddress: [u8; NDIS_MAX_PHYS_ADDRESS_LENGTH],
    pub CurrentMacAddress: [u8; NDIS_MAX_PHYS_ADDRESS_LENGTH],
    pub RecvScaleCapabilities: *mut NDIS_RECEIVE_SCALE_CAPABILITIES,
    pub AccessType: i32,
    pub DirectionType: i32,
    pub ConnectionType: i32,
    pub IfType: u16,
    pub IfConnectorPresent: BOOLEAN,
    /// `NDIS_STATISTICS_*_SUPPORTED`.
    pub SupportedStatistics: u32,
    pub SupportedPauseFunctions: u32,
    pub DataBackFillSize: u32,
    pub ContextBackFillSize: u32,
    pub SupportedOidList: *mut NDIS_OID,
    /// Bytes.
    pub SupportedOidListLength: u32,
    pub AutoNegotiationFlags: u32,
    pub PowerManagementCapabilitiesEx: *mut NDIS_PM_CAPABILITIES,
}

pub const NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_1: u8 = 1;
/// NDIS 6.20: `PowerManagementCapabilitiesEx`.
pub const NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2: u8 = 2;
pub const NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_1: u16 = 216;
pub const NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2: u16 = 224;

// NDIS_MEDIUM, NDIS_PHYSICAL_MEDIUM (ntddndis.h), IF_TYPE (ipifcons.h)
pub const NdisMedium802_3: i32 = 0;
pub const NdisPhysicalMedium802_3: i32 = 14;
pub const IF_TYPE_ETHERNET_CSMACD: u16 = 6;

// NET_IF_MEDIA_CONNECT_STATE, NET_IF_MEDIA_DUPLEX_STATE (ifdef.h)
pub const MediaConnectStateUnknown: i32 = 0;
pub const MediaConnectStateConnected: i32 = 1;
pub const MediaConnectStateDisconnected: i32 = 2;
pub const MediaDuplexStateUnknown: i32 = 0;
pub const MediaDuplexStateHalf: i32 = 1;
pub const MediaDuplexStateFull: i32 = 2;

// NET_IF_ACCESS_TYPE, NET_IF_DIRECTION_TYPE, NET_IF_CONNECTION_TYPE (ifdef.h)
pub const NET_IF_ACCESS_BROADCAST: i32 = 2;
pub const NET_IF_DIRECTION_SENDRECEIVE: i32 = 0;
pub const NET_IF_CONNECTION_DEDICATED: i32 = 1;

/// A link speed that is not known.
pub const NDIS_LINK_SPEED_UNKNOWN: u64 = u64::MAX;

// MacOptions (ntddndis.h)
pub const NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA: u32 = 0x0000_0001;
pub const NDIS_MAC_OPTION_RECEIVE_SERIALIZED: u32 = 0x0000_0002;
pub const NDIS_MAC_OPTION_TRANSFERS_NOT_PEND: u32 = 0x0000_0004;
pub const NDIS_MAC_OPTION_NO_LOOPBACK: u32 = 0x0000_0008;
pub const NDIS_MAC_OPTION_FULL_DUPLEX: u32 = 0x0000_0010;
pub const NDIS_MAC_OPTION_8021P_PRIORITY: u32 = 0x0000_0040;
pub const NDIS_MAC_OPTION_SUPPORTS_MAC_ADDRESS_OVERWRITE: u32 = 0x0000_0080;
pub const NDIS_MAC_OPTION_8021Q_VLAN: u32 = 0x0000_0200;

// SupportedPacketFilters, OID_GEN_CURRENT_PACKET_FILTER (ntddndis.h)
pub const NDIS_PACKET_TYPE_DIRECTED: u32 = 0x0000_0001;
pub const NDIS_PACKET_TYPE_MULTICAST: u32 = 0x0000_0002;
pub const NDIS_PACKET_TYPE_ALL_MULTICAST: u32 = 0x0000_0004;
pub const NDIS_PACKET_TYPE_BROADCAST: u32 = 0x0000_0008;
pub const NDIS_PACKET_TYPE_PROMISCUOUS: u32 = 0x0000_0020;

// SupportedStatistics (ndis.h)
pub const NDIS_STATISTICS_XMIT_OK_SUPPORTED: u32 = 0x0000_0001;
pub const NDIS_STATISTICS_RCV_OK_SUPPORTED: u32 = 0x0000_0002;
pub const NDIS_STATISTICS_XMIT_ERROR_SUPPORTED: u32 = 0x0000_0004;
pub const NDIS_STATISTICS_RCV_ERROR_SUPPORTED: u32 = 0x0000_0008;
pub const NDIS_STATISTICS_RCV_NO_BUFFER_SUPPORTED: u32 = 0x0000_0010;
pub const NDIS_STATISTICS_DIRECTED_BYTES_XMIT_SUPPORTED: u32 = 0x0000_0020;
pub const NDIS_STATISTICS_DIRECTED_FRAMES_XMIT_SUPPORTED: u32 = 0x0000_0040;
pub const NDIS_STATISTICS_MULTICAST_BYTES_XMIT_SUPPORTED: u32 = 0x0000_0080;
pub const NDIS_STATISTICS_MULTICAST_FRAMES_XMIT_SUPPORTED: u32 = 0x0000_0100;
pub const NDIS_STATISTICS_BROADCAST_BYTES_XMIT_SUPPORTED: u32 = 0x0000_0200;
pub const NDIS_STATISTICS_BROADCAST_FRAMES_XMIT_SUPPORTED: u32 = 0x0000_0400;
pub const NDIS_STATISTICS_DIRECTED_BYTES_RCV_SUPPORTED: u32 = 0x0000_0800;
pub const NDIS_STATISTICS_DIRECTED_FRAMES_RCV_SUPPORTED: u32 = 0x0000_1000;
pub const NDIS_STATISTICS_MULTICAST_BYTES_RCV_SUPPORTED: u32 = 0x0000_2000;
pub const NDIS_STATISTICS_MULTICAST_FRAMES_RCV_SUPPORTED: u32 = 0x0000_4000;
pub const NDIS_STATISTICS_BROADCAST_BYTES_RCV_SUPPORTED: u32 = 0x0000_8000;
pub const NDIS_STATISTICS_BROADCAST_FRAMES_RCV_SUPPORTED: u32 = 0x0001_0000;
pub const NDIS_STATISTICS_RCV_CRC_ERROR_SUPPORTED: u32 = 0x0002_0000;
pub const NDIS_STATISTICS_TRANSMIT_QUEUE_LENGTH_SUPPORTED: u32 = 0x0004_0000;
pub const NDIS_STATISTICS_BYTES_RCV_SUPPORTED: u32 = 0x0008_0000;
pub const NDIS_STATISTICS_BYTES_XMIT_SUPPORTED: u32 = 0x0010_0000;
pub const NDIS_STATISTICS_RCV_DISCARDS_SUPPORTED: u32 = 0x0020_0000;
pub const NDIS_STATISTICS_GEN_STATISTICS_SUPPORTED: u32 = 0x0040_0000;
pub const NDIS_STATISTICS_XMIT_DISCARDS_SUPPORTED: u32 = 0x0800_0000;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_PM_CAPABILITIES {
    pub Header: NDIS_OBJECT_HEADER,
    pub Flags: u32,
    pub SupportedWoLPacketPatterns: u32,
    pub NumTotalWoLPatterns: u32,
    pub MaxWoLPatternSize: u32,
    pub MaxWoLPatternOffset: u32,
    pub MaxWoLPacketSaveBuffer: u32,
    pub SupportedProtocolOffloads: u32,
    pub NumArpOffloadIPv4Addresses: u32,
    pub NumNSOffloadIPv6Addresses: u32,
    /// `NdisDeviceState*`, as the next two.
    pub MinMagicPacketWakeUp: i32,
    pub MinPatternWakeUp: i32,
    pub MinLinkChangeWakeUp: i32,
    pub SupportedWakeUpEvents: u32,
    pub MediaSpecificWakeUpEvents: u32,
}

pub const NDIS_PM_CAPABILITIES_REVISION_1: u8 = 1;
/// NDIS 6.30.
pub const NDIS_PM_CAPABILITIES_REVISION_2: u8 = 2;
pub const NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_1: u16 = 52;
pub const NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2: u16 = 60;

// NDIS_DEVICE_POWER_STATE (ntddndis.h)
pub const NdisDeviceStateUnspecified: i32 = 0;
pub const NdisDeviceStateD0: i32 = 1;
pub const NdisDeviceStateD1: i32 = 2;
pub const NdisDeviceStateD2: i32 = 3;
pub const NdisDeviceStateD3: i32 = 4;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub DefaultOffloadConfiguration: *mut NDIS_OFFLOAD,
    pub HardwareOffloadCapabilities: *mut NDIS_OFFLOAD,
    pub DefaultTcpConnectionOffloadConfiguration: PVOID,
    pub TcpConnectionOffloadHardwareCapabilities: PVOID,
}

pub const NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1: u16 = 40;

layouts! {
    NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES = 32 {
        Header: 0, MiniportAdapterContext: 8, AttributeFlags: 16, CheckForHangTimeInSeconds: 20,
        InterfaceType: 24,
    }
    NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES = 224 {
        Header: 0, Flags: 4, MediaType: 8, PhysicalMediumType: 12, MtuSize: 16,
        MaxXmitLinkSpeed: 24, XmitLinkSpeed: 32, MaxRcvLinkSpeed: 40, RcvLinkSpeed: 48,
        MediaConnectState: 56, MediaDuplexState: 60, LookaheadSize: 64,
        PowerManagementCapabilities: 72, MacOptions: 80, SupportedPacketFilters: 84,
        MaxMulticastListSize: 88, MacAddressLength: 92, PermanentMacAddress: 94,
        CurrentMacAddress: 126, RecvScaleCapabilities: 160, AccessType: 168, DirectionType: 172,
        ConnectionType: 176, IfType: 180, IfConnectorPresent: 182, SupportedStatistics: 184,
        SupportedPauseFunctions: 188, DataBackFillSize: 192, ContextBackFillSize: 196,
        SupportedOidList: 200, SupportedOidListLength: 208, AutoNegotiationFlags: 212,
        PowerManagementCapabilitiesEx: 216,
    }
    NDIS_PM_CAPABILITIES = 60 {
        Header: 0, Flags: 4, SupportedWoLPacketPatterns: 8, NumTotalWoLPatterns: 12,
        MaxWoLPatternSize: 16, MaxWoLPatternOffset: 20, MaxWoLPacketSaveBuffer: 24,
        SupportedProtocolOffloads: 28, NumArpOffloadIPv4Addresses: 32,
        NumNSOffloadIPv6Addresses: 36, MinMagicPacketWakeUp: 40, MinPatternWakeUp: 44,
        MinLinkChangeWakeUp: 48, SupportedWakeUpEvents: 52, MediaSpecificWakeUpEvents: 56,
    }
    NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES = 40 {
        Header: 0, DefaultOffloadConfiguration: 8, HardwareOffloadCapabilities: 16,
        DefaultTcpConnectionOffloadConfiguration: 24,
        TcpConnectionOffloadHardwareCapabilities: 32,
    }
}
