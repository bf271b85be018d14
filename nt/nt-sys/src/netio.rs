//! netio.sys: the system's network interfaces and their IP addresses (netioapi.h).

use crate::{BOOLEAN, GUID, PVOID};

/// ADDRESS_FAMILY (ws2def.h)
pub const AF_UNSPEC: u16 = 0;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 23;

/// IF_OPER_STATUS (ifdef.h)
pub const IfOperStatusUp: i32 = 1;
pub const IfOperStatusDown: i32 = 2;

/// IANA's type of an Ethernet interface (ipifcons.h).
pub const IF_TYPE_ETHERNET_CSMACD: u32 = 6;

// MIB_IF_ROW2.InterfaceAndOperStatusFlags
pub const IF_HARDWARE_INTERFACE: u8 = 1 << 0;
pub const IF_CONNECTOR_PRESENT: u8 = 1 << 2;

// MIB_NOTIFICATION_TYPE
pub const MibParameterNotification: i32 = 0;
pub const MibAddInstance: i32 = 1;
pub const MibDeleteInstance: i32 = 2;
pub const MibInitialNotification: i32 = 3;

/// An interface.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MIB_IF_ROW2 {
    pub InterfaceLuid: u64,
    pub InterfaceIndex: u32,
    pub InterfaceGuid: GUID,
    pub Alias: [u16; 257],
    pub Description: [u16; 257],
    pub PhysicalAddressLength: u32,
    pub PhysicalAddress: [u8; 32],
    pub PermanentPhysicalAddress: [u8; 32],
    pub Mtu: u32,
    pub Type: u32,
    pub TunnelType: i32,
    pub MediaType: i32,
    pub PhysicalMediumType: i32,
    pub AccessType: i32,
    pub DirectionType: i32,
    pub InterfaceAndOperStatusFlags: u8,
    pub OperStatus: i32,
    pub AdminStatus: i32,
    pub MediaConnectState: i32,
    pub NetworkGuid: GUID,
    pub ConnectionType: i32,
    pub TransmitLinkSpeed: u64,
    pub ReceiveLinkSpeed: u64,
    /// InOctets to OutQLen.
    pub Counters: [u64; 18],
}

/// Interfaces; freed by FreeMibTable.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MIB_IF_TABLE2 {
    pub NumEntries: u32,
    pub Table: [MIB_IF_ROW2; 1],
}

/// SOCKADDR_INET, which is a union of SOCKADDR_IN, SOCKADDR_IN6 and their common first member.
#[repr(C)]
#[derive(Clone, Copy)]
pub union SOCKADDR_INET {
    pub Ipv4: SOCKADDR_IN,
    pub Ipv6: SOCKADDR_IN6,
    pub si_family: u16,
}

impl core::fmt::Debug for SOCKADDR_INET {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SOCKADDR_INET")
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SOCKADDR_IN {
    pub sin_family: u16,
    pub sin_port: u16,
    pub sin_addr: [u8; 4],
    pub sin_zero: [u8; 8],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SOCKADDR_IN6 {
    pub sin6_family: u16,
    pub sin6_port: u16,
    pub sin6_flowinfo: u32,
    pub sin6_addr: [u8; 16],
    pub sin6_scope_id: u32,
}

/// An address of an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MIB_UNICASTIPADDRESS_ROW {
    pub Address: SOCKADDR_INET,
    pub InterfaceLuid: u64,
    pub InterfaceIndex: u32,
    pub PrefixOrigin: i32,
    pub SuffixOrigin: i32,
    pub ValidLifetime: u32,
    pub PreferredLifetime: u32,
    pub OnLinkPrefixLength: u8,
    pub SkipAsSource: BOOLEAN,
    pub DadState: i32,
    pub ScopeId: u32,
    pub CreationTimeStamp: i64,
}

/// Addresses; freed by FreeMibTable.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MIB_UNICASTIPADDRESS_TABLE {
    pub NumEntries: u32,
    pub Table: [MIB_UNICASTIPADDRESS_ROW; 1],
}

/// PUNICAST_IPADDRESS_CHANGE_CALLBACK: context, row or null, kind. PASSIVE_LEVEL.
pub type UNICAST_IPADDRESS_CHANGE_CALLBACK =
    unsafe extern "win64" fn(PVOID, *mut MIB_UNICASTIPADDRESS_ROW, i32);

layouts! {
    MIB_IF_ROW2 = 1352 {
        InterfaceLuid: 0, InterfaceIndex: 8, InterfaceGuid: 12, Alias: 28, Description: 542,
        PhysicalAddressLength: 1056, PhysicalAddress: 1060, PermanentPhysicalAddress: 1092, Mtu: 1124, Type: 1128,
        InterfaceAndOperStatusFlags: 1152, OperStatus: 1156, AdminStatus: 1160, MediaConnectState: 1164,
        NetworkGuid: 1168, ConnectionType: 1184, TransmitLinkSpeed: 1192, ReceiveLinkSpeed: 1200,
    }
    MIB_IF_TABLE2 = 1360 { NumEntries: 0, Table: 8 }
    SOCKADDR_INET = 28 { Ipv4: 0, Ipv6: 0, si_family: 0 }
    SOCKADDR_IN = 16 { sin_family: 0, sin_port: 2, sin_addr: 4 }
    SOCKADDR_IN6 = 28 { sin6_family: 0, sin6_addr: 8, sin6_scope_id: 24 }
    MIB_UNICASTIPADDRESS_ROW = 80 {
        Address: 0, InterfaceLuid: 32, InterfaceIndex: 40, OnLinkPrefixLength: 60, SkipAsSource: 61, DadState: 64,
        ScopeId: 68, CreationTimeStamp: 72,
    }
    MIB_UNICASTIPADDRESS_TABLE = 88 { NumEntries: 0, Table: 8 }
}
