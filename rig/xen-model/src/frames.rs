//! The frames Xen owns, and the only place where a frame's bytes become Rust references.
//!
//! ```text
//!   frame 0      1 … max         max+1          max+2, max+3          the rest
//!   shared info  guest's grants  dom0's grants  console, xenstore     pages domain 0 may grant
//! ```
//! (The console and xenstore pages are the guest's memory on a real Xen, taken from it by the domain builder; here they
//! are Xen frames that the builder shows to the guest at their frame numbers.)

use std::sync::atomic::{AtomicU8, AtomicU32};

use xen_abi::PAGE_SIZE;
use xen_abi::console::XenconsInterface;
use xen_abi::grant::{ENTRIES_PER_FRAME, GrantEntryV1};
use xen_abi::shared_info::{SharedInfo, VcpuInfo};
use xen_abi::xs_wire::XenstoreInterface;

use crate::{Config, Machine};

/// Pages domain 0 may grant.
const DOM0_PAGES: u64 = 16;

/// Which frame holds what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) shared_info: u64,
    pub(crate) guest_grants: u64,
    pub(crate) max_grant_frames: u32,
    pub(crate) dom0_grants: u64,
    pub(crate) console: u64,
    pub(crate) store: u64,
    pub(crate) dom0_pages: u64,
    pub(crate) total: u64,
}

impl Layout {
    pub(crate) fn of(config: &Config) -> Self {
        let dom0_grants = 1 + u64::from(config.max_grant_frames);
        Self {
            shared_info: 0,
            guest_grants: 1,
            max_grant_frames: config.max_grant_frames,
            dom0_grants,
            console: dom0_grants + 1,
            store: dom0_grants + 2,
            dom0_pages: dom0_grants + 3,
            total: dom0_grants + 3 + DOM0_PAGES,
        }
    }
}

/// A page of memory that other domains may change at any time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page(*mut u8);

// SAFETY: the page belongs to the machine, is never freed while the model lives, and is only reached through atomics or
// raw copies, which any thread may do.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    pub(crate) fn ram(machine: &dyn Machine, n: u64) -> Self {
        assert!(n < machine.ram_frames());
        Self(machine.ram(n))
    }

    pub(crate) fn xen(machine: &dyn Machine, i: u64) -> Self {
        assert!(i < machine.xen_frames());
        Self(machine.xen_frame(i))
    }

    pub(crate) fn as_ptr(self) -> *mut u8 {
        self.0
    }

    /// The page as bytes which the other side may change meanwhile.
    pub(crate) fn bytes<'a>(self) -> &'a [AtomicU8] {
        // SAFETY: `Machine`'s contract: 4096 bytes, valid as long as the machine, which outlives the model's borrows of
        // it; atomics make concurrent writes by the guest defined.
        unsafe { std::slice::from_raw_parts(self.0.cast::<AtomicU8>(), PAGE_SIZE) }
    }

    /// The page as words.
    pub(crate) fn words<'a>(self) -> &'a [AtomicU32] {
        // SAFETY: as in `bytes`; the page is aligned to 4096.
        unsafe { std::slice::from_raw_parts(self.0.cast::<AtomicU32>(), PAGE_SIZE / 4) }
    }

    /// Fills the page with zeros.
    pub(crate) fn scrub(self) {
        // SAFETY: `Machine`'s contract: 4096 bytes valid for writes.
        unsafe { self.0.write_bytes(0, PAGE_SIZE) }
    }

    /// A structure at the start of the page. `T` is made of atomics and fits a page.
    fn view<'a, T: SharedStruct>(self, offset: usize) -> &'a T {
        assert!(offset.is_multiple_of(align_of::<T>()) && offset + size_of::<T>() <= PAGE_SIZE);
        // SAFETY: in bounds and aligned, as just checked.
        let at = unsafe { self.0.add(offset) };
        // SAFETY: `SharedStruct`: all bit patterns are valid and all fields are atomics; the page lives as in `bytes`.
        unsafe { &*at.cast::<T>() }
    }
}

/// Structures of atomics, for which any bytes are a value.
///
/// # Safety
/// The implementor consists of integer atomics and arrays of them alone.
unsafe trait SharedStruct {}
// SAFETY: xen-abi defines them of atomics alone.
unsafe impl SharedStruct for SharedInfo {}
// SAFETY: as above.
unsafe impl SharedStruct for VcpuInfo {}
// SAFETY: as above.
unsafe impl SharedStruct for XenstoreInterface {}
// SAFETY: as above.
unsafe impl SharedStruct for XenconsInterface {}
// SAFETY: as above.
unsafe impl SharedStruct for GrantEntryV1 {}

pub(crate) fn shared_info(machine: &dyn Machine, frame: u64) -> &SharedInfo {
    Page::xen(machine, frame).view(0)
}

pub(crate) fn store_interface(machine: &dyn Machine, frame: u64) -> &XenstoreInterface {
    Page::xen(machine, frame).view(0)
}

pub(crate) fn console_interface(machine: &dyn Machine, frame: u64) -> &XenconsInterface {
    Page::xen(machine, frame).view(0)
}

/// A `vcpu_info` at `offset` of a page: a multiple of 8, and within the page, or this panics.
pub(crate) fn vcpu_info<'a>(page: Page, offset: usize) -> &'a VcpuInfo {
    page.view(offset)
}

/// Entry `index` of a table that starts at Xen frame `first`.
pub(crate) fn grant_entry(machine: &dyn Machine, first: u64, index: u32) -> &GrantEntryV1 {
    let page = Page::xen(machine, first + u64::from(index / ENTRIES_PER_FRAME));
    page.view((index % ENTRIES_PER_FRAME) as usize * size_of::<GrantEntryV1>())
}
