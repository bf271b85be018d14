//! Operations on the guest's physical memory map. public/memory.h.

use crate::DomId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XENMEM_increase_reservation`.
pub const INCREASE_RESERVATION: u32 = 0;
/// `XENMEM_decrease_reservation`: [`MemoryReservation`]; gives frames back to Xen. Returns extents done.
pub const DECREASE_RESERVATION: u32 = 1;
/// `XENMEM_populate_physmap`: [`MemoryReservation`]; puts memory behind frames. Returns extents done.
pub const POPULATE_PHYSMAP: u32 = 6;
/// `XENMEM_add_to_physmap`: [`AddToPhysmap`].
pub const ADD_TO_PHYSMAP: u32 = 7;
/// `XENMEM_remove_from_physmap`: [`RemoveFromPhysmap`].
pub const REMOVE_FROM_PHYSMAP: u32 = 15;
/// public/memory.h: `MEMOP_EXTENT_SHIFT`; bits of the command above it are where an interrupted call goes on.
pub const EXTENT_SHIFT: u32 = 6;

/// `XENMAPSPACE_shared_info`: the shared info page; index 0.
pub const SPACE_SHARED_INFO: u32 = 0;
/// `XENMAPSPACE_grant_table`: a frame of the grant table; the index counts frames.
pub const SPACE_GRANT_TABLE: u32 = 1;
/// `XENMAPSPACE_gmfn`.
pub const SPACE_GMFN: u32 = 2;

/// `struct xen_memory_reservation`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryReservation {
    /// Guest-virtual address of `nr_extents` frame numbers of 8 bytes.
    pub extent_start: u64,
    /// How many.
    pub nr_extents: u64,
    /// Each extent is 2^order pages.
    pub extent_order: u32,
    /// `XENMEMF_*`.
    pub mem_flags: u32,
    /// Whose memory.
    pub domid: DomId,
    /// Padding.
    pub pad: [u16; 3],
}
layout!(MemoryReservation, 32, extent_start @ 0, nr_extents @ 8, extent_order @ 16, mem_flags @ 20, domid @ 24);

/// `struct xen_add_to_physmap`: shows a frame of Xen's to the guest at `gpfn`, in place of what was there.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddToPhysmap {
    /// Whose map.
    pub domid: DomId,
    /// Only for ranges.
    pub size: u16,
    /// One of `SPACE_*`.
    pub space: u32,
    /// Index within the space.
    pub idx: u64,
    /// Guest frame.
    pub gpfn: u64,
}
layout!(AddToPhysmap, 24, domid @ 0, size @ 2, space @ 4, idx @ 8, gpfn @ 16);

/// `struct xen_remove_from_physmap`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// Whose map.
    pub domid: DomId,
    /// Padding.
    pub pad: [u16; 3],
    /// Guest frame.
    pub gpfn: u64,
}
layout!(RemoveFromPhysmap, 16, domid @ 0, gpfn @ 8);
