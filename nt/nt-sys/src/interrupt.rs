//! Connecting interrupts: `IoConnectInterruptEx` in all its versions.

use crate::{BOOLEAN, DEVICE_OBJECT, KAFFINITY, KIRQL, KSPIN_LOCK, PHYSICAL_ADDRESS, PVOID};

/// An interrupt object, of which drivers only hold the pointer.
#[repr(C)]
pub struct KINTERRUPT {
    _opaque: [u8; 0],
}

// KINTERRUPT_MODE
pub const LevelSensitive: i32 = 0;
pub const Latched: i32 = 1;

pub type KSERVICE_ROUTINE =
    unsafe extern "win64" fn(interrupt: *mut KINTERRUPT, context: PVOID) -> BOOLEAN;
pub type KMESSAGE_SERVICE_ROUTINE =
    unsafe extern "win64" fn(interrupt: *mut KINTERRUPT, context: PVOID, message: u32) -> BOOLEAN;

// IO_CONNECT_INTERRUPT_PARAMETERS.Version (wdm.h)
pub const CONNECT_FULLY_SPECIFIED: u32 = 1;
pub const CONNECT_LINE_BASED: u32 = 2;
pub const CONNECT_MESSAGE_BASED: u32 = 3;
/// As fully specified, with `Group` meant.
pub const CONNECT_FULLY_SPECIFIED_GROUP: u32 = 4;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS {
    pub PhysicalDeviceObject: *mut DEVICE_OBJECT,
    pub InterruptObject: *mut *mut KINTERRUPT,
    pub ServiceRoutine: Option<KSERVICE_ROUTINE>,
    pub ServiceContext: PVOID,
    pub SpinLock: *mut KSPIN_LOCK,
    pub SynchronizeIrql: KIRQL,
    pub FloatingSave: BOOLEAN,
    pub ShareVector: BOOLEAN,
    pub Vector: u32,
    pub Irql: KIRQL,
    pub InterruptMode: i32,
    pub ProcessorEnableMask: KAFFINITY,
    pub Group: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS {
    pub PhysicalDeviceObject: *mut DEVICE_OBJECT,
    pub InterruptObject: *mut *mut KINTERRUPT,
    pub ServiceRoutine: Option<KSERVICE_ROUTINE>,
    pub ServiceContext: PVOID,
    pub SpinLock: *mut KSPIN_LOCK,
    pub SynchronizeIrql: KIRQL,
    pub FloatingSave: BOOLEAN,
}

/// Where the connection's handle goes: a table for messages, one object when the system fell back to a line.
#[repr(C)]
#[derive(Clone, Copy)]
pub union IO_INTERRUPT_CONNECTION_CONTEXT {
    pub Generic: *mut PVOID,
    pub InterruptMessageTable: *mut *mut IO_INTERRUPT_MESSAGE_INFO,
    pub InterruptObject: *mut *mut KINTERRUPT,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS {
    pub PhysicalDeviceObject: *mut DEVICE_OBJECT,
    pub ConnectionContext: IO_INTERRUPT_CONNECTION_CONTEXT,
    pub MessageServiceRoutine: Option<KMESSAGE_SERVICE_ROUTINE>,
    pub ServiceContext: PVOID,
    pub SpinLock: *mut KSPIN_LOCK,
    pub SynchronizeIrql: KIRQL,
    pub FloatingSave: BOOLEAN,
    pub FallBackServiceRoutine: Option<KSERVICE_ROUTINE>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union IO_CONNECT_INTERRUPT_KINDS {
    pub FullySpecified: IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS,
    pub LineBased: IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS,
    pub MessageBased: IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_CONNECT_INTERRUPT_PARAMETERS {
    /// In: one of `CONNECT_*`. Out, on failure for want of it: the version that the system does support.
    pub Version: u32,
    pub Anonymous: IO_CONNECT_INTERRUPT_KINDS,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union IO_DISCONNECT_CONTEXT {
    pub Generic: PVOID,
    pub InterruptObject: *mut KINTERRUPT,
    pub InterruptMessageTable: *mut IO_INTERRUPT_MESSAGE_INFO,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_DISCONNECT_INTERRUPT_PARAMETERS {
    pub Version: u32,
    pub ConnectionContext: IO_DISCONNECT_CONTEXT,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_INTERRUPT_MESSAGE_INFO_ENTRY {
    pub MessageAddress: PHYSICAL_ADDRESS,
    pub TargetProcessorSet: KAFFINITY,
    pub InterruptObject: *mut KINTERRUPT,
    pub MessageData: u32,
    pub Vector: u32,
    pub Irql: KIRQL,
    pub Mode: i32,
    pub Polarity: i32,
}

/// `MessageCount` entries start at `MessageInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_INTERRUPT_MESSAGE_INFO {
    pub UnifiedIrql: KIRQL,
    pub MessageCount: u32,
    pub MessageInfo: [IO_INTERRUPT_MESSAGE_INFO_ENTRY; 1],
}

layouts! {
    IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS = 72 {
        PhysicalDeviceObject: 0, InterruptObject: 8, ServiceRoutine: 16, ServiceContext: 24,
        SpinLock: 32, SynchronizeIrql: 40, FloatingSave: 41, ShareVector: 42, Vector: 44, Irql: 48,
        InterruptMode: 52, ProcessorEnableMask: 56, Group: 64,
    }
    IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS = 48 { SpinLock: 32, SynchronizeIrql: 40, FloatingSave: 41 }
    IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS = 56 {
        ConnectionContext: 8, MessageServiceRoutine: 16, ServiceContext: 24, SpinLock: 32,
        SynchronizeIrql: 40, FloatingSave: 41, FallBackServiceRoutine: 48,
    }
    IO_CONNECT_INTERRUPT_PARAMETERS = 80 {
        Version: 0, Anonymous.FullySpecified: 8, Anonymous.LineBased: 8, Anonymous.MessageBased: 8,
    }
    IO_DISCONNECT_INTERRUPT_PARAMETERS = 16 { Version: 0, ConnectionContext: 8 }
    IO_INTERRUPT_MESSAGE_INFO_ENTRY = 48 { InterruptObject: 16, MessageData: 24, Vector: 28, Irql: 32, Mode: 36, Polarity: 40 }
    IO_INTERRUPT_MESSAGE_INFO = 56 { UnifiedIrql: 0, MessageCount: 4, MessageInfo: 8 }
}
