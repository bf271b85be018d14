//! Xen's public ABI as a 64-bit x86 HVM guest sees it: structures and numbers, no logic.
//!
//! One file per concept; each number names the header and symbol it comes from, relative to `xen/include/`.
//! Structures that are passed by address to a hypercall are plain `#[repr(C)]` with their padding spelled out, so that
//! they can be zeroed whole and read or written as bytes ([`zerocopy`]). Structures that two domains share are made of
//! atomics, so that a shared reference to them is sound whatever the other domain writes.
#![no_std]
#![forbid(unsafe_code)]

/// Asserts at compile time the size of a structure and the offsets of its fields, in bytes.
macro_rules! layout {
    ($t:ty, $size:expr $(, $field:ident @ $offset:expr)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$t>() == $size);
            $(assert!(core::mem::offset_of!($t, $field) == $offset);)*
        };
    };
}

pub mod blkif;
pub mod console;
pub mod cpuid;
pub mod errno;
pub mod evtchn;
pub mod grant;
pub mod hvm;
pub mod hypercall;
pub mod ids;
pub mod memory;
pub mod netif;
pub mod platform;
pub mod sched;
pub mod shared_info;
pub mod vcpu;
pub mod version;
pub mod xenbus;
pub mod xs_wire;

pub use ids::{DomId, Gref, Port};

/// Bytes in a page, of guest memory and of every table and ring shared with Xen.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
