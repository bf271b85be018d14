//! `NET_BUFFER` and `NET_BUFFER_LIST`: frames on their way through NDIS, and the pools they come from.
//!
//! ```text
//!   NET_BUFFER_LIST ─Next─▶ …          one per flow decision: what is said of it (info.rs) holds for all its buffers
//!     └─FirstNetBuffer─▶ NET_BUFFER ─Next─▶ …                    one per frame
//!                          └─MdlChain─▶ MDL ─Next─▶ …   the frame: DataLength bytes from DataOffset
//! ```

use crate::ndis::{MaxNetBufferListInfo, NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_STATUS};
use crate::{BOOLEAN, MDL, PHYSICAL_ADDRESS, PVOID};

/// One frame.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct NET_BUFFER {
    pub Next: *mut NET_BUFFER,
    /// The MDL in which the data starts.
    pub CurrentMdl: *mut MDL,
    /// Bytes into `CurrentMdl`.
    pub CurrentMdlOffset: u32,
    pub Padding1: u32,
    /// Bytes. Shares its place with a `SIZE_T`, so the upper half is 0.
    pub DataLength: u32,
    pub DataLengthUpper: u32,
    pub MdlChain: *mut MDL,
    /// Bytes into the whole chain.
    pub DataOffset: u32,
    pub Padding2: u32,
    pub ChecksumBias: u16,
    pub Reserved: u16,
    pub NdisPoolHandle: NDIS_HANDLE,
    pub NdisReserved: [PVOID; 2],
    pub ProtocolReserved: [PVOID; 6],
    pub MiniportReserved: [PVOID; 4],
    pub DataPhysicalAddress: PHYSICAL_ADDRESS,
    /// Or a scatter-gather list.
    pub SharedMemoryInfo: PVOID,
}

/// Memory that a driver attached to a list; `ContextData` is `Size` bytes, of which `Offset` are unused.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct NET_BUFFER_LIST_CONTEXT {
    pub Next: *mut NET_BUFFER_LIST_CONTEXT,
    pub Size: u16,
    pub Offset: u16,
    pub Padding: u32,
    pub ContextData: [u8; 0],
}

/// Frames that go together, and what is said of them.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct NET_BUFFER_LIST {
    pub Next: *mut NET_BUFFER_LIST,
    pub FirstNetBuffer: *mut NET_BUFFER,
    pub Context: *mut NET_BUFFER_LIST_CONTEXT,
    pub ParentNetBufferList: *mut NET_BUFFER_LIST,
    pub NdisPoolHandle: NDIS_HANDLE,
    pub Padding: u64,
    pub NdisReserved: [PVOID; 2],
    pub ProtocolReserved: [PVOID; 4],
    /// The miniport's as long as it owns the list, as `Scratch`.
    pub MiniportReserved: [PVOID; 2],
    pub Scratch: PVOID,
    pub SourceHandle: NDIS_HANDLE,
    /// `NDIS_NBL_FLAGS_*`.
    pub NblFlags: u32,
    pub ChildRefCount: i32,
    pub Flags: u32,
    pub Status: NDIS_STATUS,
    pub NetBufferListInfo: [PVOID; MaxNetBufferListInfo],
}

// NblFlags (ndis/nbl.h)
pub const NBL_FLAGS_MINIPORT_RESERVED: u32 = 0x0000_F000;
pub const NBL_FLAGS_SCRATCH: u32 = 0x000F_0000;
pub const NDIS_NBL_FLAGS_SEND_READ_ONLY: u32 = 0x0000_0001;
pub const NDIS_NBL_FLAGS_RECV_READ_ONLY: u32 = 0x0000_0002;
pub const NDIS_NBL_FLAGS_IS_IPV4: u32 = 0x0000_0200;
pub const NDIS_NBL_FLAGS_IS_IPV6: u32 = 0x0000_0400;
pub const NDIS_NBL_FLAGS_IS_TCP: u32 = 0x0000_0800;
pub const NDIS_NBL_FLAGS_IS_UDP: u32 = 0x0000_1000;
pub const NDIS_NBL_FLAGS_IS_LOOPBACK_PACKET: u32 = 0x0000_8000;

// MiniportSendNetBufferLists (ndis/nblsend.h)
pub const NDIS_SEND_FLAGS_DISPATCH_LEVEL: u32 = 0x0000_0001;
pub const NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK: u32 = 0x0000_0002;
pub const NDIS_SEND_FLAGS_SINGLE_QUEUE: u32 = 0x0000_0004;

// NdisMSendNetBufferListsComplete (ndis/nblsend.h)
pub const NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL: u32 = 0x0000_0001;
pub const NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE: u32 = 0x0000_0002;

// NdisMIndicateReceiveNetBufferLists (ndis/nblreceive.h)
pub const NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL: u32 = 0x0000_0001;
/// The lists are the miniport's again when the call returns.
pub const NDIS_RECEIVE_FLAGS_RESOURCES: u32 = 0x0000_0002;
pub const NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE: u32 = 0x0000_0100;
pub const NDIS_RECEIVE_FLAGS_SINGLE_VLAN: u32 = 0x0000_0200;
pub const NDIS_RECEIVE_FLAGS_PERFECT_FILTERED: u32 = 0x0000_0400;
pub const NDIS_RECEIVE_FLAGS_SINGLE_QUEUE: u32 = 0x0000_0800;
pub const NDIS_RECEIVE_FLAGS_SHARED_MEMORY_INFO_VALID: u32 = 0x0000_1000;
pub const NDIS_RECEIVE_FLAGS_MORE_NBLS: u32 = 0x0000_2000;

// MiniportReturnNetBufferLists (ndis/nblreceive.h)
pub const NDIS_RETURN_FLAGS_DISPATCH_LEVEL: u32 = 0x0000_0001;
pub const NDIS_RETURN_FLAGS_SINGLE_QUEUE: u32 = 0x0000_0002;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NET_BUFFER_LIST_POOL_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub ProtocolId: u8,
    /// Each list is allocated with a buffer.
    pub fAllocateNetBuffer: BOOLEAN,
    pub ContextSize: u16,
    pub PoolTag: u32,
    pub DataSize: u32,
}

pub const NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1: u8 = 1;
pub const NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1: u16 = 16;
/// `ProtocolId` of who is no protocol.
pub const NDIS_PROTOCOL_ID_DEFAULT: u8 = 0;

layouts! {
    NET_BUFFER = 176 {
        Next: 0, CurrentMdl: 8, CurrentMdlOffset: 16, DataLength: 24, MdlChain: 32, DataOffset: 40,
        ChecksumBias: 48, Reserved: 50, NdisPoolHandle: 56, NdisReserved: 64,
        ProtocolReserved: 80, MiniportReserved: 128, DataPhysicalAddress: 160,
        SharedMemoryInfo: 168,
    }
    NET_BUFFER_LIST_CONTEXT = 16 { Next: 0, Size: 8, Offset: 10, ContextData: 16 }
    NET_BUFFER_LIST = 368 {
        Next: 0, FirstNetBuffer: 8, Context: 16, ParentNetBufferList: 24, NdisPoolHandle: 32,
        NdisReserved: 48, ProtocolReserved: 64, MiniportReserved: 96, Scratch: 112,
        SourceHandle: 120, NblFlags: 128, ChildRefCount: 132, Flags: 136, Status: 140,
        NetBufferListInfo: 144,
    }
    NET_BUFFER_LIST_POOL_PARAMETERS = 16 {
        Header: 0, ProtocolId: 4, fAllocateNetBuffer: 5, ContextSize: 6, PoolTag: 8, DataSize: 12,
    }
}
