//! What the kernel says about the machine, and finding its routines by name.

use crate::utf16::{counted, encode};
use crate::{NtStatus, Result};
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use nt_sys::PVOID;
use nt_sys::imports::{
    ExFreePoolWithTag, InitSafeBootMode, MmGetPhysicalMemoryRanges, MmGetSystemRoutineAddress,
    RtlCaptureStackBackTrace,
};

/// The address of what the kernel exports as `name`; `None` where it does not. PASSIVE_LEVEL.
pub fn export(name: &str) -> Option<NonNull<c_void>> {
    let name = encode(name).ok()?;
    let mut name = counted(&name).ok()?;
    // SAFETY: the name is live.
    NonNull::new(unsafe { MmGetSystemRoutineAddress(&mut name) })
}

/// The ranges of physical addresses that are RAM, in order. PASSIVE_LEVEL.
pub fn physical_memory() -> Result<Vec<Range<u64>>> {
    // SAFETY: no arguments.
    let list = NonNull::new(unsafe { MmGetPhysicalMemoryRanges() }).ok_or(NtStatus::NO_MEMORY)?;
    let mut ranges = Vec::new();
    let mut result = Ok(());
    for index in 0.. {
        // SAFETY: the list ends with an entry of no bytes, which the loop does not pass.
        let entry = unsafe { list.add(index) };
        // SAFETY: as above.
        let entry = unsafe { entry.read() };
        if entry.NumberOfBytes == 0 {
            break;
        }
        result = ranges.try_reserve(1);
        if result.is_err() {
            break;
        }
        let start = entry.BaseAddress as u64;
        ranges.push(start..start.saturating_add(entry.NumberOfBytes as u64));
    }
    // SAFETY: the list is a pool block, given to us.
    unsafe { ExFreePoolWithTag(list.as_ptr().cast(), 0) };
    result?;
    Ok(ranges)
}

/// Whether the system was started in safe mode.
pub fn safe_mode() -> bool {
    // SAFETY: reading an imported variable, which is set before drivers are loaded.
    unsafe { InitSafeBootMode != 0 }
}

/// The return addresses of the callers of this, nearest first; gives their number. Any IRQL.
pub fn call_stack(frames: &mut [usize]) -> usize {
    let count = u32::try_from(frames.len())
        .unwrap_or(u32::MAX)
        .min(u32::from(u16::MAX));
    // SAFETY: the array has room for `count` addresses.
    let used = unsafe {
        RtlCaptureStackBackTrace(1, count, frames.as_mut_ptr().cast::<PVOID>(), null_mut())
    };
    usize::from(used).min(frames.len())
}
