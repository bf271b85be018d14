//! Registration of a miniport driver: its handlers and what they are given.

use crate::ndis::{
    NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OID, NDIS_OID_REQUEST, NDIS_PORT_NUMBER, NDIS_STATUS,
    NET_BUFFER_LIST,
};
use crate::{BOOLEAN, DRIVER_OBJECT, PVOID};

pub type SET_OPTIONS =
    unsafe extern "win64" fn(driver: NDIS_HANDLE, context: NDIS_HANDLE) -> NDIS_STATUS;
pub type MINIPORT_INITIALIZE = unsafe extern "win64" fn(
    miniport: NDIS_HANDLE,
    driver_context: NDIS_HANDLE,
    parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS,
) -> NDIS_STATUS;
/// `action`: `NdisHalt*`.
pub type MINIPORT_HALT = unsafe extern "win64" fn(adapter: NDIS_HANDLE, action: i32);
pub type MINIPORT_UNLOAD = unsafe extern "win64" fn(driver: *mut DRIVER_OBJECT);
pub type MINIPORT_PAUSE = unsafe extern "win64" fn(
    adapter: NDIS_HANDLE,
    parameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS,
) -> NDIS_STATUS;
pub type MINIPORT_RESTART = unsafe extern "win64" fn(
    adapter: NDIS_HANDLE,
    parameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS,
) -> NDIS_STATUS;
pub type MINIPORT_OID_REQUEST =
    unsafe extern "win64" fn(adapter: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS;
pub type MINIPORT_SEND_NET_BUFFER_LISTS = unsafe extern "win64" fn(
    adapter: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    port: NDIS_PORT_NUMBER,
    flags: u32,
);
pub type MINIPORT_RETURN_NET_BUFFER_LISTS =
    unsafe extern "win64" fn(adapter: NDIS_HANDLE, lists: *mut NET_BUFFER_LIST, flags: u32);
pub type MINIPORT_CANCEL_SEND = unsafe extern "win64" fn(adapter: NDIS_HANDLE, cancel_id: PVOID);
pub type MINIPORT_CHECK_FOR_HANG = unsafe extern "win64" fn(adapter: NDIS_HANDLE) -> BOOLEAN;
pub type MINIPORT_RESET =
    unsafe extern "win64" fn(adapter: NDIS_HANDLE, addressing_reset: *mut BOOLEAN) -> NDIS_STATUS;
pub type MINIPORT_DEVICE_PNP_EVENT_NOTIFY =
    unsafe extern "win64" fn(adapter: NDIS_HANDLE, event: *mut NET_DEVICE_PNP_EVENT);
/// `action`: `NdisShutdown*`.
pub type MINIPORT_SHUTDOWN = unsafe extern "win64" fn(adapter: NDIS_HANDLE, action: i32);
pub type MINIPORT_CANCEL_OID_REQUEST =
    unsafe extern "win64" fn(adapter: NDIS_HANDLE, request_id: PVOID);
pub type MINIPORT_DIRECT_OID_REQUEST = MINIPORT_OID_REQUEST;
pub type MINIPORT_CANCEL_DIRECT_OID_REQUEST = MINIPORT_CANCEL_OID_REQUEST;
pub type MINIPORT_SYNCHRONOUS_OID_REQUEST = MINIPORT_OID_REQUEST;

/// What `NdisMRegisterMiniportDriver` is given.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
    pub Header: NDIS_OBJECT_HEADER,
    pub MajorNdisVersion: u8,
    pub MinorNdisVersion: u8,
    pub MajorDriverVersion: u8,
    pub MinorDriverVersion: u8,
    pub Flags: u32,
    pub SetOptionsHandler: Option<SET_OPTIONS>,
    pub InitializeHandlerEx: Option<MINIPORT_INITIALIZE>,
    pub HaltHandlerEx: Option<MINIPORT_HALT>,
    pub UnloadHandler: Option<MINIPORT_UNLOAD>,
    pub PauseHandler: Option<MINIPORT_PAUSE>,
    pub RestartHandler: Option<MINIPORT_RESTART>,
    pub OidRequestHandler: Option<MINIPORT_OID_REQUEST>,
    pub SendNetBufferListsHandler: Option<MINIPORT_SEND_NET_BUFFER_LISTS>,
    pub ReturnNetBufferListsHandler: Option<MINIPORT_RETURN_NET_BUFFER_LISTS>,
    pub CancelSendHandler: Option<MINIPORT_CANCEL_SEND>,
    pub CheckForHangHandlerEx: Option<MINIPORT_CHECK_FOR_HANG>,
    pub ResetHandlerEx: Option<MINIPORT_RESET>,
    pub DevicePnPEventNotifyHandler: Option<MINIPORT_DEVICE_PNP_EVENT_NOTIFY>,
    pub ShutdownHandlerEx: Option<MINIPORT_SHUTDOWN>,
    pub CancelOidRequestHandler: Option<MINIPORT_CANCEL_OID_REQUEST>,
    pub DirectOidRequestHandler: Option<MINIPORT_DIRECT_OID_REQUEST>,
    pub CancelDirectOidRequestHandler: Option<MINIPORT_CANCEL_DIRECT_OID_REQUEST>,
    pub SynchronousOidRequestHandler: Option<MINIPORT_SYNCHRONOUS_OID_REQUEST>,
}

/// NDIS 6.0.
pub const NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_1: u8 = 1;
/// NDIS 6.1: direct OID requests.
pub const NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2: u8 = 2;
/// NDIS 6.80: synchronous OID requests.
pub const NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3: u8 = 3;
pub const NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_1: u16 = 136;
pub const NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2: u16 = 152;
pub const NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3: u16 = 160;

// NDIS_MINIPORT_DRIVER_CHARACTERISTICS.Flags (ndis.h)
pub const NDIS_INTERMEDIATE_DRIVER: u32 = 0x0000_0001;
pub const NDIS_WDM_DRIVER: u32 = 0x0000_0002;
pub const NDIS_DRIVER_POWERMGMT_PROXY: u32 = 0x0000_0004;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct NDIS_MINIPORT_INIT_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub Flags: u32,
    /// A `CM_PARTIAL_RESOURCE_LIST`, or null.
    pub AllocatedResources: PVOID,
    pub IMDeviceInstanceContext: NDIS_HANDLE,
    pub MiniportAddDeviceContext: NDIS_HANDLE,
    pub IfIndex: u32,
    pub NetLuid: u64,
    pub DefaultPortAuthStates: PVOID,
    pub PciDeviceCustomProperties: PVOID,
}

pub const NDIS_MINIPORT_INIT_PARAMETERS_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_MINIPORT_INIT_PARAMETERS_REVISION_1: u16 = 64;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_MINIPORT_PAUSE_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub Flags: u32,
    /// `NDIS_PAUSE_*`.
    pub PauseReason: u32,
}

pub const NDIS_MINIPORT_PAUSE_PARAMETERS_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_MINIPORT_PAUSE_PARAMETERS_REVISION_1: u16 = 12;

// NDIS_MINIPORT_PAUSE_PARAMETERS.PauseReason (ndis.h)
pub const NDIS_PAUSE_NDIS_INTERNAL: u32 = 0x01;
pub const NDIS_PAUSE_LOW_POWER: u32 = 0x02;
pub const NDIS_PAUSE_BIND_PROTOCOL: u32 = 0x04;
pub const NDIS_PAUSE_UNBIND_PROTOCOL: u32 = 0x08;
pub const NDIS_PAUSE_ATTACH_FILTER: u32 = 0x10;
pub const NDIS_PAUSE_DETACH_FILTER: u32 = 0x20;
pub const NDIS_PAUSE_FILTER_RESTART_STACK: u32 = 0x40;
pub const NDIS_PAUSE_MINIPORT_DEVICE_REMOVE: u32 = 0x80;

/// One changed attribute; `DataLength` bytes follow in `Data`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_RESTART_ATTRIBUTES {
    pub Next: *mut NDIS_RESTART_ATTRIBUTES,
    pub Oid: NDIS_OID,
    pub DataLength: u32,
    pub Data: [u64; 0],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_MINIPORT_RESTART_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub RestartAttributes: *mut NDIS_RESTART_ATTRIBUTES,
    pub Flags: u32,
}

pub const NDIS_MINIPORT_RESTART_PARAMETERS_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_MINIPORT_RESTART_PARAMETERS_REVISION_1: u16 = 20;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NET_DEVICE_PNP_EVENT {
    pub Header: NDIS_OBJECT_HEADER,
    pub PortNumber: NDIS_PORT_NUMBER,
    /// `NdisDevicePnPEvent*`.
    pub DevicePnPEvent: i32,
    pub InformationBuffer: PVOID,
    pub InformationBufferLength: u32,
    pub NdisReserved: [u8; 16],
}

pub const NET_DEVICE_PNP_EVENT_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_NET_DEVICE_PNP_EVENT_REVISION_1: u16 = 44;

// NDIS_DEVICE_PNP_EVENT (ndis.h)
pub const NdisDevicePnPEventQueryRemoved: i32 = 0;
pub const NdisDevicePnPEventRemoved: i32 = 1;
pub const NdisDevicePnPEventSurpriseRemoved: i32 = 2;
pub const NdisDevicePnPEventQueryStopped: i32 = 3;
pub const NdisDevicePnPEventStopped: i32 = 4;
pub const NdisDevicePnPEventPowerProfileChanged: i32 = 5;
pub const NdisDevicePnPEventFilterListChanged: i32 = 6;

// NDIS_HALT_ACTION (ndis.h)
pub const NdisHaltDeviceDisabled: i32 = 0;
pub const NdisHaltDeviceInstanceDeInitialized: i32 = 1;
pub const NdisHaltDevicePoweredDown: i32 = 2;
pub const NdisHaltDeviceSurpriseRemoved: i32 = 3;
pub const NdisHaltDeviceFailed: i32 = 4;
pub const NdisHaltDeviceInitializationFailed: i32 = 5;
pub const NdisHaltDeviceStopped: i32 = 6;

// NDIS_SHUTDOWN_ACTION (ndis.h)
pub const NdisShutdownPowerOff: i32 = 0;
pub const NdisShutdownBugCheck: i32 = 1;

layouts! {
    NDIS_MINIPORT_DRIVER_CHARACTERISTICS = 160 {
        Header: 0, MajorNdisVersion: 4, MinorNdisVersion: 5, MajorDriverVersion: 6,
        MinorDriverVersion: 7, Flags: 8, SetOptionsHandler: 16, InitializeHandlerEx: 24,
        HaltHandlerEx: 32, UnloadHandler: 40, PauseHandler: 48, RestartHandler: 56,
        OidRequestHandler: 64, SendNetBufferListsHandler: 72, ReturnNetBufferListsHandler: 80,
        CancelSendHandler: 88, CheckForHangHandlerEx: 96, ResetHandlerEx: 104,
        DevicePnPEventNotifyHandler: 112, ShutdownHandlerEx: 120, CancelOidRequestHandler: 128,
        DirectOidRequestHandler: 136, CancelDirectOidRequestHandler: 144,
        SynchronousOidRequestHandler: 152,
    }
    NDIS_MINIPORT_INIT_PARAMETERS = 64 {
        Header: 0, Flags: 4, AllocatedResources: 8, IMDeviceInstanceContext: 16,
        MiniportAddDeviceContext: 24, IfIndex: 32, NetLuid: 40, DefaultPortAuthStates: 48,
        PciDeviceCustomProperties: 56,
    }
    NDIS_MINIPORT_PAUSE_PARAMETERS = 12 { Header: 0, Flags: 4, PauseReason: 8 }
    NDIS_RESTART_ATTRIBUTES = 16 { Next: 0, Oid: 8, DataLength: 12, Data: 16 }
    NDIS_MINIPORT_RESTART_PARAMETERS = 24 { Header: 0, RestartAttributes: 8, Flags: 16 }
    NET_DEVICE_PNP_EVENT = 48 {
        Header: 0, PortNumber: 4, DevicePnPEvent: 8, InformationBuffer: 16,
        InformationBufferLength: 24, NdisReserved: 28,
    }
}
