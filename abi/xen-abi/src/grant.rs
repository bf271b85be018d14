//! Grant table entries, operations and their arguments. public/grant_table.h.

use crate::{DomId, Gref};
use core::sync::atomic::AtomicU32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `GNTTABOP_map_grant_ref`: [`MapGrantRef`].
pub const MAP_GRANT_REF: u32 = 0;
/// `GNTTABOP_unmap_grant_ref`: [`UnmapGrantRef`].
pub const UNMAP_GRANT_REF: u32 = 1;
/// `GNTTABOP_setup_table`.
pub const SETUP_TABLE: u32 = 2;
/// `GNTTABOP_copy`: [`GrantCopy`].
pub const COPY: u32 = 5;
/// `GNTTABOP_query_size`: [`QuerySize`].
pub const QUERY_SIZE: u32 = 6;
/// `GNTTABOP_set_version`: [`SetVersion`].
pub const SET_VERSION: u32 = 8;
/// `GNTTABOP_get_version`: [`GetVersion`].
pub const GET_VERSION: u32 = 10;

/// `GTF_type_mask`: the low bits of an entry's flags that hold its type; 0 is an unused entry (`GTF_invalid`).
pub const GTF_TYPE_MASK: u16 = 3;
/// `GTF_permit_access`: the peer may map or copy the frame.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// `GTF_accept_transfer`.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// `GTF_readonly`: set by the granter.
pub const GTF_READONLY: u16 = 1 << 2;
/// `GTF_reading`: set by Xen while a mapping or a copy reads.
pub const GTF_READING: u16 = 1 << 3;
/// `GTF_writing`: set by Xen while a mapping or a copy writes.
pub const GTF_WRITING: u16 = 1 << 4;
/// `GTF_sub_page`: version 2 only.
pub const GTF_SUB_PAGE: u16 = 1 << 8;

/// Entries of version 1 in a frame of the table.
pub const ENTRIES_PER_FRAME: u32 = 512;
/// `GNTTAB_NR_RESERVED_ENTRIES`: the first entries belong to the toolstack.
pub const RESERVED_ENTRIES: u32 = 8;
/// `GNTTAB_RESERVED_CONSOLE`: the console page.
pub const RESERVED_CONSOLE: Gref = Gref(0);
/// `GNTTAB_RESERVED_XENSTORE`: the xenstore page.
pub const RESERVED_XENSTORE: Gref = Gref(1);

/// `GNTMAP_device_map`.
pub const GNTMAP_DEVICE_MAP: u32 = 1 << 0;
/// `GNTMAP_host_map`: map into the caller's address space.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// `GNTMAP_readonly`.
pub const GNTMAP_READONLY: u32 = 1 << 2;
/// `GNTMAP_application_map`.
pub const GNTMAP_APPLICATION_MAP: u32 = 1 << 3;
/// `GNTMAP_contains_pte`.
pub const GNTMAP_CONTAINS_PTE: u32 = 1 << 4;

/// `GNTCOPY_source_gref`: the source is a grant reference, else a frame of the caller's domain.
pub const GNTCOPY_SOURCE_GREF: u16 = 1 << 0;
/// `GNTCOPY_dest_gref`.
pub const GNTCOPY_DEST_GREF: u16 = 1 << 1;

/// `GNTST_okay`.
pub const GNTST_OKAY: i16 = 0;
/// `GNTST_general_error`.
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// `GNTST_bad_domain`.
pub const GNTST_BAD_DOMAIN: i16 = -2;
/// `GNTST_bad_gntref`.
pub const GNTST_BAD_GNTREF: i16 = -3;
/// `GNTST_bad_handle`.
pub const GNTST_BAD_HANDLE: i16 = -4;
/// `GNTST_bad_virt_addr`.
pub const GNTST_BAD_VIRT_ADDR: i16 = -5;
/// `GNTST_bad_dev_addr`.
pub const GNTST_BAD_DEV_ADDR: i16 = -6;
/// `GNTST_no_device_space`: no room for another mapping.
pub const GNTST_NO_DEVICE_SPACE: i16 = -7;
/// `GNTST_permission_denied`.
pub const GNTST_PERMISSION_DENIED: i16 = -8;
/// `GNTST_bad_page`.
pub const GNTST_BAD_PAGE: i16 = -9;
/// `GNTST_bad_copy_arg`: a copy crosses a page.
pub const GNTST_BAD_COPY_ARG: i16 = -10;
/// `GNTST_address_too_big`.
pub const GNTST_ADDRESS_TOO_BIG: i16 = -11;
/// `GNTST_eagain`: try again.
pub const GNTST_EAGAIN: i16 = -12;

/// `struct grant_entry_v1` in shared memory. Flags and domain share a word, because Xen and the granter change the flags
/// by compare-exchange while the other may do the same.
#[derive(Debug)]
#[repr(C)]
pub struct GrantEntryV1 {
    /// `flags` in bits 0–15 (`GTF_*`), `domid` in bits 16–31.
    pub flags_domid: AtomicU32,
    /// The granted frame.
    pub frame: AtomicU32,
}
layout!(GrantEntryV1, 8, flags_domid @ 0, frame @ 4);

/// `struct gnttab_map_grant_ref`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MapGrantRef {
    /// Where to map: for an HVM guest a guest-physical address.
    pub host_addr: u64,
    /// `GNTMAP_*`.
    pub flags: u32,
    /// The reference in the granter's table.
    pub gref: Gref,
    /// The granter.
    pub dom: DomId,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: names the mapping.
    pub handle: u32,
    /// Out.
    pub dev_bus_addr: u64,
}
layout!(MapGrantRef, 32, host_addr @ 0, flags @ 8, gref @ 12, dom @ 16, status @ 18, handle @ 20, dev_bus_addr @ 24);

/// `struct gnttab_unmap_grant_ref`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// The address it was mapped at.
    pub host_addr: u64,
    /// 0, or the address returned by the mapping.
    pub dev_bus_addr: u64,
    /// The mapping.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub pad: u16,
}
layout!(UnmapGrantRef, 24, host_addr @ 0, dev_bus_addr @ 8, handle @ 16, status @ 20);

/// `struct gnttab_query_size`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QuerySize {
    /// Whose table.
    pub dom: DomId,
    /// Padding.
    pub pad: u16,
    /// Out: frames it has.
    pub nr_frames: u32,
    /// Out: frames it may have.
    pub max_nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub pad2: u16,
}
layout!(QuerySize, 16, dom @ 0, nr_frames @ 4, max_nr_frames @ 8, status @ 12);

/// `struct gnttab_set_version`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetVersion {
    /// In: the version wanted; out: the version in force.
    pub version: u32,
}
layout!(SetVersion, 4, version @ 0);

/// `struct gnttab_get_version`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetVersion {
    /// Whose table.
    pub dom: DomId,
    /// Padding.
    pub pad: u16,
    /// Out.
    pub version: u32,
}
layout!(GetVersion, 8, dom @ 0, version @ 4);

/// One side of a [`GrantCopy`]. `struct gnttab_copy_ptr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantCopyPtr {
    /// A grant reference or a frame number, as the flags say.
    pub reference: u64,
    /// The domain it belongs to.
    pub domid: DomId,
    /// Bytes from the start of the page.
    pub offset: u16,
    /// Padding.
    pub pad: u32,
}
layout!(GrantCopyPtr, 16, reference @ 0, domid @ 8, offset @ 10);

/// `struct gnttab_copy`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantCopy {
    /// From where.
    pub source: GrantCopyPtr,
    /// To where.
    pub dest: GrantCopyPtr,
    /// Bytes; both sides must stay within their page.
    pub len: u16,
    /// `GNTCOPY_*`.
    pub flags: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub pad: u16,
}
layout!(GrantCopy, 40, source @ 0, dest @ 16, len @ 32, flags @ 34, status @ 36);
