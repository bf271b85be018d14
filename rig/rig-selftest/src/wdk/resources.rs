//! Resource lists and requirements (wdm.h). Partial descriptors are 20 bytes: the header packs them to 4.

use super::{BOOLEAN, DEVICE_OBJECT, KIRQL, KSPIN_LOCK, PVOID};

pub const CmResourceTypePort: u8 = 1;
pub const CmResourceTypeInterrupt: u8 = 2;
pub const CmResourceTypeMemory: u8 = 3;
pub const CmResourceShareDeviceExclusive: u8 = 1;
pub const CmResourceShareShared: u8 = 3;
pub const CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE: u16 = 0;
pub const CM_RESOURCE_INTERRUPT_LATCHED: u16 = 1;
pub const CM_RESOURCE_INTERRUPT_MESSAGE: u16 = 2;
pub const CM_RESOURCE_MEMORY_READ_WRITE: u16 = 0;
pub const IO_RESOURCE_ALTERNATIVE: u8 = 8;
pub const IO_RESOURCE_PREFERRED: u8 = 1;

#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct CM_PARTIAL_RESOURCE_DESCRIPTOR {
    pub Type: u8,
    pub ShareDisposition: u8,
    pub Flags: u16,
    /// Port and memory: start (8 bytes), length. Interrupt: level, vector, affinity (8 bytes).
    pub Words: [u32; 4],
}

const _: () = assert!(size_of::<CM_PARTIAL_RESOURCE_DESCRIPTOR>() == 20);

#[repr(C)]
pub struct CM_RESOURCE_LIST {
    pub Count: u32,
    pub InterfaceType: i32,
    pub BusNumber: u32,
    pub Version: u16,
    pub Revision: u16,
    pub PartialCount: u32,
    pub Descriptors: [CM_PARTIAL_RESOURCE_DESCRIPTOR; 1],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_RESOURCE_DESCRIPTOR {
    pub Option: u8,
    pub Type: u8,
    pub ShareDisposition: u8,
    pub Spare1: u8,
    pub Flags: u16,
    pub Spare2: u16,
    /// Port and memory: length, alignment, minimum (8 bytes), maximum. Interrupt: minimum and maximum vector.
    pub Words: [u32; 6],
}

const _: () = assert!(size_of::<IO_RESOURCE_DESCRIPTOR>() == 32);

#[repr(C)]
pub struct IO_RESOURCE_REQUIREMENTS_LIST<const N: usize> {
    pub ListSize: u32,
    pub InterfaceType: i32,
    pub BusNumber: u32,
    pub SlotNumber: u32,
    pub Reserved: [u32; 3],
    pub AlternativeLists: u32,
    pub Version: u16,
    pub Revision: u16,
    pub Count: u32,
    pub Descriptors: [IO_RESOURCE_DESCRIPTOR; N],
}

/// The members of the fully specified version; the line-based one has the first of them.
#[repr(C)]
pub struct IO_CONNECT_INTERRUPT_PARAMETERS {
    pub Version: u32,
    pub PhysicalDeviceObject: *mut DEVICE_OBJECT,
    pub InterruptObject: *mut PVOID,
    pub ServiceRoutine: unsafe extern "system" fn(PVOID, PVOID) -> BOOLEAN,
    pub ServiceContext: PVOID,
    pub SpinLock: *mut KSPIN_LOCK,
    pub SynchronizeIrql: KIRQL,
    pub FloatingSave: BOOLEAN,
    pub ShareVector: BOOLEAN,
    pub Vector: u32,
    pub Irql: KIRQL,
    pub InterruptMode: i32,
    pub ProcessorEnableMask: usize,
    pub Group: u16,
}

const _: () = assert!(size_of::<IO_CONNECT_INTERRUPT_PARAMETERS>() == 80);

/// The members of the message-based version, of the same size.
#[repr(C)]
pub struct IO_CONNECT_INTERRUPT_MESSAGE_PARAMETERS {
    pub Version: u32,
    pub PhysicalDeviceObject: *mut DEVICE_OBJECT,
    pub ConnectionContext: *mut PVOID,
    pub MessageServiceRoutine: unsafe extern "system" fn(PVOID, PVOID, u32) -> BOOLEAN,
    pub ServiceContext: PVOID,
    pub SpinLock: *mut KSPIN_LOCK,
    pub SynchronizeIrql: KIRQL,
    pub FloatingSave: BOOLEAN,
    pub FallBackServiceRoutine: Option<unsafe extern "system" fn(PVOID, PVOID) -> BOOLEAN>,
    pub _Rest: [u64; 2],
}

const _: () = assert!(size_of::<IO_CONNECT_INTERRUPT_MESSAGE_PARAMETERS>() == 80);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_INTERRUPT_MESSAGE_INFO_ENTRY {
    pub MessageAddress: u64,
    pub TargetProcessorSet: usize,
    pub InterruptObject: PVOID,
    pub MessageData: u32,
    pub Vector: u32,
    pub Irql: KIRQL,
    pub Mode: i32,
    pub Polarity: i32,
}

#[repr(C)]
pub struct IO_INTERRUPT_MESSAGE_INFO {
    pub UnifiedIrql: KIRQL,
    pub MessageCount: u32,
    pub MessageInfo: [IO_INTERRUPT_MESSAGE_INFO_ENTRY; 1],
}

const _: () = assert!(size_of::<IO_INTERRUPT_MESSAGE_INFO>() == 56);

impl IO_INTERRUPT_MESSAGE_INFO {
    /// An entry below `MessageCount`.
    pub fn entry(&self, index: u32) -> IO_INTERRUPT_MESSAGE_INFO_ENTRY {
        let first = (&raw const self.MessageInfo).cast::<IO_INTERRUPT_MESSAGE_INFO_ENTRY>();
        // SAFETY: the table has `MessageCount` entries.
        unsafe { first.wrapping_add(index as usize).read() }
    }
}

pub const CONNECT_FULLY_SPECIFIED: u32 = 1;
pub const CONNECT_LINE_BASED: u32 = 2;
pub const CONNECT_MESSAGE_BASED: u32 = 3;

#[repr(C)]
pub struct IO_DISCONNECT_INTERRUPT_PARAMETERS {
    pub Version: u32,
    pub ConnectionContext: PVOID,
}
