//! Operations on the guest's physical memory map. public/memory.h.

use crate::hypercall::operation;
use crate::status::of_hypercall;
use nt_sys::{NTSTATUS, PFN_NUMBER, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use xen_abi::DomId;
use xen_abi::hypercall::MEMORY_OP;
use xen_abi::memory::{self, AddToPhysmap, MemoryReservation, RemoveFromPhysmap};

/// Pages of 4 KiB.
pub const PAGE_ORDER_4K: u32 = 0;
/// Pages of 2 MiB.
pub const PAGE_ORDER_2M: u32 = 9;

/// Shows a page of Xen's at a guest frame.
///
/// # Safety
/// Nobody may use what was at that frame.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn MemoryAddToPhysmap(
    pfn: PFN_NUMBER,
    space: u32,
    offset: usize,
) -> NTSTATUS {
    let mut argument = AddToPhysmap {
        domid: DomId::SELF,
        size: 0,
        space,
        idx: offset as u64,
        gpfn: pfn,
    };
    // SAFETY: the structure is the command's; the same below.
    of_hypercall(unsafe { operation(MEMORY_OP, memory::ADD_TO_PHYSMAP, &mut argument) })
}

/// Leaves a hole at a guest frame.
///
/// # Safety
/// Nobody may use what was at that frame.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn MemoryRemoveFromPhysmap(pfn: PFN_NUMBER) -> NTSTATUS {
    let mut argument = RemoveFromPhysmap {
        domid: DomId::SELF,
        gpfn: pfn,
        ..Default::default()
    };
    // SAFETY: the structure is the command's.
    of_hypercall(unsafe { operation(MEMORY_OP, memory::REMOVE_FROM_PHYSMAP, &mut argument) })
}

/// # Safety
/// As the two callers below.
unsafe fn reservation(
    command: u32,
    order: u32,
    count: u32,
    pfns: *mut PFN_NUMBER,
    done: *mut u32,
) -> NTSTATUS {
    if order != PAGE_ORDER_4K && order != PAGE_ORDER_2M {
        return STATUS_INVALID_PARAMETER;
    }
    let mut argument = MemoryReservation {
        extent_start: pfns.expose_provenance() as u64,
        nr_extents: u64::from(count),
        extent_order: order,
        domid: DomId::SELF,
        ..Default::default()
    };
    // SAFETY: the structure is the command's; the frames are the caller's duty.
    let result = unsafe { operation(MEMORY_OP, command, &mut argument) };
    let Ok(extents) = u32::try_from(result) else {
        return of_hypercall(result);
    };
    // SAFETY: the caller's duty.
    unsafe { done.write(extents) };
    STATUS_SUCCESS
}

/// Gives pages back to Xen. `done` is how many went.
///
/// # Safety
/// `pfns` must point to `count` frame numbers, `done` be valid for a write, and nobody use the pages.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn MemoryDecreaseReservation(
    order: u32,
    count: u32,
    pfns: *mut PFN_NUMBER,
    done: *mut u32,
) -> NTSTATUS {
    // SAFETY: the caller's duty.
    unsafe { reservation(memory::DECREASE_RESERVATION, order, count, pfns, done) }
}

/// Puts memory behind frames that have none. `done` is how many were filled.
///
/// # Safety
/// `pfns` must point to `count` frame numbers and `done` be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn MemoryPopulatePhysmap(
    order: u32,
    count: u32,
    pfns: *mut PFN_NUMBER,
    done: *mut u32,
) -> NTSTATUS {
    // SAFETY: the caller's duty.
    unsafe { reservation(memory::POPULATE_PHYSMAP, order, count, pfns, done) }
}
