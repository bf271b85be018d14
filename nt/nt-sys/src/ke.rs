//! Kernel core objects: dispatcher objects, DPCs, timers, processors, IRQLs, bug checks.

use crate::{BOOLEAN, GUID, KAFFINITY, KIRQL, LARGE_INTEGER, LIST_ENTRY, NTSTATUS, PVOID, UCHAR};

// IRQLs of x64 (wdm.h).
pub const PASSIVE_LEVEL: KIRQL = 0;
pub const APC_LEVEL: KIRQL = 1;
pub const DISPATCH_LEVEL: KIRQL = 2;
pub const CLOCK_LEVEL: KIRQL = 13;
pub const IPI_LEVEL: KIRQL = 14;
pub const HIGH_LEVEL: KIRQL = 15;

/// A spin lock: 0 when free.
pub type KSPIN_LOCK = usize;

/// The head of every object that a thread can wait for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DISPATCHER_HEADER {
    pub Type: UCHAR,
    pub Signalling: UCHAR,
    /// Size of the object in units of 4 bytes.
    pub Size: UCHAR,
    pub Reserved: UCHAR,
    pub SignalState: i32,
    pub WaitListHead: LIST_ENTRY,
}

// DISPATCHER_HEADER.Type (ntoskrnl's KOBJECTS, as the debugger shows them).
pub const EventNotificationObject: UCHAR = 0;
pub const EventSynchronizationObject: UCHAR = 1;
pub const MutantObject: UCHAR = 2;
pub const SemaphoreObject: UCHAR = 5;
pub const ThreadObject: UCHAR = 6;
pub const TimerNotificationObject: UCHAR = 8;
pub const TimerSynchronizationObject: UCHAR = 9;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KEVENT {
    pub Header: DISPATCHER_HEADER,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KSEMAPHORE {
    pub Header: DISPATCHER_HEADER,
    pub Limit: i32,
}

/// `KMUTANT`, which is also `KMUTEX`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KMUTEX {
    pub Header: DISPATCHER_HEADER,
    pub MutantListEntry: LIST_ENTRY,
    pub OwnerThread: PVOID,
    pub Abandoned: BOOLEAN,
    pub ApcDisable: UCHAR,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KTIMER {
    pub Header: DISPATCHER_HEADER,
    pub DueTime: u64,
    pub TimerListEntry: LIST_ENTRY,
    pub Dpc: *mut KDPC,
    pub Processor: u32,
    /// Milliseconds; 0 for a timer that fires once.
    pub Period: u32,
}

pub type KDEFERRED_ROUTINE =
    unsafe extern "win64" fn(dpc: *mut KDPC, context: PVOID, argument1: PVOID, argument2: PVOID);

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KDPC {
    pub Type: UCHAR,
    pub Importance: UCHAR,
    pub Number: u16,
    pub DpcListEntry: LIST_ENTRY,
    pub DeferredRoutine: Option<KDEFERRED_ROUTINE>,
    pub DeferredContext: PVOID,
    pub SystemArgument1: PVOID,
    pub SystemArgument2: PVOID,
    pub DpcData: PVOID,
}

// KDPC.Type
pub const DpcObject: UCHAR = 19;
pub const ThreadedDpcObject: UCHAR = 24;

// KDPC_IMPORTANCE
pub const LowImportance: i32 = 0;
pub const MediumImportance: i32 = 1;
pub const HighImportance: i32 = 2;
pub const MediumHighImportance: i32 = 3;

// EVENT_TYPE
pub const NotificationEvent: i32 = 0;
pub const SynchronizationEvent: i32 = 1;

// TIMER_TYPE
pub const NotificationTimer: i32 = 0;
pub const SynchronizationTimer: i32 = 1;

// WAIT_TYPE
pub const WaitAll: i32 = 0;
pub const WaitAny: i32 = 1;

// KWAIT_REASON
pub const Executive: i32 = 0;

/// Objects that `KeWaitForMultipleObjects` takes without wait blocks of the caller's (wdm.h: THREAD_WAIT_OBJECTS).
pub const THREAD_WAIT_OBJECTS: usize = 3;
pub const MAXIMUM_WAIT_OBJECTS: usize = 64;

/// Room for one object of a wait for several. What is in it belongs to the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KWAIT_BLOCK {
    pub Opaque: [u64; 6],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PROCESSOR_NUMBER {
    pub Group: u16,
    pub Number: UCHAR,
    pub Reserved: UCHAR,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GROUP_AFFINITY {
    pub Mask: KAFFINITY,
    pub Group: u16,
    pub Reserved: [u16; 3],
}

/// Stands for every group in processor counts (wdm.h).
pub const ALL_PROCESSOR_GROUPS: u16 = 0xFFFF;

pub type KSTART_ROUTINE = unsafe extern "win64" fn(context: PVOID);
pub type KIPI_BROADCAST_WORKER = unsafe extern "win64" fn(argument: usize) -> usize;

pub const LOW_PRIORITY: i32 = 0;
pub const LOW_REALTIME_PRIORITY: i32 = 16;
pub const HIGH_PRIORITY: i32 = 31;

pub type KBUGCHECK_CALLBACK_ROUTINE = unsafe extern "win64" fn(buffer: PVOID, length: u32);

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KBUGCHECK_CALLBACK_RECORD {
    pub Entry: LIST_ENTRY,
    pub CallbackRoutine: Option<KBUGCHECK_CALLBACK_ROUTINE>,
    pub Buffer: PVOID,
    pub Length: u32,
    pub Component: *const u8,
    pub Checksum: usize,
    pub State: UCHAR,
}

// KBUGCHECK_BUFFER_DUMP_STATE: KBUGCHECK_CALLBACK_RECORD.State
pub const BufferEmpty: UCHAR = 0;
pub const BufferInserted: UCHAR = 1;
pub const BufferStarted: UCHAR = 2;
pub const BufferFinished: UCHAR = 3;
pub const BufferIncomplete: UCHAR = 4;

// KBUGCHECK_CALLBACK_REASON
pub const KbCallbackSecondaryDumpData: i32 = 2;
pub const KbCallbackDumpIo: i32 = 3;
pub const KbCallbackAddPages: i32 = 4;

pub type KBUGCHECK_REASON_CALLBACK_ROUTINE = unsafe extern "win64" fn(
    reason: i32,
    record: *mut KBUGCHECK_REASON_CALLBACK_RECORD,
    data: PVOID,
    length: u32,
);

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KBUGCHECK_REASON_CALLBACK_RECORD {
    pub Entry: LIST_ENTRY,
    pub CallbackRoutine: Option<KBUGCHECK_REASON_CALLBACK_ROUTINE>,
    pub Component: *const u8,
    pub Checksum: usize,
    pub Reason: i32,
    pub State: UCHAR,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KBUGCHECK_SECONDARY_DUMP_DATA {
    pub InBuffer: PVOID,
    pub InBufferLength: u32,
    pub MaximumAllowed: u32,
    pub Guid: GUID,
    pub OutBuffer: PVOID,
    pub OutBufferLength: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KBUGCHECK_ADD_PAGES {
    pub Context: PVOID,
    pub Flags: u32,
    pub BugCheckCode: u32,
    pub Address: usize,
    pub Count: usize,
}

// KBUGCHECK_ADD_PAGES.Flags
pub const KB_ADD_PAGES_FLAG_VIRTUAL_ADDRESS: u32 = 1;
pub const KB_ADD_PAGES_FLAG_PHYSICAL_ADDRESS: u32 = 2;
pub const KB_ADD_PAGES_FLAG_ADDITIONAL_RANGES_EXIST: u32 = 0x8000_0000;

/// A kernel function that takes nothing and answers a status, as `DllInitialize`'s sibling `DllUnload`.
pub type DLL_UNLOAD = unsafe extern "win64" fn() -> NTSTATUS;
pub type DLL_INITIALIZE =
    unsafe extern "win64" fn(registry_path: *const crate::UNICODE_STRING) -> NTSTATUS;

/// The kernel's time of day and since boot run in units of 100 ns.
pub const TICKS_PER_MILLISECOND: LARGE_INTEGER = 10_000;

layouts! {
    DISPATCHER_HEADER = 24 { Type: 0, Size: 2, SignalState: 4, WaitListHead: 8 }
    KEVENT = 24 { Header: 0 }
    KSEMAPHORE = 32 { Limit: 24 }
    KMUTEX = 56 { MutantListEntry: 24, OwnerThread: 40, Abandoned: 48, ApcDisable: 49 }
    KTIMER = 64 { DueTime: 24, TimerListEntry: 32, Dpc: 48, Processor: 56, Period: 60 }
    KDPC = 64 {
        Type: 0, Importance: 1, Number: 2, DpcListEntry: 8, DeferredRoutine: 24, DeferredContext: 32,
        SystemArgument1: 40, SystemArgument2: 48, DpcData: 56,
    }
    KWAIT_BLOCK = 48 {}
    PROCESSOR_NUMBER = 4 { Group: 0, Number: 2 }
    GROUP_AFFINITY = 16 { Mask: 0, Group: 8 }
    KBUGCHECK_CALLBACK_RECORD = 64 {
        CallbackRoutine: 16, Buffer: 24, Length: 32, Component: 40, Checksum: 48, State: 56,
    }
    KBUGCHECK_REASON_CALLBACK_RECORD = 48 { CallbackRoutine: 16, Component: 24, Checksum: 32, Reason: 40, State: 44 }
    KBUGCHECK_SECONDARY_DUMP_DATA = 48 {
        InBuffer: 0, InBufferLength: 8, MaximumAllowed: 12, Guid: 16, OutBuffer: 32, OutBufferLength: 40,
    }
    KBUGCHECK_ADD_PAGES = 32 { Context: 0, Flags: 8, BugCheckCode: 12, Address: 16, Count: 24 }
}
