//! The miniport's calls into storport: notifications and extended functions, which are variadic in C.

use crate::{GROUP_AFFINITY, UCHAR};

// SCSI_NOTIFICATION_TYPE, first argument of StorPortNotification (storport.h).
// Behind the device extension each takes: RequestComplete the SRB; RequestTimerCall a routine and microseconds;
// ResetDetected the path; EnablePassiveInitialization a routine and a pointer to a 4-byte answer; others nothing.
pub const RequestComplete: i32 = 0;
pub const NextRequest: i32 = 1;
pub const NextLuRequest: i32 = 2;
pub const ResetDetected: i32 = 3;
pub const RequestTimerCall: i32 = 6;
pub const BusChangeDetected: i32 = 7;
pub const WMIEvent: i32 = 8;
pub const WMIReregister: i32 = 9;
pub const LinkUp: i32 = 10;
pub const LinkDown: i32 = 11;
pub const QueryTickCount: i32 = 12;
pub const BufferOverrunDetected: i32 = 13;
pub const TraceNotification: i32 = 14;
pub const GetExtendedFunctionTable: i32 = 15;
pub const EnablePassiveInitialization: i32 = 0x1000;
pub const InitializeDpc: i32 = 0x1001;
pub const IssueDpc: i32 = 0x1002;
pub const AcquireSpinLock: i32 = 0x1003;
pub const ReleaseSpinLock: i32 = 0x1004;

// STORPORT_FUNCTION_CODE, first argument of StorPortExtendedFunction (storport.h)
pub const ExtFunctionAllocatePool: i32 = 0;
pub const ExtFunctionFreePool: i32 = 1;
pub const ExtFunctionAllocateMdl: i32 = 2;
pub const ExtFunctionFreeMdl: i32 = 3;
pub const ExtFunctionBuildMdlForNonPagedPool: i32 = 4;
/// SRB, pointer to the system address.
pub const ExtFunctionGetSystemAddress: i32 = 5;
/// SRB, pointer to the MDL pointer.
pub const ExtFunctionGetOriginalMdl: i32 = 6;
pub const ExtFunctionCompleteServiceIrp: i32 = 7;
/// Pointers to the adapter's device object, the physical one and the lower one.
pub const ExtFunctionGetDeviceObjects: i32 = 8;
pub const ExtFunctionBuildScatterGatherList: i32 = 9;
pub const ExtFunctionPutScatterGatherList: i32 = 10;
pub const ExtFunctionAcquireMSISpinLock: i32 = 11;
pub const ExtFunctionReleaseMSISpinLock: i32 = 12;
pub const ExtFunctionGetMessageInterruptInformation: i32 = 13;
/// BOOLEAN query, pointer to `PERF_CONFIGURATION_DATA`.
pub const ExtFunctionInitializePerformanceOptimizations: i32 = 14;
pub const ExtFunctionGetStartIoPerformanceParameters: i32 = 15;
pub const ExtFunctionLogSystemEvent: i32 = 16;
pub const ExtFunctionGetCurrentProcessorNumber: i32 = 17;

// Answers of the extended functions (storport.h: STOR_STATUS_*)
pub const STOR_STATUS_SUCCESS: u32 = 0x0000_0000;
pub const STOR_STATUS_UNSUCCESSFUL: u32 = 0xC100_0001;
pub const STOR_STATUS_NOT_IMPLEMENTED: u32 = 0xC100_0002;
pub const STOR_STATUS_INSUFFICIENT_RESOURCES: u32 = 0xC100_0003;
pub const STOR_STATUS_BUFFER_TOO_SMALL: u32 = 0xC100_0004;
pub const STOR_STATUS_ACCESS_DENIED: u32 = 0xC100_0005;
pub const STOR_STATUS_INVALID_PARAMETER: u32 = 0xC100_0006;
pub const STOR_STATUS_INVALID_DEVICE_REQUEST: u32 = 0xC100_0007;
pub const STOR_STATUS_INVALID_IRQL: u32 = 0xC100_0008;
pub const STOR_STATUS_INVALID_DEVICE_STATE: u32 = 0xC100_0009;
pub const STOR_STATUS_UNSUPPORTED_VERSION: u32 = 0xC100_0010;

/// The performance options of an adapter (version 2 and later forms have this size).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PERF_CONFIGURATION_DATA {
    pub Version: u32,
    pub Size: u32,
    /// `STOR_PERF_*`: on a query what is offered, else what is asked for.
    pub Flags: u32,
    pub ConcurrentChannels: u32,
    pub FirstRedirectionMessageNumber: u32,
    pub LastRedirectionMessageNumber: u32,
    pub DeviceNode: u32,
    pub Reserved: u32,
    pub MessageTargets: *mut GROUP_AFFINITY,
}

// PERF_CONFIGURATION_DATA.Flags (storport.h)
pub const STOR_PERF_DPC_REDIRECTION: u32 = 0x0000_0001;
pub const STOR_PERF_CONCURRENT_CHANNELS: u32 = 0x0000_0002;
pub const STOR_PERF_INTERRUPT_MESSAGE_RANGES: u32 = 0x0000_0004;
pub const STOR_PERF_ADV_CONFIG_LOCALITY: u32 = 0x0000_0008;
pub const STOR_PERF_OPTIMIZE_FOR_COMPLETION_DURING_STARTIO: u32 = 0x0000_0010;
pub const STOR_PERF_DPC_REDIRECTION_CURRENT_CPU: u32 = 0x0000_0020;

/// A logical unit's address; bus, target and LUN follow for `STOR_ADDRESS_TYPE_BTL8`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct STOR_ADDRESS {
    pub Type: u16,
    pub Port: u16,
    /// Bytes of the address that follows.
    pub AddressLength: u32,
}

/// `STOR_ADDRESS` with bus, target and LUN of 8 bits each (storport.h: STOR_ADDR_BTL8).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct STOR_ADDR_BTL8 {
    pub Type: u16,
    pub Port: u16,
    pub AddressLength: u32,
    pub Path: UCHAR,
    pub Target: UCHAR,
    pub Lun: UCHAR,
    pub Reserved: UCHAR,
}

pub const STOR_ADDRESS_TYPE_BTL8: u16 = 1;
pub const STOR_ADDR_BTL8_ADDRESS_LENGTH: u32 = 4;

layouts! {
    PERF_CONFIGURATION_DATA = 40 {
        Version: 0, Size: 4, Flags: 8, ConcurrentChannels: 12, FirstRedirectionMessageNumber: 16,
        LastRedirectionMessageNumber: 20, DeviceNode: 24, MessageTargets: 32,
    }
    STOR_ADDRESS = 8 { Type: 0, Port: 2, AddressLength: 4 }
    STOR_ADDR_BTL8 = 12 { Type: 0, Port: 2, AddressLength: 4, Path: 8, Target: 9, Lun: 10 }
}
