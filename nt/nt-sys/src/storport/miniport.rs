//! Registration of a miniport and the configuration of its adapter.

use crate::storport::{SCSI_REQUEST_BLOCK, STOR_ADDRESS};
use crate::{BOOLEAN, CCHAR, PHYSICAL_ADDRESS, PVOID, UCHAR};

pub type HW_INITIALIZE = unsafe extern "win64" fn(extension: PVOID) -> BOOLEAN;
pub type HW_PASSIVE_INITIALIZE_ROUTINE = unsafe extern "win64" fn(extension: PVOID) -> BOOLEAN;
pub type HW_BUILDIO =
    unsafe extern "win64" fn(extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK) -> BOOLEAN;
pub type HW_STARTIO =
    unsafe extern "win64" fn(extension: PVOID, srb: *mut SCSI_REQUEST_BLOCK) -> BOOLEAN;
pub type HW_INTERRUPT = unsafe extern "win64" fn(extension: PVOID) -> BOOLEAN;
pub type HW_TIMER = unsafe extern "win64" fn(extension: PVOID);
pub type HW_FIND_ADAPTER = unsafe extern "win64" fn(
    extension: PVOID,
    hw_context: PVOID,
    bus_information: PVOID,
    argument_string: *mut u8,
    configuration: *mut PORT_CONFIGURATION_INFORMATION,
    again: *mut BOOLEAN,
) -> u32;
pub type HW_RESET_BUS = unsafe extern "win64" fn(extension: PVOID, path: u32) -> BOOLEAN;
pub type HW_DMA_STARTED = unsafe extern "win64" fn(extension: PVOID);
pub type HW_ADAPTER_STATE =
    unsafe extern "win64" fn(extension: PVOID, context: PVOID, save: BOOLEAN) -> BOOLEAN;
pub type HW_ADAPTER_CONTROL =
    unsafe extern "win64" fn(extension: PVOID, control: i32, parameters: PVOID) -> i32;
pub type HW_UNIT_CONTROL = unsafe extern "win64" fn(
    extension: PVOID,
    address: *mut STOR_ADDRESS,
    control: i32,
    parameters: PVOID,
) -> i32;
pub type HW_FREE_ADAPTER_RESOURCES = unsafe extern "win64" fn(extension: PVOID);
pub type HW_PROCESS_SERVICE_REQUEST = unsafe extern "win64" fn(extension: PVOID, irp: PVOID);
pub type HW_COMPLETE_SERVICE_IRP = unsafe extern "win64" fn(extension: PVOID);
pub type HW_MESSAGE_SIGNALED_INTERRUPT_ROUTINE =
    unsafe extern "win64" fn(extension: PVOID, message: u32) -> BOOLEAN;

/// What `StorPortInitialize` is given, in the form of Windows 8 and later.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HW_INITIALIZATION_DATA {
    pub HwInitializationDataSize: u32,
    pub AdapterInterfaceType: i32,
    pub HwInitialize: Option<HW_INITIALIZE>,
    pub HwStartIo: Option<HW_STARTIO>,
    pub HwInterrupt: Option<HW_INTERRUPT>,
    pub HwFindAdapter: Option<HW_FIND_ADAPTER>,
    pub HwResetBus: Option<HW_RESET_BUS>,
    pub HwDmaStarted: Option<HW_DMA_STARTED>,
    pub HwAdapterState: Option<HW_ADAPTER_STATE>,
    pub DeviceExtensionSize: u32,
    pub SpecificLuExtensionSize: u32,
    pub SrbExtensionSize: u32,
    pub NumberOfAccessRanges: u32,
    pub Reserved: PVOID,
    pub MapBuffers: UCHAR,
    pub NeedPhysicalAddresses: BOOLEAN,
    pub TaggedQueuing: BOOLEAN,
    pub AutoRequestSense: BOOLEAN,
    pub MultipleRequestPerLu: BOOLEAN,
    pub ReceiveEvent: BOOLEAN,
    pub VendorIdLength: u16,
    pub VendorId: PVOID,
    pub PortVersionFlags: u16,
    pub DeviceIdLength: u16,
    pub DeviceId: PVOID,
    pub HwAdapterControl: Option<HW_ADAPTER_CONTROL>,
    pub HwBuildIo: Option<HW_BUILDIO>,
    pub HwFreeAdapterResources: Option<HW_FREE_ADAPTER_RESOURCES>,
    pub HwProcessServiceRequest: Option<HW_PROCESS_SERVICE_REQUEST>,
    pub HwCompleteServiceIrp: Option<HW_COMPLETE_SERVICE_IRP>,
    pub HwInitializeTracing: PVOID,
    pub HwCleanupTracing: PVOID,
    pub HwTracingEnabled: PVOID,
    pub FeatureSupport: u32,
    pub SrbTypeFlags: u32,
    pub AddressTypeFlags: u32,
    pub Reserved1: u32,
    pub HwUnitControl: Option<HW_UNIT_CONTROL>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ACCESS_RANGE {
    pub RangeStart: PHYSICAL_ADDRESS,
    pub RangeLength: u32,
    pub RangeInMemory: BOOLEAN,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct MEMORY_REGION {
    pub VirtualBase: PVOID,
    pub PhysicalBase: PHYSICAL_ADDRESS,
    pub Length: u32,
}

/// The adapter's configuration, which `HwFindAdapter` completes, in the form of Windows 10.
///
/// Older systems hand over a shorter one: `Length` says how much of it is there.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PORT_CONFIGURATION_INFORMATION {
    pub Length: u32,
    pub SystemIoBusNumber: u32,
    pub AdapterInterfaceType: i32,
    pub BusInterruptLevel: u32,
    pub BusInterruptVector: u32,
    pub InterruptMode: i32,
    /// Bytes.
    pub MaximumTransferLength: u32,
    pub NumberOfPhysicalBreaks: u32,
    pub DmaChannel: u32,
    pub DmaPort: u32,
    pub DmaWidth: i32,
    pub DmaSpeed: i32,
    pub AlignmentMask: u32,
    pub NumberOfAccessRanges: u32,
    pub AccessRanges: *mut ACCESS_RANGE,
    pub MiniportDumpData: PVOID,
    pub NumberOfBuses: UCHAR,
    pub InitiatorBusId: [CCHAR; 8],
    pub ScatterGather: BOOLEAN,
    pub Master: BOOLEAN,
    pub CachesData: BOOLEAN,
    pub AdapterScansDown: BOOLEAN,
    pub AtdiskPrimaryClaimed: BOOLEAN,
    pub AtdiskSecondaryClaimed: BOOLEAN,
    pub Dma32BitAddresses: BOOLEAN,
    pub DemandMode: BOOLEAN,
    pub MapBuffers: UCHAR,
    pub NeedPhysicalAddresses: BOOLEAN,
    pub TaggedQueuing: BOOLEAN,
    pub AutoRequestSense: BOOLEAN,
    pub MultipleRequestPerLu: BOOLEAN,
    pub ReceiveEvent: BOOLEAN,
    pub RealModeInitialized: BOOLEAN,
    pub BufferAccessScsiPortControlled: BOOLEAN,
    pub MaximumNumberOfTargets: UCHAR,
    pub SrbType: UCHAR,
    pub AddressType: UCHAR,
    pub SlotNumber: u32,
    pub BusInterruptLevel2: u32,
    pub BusInterruptVector2: u32,
    pub InterruptMode2: i32,
    pub DmaChannel2: u32,
    pub DmaPort2: u32,
    pub DmaWidth2: i32,
    pub DmaSpeed2: i32,
    pub DeviceExtensionSize: u32,
    pub SpecificLuExtensionSize: u32,
    pub SrbExtensionSize: u32,
    pub Dma64BitAddresses: UCHAR,
    pub ResetTargetSupported: BOOLEAN,
    pub MaximumNumberOfLogicalUnits: UCHAR,
    pub WmiDataProvider: BOOLEAN,
    pub SynchronizationModel: i32,
    pub HwMSInterruptRoutine: Option<HW_MESSAGE_SIGNALED_INTERRUPT_ROUTINE>,
    pub InterruptSynchronizationMode: i32,
    pub DumpRegion: MEMORY_REGION,
    pub RequestedDumpBufferSize: u32,
    pub VirtualDevice: BOOLEAN,
    pub DumpMode: UCHAR,
    pub DmaAddressWidth: UCHAR,
    pub ExtendedFlags1: u32,
    pub MaxNumberOfIO: u32,
    pub MaxIOsPerLun: u32,
    pub InitialLunQueueDepth: u32,
    /// Microseconds.
    pub BusResetHoldTime: u32,
    pub FeatureSupport: u32,
}

/// What a field holds that nobody set (srb.h: SP_UNINITIALIZED_VALUE).
pub const SP_UNINITIALIZED_VALUE: u32 = u32::MAX;

// HwFindAdapter's answers (srb.h)
pub const SP_RETURN_NOT_FOUND: u32 = 0;
pub const SP_RETURN_FOUND: u32 = 1;
pub const SP_RETURN_ERROR: u32 = 2;
pub const SP_RETURN_BAD_CONFIG: u32 = 3;

// Dma64BitAddresses (srb.h)
pub const SCSI_DMA64_MINIPORT_SUPPORTED: UCHAR = 0x01;
pub const SCSI_DMA64_MINIPORT_FULL64BIT_SUPPORTED: UCHAR = 0x02;
pub const SCSI_DMA64_SYSTEM_SUPPORTED: UCHAR = 0x80;

// MapBuffers (storport.h)
pub const STOR_MAP_NO_BUFFERS: UCHAR = 0;
pub const STOR_MAP_ALL_BUFFERS: UCHAR = 1;
pub const STOR_MAP_NON_READ_WRITE_BUFFERS: UCHAR = 2;

// STOR_SYNCHRONIZATION_MODEL
pub const StorSynchronizeHalfDuplex: i32 = 0;
pub const StorSynchronizeFullDuplex: i32 = 1;

// HW_INITIALIZATION_DATA.FeatureSupport (storport.h)
pub const STOR_FEATURE_VIRTUAL_MINIPORT: u32 = 0x0000_0001;
pub const STOR_FEATURE_FULL_PNP_DEVICE_CAPABILITIES: u32 = 0x0000_0004;

// SCSI_ADAPTER_CONTROL_TYPE and _STATUS
pub const ScsiQuerySupportedControlTypes: i32 = 0;
pub const ScsiStopAdapter: i32 = 1;
pub const ScsiRestartAdapter: i32 = 2;
pub const ScsiSetBootConfig: i32 = 3;
pub const ScsiSetRunningConfig: i32 = 4;
pub const ScsiAdapterControlSuccess: i32 = 0;
pub const ScsiAdapterControlUnsuccessful: i32 = 1;

/// `MaxControlType` answers start at `SupportedTypeList`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SCSI_SUPPORTED_CONTROL_TYPE_LIST {
    pub MaxControlType: u32,
    pub SupportedTypeList: [BOOLEAN; 0],
}

layouts! {
    HW_INITIALIZATION_DATA = 208 {
        HwInitializationDataSize: 0, AdapterInterfaceType: 4, HwInitialize: 8, HwStartIo: 16,
        HwInterrupt: 24, HwFindAdapter: 32, HwResetBus: 40, HwDmaStarted: 48, HwAdapterState: 56,
        DeviceExtensionSize: 64, SpecificLuExtensionSize: 68, SrbExtensionSize: 72,
        NumberOfAccessRanges: 76, Reserved: 80, MapBuffers: 88, NeedPhysicalAddresses: 89,
        TaggedQueuing: 90, AutoRequestSense: 91, MultipleRequestPerLu: 92, ReceiveEvent: 93,
        VendorIdLength: 94, VendorId: 96, DeviceIdLength: 106, DeviceId: 112, HwAdapterControl: 120,
        HwBuildIo: 128, HwFreeAdapterResources: 136, HwProcessServiceRequest: 144,
        HwCompleteServiceIrp: 152, HwInitializeTracing: 160, HwCleanupTracing: 168,
        HwTracingEnabled: 176, FeatureSupport: 184, SrbTypeFlags: 188, AddressTypeFlags: 192,
        HwUnitControl: 200,
    }
    ACCESS_RANGE = 16 { RangeStart: 0, RangeLength: 8, RangeInMemory: 12 }
    MEMORY_REGION = 24 { VirtualBase: 0, PhysicalBase: 8, Length: 16 }
    PORT_CONFIGURATION_INFORMATION = 0xe0 {
        Length: 0, SystemIoBusNumber: 4, AdapterInterfaceType: 8, InterruptMode: 0x14,
        MaximumTransferLength: 0x18, NumberOfPhysicalBreaks: 0x1c, AlignmentMask: 0x30,
        NumberOfAccessRanges: 0x34, AccessRanges: 0x38, NumberOfBuses: 0x48, InitiatorBusId: 0x49,
        ScatterGather: 0x51, Master: 0x52, CachesData: 0x53, MapBuffers: 0x59,
        NeedPhysicalAddresses: 0x5a, TaggedQueuing: 0x5b, AutoRequestSense: 0x5c,
        MultipleRequestPerLu: 0x5d, MaximumNumberOfTargets: 0x61, SlotNumber: 0x64,
        DmaWidth2: 0x7c, DmaSpeed2: 0x80,
        DeviceExtensionSize: 0x84, SpecificLuExtensionSize: 0x88, SrbExtensionSize: 0x8c,
        Dma64BitAddresses: 0x90, ResetTargetSupported: 0x91, MaximumNumberOfLogicalUnits: 0x92,
        WmiDataProvider: 0x93, SynchronizationModel: 0x94, HwMSInterruptRoutine: 0x98,
        InterruptSynchronizationMode: 0xa0, DumpRegion: 0xa8, RequestedDumpBufferSize: 0xc0,
        VirtualDevice: 0xc4, DumpMode: 0xc5, DmaAddressWidth: 0xc6, ExtendedFlags1: 0xc8,
        MaxNumberOfIO: 0xcc, MaxIOsPerLun: 0xd0, InitialLunQueueDepth: 0xd4, BusResetHoldTime: 0xd8,
        FeatureSupport: 0xdc,
    }
    SCSI_SUPPORTED_CONTROL_TYPE_LIST = 4 { MaxControlType: 0, SupportedTypeList: 4 }
}
