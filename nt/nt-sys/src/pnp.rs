//! Plug and Play: minor functions, capabilities, relations, IDs and driver-to-driver interfaces.

use crate::{BOOLEAN, DEVICE_OBJECT, GUID, PHYSICAL_ADDRESS, PVOID, PowerSystemMaximum, UCHAR};

// Minor functions of IRP_MJ_PNP (wdm.h)
pub const IRP_MN_START_DEVICE: UCHAR = 0x00;
pub const IRP_MN_QUERY_REMOVE_DEVICE: UCHAR = 0x01;
pub const IRP_MN_REMOVE_DEVICE: UCHAR = 0x02;
pub const IRP_MN_CANCEL_REMOVE_DEVICE: UCHAR = 0x03;
pub const IRP_MN_STOP_DEVICE: UCHAR = 0x04;
pub const IRP_MN_QUERY_STOP_DEVICE: UCHAR = 0x05;
pub const IRP_MN_CANCEL_STOP_DEVICE: UCHAR = 0x06;
pub const IRP_MN_QUERY_DEVICE_RELATIONS: UCHAR = 0x07;
pub const IRP_MN_QUERY_INTERFACE: UCHAR = 0x08;
pub const IRP_MN_QUERY_CAPABILITIES: UCHAR = 0x09;
pub const IRP_MN_QUERY_RESOURCES: UCHAR = 0x0a;
pub const IRP_MN_QUERY_RESOURCE_REQUIREMENTS: UCHAR = 0x0b;
pub const IRP_MN_QUERY_DEVICE_TEXT: UCHAR = 0x0c;
pub const IRP_MN_FILTER_RESOURCE_REQUIREMENTS: UCHAR = 0x0d;
pub const IRP_MN_READ_CONFIG: UCHAR = 0x0f;
pub const IRP_MN_WRITE_CONFIG: UCHAR = 0x10;
pub const IRP_MN_EJECT: UCHAR = 0x11;
pub const IRP_MN_SET_LOCK: UCHAR = 0x12;
pub const IRP_MN_QUERY_ID: UCHAR = 0x13;
pub const IRP_MN_QUERY_PNP_DEVICE_STATE: UCHAR = 0x14;
pub const IRP_MN_QUERY_BUS_INFORMATION: UCHAR = 0x15;
pub const IRP_MN_DEVICE_USAGE_NOTIFICATION: UCHAR = 0x16;
pub const IRP_MN_SURPRISE_REMOVAL: UCHAR = 0x17;
pub const IRP_MN_DEVICE_ENUMERATED: UCHAR = 0x19;

// BUS_QUERY_ID_TYPE
pub const BusQueryDeviceID: i32 = 0;
pub const BusQueryHardwareIDs: i32 = 1;
pub const BusQueryCompatibleIDs: i32 = 2;
pub const BusQueryInstanceID: i32 = 3;
pub const BusQueryDeviceSerialNumber: i32 = 4;
pub const BusQueryContainerID: i32 = 5;

// DEVICE_TEXT_TYPE
pub const DeviceTextDescription: i32 = 0;
pub const DeviceTextLocationInformation: i32 = 1;

// DEVICE_RELATION_TYPE
pub const BusRelations: i32 = 0;
pub const EjectionRelations: i32 = 1;
pub const PowerRelations: i32 = 2;
pub const RemovalRelations: i32 = 3;
pub const TargetDeviceRelation: i32 = 4;

// DEVICE_USAGE_NOTIFICATION_TYPE
pub const DeviceUsageTypePaging: i32 = 1;
pub const DeviceUsageTypeHibernation: i32 = 2;
pub const DeviceUsageTypeDumpFile: i32 = 3;
pub const DeviceUsageTypeBoot: i32 = 4;

// PNP_DEVICE_STATE, the answer to IRP_MN_QUERY_PNP_DEVICE_STATE
pub const PNP_DEVICE_DISABLED: u32 = 0x01;
pub const PNP_DEVICE_DONT_DISPLAY_IN_UI: u32 = 0x02;
pub const PNP_DEVICE_FAILED: u32 = 0x04;
pub const PNP_DEVICE_REMOVED: u32 = 0x08;
pub const PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED: u32 = 0x10;
pub const PNP_DEVICE_NOT_DISABLEABLE: u32 = 0x20;

/// `Count` referenced device objects start at `Objects`; the array is from paged pool and the I/O manager frees it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DEVICE_RELATIONS {
    pub Count: u32,
    pub Objects: [*mut DEVICE_OBJECT; 1],
}

/// What a device can do. The single-bit members of wdm.h are bits of `Bits` (`CAPABILITY_*`).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DEVICE_CAPABILITIES {
    pub Size: u16,
    pub Version: u16,
    pub Bits: u32,
    pub Address: u32,
    pub UINumber: u32,
    /// The device state that goes with each system state.
    pub DeviceState: [i32; PowerSystemMaximum],
    pub SystemWake: i32,
    pub DeviceWake: i32,
    /// Latencies in units of 100 µs.
    pub D1Latency: u32,
    pub D2Latency: u32,
    pub D3Latency: u32,
}

// DEVICE_CAPABILITIES' bits, in the order of wdm.h
pub const CAPABILITY_DEVICE_D1: u32 = 1 << 0;
pub const CAPABILITY_DEVICE_D2: u32 = 1 << 1;
pub const CAPABILITY_LOCK_SUPPORTED: u32 = 1 << 2;
pub const CAPABILITY_EJECT_SUPPORTED: u32 = 1 << 3;
pub const CAPABILITY_REMOVABLE: u32 = 1 << 4;
pub const CAPABILITY_DOCK_DEVICE: u32 = 1 << 5;
pub const CAPABILITY_UNIQUE_ID: u32 = 1 << 6;
pub const CAPABILITY_SILENT_INSTALL: u32 = 1 << 7;
pub const CAPABILITY_RAW_DEVICE_OK: u32 = 1 << 8;
pub const CAPABILITY_SURPRISE_REMOVAL_OK: u32 = 1 << 9;
pub const CAPABILITY_WAKE_FROM_D0: u32 = 1 << 10;
pub const CAPABILITY_HARDWARE_DISABLED: u32 = 1 << 14;
pub const CAPABILITY_NON_DYNAMIC: u32 = 1 << 15;
pub const CAPABILITY_WARM_EJECT_SUPPORTED: u32 = 1 << 16;
pub const CAPABILITY_NO_DISPLAY_IN_UI: u32 = 1 << 17;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PNP_BUS_INFORMATION {
    pub BusTypeGuid: GUID,
    pub LegacyBusType: i32,
    pub BusNumber: u32,
}

pub type INTERFACE_REFERENCE = unsafe extern "win64" fn(context: PVOID);

/// The head of every driver-to-driver interface; call slots follow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct INTERFACE {
    pub Size: u16,
    pub Version: u16,
    pub Context: PVOID,
    pub InterfaceReference: Option<INTERFACE_REFERENCE>,
    pub InterfaceDereference: Option<INTERFACE_REFERENCE>,
}

pub type TRANSLATE_BUS_ADDRESS = unsafe extern "win64" fn(
    context: PVOID,
    bus_address: PHYSICAL_ADDRESS,
    length: u32,
    address_space: *mut u32,
    translated_address: *mut PHYSICAL_ADDRESS,
) -> BOOLEAN;
pub type GET_DMA_ADAPTER = unsafe extern "win64" fn(
    context: PVOID,
    device_description: PVOID,
    map_registers: *mut u32,
) -> PVOID;
pub type GET_SET_DEVICE_DATA = unsafe extern "win64" fn(
    context: PVOID,
    data_type: u32,
    buffer: PVOID,
    offset: u32,
    length: u32,
) -> u32;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct BUS_INTERFACE_STANDARD {
    pub Size: u16,
    pub Version: u16,
    pub Context: PVOID,
    pub InterfaceReference: Option<INTERFACE_REFERENCE>,
    pub InterfaceDereference: Option<INTERFACE_REFERENCE>,
    pub TranslateBusAddress: Option<TRANSLATE_BUS_ADDRESS>,
    pub GetDmaAdapter: Option<GET_DMA_ADAPTER>,
    pub SetBusData: Option<GET_SET_DEVICE_DATA>,
    pub GetBusData: Option<GET_SET_DEVICE_DATA>,
}

// wdmguid.h
pub const GUID_BUS_INTERFACE_STANDARD: GUID =
    GUID::from_u128(0x496B8280_6F25_11D0_BEAF_08002BE2092F);
pub const GUID_BUS_TYPE_INTERNAL: GUID = GUID::from_u128(0x1530EA73_086B_11D1_A09F_00C04FC340B1);
pub const GUID_BUS_TYPE_PCI: GUID = GUID::from_u128(0xC8EBDFB0_B510_11D0_80E5_00A0C92542E3);

layouts! {
    DEVICE_RELATIONS = 16 { Count: 0, Objects: 8 }
    DEVICE_CAPABILITIES = 64 {
        Size: 0, Version: 2, Bits: 4, Address: 8, UINumber: 12, DeviceState: 16, SystemWake: 44,
        DeviceWake: 48, D1Latency: 52, D2Latency: 56, D3Latency: 60,
    }
    PNP_BUS_INFORMATION = 24 { BusTypeGuid: 0, LegacyBusType: 16, BusNumber: 20 }
    INTERFACE = 32 {
        Size: 0, Version: 2, Context: 8, InterfaceReference: 16, InterfaceDereference: 24,
    }
    BUS_INTERFACE_STANDARD = 64 {
        Size: 0, Version: 2, Context: 8, InterfaceReference: 16, InterfaceDereference: 24,
        TranslateBusAddress: 32, GetDmaAdapter: 40, SetBusData: 48, GetBusData: 56,
    }
}
