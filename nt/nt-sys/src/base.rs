//! The types that everything else is made of: strings, lists, GUIDs, object attributes, I/O status.

use core::ffi::c_void;

pub type NTSTATUS = i32;
pub type BOOLEAN = u8;
pub type UCHAR = u8;
pub type CCHAR = i8;
pub type KIRQL = u8;
pub type PVOID = *mut c_void;
pub type HANDLE = *mut c_void;
pub type ACCESS_MASK = u32;
/// Page frame number: a physical address divided by 4096.
pub type PFN_NUMBER = u64;
/// Bit mask of the processors of one group.
pub type KAFFINITY = u64;
/// `LARGE_INTEGER`, seen as its `QuadPart`.
pub type LARGE_INTEGER = i64;
pub type PHYSICAL_ADDRESS = i64;

pub const FALSE: BOOLEAN = 0;
pub const TRUE: BOOLEAN = 1;

/// Size of a page in bytes.
pub const PAGE_SIZE: usize = 4096;
pub const PAGE_SHIFT: u32 = 12;

/// A counted string of UTF-16 units. Lengths are in bytes and leave out a terminating NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UNICODE_STRING {
    pub Length: u16,
    pub MaximumLength: u16,
    pub Buffer: *mut u16,
}

/// A counted string of 8-bit characters. Lengths are in bytes and leave out a terminating NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ANSI_STRING {
    pub Length: u16,
    pub MaximumLength: u16,
    pub Buffer: *mut u8,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LIST_ENTRY {
    pub Flink: *mut LIST_ENTRY,
    pub Blink: *mut LIST_ENTRY,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GUID {
    pub Data1: u32,
    pub Data2: u16,
    pub Data3: u16,
    pub Data4: [u8; 8],
}

impl GUID {
    /// Reads a GUID off its usual spelling's number: `0x70941BF4_0073_11D1_A09E_00C04FC340B1`.
    pub const fn from_u128(value: u128) -> GUID {
        let bytes = value.to_be_bytes();
        GUID {
            Data1: (value >> 96) as u32,
            Data2: (value >> 80) as u16,
            Data3: (value >> 64) as u16,
            Data4: [
                bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14],
                bytes[15],
            ],
        }
    }
}

/// The outcome of a request. `Status` shares its 8 bytes with a pointer, so the upper half is padding.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct IO_STATUS_BLOCK {
    pub Status: NTSTATUS,
    pub _Pad: u32,
    pub Information: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OBJECT_ATTRIBUTES {
    pub Length: u32,
    pub RootDirectory: HANDLE,
    pub ObjectName: *mut UNICODE_STRING,
    pub Attributes: u32,
    pub SecurityDescriptor: PVOID,
    pub SecurityQualityOfService: PVOID,
}

// OBJECT_ATTRIBUTES.Attributes (wdm.h: OBJ_*).
pub const OBJ_CASE_INSENSITIVE: u32 = 0x40;
pub const OBJ_KERNEL_HANDLE: u32 = 0x200;

// Access rights that kernel callers ask for (wdm.h).
pub const DELETE: ACCESS_MASK = 0x0001_0000;
pub const SYNCHRONIZE: ACCESS_MASK = 0x0010_0000;
pub const STANDARD_RIGHTS_ALL: ACCESS_MASK = 0x001F_0000;
pub const THREAD_ALL_ACCESS: ACCESS_MASK = 0x001F_FFFF;
pub const GENERIC_READ: ACCESS_MASK = 0x8000_0000;

/// KPROCESSOR_MODE: who asks.
pub const KernelMode: i8 = 0;
pub const UserMode: i8 = 1;

/// `RtlGetVersion`'s answer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RTL_OSVERSIONINFOW {
    pub dwOSVersionInfoSize: u32,
    pub dwMajorVersion: u32,
    pub dwMinorVersion: u32,
    pub dwBuildNumber: u32,
    pub dwPlatformId: u32,
    pub szCSDVersion: [u16; 128],
}

// dpfilter.h: component and levels of vDbgPrintEx.
pub const DPFLTR_IHVDRIVER_ID: u32 = 77;
pub const DPFLTR_ERROR_LEVEL: u32 = 0;
pub const DPFLTR_WARNING_LEVEL: u32 = 1;
pub const DPFLTR_TRACE_LEVEL: u32 = 2;
pub const DPFLTR_INFO_LEVEL: u32 = 3;

layouts! {
    UNICODE_STRING = 16 { Length: 0, MaximumLength: 2, Buffer: 8 }
    ANSI_STRING = 16 { Length: 0, MaximumLength: 2, Buffer: 8 }
    LIST_ENTRY = 16 { Flink: 0, Blink: 8 }
    GUID = 16 { Data1: 0, Data2: 4, Data3: 6, Data4: 8 }
    IO_STATUS_BLOCK = 16 { Status: 0, Information: 8 }
    OBJECT_ATTRIBUTES = 48 {
        Length: 0, RootDirectory: 8, ObjectName: 16, Attributes: 24, SecurityDescriptor: 32,
        SecurityQualityOfService: 40,
    }
    RTL_OSVERSIONINFOW = 276 { dwMajorVersion: 4, dwBuildNumber: 12, szCSDVersion: 20 }
}
