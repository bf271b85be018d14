//! Xen: grants and event channels, by hypercalls of this driver's own (xen/include/public: grant_table.h, memory.h,
//! event_channel.h).

use core::arch::asm;

use super::memory::pages;
use super::*;

pub const CASES: &[Case] = &[
    ("leaves-a-page-granted", |_| {
        grant(pool(PAGE_SIZE), DOMAIN_0);
    }),
    ("frees-a-granted-page", |_| {
        let page = pool(PAGE_SIZE);
        grant(page, DOMAIN_0);
        ExFreePool(page.cast());
    }),
    ("frees-granted-pages-of-an-mdl", |_| {
        let mdl = pages();
        // SAFETY: the page's number follows the MDL.
        grant_frame(unsafe { *mdl.add(1).cast() }, DOMAIN_0);
        MmFreePagesFromMdl(mdl);
    }),
    ("changes-a-grant-in-use", |_| {
        let entry = grant(pool(PAGE_SIZE), THIS_DOMAIN);
        let mut map = map();
        // SAFETY: an entry of the grant table.
        unsafe { entry.write_volatile(0) };
        hypercall(GRANT_TABLE_OP, UNMAP_GRANT_REF, &raw mut map, 1);
    }),
    ("leaves-a-grant-mapped", |_| {
        grant(pool(PAGE_SIZE), THIS_DOMAIN);
        map();
    }),
    ("leaves-an-event-channel", |_| {
        let mut unbound = Unbound {
            domain: SELF,
            remote: DOMAIN_0,
            port: 0,
        };
        hypercall(EVENT_CHANNEL_OP, ALLOC_UNBOUND, &raw mut unbound, 0);
    }),
];

const MEMORY_OP: u64 = 12;
const GRANT_TABLE_OP: u64 = 20;
const EVENT_CHANNEL_OP: u64 = 32;

const ADD_TO_PHYSMAP: u64 = 7;
const SPACE_GRANT_TABLE: u32 = 1;
const MAP_GRANT_REF: u64 = 0;
const UNMAP_GRANT_REF: u64 = 1;
const HOST_MAP: u32 = 2;
const ALLOC_UNBOUND: u64 = 6;

const DOMAIN_0: u16 = 0;
const THIS_DOMAIN: u16 = 1;
/// DOMID_SELF.
const SELF: u16 = 0x7ff0;

/// GTF_permit_access.
const PERMIT_ACCESS: u64 = 1;
/// The first entry that nobody has reserved.
const ENTRY: usize = 8;

/// xen_add_to_physmap.
#[repr(C)]
struct Add {
    domain: u16,
    size: u16,
    space: u32,
    index: u64,
    frame: u64,
}

/// gnttab_map_grant_ref and, by its first three words, what gnttab_unmap_grant_ref needs of it.
#[repr(C)]
struct Map {
    address: u64,
    /// gnttab_map_grant_ref: flags, the reference; gnttab_unmap_grant_ref: dev_bus_addr.
    flags: u32,
    reference: u32,
    /// gnttab_map_grant_ref: the domain and the status; gnttab_unmap_grant_ref: the handle.
    domain: u16,
    status: i16,
    handle: u32,
    bus: u64,
}

/// evtchn_alloc_unbound.
#[repr(C)]
struct Unbound {
    domain: u16,
    remote: u16,
    port: u32,
}

fn hypercall<T>(number: u64, command: u64, argument: *mut T, count: u64) -> i64 {
    let result;
    // SAFETY: the calling convention of hypercalls; the argument is a structure of the caller's.
    unsafe {
        asm!(
            "vmcall",
            inout("rax") number => result,
            inout("rdi") command => _,
            inout("rsi") argument => _,
            inout("rdx") count => _,
        )
    };
    result
}

/// The number of a page's frame.
fn frame(page: *mut u8) -> u64 {
    MmGetPhysicalAddress(page.cast()).cast_unsigned() / PAGE_SIZE as u64
}

/// Grants a page to a domain; the entry.
fn grant(page: *mut u8, domain: u16) -> *mut u64 {
    grant_frame(frame(page), domain)
}

fn grant_frame(granted: u64, domain: u16) -> *mut u64 {
    let table = pool(PAGE_SIZE);
    let mut add = Add {
        domain: SELF,
        size: 0,
        space: SPACE_GRANT_TABLE,
        index: 0,
        frame: frame(table),
    };
    hypercall(MEMORY_OP, ADD_TO_PHYSMAP, &raw mut add, 0);
    let entry = table.cast::<u64>().wrapping_add(ENTRY);
    let word = PERMIT_ACCESS | u64::from(domain) << 16 | granted << 32;
    // SAFETY: Xen shows its table in that page now.
    unsafe { entry.write_volatile(word) };
    entry
}

/// Maps the granted page once more, in the place of another; what ends the mapping.
fn map() -> Map {
    let mut map = Map {
        address: frame(pool(PAGE_SIZE)) * PAGE_SIZE as u64,
        flags: HOST_MAP,
        reference: ENTRY as u32,
        domain: SELF,
        status: 0,
        handle: 0,
        bus: 0,
    };
    hypercall(GRANT_TABLE_OP, MAP_GRANT_REF, &raw mut map, 1);
    let handle = map.handle;
    Map {
        flags: 0,
        reference: 0,
        domain: handle as u16,
        status: (handle >> 16) as i16,
        ..map
    }
}
