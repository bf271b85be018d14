//! Addresses: physical ones of virtual ones, I/O space, RAM ranges, routines by name.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use nt_sys::{BOOLEAN, PHYSICAL_ADDRESS, PHYSICAL_MEMORY_RANGE, PVOID, UNICODE_STRING};

use super::{PAGE_SIZE, frames, pool};
use crate::export;
use crate::exports;
use crate::host::platform;
use crate::ke::processor;
use crate::pe::modules;
use crate::sync::Mutex;
use crate::verifier::Rule;

/// Frames mapped one after the other outside the physical view.
pub struct Alias {
    /// The frames in order.
    pub frames: Vec<frames::Frame>,
}

static ALIASES: Mutex<BTreeMap<usize, Alias>> = Mutex::new(BTreeMap::new());

/// Notes a mapping at `base`, so that its addresses have physical ones.
pub fn add_alias(base: NonNull<u8>, alias: Alias) {
    ALIASES.lock().insert(base.as_ptr() as usize, alias);
}

/// Forgets the mapping at `base`.
pub fn remove_alias(base: NonNull<u8>) -> Option<Alias> {
    ALIASES.lock().remove(&(base.as_ptr() as usize))
}

/// The physical address behind `address`; `None` when it is no address of guest memory.
pub fn translate(address: usize) -> Option<u64> {
    let offset = (address % PAGE_SIZE) as u64;
    if let Some(frame) = frames::frame_of(address) {
        return Some(frame * PAGE_SIZE as u64 + offset);
    }
    let aliases = ALIASES.lock();
    let (base, alias) = aliases.range(..=address).next_back()?;
    let frame = alias.frames.get((address - base) / PAGE_SIZE)?;
    Some(frame * PAGE_SIZE as u64 + offset)
}

/// A live mapping of I/O space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoMapping {
    /// The module that mapped it.
    pub owner: u32,
    /// Where, virtually.
    pub address: usize,
    /// Its size in bytes.
    pub size: usize,
}

static IO_SPACE: Mutex<Vec<IoMapping>> = Mutex::new(Vec::new());

/// I/O space that module `owner` mapped and did not unmap.
pub fn io_mappings(owner: u32) -> Vec<IoMapping> {
    IO_SPACE
        .lock()
        .iter()
        .filter(|mapping| mapping.owner == owner)
        .copied()
        .collect()
}

/// Microsoft Learn: MmGetPhysicalAddress; 0 for an address that is not valid.
pub extern "win64" fn MmGetPhysicalAddress(address: PVOID) -> PHYSICAL_ADDRESS {
    translate(address as usize).unwrap_or(0) as PHYSICAL_ADDRESS
}

/// Microsoft Learn: MmIsAddressValid.
pub extern "win64" fn MmIsAddressValid(address: PVOID) -> BOOLEAN {
    BOOLEAN::from(platform().readable(address as u64, 1))
}

/// Microsoft Learn: MmMapIoSpace. Everything physical is mapped already, in the physical view.
pub extern "win64" fn MmMapIoSpace(address: PHYSICAL_ADDRESS, size: usize, _cache: i32) -> PVOID {
    let owner = processor::caller();
    let physical = platform().physical();
    let start = address as u64;
    let limit = physical.frames * PAGE_SIZE as u64;
    if size == 0 || start.checked_add(size as u64).is_none_or(|end| end > limit) {
        return null_mut();
    }
    let address = physical.base.as_ptr().wrapping_add(start as usize);
    IO_SPACE.lock().push(IoMapping {
        owner,
        address: address as usize,
        size,
    });
    address.cast()
}

/// Microsoft Learn: MmMapIoSpaceEx.
pub extern "win64" fn MmMapIoSpaceEx(
    address: PHYSICAL_ADDRESS,
    size: usize,
    _protect: u32,
) -> PVOID {
    MmMapIoSpace(address, size, 0)
}

/// Microsoft Learn: MmUnmapIoSpace.
///
/// # Safety
/// Nothing uses the mapping any more.
pub unsafe extern "win64" fn MmUnmapIoSpace(address: PVOID, size: usize) {
    let mut mappings = IO_SPACE.lock();
    let found = mappings
        .iter()
        .rposition(|mapping| mapping.address == address as usize && mapping.size == size);
    match found {
        Some(index) => drop(mappings.swap_remove(index)),
        None => {
            drop(mappings);
            Rule::IoSpaceUnmap.breach(format_args!(
                "unmaps {size:#x} bytes of I/O space at {address:p}, which are not mapped"
            ));
        }
    }
}

/// Microsoft Learn: MmGetPhysicalMemoryRanges; the caller frees the array with `ExFreePool`.
pub extern "win64" fn MmGetPhysicalMemoryRanges() -> *mut PHYSICAL_MEMORY_RANGE {
    let owner = processor::caller();
    let end = platform().physical().ram_frames * PAGE_SIZE as u64;
    let low = 0x9f000;
    let high = frames::FIRST * PAGE_SIZE as u64;
    let range = |start: u64, size: u64| PHYSICAL_MEMORY_RANGE {
        BaseAddress: start as i64,
        NumberOfBytes: size as i64,
    };
    let ranges = [
        range(PAGE_SIZE as u64, low - PAGE_SIZE as u64),
        range(high, end - high),
        range(0, 0),
    ];
    match pool::allocate_for(owner, size_of_val(&ranges), *b"hPmM") {
        Some(memory) => {
            let array = memory.cast::<[PHYSICAL_MEMORY_RANGE; 3]>();
            // SAFETY: the allocation is as large as the array.
            unsafe { array.write(ranges) };
            array.as_ptr().cast()
        }
        None => null_mut(),
    }
}

/// A kernel string as text; what is no UTF-16 is replaced.
///
/// # Safety
/// `string` is readable and describes readable memory.
unsafe fn text(string: *const UNICODE_STRING) -> String {
    // SAFETY: the caller's promise.
    unsafe { crate::rtl::unicode::to_text(string) }
}

/// Microsoft Learn: MmGetSystemRoutineAddress; null for a routine that the kernel and the HAL do not have. What the
/// caller gets is a way in of its own, as for an import.
///
/// # Safety
/// `name` is a valid string.
pub unsafe extern "win64" fn MmGetSystemRoutineAddress(name: *const UNICODE_STRING) -> *mut c_void {
    let owner = processor::caller();
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    let Some(export) = export::find("ntoskrnl.exe", &name) else {
        return null_mut();
    };
    match modules::by_id(owner) {
        Some(module) => module.resolve(&export).unwrap_or(0) as *mut c_void,
        None => export.address.cast_mut().cast(),
    }
}

/// Microsoft Learn: MmAllocateContiguousMemory; freed with [`MmFreeContiguousMemory`].
pub extern "win64" fn MmAllocateContiguousMemory(size: usize, _highest: PHYSICAL_ADDRESS) -> PVOID {
    let owner = processor::caller();
    let size = size.next_multiple_of(PAGE_SIZE);
    pool::allocate_for(owner, size, *b"CmMm").map_or(null_mut(), |memory| memory.as_ptr().cast())
}

/// Microsoft Learn: MmFreeContiguousMemory.
///
/// # Safety
/// Nothing uses the allocation any more.
pub unsafe extern "win64" fn MmFreeContiguousMemory(address: PVOID) {
    // SAFETY: the caller's promise.
    unsafe { pool::ExFreePool(address) }
}

exports!(
    "ntoskrnl.exe":
    MmGetPhysicalAddress,
    MmIsAddressValid,
    MmMapIoSpace,
    MmMapIoSpaceEx,
    MmUnmapIoSpace,
    MmGetPhysicalMemoryRanges,
    MmGetSystemRoutineAddress,
    MmAllocateContiguousMemory,
    MmFreeContiguousMemory,
);
