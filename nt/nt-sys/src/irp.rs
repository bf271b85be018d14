//! I/O request packets and their stack locations.
//!
//! ```text
//!   IRP (0xD0) │ IO_STACK_LOCATION × StackCount
//!              │ [0] lowest driver … [StackCount-1] top; CurrentLocation counts 1..=StackCount, from the top down
//! ```

use crate::{
    BOOLEAN, CCHAR, DEVICE_CAPABILITIES, DEVICE_OBJECT, DRIVER_CANCEL, FILE_OBJECT, GUID,
    INTERFACE, IO_RESOURCE_REQUIREMENTS_LIST, IO_STATUS_BLOCK, KEVENT, KIRQL, LARGE_INTEGER,
    LIST_ENTRY, MDL, NTSTATUS, POWER_STATE, PVOID, UCHAR,
};
use crate::{CM_RESOURCE_LIST, storport::SCSI_REQUEST_BLOCK};

/// Aligned as pool memory is, to 16 (wdm.h: MEMORY_ALLOCATION_ALIGNMENT).
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub struct IRP {
    pub Type: i16,
    pub Size: u16,
    pub MdlAddress: *mut MDL,
    pub Flags: u32,
    pub AssociatedIrp: IRP_ASSOCIATED,
    pub ThreadListEntry: LIST_ENTRY,
    pub IoStatus: IO_STATUS_BLOCK,
    pub RequestorMode: i8,
    pub PendingReturned: BOOLEAN,
    pub StackCount: CCHAR,
    pub CurrentLocation: CCHAR,
    pub Cancel: BOOLEAN,
    pub CancelIrql: KIRQL,
    pub ApcEnvironment: CCHAR,
    pub AllocationFlags: UCHAR,
    pub UserIosb: *mut IO_STATUS_BLOCK,
    pub UserEvent: *mut KEVENT,
    pub Overlay: IRP_OVERLAY,
    pub CancelRoutine: Option<DRIVER_CANCEL>,
    pub UserBuffer: PVOID,
    pub Tail: IRP_TAIL,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union IRP_ASSOCIATED {
    pub MasterIrp: *mut IRP,
    pub IrpCount: i32,
    pub SystemBuffer: PVOID,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union IRP_OVERLAY {
    pub AsynchronousParameters: IRP_ASYNCHRONOUS_PARAMETERS,
    pub AllocationSize: LARGE_INTEGER,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IRP_ASYNCHRONOUS_PARAMETERS {
    pub UserApcRoutine: PVOID,
    pub UserApcContext: PVOID,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union IRP_TAIL {
    pub Overlay: IRP_TAIL_OVERLAY,
    pub CompletionKey: PVOID,
    /// Room of a `KAPC`.
    pub Apc: [u64; 11],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IRP_TAIL_OVERLAY {
    /// Free for the driver that holds the IRP.
    pub DriverContext: [PVOID; 4],
    pub Thread: PVOID,
    pub AuxiliaryBuffer: PVOID,
    pub ListEntry: LIST_ENTRY,
    pub CurrentStackLocation: *mut IO_STACK_LOCATION,
    pub OriginalFileObject: *mut FILE_OBJECT,
}

pub type IO_COMPLETION_ROUTINE =
    unsafe extern "win64" fn(device: *mut DEVICE_OBJECT, irp: *mut IRP, context: PVOID) -> NTSTATUS;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_STACK_LOCATION {
    pub MajorFunction: UCHAR,
    pub MinorFunction: UCHAR,
    pub Flags: UCHAR,
    pub Control: UCHAR,
    pub Parameters: IO_PARAMETERS,
    pub DeviceObject: *mut DEVICE_OBJECT,
    pub FileObject: *mut FILE_OBJECT,
    pub CompletionRoutine: Option<IO_COMPLETION_ROUTINE>,
    pub Context: PVOID,
}

/// What the request asks, by its major and minor function.
///
/// 32 bytes; a member marked POINTER_ALIGNMENT in wdm.h starts at a multiple of 8, which the padding fields here do.
#[repr(C)]
#[derive(Clone, Copy)]
pub union IO_PARAMETERS {
    pub Create: IO_CREATE,
    pub Read: IO_TRANSFER,
    pub Write: IO_TRANSFER,
    pub DeviceIoControl: IO_DEVICE_CONTROL,
    pub Scsi: IO_SCSI,
    pub QueryDeviceRelations: IO_QUERY_DEVICE_RELATIONS,
    pub QueryInterface: IO_QUERY_INTERFACE,
    pub DeviceCapabilities: IO_DEVICE_CAPABILITIES,
    pub FilterResourceRequirements: IO_FILTER_RESOURCE_REQUIREMENTS,
    pub ReadWriteConfig: IO_READ_WRITE_CONFIG,
    pub SetLock: IO_SET_LOCK,
    pub QueryId: IO_QUERY_ID,
    pub QueryDeviceText: IO_QUERY_DEVICE_TEXT,
    pub UsageNotification: IO_USAGE_NOTIFICATION,
    pub WaitWake: IO_WAIT_WAKE,
    pub Power: IO_POWER,
    pub StartDevice: IO_START_DEVICE,
    pub WMI: IO_WMI,
    pub Others: [PVOID; 4],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_CREATE {
    pub SecurityContext: PVOID,
    pub Options: u32,
    pub _Pad0: u32,
    pub FileAttributes: u16,
    pub ShareAccess: u16,
    pub _Pad1: u32,
    pub EaLength: u32,
}

/// `Read` and `Write`; lengths and offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_TRANSFER {
    pub Length: u32,
    pub _Pad0: u32,
    pub Key: u32,
    pub Flags: u32,
    pub ByteOffset: LARGE_INTEGER,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_DEVICE_CONTROL {
    pub OutputBufferLength: u32,
    pub _Pad0: u32,
    pub InputBufferLength: u32,
    pub _Pad1: u32,
    pub IoControlCode: u32,
    pub _Pad2: u32,
    pub Type3InputBuffer: PVOID,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_SCSI {
    pub Srb: *mut SCSI_REQUEST_BLOCK,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_QUERY_DEVICE_RELATIONS {
    pub Type: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_QUERY_INTERFACE {
    pub InterfaceType: *const GUID,
    pub Size: u16,
    pub Version: u16,
    pub Interface: *mut INTERFACE,
    pub InterfaceSpecificData: PVOID,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_DEVICE_CAPABILITIES {
    pub Capabilities: *mut DEVICE_CAPABILITIES,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_FILTER_RESOURCE_REQUIREMENTS {
    pub IoResourceRequirementList: *mut IO_RESOURCE_REQUIREMENTS_LIST,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_READ_WRITE_CONFIG {
    pub WhichSpace: u32,
    pub Buffer: PVOID,
    pub Offset: u32,
    pub _Pad0: u32,
    pub Length: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_SET_LOCK {
    pub Lock: BOOLEAN,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_QUERY_ID {
    pub IdType: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_QUERY_DEVICE_TEXT {
    pub DeviceTextType: i32,
    pub _Pad0: u32,
    pub LocaleId: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_USAGE_NOTIFICATION {
    pub InPath: BOOLEAN,
    pub Reserved: [BOOLEAN; 3],
    pub _Pad0: u32,
    pub Type: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_WAIT_WAKE {
    pub PowerState: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_POWER {
    pub SystemContext: u32,
    pub _Pad0: u32,
    pub Type: i32,
    pub _Pad1: u32,
    pub State: POWER_STATE,
    pub _Pad2: u32,
    pub ShutdownType: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_START_DEVICE {
    pub AllocatedResources: *mut CM_RESOURCE_LIST,
    pub AllocatedResourcesTranslated: *mut CM_RESOURCE_LIST,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_WMI {
    pub ProviderId: usize,
    pub DataPath: PVOID,
    pub BufferSize: u32,
    pub Buffer: PVOID,
}

// IRP.Flags (wdm.h)
pub const IRP_NOCACHE: u32 = 0x0001;
pub const IRP_PAGING_IO: u32 = 0x0002;
pub const IRP_SYNCHRONOUS_API: u32 = 0x0004;
pub const IRP_BUFFERED_IO: u32 = 0x0010;
pub const IRP_DEALLOCATE_BUFFER: u32 = 0x0020;
pub const IRP_INPUT_OPERATION: u32 = 0x0040;

// IO_STACK_LOCATION.Control (wdm.h: SL_*)
pub const SL_PENDING_RETURNED: UCHAR = 0x01;
pub const SL_ERROR_RETURNED: UCHAR = 0x02;
pub const SL_INVOKE_ON_CANCEL: UCHAR = 0x20;
pub const SL_INVOKE_ON_SUCCESS: UCHAR = 0x40;
pub const SL_INVOKE_ON_ERROR: UCHAR = 0x80;

// Major functions (wdm.h)
pub const IRP_MJ_CREATE: UCHAR = 0x00;
pub const IRP_MJ_CLOSE: UCHAR = 0x02;
pub const IRP_MJ_READ: UCHAR = 0x03;
pub const IRP_MJ_WRITE: UCHAR = 0x04;
pub const IRP_MJ_FLUSH_BUFFERS: UCHAR = 0x09;
pub const IRP_MJ_DEVICE_CONTROL: UCHAR = 0x0e;
pub const IRP_MJ_INTERNAL_DEVICE_CONTROL: UCHAR = 0x0f;
pub const IRP_MJ_SCSI: UCHAR = 0x0f;
pub const IRP_MJ_SHUTDOWN: UCHAR = 0x10;
pub const IRP_MJ_CLEANUP: UCHAR = 0x12;
pub const IRP_MJ_POWER: UCHAR = 0x16;
pub const IRP_MJ_SYSTEM_CONTROL: UCHAR = 0x17;
pub const IRP_MJ_PNP: UCHAR = 0x1b;

layouts! {
    IRP = 0xd0 {
        Type: 0, Size: 2, MdlAddress: 8, Flags: 0x10, AssociatedIrp: 0x18, ThreadListEntry: 0x20,
        IoStatus: 0x30, RequestorMode: 0x40, PendingReturned: 0x41, StackCount: 0x42,
        CurrentLocation: 0x43, Cancel: 0x44, CancelIrql: 0x45, ApcEnvironment: 0x46,
        AllocationFlags: 0x47, UserIosb: 0x48, UserEvent: 0x50, Overlay: 0x58, CancelRoutine: 0x68,
        UserBuffer: 0x70, Tail: 0x78, Tail.Overlay.DriverContext: 0x78, Tail.Overlay.Thread: 0x98,
        Tail.Overlay.ListEntry: 0xa8, Tail.Overlay.CurrentStackLocation: 0xb8,
        Tail.Overlay.OriginalFileObject: 0xc0, Tail.CompletionKey: 0x78,
    }
    IO_STACK_LOCATION = 0x48 {
        MajorFunction: 0, MinorFunction: 1, Flags: 2, Control: 3, Parameters: 8,
        Parameters.Create.Options: 0x10, Parameters.Create.FileAttributes: 0x18,
        Parameters.Create.ShareAccess: 0x1a, Parameters.Create.EaLength: 0x20,
        Parameters.Read.Length: 8, Parameters.Read.Key: 0x10, Parameters.Read.ByteOffset: 0x18,
        Parameters.Write.Length: 8, Parameters.Write.Key: 0x10, Parameters.Write.ByteOffset: 0x18,
        Parameters.DeviceIoControl.OutputBufferLength: 8,
        Parameters.DeviceIoControl.InputBufferLength: 0x10,
        Parameters.DeviceIoControl.IoControlCode: 0x18,
        Parameters.DeviceIoControl.Type3InputBuffer: 0x20,
        Parameters.Scsi.Srb: 8, Parameters.QueryDeviceRelations.Type: 8,
        Parameters.QueryInterface.InterfaceType: 8, Parameters.QueryInterface.Size: 0x10,
        Parameters.QueryInterface.Version: 0x12, Parameters.QueryInterface.Interface: 0x18,
        Parameters.QueryInterface.InterfaceSpecificData: 0x20,
        Parameters.DeviceCapabilities.Capabilities: 8,
        Parameters.FilterResourceRequirements.IoResourceRequirementList: 8,
        Parameters.ReadWriteConfig.WhichSpace: 8, Parameters.ReadWriteConfig.Buffer: 0x10,
        Parameters.ReadWriteConfig.Offset: 0x18, Parameters.ReadWriteConfig.Length: 0x20,
        Parameters.SetLock.Lock: 8, Parameters.QueryId.IdType: 8,
        Parameters.QueryDeviceText.DeviceTextType: 8, Parameters.QueryDeviceText.LocaleId: 0x10,
        Parameters.UsageNotification.InPath: 8, Parameters.UsageNotification.Type: 0x10,
        Parameters.WaitWake.PowerState: 8, Parameters.Power.SystemContext: 8,
        Parameters.Power.Type: 0x10, Parameters.Power.State: 0x18, Parameters.Power.ShutdownType: 0x20,
        Parameters.StartDevice.AllocatedResources: 8,
        Parameters.StartDevice.AllocatedResourcesTranslated: 0x10,
        Parameters.WMI.ProviderId: 8, Parameters.WMI.DataPath: 0x10, Parameters.WMI.BufferSize: 0x18,
        Parameters.WMI.Buffer: 0x20,
        DeviceObject: 0x28, FileObject: 0x30, CompletionRoutine: 0x38, Context: 0x40,
    }
}
