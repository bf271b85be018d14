//! Processor numbers, counts and groups, and which CPU a thread runs on. There is one group, of at most 64.

use core::sync::atomic::Ordering;

use nt_sys::{
    ALL_PROCESSOR_GROUPS, APC_LEVEL, GROUP_AFFINITY, NTSTATUS, PROCESSOR_NUMBER,
    STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};

use super::{bugcheck, processor, scheduler, thread};
use crate::exports;

fn count() -> u32 {
    processor::all().len() as u32
}

fn mask_of_all() -> u64 {
    u64::MAX >> (64 - count())
}

/// The index of a processor number; `None` for one that does not exist.
pub fn index_of(number: PROCESSOR_NUMBER) -> Option<u32> {
    let index = u32::from(number.Number);
    (number.Group == 0 && number.Reserved == 0 && index < count()).then_some(index)
}

/// Microsoft Learn: KeQueryActiveProcessorCountEx.
pub extern "win64" fn KeQueryActiveProcessorCountEx(group: u16) -> u32 {
    if group == 0 || group == ALL_PROCESSOR_GROUPS {
        count()
    } else {
        0
    }
}

/// Microsoft Learn: KeQueryMaximumProcessorCountEx. No processor is ever added, so the maximum is the count.
pub extern "win64" fn KeQueryMaximumProcessorCountEx(group: u16) -> u32 {
    KeQueryActiveProcessorCountEx(group)
}

/// Microsoft Learn: KeQueryActiveProcessorCount.
///
/// # Safety
/// `mask` is null or writable.
pub unsafe extern "win64" fn KeQueryActiveProcessorCount(mask: *mut u64) -> u32 {
    if !mask.is_null() {
        // SAFETY: the caller's promise.
        unsafe { mask.write(mask_of_all()) };
    }
    count()
}

/// Microsoft Learn: KeQueryActiveGroupCount.
pub extern "win64" fn KeQueryActiveGroupCount() -> u16 {
    1
}

/// Microsoft Learn: KeQueryMaximumProcessorCount.
pub extern "win64" fn KeQueryMaximumProcessorCount() -> u32 {
    count()
}

/// Microsoft Learn: KeQueryMaximumGroupCount.
pub extern "win64" fn KeQueryMaximumGroupCount() -> u16 {
    1
}

/// Microsoft Learn: KeQueryGroupAffinity.
pub extern "win64" fn KeQueryGroupAffinity(group: u16) -> u64 {
    if group == 0 { mask_of_all() } else { 0 }
}

/// Microsoft Learn: KeGetCurrentProcessorNumberEx.
///
/// # Safety
/// `number` is null or writable.
pub unsafe extern "win64" fn KeGetCurrentProcessorNumberEx(number: *mut PROCESSOR_NUMBER) -> u32 {
    let index = processor::current().number;
    if !number.is_null() {
        let value = PROCESSOR_NUMBER {
            Group: 0,
            Number: index as u8,
            Reserved: 0,
        };
        // SAFETY: the caller's promise.
        unsafe { number.write(value) };
    }
    index
}

/// Microsoft Learn: KeGetProcessorNumberFromIndex.
///
/// # Safety
/// `number` is writable.
pub unsafe extern "win64" fn KeGetProcessorNumberFromIndex(
    index: u32,
    number: *mut PROCESSOR_NUMBER,
) -> NTSTATUS {
    if index >= count() {
        return STATUS_INVALID_PARAMETER;
    }
    let value = PROCESSOR_NUMBER {
        Group: 0,
        Number: index as u8,
        Reserved: 0,
    };
    // SAFETY: the caller's promise.
    unsafe { number.write(value) };
    STATUS_SUCCESS
}

/// `INVALID_PROCESSOR_INDEX` (wdm.h).
const INVALID_PROCESSOR_INDEX: u32 = u32::MAX;

/// Microsoft Learn: KeGetProcessorIndexFromNumber.
///
/// # Safety
/// `number` is readable.
pub unsafe extern "win64" fn KeGetProcessorIndexFromNumber(number: *const PROCESSOR_NUMBER) -> u32 {
    // SAFETY: the caller's promise.
    index_of(unsafe { number.read() }).unwrap_or(INVALID_PROCESSOR_INDEX)
}

/// Microsoft Learn: KeSetSystemGroupAffinityThread.
///
/// # Safety
/// `affinity` is readable; `previous` is null or writable.
pub unsafe extern "win64" fn KeSetSystemGroupAffinityThread(
    affinity: *const GROUP_AFFINITY,
    previous: *mut GROUP_AFFINITY,
) {
    // SAFETY: the caller's promise.
    let wanted = unsafe { affinity.read() };
    let thread = thread::current();
    let allowed = if wanted.Group == 0 {
        wanted.Mask & mask_of_all()
    } else {
        0
    };
    // A mask without any processor leaves the affinity as it is and reports none.
    let old = match allowed {
        0 => 0,
        mask => thread.affinity.swap(mask, Ordering::Relaxed),
    };
    if !previous.is_null() {
        let value = GROUP_AFFINITY {
            Mask: old,
            Group: 0,
            Reserved: [0; 3],
        };
        // SAFETY: the caller's promise.
        unsafe { previous.write(value) };
    }
    follow(allowed);
}

/// Microsoft Learn: KeRevertToUserGroupAffinityThread; `previous` is what the setting function stored.
///
/// # Safety
/// `previous` is readable.
pub unsafe extern "win64" fn KeRevertToUserGroupAffinityThread(previous: *const GROUP_AFFINITY) {
    // SAFETY: the caller's promise.
    let mask = unsafe { previous.read() }.Mask & mask_of_all();
    thread::current().affinity.store(mask, Ordering::Relaxed);
    follow(mask);
}

/// Microsoft Learn: KeSetSystemAffinityThreadEx; the mask that was set before, 0 for none.
pub extern "win64" fn KeSetSystemAffinityThreadEx(mask: u64) -> u64 {
    bugcheck::irql_at_most("KeSetSystemAffinityThreadEx", APC_LEVEL);
    match mask & mask_of_all() {
        0 => 0,
        allowed => {
            let old = thread::current().affinity.swap(allowed, Ordering::Relaxed);
            follow(allowed);
            old
        }
    }
}

/// Microsoft Learn: KeRevertToUserAffinityThreadEx; `previous` is what the setting function returned.
pub extern "win64" fn KeRevertToUserAffinityThreadEx(previous: u64) {
    bugcheck::irql_at_most("KeRevertToUserAffinityThreadEx", APC_LEVEL);
    let mask = previous & mask_of_all();
    thread::current().affinity.store(mask, Ordering::Relaxed);
    follow(mask);
}

/// Moves the current thread to a processor of `mask`, unless it is on one or the mask is empty.
fn follow(mask: u64) {
    let here = processor::current().number;
    if mask != 0 && mask & (1 << here) == 0 {
        scheduler::migrate(mask.trailing_zeros());
    }
    super::poll();
}

exports!(
    "ntoskrnl.exe":
    KeQueryActiveProcessorCountEx,
    KeQueryMaximumProcessorCountEx,
    KeQueryActiveProcessorCount,
    KeQueryMaximumProcessorCount,
    KeQueryActiveGroupCount,
    KeQueryMaximumGroupCount,
    KeQueryGroupAffinity,
    KeGetCurrentProcessorNumberEx,
    KeGetProcessorNumberFromIndex,
    KeGetProcessorIndexFromNumber,
    KeSetSystemGroupAffinityThread,
    KeRevertToUserGroupAffinityThread,
    KeSetSystemAffinityThreadEx,
    KeRevertToUserAffinityThreadEx,
);
