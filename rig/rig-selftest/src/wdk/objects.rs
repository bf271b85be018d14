//! Dispatcher objects, DPCs, MDLs, strings and other structures, with their sizes and public fields on x64.

use core::ffi::c_void;

use super::NTSTATUS;

pub type PVOID = *mut c_void;
pub type HANDLE = PVOID;
pub type KIRQL = u8;
pub type BOOLEAN = u8;

pub const PASSIVE_LEVEL: KIRQL = 0;
pub const APC_LEVEL: KIRQL = 1;
pub const DISPATCH_LEVEL: KIRQL = 2;
pub const IPI_LEVEL: KIRQL = 14;
pub const HIGH_LEVEL: KIRQL = 15;

/// An object that only the kernel looks into, of so many 8-byte words.
macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident: $words:literal;)*) => {$(
        $(#[$doc])*
        #[repr(C, align(8))]
        pub struct $name(pub [u64; $words]);

        impl $name {
            pub const fn zeroed() -> Self {
                Self([0; $words])
            }
        }
    )*};
}

opaque! {
    KEVENT: 3;
    KSEMAPHORE: 4;
    KMUTANT: 7;
    KTIMER: 8;
    KDPC: 8;
    KBUGCHECK_CALLBACK_RECORD: 8;
    KBUGCHECK_REASON_CALLBACK_RECORD: 6;
    /// IO_REMOVE_LOCK of a free build.
    IO_REMOVE_LOCK: 4;
    IO_CSQ: 8;
    IO_CSQ_IRP_CONTEXT: 3;
    FAST_MUTEX: 7;
    ERESOURCE: 13;
    NPAGED_LOOKASIDE_LIST: 16;
    KLOCK_QUEUE_HANDLE: 3;
}

pub type KSPIN_LOCK = usize;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct LIST_ENTRY {
    pub Flink: *mut LIST_ENTRY,
    pub Blink: *mut LIST_ENTRY,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct UNICODE_STRING {
    pub Length: u16,
    pub MaximumLength: u16,
    pub Buffer: *mut u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ANSI_STRING {
    pub Length: u16,
    pub MaximumLength: u16,
    pub Buffer: *mut u8,
}

#[repr(C)]
pub struct OBJECT_ATTRIBUTES {
    pub Length: u32,
    pub RootDirectory: HANDLE,
    pub ObjectName: *const UNICODE_STRING,
    pub Attributes: u32,
    pub SecurityDescriptor: PVOID,
    pub SecurityQualityOfService: PVOID,
}

pub const OBJ_CASE_INSENSITIVE: u32 = 0x40;
pub const OBJ_KERNEL_HANDLE: u32 = 0x200;

#[repr(C)]
pub struct MDL {
    pub Next: *mut MDL,
    pub Size: i16,
    pub MdlFlags: i16,
    pub AllocationProcessorNumber: u16,
    pub Reserved: u16,
    pub Process: PVOID,
    pub MappedSystemVa: PVOID,
    pub StartVa: PVOID,
    pub ByteCount: u32,
    pub ByteOffset: u32,
}

pub const MDL_MAPPED_TO_SYSTEM_VA: i16 = 1;
pub const MDL_PAGES_LOCKED: i16 = 2;
pub const MDL_SOURCE_IS_NONPAGED_POOL: i16 = 4;

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PROCESSOR_NUMBER {
    pub Group: u16,
    pub Number: u8,
    pub Reserved: u8,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct GROUP_AFFINITY {
    pub Mask: usize,
    pub Group: u16,
    pub Reserved: [u16; 3],
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GUID {
    pub Data1: u32,
    pub Data2: u16,
    pub Data3: u16,
    pub Data4: [u8; 8],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PHYSICAL_MEMORY_RANGE {
    pub BaseAddress: i64,
    pub NumberOfBytes: i64,
}

#[repr(C)]
pub struct OSVERSIONINFOW {
    pub dwOSVersionInfoSize: u32,
    pub dwMajorVersion: u32,
    pub dwMinorVersion: u32,
    pub dwBuildNumber: u32,
    pub dwPlatformId: u32,
    pub szCSDVersion: [u16; 128],
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TIME_FIELDS {
    pub Year: i16,
    pub Month: i16,
    pub Day: i16,
    pub Hour: i16,
    pub Minute: i16,
    pub Second: i16,
    pub Milliseconds: i16,
    pub Weekday: i16,
}

pub type KDEFERRED_ROUTINE = unsafe extern "system" fn(*mut KDPC, PVOID, PVOID, PVOID);
pub type KSTART_ROUTINE = unsafe extern "system" fn(PVOID);
pub type IPI_BROADCAST = unsafe extern "system" fn(usize) -> usize;
pub type CALLBACK_FUNCTION = unsafe extern "system" fn(PVOID, PVOID, PVOID);
pub type BUGCHECK_CALLBACK = unsafe extern "system" fn(PVOID, u32);
pub type BUGCHECK_REASON_CALLBACK =
    unsafe extern "system" fn(i32, *mut KBUGCHECK_REASON_CALLBACK_RECORD, PVOID, u32);

// KBUGCHECK_CALLBACK_REASON.
pub const KbCallbackSecondaryDumpData: i32 = 2;
pub const KbCallbackAddPages: i32 = 4;

#[repr(C)]
pub struct KBUGCHECK_SECONDARY_DUMP_DATA {
    pub InBuffer: PVOID,
    pub InBufferLength: u32,
    pub MaximumAllowed: u32,
    pub Guid: GUID,
    pub OutBuffer: PVOID,
    pub OutBufferLength: u32,
}

const _: () = assert!(size_of::<KBUGCHECK_SECONDARY_DUMP_DATA>() == 48);

#[repr(C)]
pub struct KBUGCHECK_ADD_PAGES {
    pub Context: PVOID,
    pub Flags: u32,
    pub BugCheckCode: u32,
    pub Address: usize,
    pub Count: usize,
}

const _: () = assert!(size_of::<KBUGCHECK_ADD_PAGES>() == 32);

pub const KB_ADD_PAGES_FLAG_VIRTUAL_ADDRESS: u32 = 1;
pub const KB_ADD_PAGES_FLAG_ADDITIONAL_RANGES_EXIST: u32 = 0x8000_0000;

// EVENT_TYPE, TIMER_TYPE, WAIT_TYPE, KWAIT_REASON, KPROCESSOR_MODE, KDPC_IMPORTANCE.
pub const NotificationEvent: i32 = 0;
pub const SynchronizationEvent: i32 = 1;
pub const NotificationTimer: i32 = 0;
pub const SynchronizationTimer: i32 = 1;
pub const WaitAll: i32 = 0;
pub const WaitAny: i32 = 1;
pub const Executive: i32 = 0;
pub const KernelMode: i8 = 0;
pub const LowImportance: i32 = 0;
pub const MediumImportance: i32 = 1;
pub const HighImportance: i32 = 2;

pub const THREAD_ALL_ACCESS: u32 = 0x1F_FFFF;
pub const ALL_PROCESSOR_GROUPS: u16 = 0xFFFF;

// POOL_TYPE.
pub const NonPagedPool: i32 = 0;
pub const PagedPool: i32 = 1;
pub const NonPagedPoolNx: i32 = 512;

// MEMORY_CACHING_TYPE and MM_PAGE_PRIORITY.
pub const MmNonCached: i32 = 0;
pub const MmCached: i32 = 1;
pub const NormalPagePriority: u32 = 16;
pub const MdlMappingNoExecute: u32 = 0x4000_0000;

pub const PAGE_SIZE: usize = 4096;

/// `NT_SUCCESS`.
pub const fn nt_success(status: NTSTATUS) -> bool {
    status >= 0
}
