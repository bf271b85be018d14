//! What a miniport reads and registers beside its attributes: configuration and scatter-gather DMA.

use crate::ndis::{NDIS_HANDLE, NDIS_OBJECT_HEADER};
use crate::{DEVICE_OBJECT, PHYSICAL_ADDRESS, PVOID, UNICODE_STRING};

/// `NdisOpenConfigurationEx`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_CONFIGURATION_OBJECT {
    pub Header: NDIS_OBJECT_HEADER,
    /// A driver's handle, or a miniport's.
    pub NdisHandle: NDIS_HANDLE,
    pub Flags: u32,
}

pub const NDIS_CONFIGURATION_OBJECT_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1: u16 = 20;

#[repr(C)]
#[derive(Clone, Copy)]
pub union NDIS_CONFIGURATION_PARAMETER_DATA {
    pub IntegerData: u32,
    pub StringData: UNICODE_STRING,
}

/// `NdisReadConfiguration`'s answer, which lives as long as the configuration is open.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NDIS_CONFIGURATION_PARAMETER {
    /// `NdisParameter*`.
    pub ParameterType: i32,
    pub ParameterData: NDIS_CONFIGURATION_PARAMETER_DATA,
}

// NDIS_PARAMETER_TYPE (ndis.h)
pub const NdisParameterInteger: i32 = 0;
pub const NdisParameterHexInteger: i32 = 1;
pub const NdisParameterString: i32 = 2;
pub const NdisParameterMultiString: i32 = 3;
pub const NdisParameterBinary: i32 = 4;

pub type MINIPORT_PROCESS_SG_LIST =
    unsafe extern "win64" fn(device: PVOID, reserved: PVOID, list: PVOID, context: PVOID);
pub type MINIPORT_ALLOCATE_SHARED_MEM_COMPLETE = unsafe extern "win64" fn(
    adapter: NDIS_HANDLE,
    address: PVOID,
    physical: *mut PHYSICAL_ADDRESS,
    length: u32,
    context: PVOID,
);

/// `NdisMRegisterScatterGatherDma`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NDIS_SG_DMA_DESCRIPTION {
    pub Header: NDIS_OBJECT_HEADER,
    pub Flags: u32,
    /// Bytes.
    pub MaximumPhysicalMapping: u32,
    pub ProcessSGListHandler: Option<MINIPORT_PROCESS_SG_LIST>,
    pub SharedMemAllocateCompleteHandler: Option<MINIPORT_ALLOCATE_SHARED_MEM_COMPLETE>,
    /// Written by NDIS: bytes.
    pub ScatterGatherListSize: u32,
    /// NDIS 6.85, revision 2.
    pub PdoOverride: *mut DEVICE_OBJECT,
}

pub const NDIS_SG_DMA_DESCRIPTION_REVISION_1: u8 = 1;
pub const NDIS_SG_DMA_DESCRIPTION_REVISION_2: u8 = 2;
pub const NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1: u16 = 36;
pub const NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_2: u16 = 48;
pub const NDIS_SG_DMA_64_BIT_ADDRESS: u32 = 0x0000_0001;

layouts! {
    NDIS_CONFIGURATION_OBJECT = 24 { Header: 0, NdisHandle: 8, Flags: 16 }
    NDIS_CONFIGURATION_PARAMETER = 24 { ParameterType: 0, ParameterData: 8 }
    NDIS_SG_DMA_DESCRIPTION = 48 {
        Header: 0, Flags: 4, MaximumPhysicalMapping: 8, ProcessSGListHandler: 16,
        SharedMemAllocateCompleteHandler: 24, ScatterGatherListSize: 32, PdoOverride: 40,
    }
}
