//! MmAddPhysicalMemory: RAM that comes while the system runs. The machine's RAM has one size here, as on a system
//! whose firmware announces no room for more, so there is nothing to add.

use nt_sys::{
    LARGE_INTEGER, NTSTATUS, PHYSICAL_ADDRESS, STATUS_CONFLICTING_ADDRESSES,
    STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED,
};

use crate::exports;
use crate::host::platform;
use crate::platform::PAGE_SIZE;

/// The kernel's MmAddPhysicalMemory: whole pages that are no RAM yet; `size` becomes what was added. IRQL
/// PASSIVE_LEVEL.
///
/// # Safety
/// Both pointers are readable and writable.
pub unsafe extern "win64" fn MmAddPhysicalMemory(
    start: *const PHYSICAL_ADDRESS,
    size: *mut LARGE_INTEGER,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let start = unsafe { start.read() } as u64;
    // SAFETY: the caller's promise.
    let wanted = unsafe { size.replace(0) } as u64;
    let page = PAGE_SIZE as u64;
    if wanted == 0 || !start.is_multiple_of(page) || !wanted.is_multiple_of(page) {
        return STATUS_INVALID_PARAMETER;
    }
    if start < platform().physical().ram_frames * page {
        return STATUS_CONFLICTING_ADDRESSES;
    }
    STATUS_NOT_SUPPORTED
}

exports!("ntoskrnl.exe": MmAddPhysicalMemory);
