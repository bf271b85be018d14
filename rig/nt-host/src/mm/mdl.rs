//! MDLs: descriptions of a buffer's pages, pages allocated for one, and their mappings.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use nt_sys::{
    BOOLEAN, IRP, MDL, MDL_ALLOCATED_FIXED_SIZE, MDL_MAPPED_TO_SYSTEM_VA, MDL_PAGES_LOCKED,
    MDL_SOURCE_IS_NONPAGED_POOL, MM_ALLOCATE_FULLY_REQUIRED, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS,
    MM_DONT_ZERO_ALLOCATION, NTSTATUS, PFN_NUMBER, PHYSICAL_ADDRESS, PVOID,
    STATUS_ACCESS_VIOLATION, STATUS_SUCCESS,
};

use super::address::{self, Alias, translate};
use super::{PAGE_SIZE, frames, pool};
use crate::exports;
use crate::host::platform;
use crate::ke::raise::raises_what_fails;
use crate::ke::{poll, processor};
use crate::platform::Protection;
use crate::shortage;
use crate::sync::Mutex;
use crate::verifier::Rule;
use crate::verifier::mdls::{self, Step};
use crate::verifier::shared;

const TAG: pool::Tag = *b"Mdl ";

/// Pages that `MmAllocatePagesForMdlEx` gave out, by their MDL's address.
static ALLOCATED: Mutex<BTreeMap<usize, Allocated>> = Mutex::new(BTreeMap::new());

struct Allocated {
    owner: u32,
    frames: Vec<frames::Frame>,
}

/// Pages that module `owner` allocated for MDLs and did not free.
pub fn pages_of(owner: u32) -> usize {
    let allocated = ALLOCATED.lock();
    allocated
        .values()
        .filter(|pages| pages.owner == owner)
        .map(|pages| pages.frames.len())
        .sum()
}

/// The module that has allocated a frame for an MDL, if one has.
pub fn owner_of(frame: frames::Frame) -> Option<u32> {
    let allocated = ALLOCATED.lock();
    let found = allocated
        .values()
        .find(|pages| pages.frames.contains(&frame));
    found.map(|pages| pages.owner)
}

/// Pages which `length` bytes at `address` touch.
fn span(address: usize, length: usize) -> usize {
    (address % PAGE_SIZE + length).div_ceil(PAGE_SIZE)
}

/// A fresh MDL with room for the pages of `length` bytes at `address`.
fn allocate(owner: u32, address: usize, length: u32) -> Option<NonNull<MDL>> {
    let pages = span(address, length as usize);
    let size = size_of::<MDL>() + pages * size_of::<PFN_NUMBER>();
    let mdl = pool::allocate_for(owner, size, TAG)?.cast::<MDL>();
    let header = MDL {
        Next: null_mut(),
        // Larger MDLs exist; Windows truncates the field as well.
        Size: size as i16,
        MdlFlags: MDL_ALLOCATED_FIXED_SIZE,
        Process: null_mut(),
        MappedSystemVa: null_mut(),
        StartVa: (address & !(PAGE_SIZE - 1)) as PVOID,
        ByteCount: length,
        ByteOffset: (address % PAGE_SIZE) as u32,
    };
    // SAFETY: the allocation has room for the header.
    unsafe { mdl.write(header) };
    Some(mdl)
}

/// The page frame numbers behind an MDL's header.
///
/// # Safety
/// `mdl` is an MDL whose pages are not changed meanwhile.
pub unsafe fn pages<'a>(mdl: NonNull<MDL>) -> &'a mut [PFN_NUMBER] {
    // SAFETY: the caller's promise.
    let MDL {
        ByteOffset,
        ByteCount,
        ..
    } = *unsafe { mdl.as_ref() };
    let count = span(ByteOffset as usize, ByteCount as usize);
    // SAFETY: the page numbers follow the header.
    let first = unsafe { mdl.add(1) }.cast::<PFN_NUMBER>();
    // SAFETY: there are as many as the buffer spans pages.
    unsafe { core::slice::from_raw_parts_mut(first.as_ptr(), count) }
}

fn checked<'a>(mdl: *mut MDL, function: &str) -> (NonNull<MDL>, &'a mut MDL) {
    let Some(pointer) = NonNull::new(mdl) else {
        Rule::MdlInvalid.breach(format_args!("calls {function} with a null MDL"));
    };
    // SAFETY: the callers of the exported functions pass MDLs.
    (pointer, unsafe { &mut *mdl })
}

/// Microsoft Learn: IoAllocateMdl.
///
/// # Safety
/// `irp` is null or a valid IRP.
pub unsafe extern "win64" fn IoAllocateMdl(
    address: PVOID,
    length: u32,
    secondary: BOOLEAN,
    _charge_quota: BOOLEAN,
    irp: *mut IRP,
) -> *mut MDL {
    let owner = processor::caller();
    let Some(mdl) = allocate(owner, address as usize, length) else {
        return null_mut();
    };
    let pages = span(address as usize, length as usize);
    mdls::done(mdl.as_ptr() as usize, Step::Made, owner, pages);
    if !irp.is_null() {
        // SAFETY: the caller's promise.
        let mut link = unsafe { &raw mut (*irp).MdlAddress };
        // SAFETY: an IRP's MDLs form a list that ends in null.
        while secondary != 0 && !unsafe { *link }.is_null() {
            // SAFETY: as above.
            let next = unsafe { *link };
            // SAFETY: as above.
            link = unsafe { &raw mut (*next).Next };
        }
        // SAFETY: as above.
        unsafe { link.write(mdl.as_ptr()) };
    }
    mdl.as_ptr()
}

/// Microsoft Learn: IoFreeMdl.
///
/// # Safety
/// `mdl` came from [`IoAllocateMdl`] and is not used any more.
pub unsafe extern "win64" fn IoFreeMdl(mdl: *mut MDL) {
    let (pointer, header) = checked(mdl, "IoFreeMdl");
    if header.MdlFlags & MDL_MAPPED_TO_SYSTEM_VA != 0
        && header.MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL == 0
    {
        Rule::MdlMapped.breach(format_args!(
            "frees MDL {mdl:p}, whose pages are still mapped"
        ));
    }
    if mdls::is(mdl as usize, Step::Locked) {
        Rule::MdlLocked.breach(format_args!(
            "frees MDL {mdl:p}, whose pages are still locked"
        ));
    }
    mdls::undone(mdl as usize, Step::Made);
    mdls::undone(mdl as usize, Step::Mapped);
    // SAFETY: the caller's promise.
    unsafe { pool::free(pointer.cast()) };
}

/// Microsoft Learn: MmBuildMdlForNonPagedPool.
///
/// # Safety
/// `mdl` describes a buffer in nonpaged memory.
pub unsafe extern "win64" fn MmBuildMdlForNonPagedPool(mdl: *mut MDL) {
    let (pointer, header) = checked(mdl, "MmBuildMdlForNonPagedPool");
    let start = header.StartVa as usize;
    // SAFETY: `mdl` is an MDL.
    for (index, page) in unsafe { pages(pointer) }.iter_mut().enumerate() {
        let address = start + index * PAGE_SIZE;
        match address::translate(address) {
            Some(physical) => *page = physical / PAGE_SIZE as u64,
            None => Rule::MdlInvalid.breach(format_args!(
                "calls MmBuildMdlForNonPagedPool for {address:#x}, which is no nonpaged memory"
            )),
        }
    }
    header.MdlFlags |= MDL_SOURCE_IS_NONPAGED_POOL;
    header.MappedSystemVa = (start + header.ByteOffset as usize) as PVOID;
}

/// Frames for an MDL: in one run, or as many as there are.
fn take(count: u64, limit: u64, flags: u32) -> Vec<frames::Frame> {
    if let Some(first) = frames::allocate_below(count, limit) {
        return (first..first + count).collect();
    }
    if flags & MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS != 0 {
        return Vec::new();
    }
    (0..count)
        .map_while(|_| frames::allocate_below(1, limit))
        .collect()
}

fn give_back(frames: &[frames::Frame]) {
    frames.iter().for_each(|&frame| frames::free(frame, 1));
}

/// Microsoft Learn: MmAllocatePagesForMdlEx. The MDL itself is freed with `ExFreePool`.
pub extern "win64" fn MmAllocatePagesForMdlEx(
    _low: PHYSICAL_ADDRESS,
    high: PHYSICAL_ADDRESS,
    _skip: PHYSICAL_ADDRESS,
    total: usize,
    _cache: i32,
    flags: u32,
) -> *mut MDL {
    let owner = processor::caller();
    let count = total.div_ceil(PAGE_SIZE);
    if count == 0 || total > u32::MAX as usize {
        return null_mut();
    }
    let limit = (high as u64 / PAGE_SIZE as u64).saturating_add(1);
    let given = shortage::part_of(count as u64);
    let frames = if given < count as u64 && flags & MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS != 0 {
        Vec::new()
    } else {
        take(given, limit, flags)
    };
    if frames.is_empty() || (frames.len() < count && flags & MM_ALLOCATE_FULLY_REQUIRED != 0) {
        give_back(&frames);
        return null_mut();
    }
    let bytes = (frames.len() * PAGE_SIZE).min(total) as u32;
    let Some(mdl) = allocate(owner, 0, bytes) else {
        give_back(&frames);
        return null_mut();
    };
    // SAFETY: the MDL is fresh, with room for its pages.
    unsafe { pages(mdl) }.copy_from_slice(&frames);
    if flags & MM_DONT_ZERO_ALLOCATION == 0 {
        for &frame in &frames {
            // SAFETY: the frame was just allocated.
            unsafe { frames::address(frame).write_bytes(0, PAGE_SIZE) };
        }
    }
    // SAFETY: the MDL is fresh.
    unsafe { (*mdl.as_ptr()).MdlFlags |= MDL_PAGES_LOCKED };
    ALLOCATED
        .lock()
        .insert(mdl.as_ptr() as usize, Allocated { owner, frames });
    mdl.as_ptr()
}

/// Microsoft Learn: MmFreePagesFromMdl. The pages are not mapped any more; the MDL remains.
///
/// # Safety
/// Nothing uses the pages any more.
pub unsafe extern "win64" fn MmFreePagesFromMdl(mdl: *mut MDL) {
    let (_, header) = checked(mdl, "MmFreePagesFromMdl");
    if header.MdlFlags & MDL_MAPPED_TO_SYSTEM_VA != 0 {
        Rule::MdlMapped.breach(format_args!(
            "frees the pages of MDL {mdl:p}, which are still mapped"
        ));
    }
    let Some(allocated) = ALLOCATED.lock().remove(&(mdl as usize)) else {
        Rule::MdlPages.breach(format_args!(
            "frees the pages of MDL {mdl:p}, which MmAllocatePagesForMdlEx did not make or which were freed before"
        ));
    };
    shared::freed("pages of an MDL", |frame| allocated.frames.contains(&frame));
    header.MdlFlags &= !MDL_PAGES_LOCKED;
    give_back(&allocated.frames);
}

/// Microsoft Learn: MmMapLockedPagesSpecifyCache, for kernel mode. Pages in a row are mapped already, in the physical
/// view; others get a mapping of their own.
///
/// # Safety
/// `mdl`'s pages are locked.
pub unsafe extern "win64" fn MmMapLockedPagesSpecifyCache(
    mdl: *mut MDL,
    _mode: i8,
    _cache: i32,
    _base: PVOID,
    _bug_check_on_failure: u32,
    _priority: u32,
) -> PVOID {
    let owner = processor::caller();
    let (pointer, header) = checked(mdl, "MmMapLockedPagesSpecifyCache");
    if header.MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0 {
        Rule::MdlMapped.breach(format_args!("maps MDL {mdl:p}, which is mapped already"));
    }
    // SAFETY: `mdl` is an MDL.
    let frames = unsafe { pages(pointer) };
    let Some(base) = map(frames) else {
        return null_mut();
    };
    let address = base.as_ptr().wrapping_add(header.ByteOffset as usize);
    header.MappedSystemVa = address.cast();
    header.MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
    mdls::done(mdl as usize, Step::Mapped, owner, frames.len());
    address.cast()
}

/// Makes frames readable and writable one after the other.
fn map(frames: &[frames::Frame]) -> Option<NonNull<u8>> {
    let &first = frames.first()?;
    if frames
        .iter()
        .zip(first..)
        .all(|(&frame, expected)| frame == expected)
    {
        return Some(frames::address(first));
    }
    let base = platform().map(frames, Protection::ReadWrite)?;
    address::add_alias(
        base,
        Alias {
            frames: frames.to_vec(),
        },
    );
    Some(base)
}

/// Microsoft Learn: MmUnmapLockedPages.
///
/// # Safety
/// `base` is where [`MmMapLockedPagesSpecifyCache`] mapped `mdl`, and nothing uses it any more.
pub unsafe extern "win64" fn MmUnmapLockedPages(base: PVOID, mdl: *mut MDL) {
    let (_, header) = checked(mdl, "MmUnmapLockedPages");
    if header.MdlFlags & MDL_MAPPED_TO_SYSTEM_VA == 0 || header.MappedSystemVa != base {
        Rule::MdlUnmap.breach(format_args!(
            "unmaps MDL {mdl:p} at {base:p}, where it is not mapped"
        ));
    }
    mdls::undone(mdl as usize, Step::Mapped);
    header.MdlFlags &= !MDL_MAPPED_TO_SYSTEM_VA;
    header.MappedSystemVa = null_mut();
    let start = (base as usize & !(PAGE_SIZE - 1)) as *mut u8;
    if let Some(start) = NonNull::new(start)
        && let Some(alias) = address::remove_alias(start)
    {
        // SAFETY: the alias was made by `map` with these frames; the caller says that it is not used any more.
        unsafe { platform().unmap(start, alias.frames.len()) };
    }
}

/// # Safety
/// `mdl` is an MDL.
unsafe extern "win64" fn probe_and_lock(mdl: *mut MDL, _mode: i8, _operation: i32) -> NTSTATUS {
    let owner = processor::caller();
    let (_, header) = checked(mdl, "MmProbeAndLockPages");
    if mdls::is(mdl as usize, Step::Locked) {
        Rule::MdlLocked.breach(format_args!(
            "locks the pages of MDL {mdl:p}, which are locked already"
        ));
    }
    let start = header.StartVa as usize;
    let pages = span(
        start + header.ByteOffset as usize,
        header.ByteCount as usize,
    );
    let is_there = |page: usize| {
        let at = start.wrapping_add(page * PAGE_SIZE);
        translate(at).is_some() && platform().readable(at as u64, 1)
    };
    if !(0..pages).all(is_there) {
        return STATUS_ACCESS_VIOLATION;
    }
    // SAFETY: every page of the buffer is there.
    unsafe { MmBuildMdlForNonPagedPool(mdl) };
    header.MdlFlags = header.MdlFlags & !MDL_SOURCE_IS_NONPAGED_POOL | MDL_PAGES_LOCKED;
    mdls::done(mdl as usize, Step::Locked, owner, pages);
    poll();
    STATUS_SUCCESS
}

/// Microsoft Learn: MmProbeAndLockPages, for kernel buffers, which are never paged out here; raises
/// STATUS_ACCESS_VIOLATION for what is no memory.
///
/// # Safety
/// `mdl` is an MDL; called by a driver.
#[unsafe(naked)]
pub unsafe extern "win64" fn MmProbeAndLockPages(_mdl: *mut MDL, _mode: i8, _operation: i32) {
    raises_what_fails!(probe_and_lock)
}

/// Microsoft Learn: MmUnlockPages.
///
/// # Safety
/// `mdl`'s pages were locked by [`MmProbeAndLockPages`].
pub unsafe extern "win64" fn MmUnlockPages(mdl: *mut MDL) {
    let (_, header) = checked(mdl, "MmUnlockPages");
    if !mdls::undone(mdl as usize, Step::Locked) {
        Rule::MdlUnlock.breach(format_args!(
            "unlocks the pages of MDL {mdl:p}, which MmProbeAndLockPages did not lock"
        ));
    }
    if header.MdlFlags & MDL_MAPPED_TO_SYSTEM_VA != 0 {
        // SAFETY: the MDL says where it is mapped; unlocking ends its use.
        unsafe { MmUnmapLockedPages(header.MappedSystemVa, mdl) };
    }
    header.MdlFlags &= !MDL_PAGES_LOCKED;
}

/// Microsoft Learn: MmSizeOfMdl.
pub extern "win64" fn MmSizeOfMdl(base: *mut c_void, length: usize) -> usize {
    size_of::<MDL>() + span(base as usize, length) * size_of::<PFN_NUMBER>()
}

exports!(
    "ntoskrnl.exe":
    IoAllocateMdl,
    IoFreeMdl,
    MmBuildMdlForNonPagedPool,
    MmAllocatePagesForMdlEx,
    MmFreePagesFromMdl,
    MmMapLockedPagesSpecifyCache,
    MmUnmapLockedPages,
    MmProbeAndLockPages,
    MmUnlockPages,
    MmSizeOfMdl,
);
