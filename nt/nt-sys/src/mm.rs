//! Memory: MDLs, pool types, caching types, physical ranges.

use crate::{LARGE_INTEGER, PHYSICAL_ADDRESS, PVOID};

/// Describes a buffer's pages: this header, then one `PFN_NUMBER` a page.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MDL {
    pub Next: *mut MDL,
    pub Size: i16,
    pub MdlFlags: i16,
    pub Process: PVOID,
    pub MappedSystemVa: PVOID,
    /// The buffer's virtual address rounded down to a page.
    pub StartVa: PVOID,
    pub ByteCount: u32,
    pub ByteOffset: u32,
}

// MDL.MdlFlags (wdm.h)
pub const MDL_MAPPED_TO_SYSTEM_VA: i16 = 0x0001;
pub const MDL_PAGES_LOCKED: i16 = 0x0002;
pub const MDL_SOURCE_IS_NONPAGED_POOL: i16 = 0x0004;
pub const MDL_ALLOCATED_FIXED_SIZE: i16 = 0x0008;
pub const MDL_PARTIAL: i16 = 0x0010;
pub const MDL_PARTIAL_HAS_BEEN_MAPPED: i16 = 0x0020;
pub const MDL_IO_PAGE_READ: i16 = 0x0040;
pub const MDL_WRITE_OPERATION: i16 = 0x0080;
pub const MDL_FREE_EXTRA_PTES: i16 = 0x0200;
pub const MDL_IO_SPACE: i16 = 0x0800;
pub const MDL_MAPPING_CAN_FAIL: i16 = 0x2000;

// POOL_TYPE (wdm.h)
pub const NonPagedPool: i32 = 0;
pub const PagedPool: i32 = 1;
/// Non-paged pool that cannot be executed.
pub const NonPagedPoolNx: i32 = 512;

// MEMORY_CACHING_TYPE
pub const MmNonCached: i32 = 0;
pub const MmCached: i32 = 1;
pub const MmWriteCombined: i32 = 2;

// Flags of MmAllocatePagesForMdlEx (wdm.h: MM_ALLOCATE_*).
pub const MM_DONT_ZERO_ALLOCATION: u32 = 0x0000_0001;
pub const MM_ALLOCATE_FULLY_REQUIRED: u32 = 0x0000_0004;
pub const MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS: u32 = 0x0000_0020;

// MM_PAGE_PRIORITY and its flags, for MmMapLockedPagesSpecifyCache.
pub const LowPagePriority: u32 = 0;
pub const NormalPagePriority: u32 = 16;
pub const HighPagePriority: u32 = 32;
pub const MdlMappingNoWrite: u32 = 0x8000_0000;
pub const MdlMappingNoExecute: u32 = 0x4000_0000;

// Page protections, for MmMapIoSpaceEx (winnt.h).
pub const PAGE_READWRITE: u32 = 0x04;
pub const PAGE_NOCACHE: u32 = 0x200;

/// One run of RAM. `MmGetPhysicalMemoryRanges` ends its array with a run of no bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PHYSICAL_MEMORY_RANGE {
    pub BaseAddress: PHYSICAL_ADDRESS,
    pub NumberOfBytes: LARGE_INTEGER,
}

layouts! {
    MDL = 48 {
        Next: 0, Size: 8, MdlFlags: 10, Process: 16, MappedSystemVa: 24, StartVa: 32, ByteCount: 40,
        ByteOffset: 44,
    }
    PHYSICAL_MEMORY_RANGE = 16 { BaseAddress: 0, NumberOfBytes: 8 }
}
