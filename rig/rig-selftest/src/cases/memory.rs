//! Pool, MDLs, mappings, physical memory.

use core::ptr::null_mut;

use crate::suite::{Finding, Outcome, at_irql, failed};
use crate::support::*;
use crate::wdk::*;

/// A pool block of bytes, freed with its owner.
struct Block(PVOID);

impl Block {
    fn new(kind: i32, bytes: usize) -> Result<Self, Finding> {
        let block = ExAllocatePoolWithTag(kind, bytes, TAG);
        match block.is_null() {
            true => Err(failed(format_args!(
                "no pool of type {kind} for {bytes} bytes"
            ))),
            false => Ok(Self(block)),
        }
    }

    fn address(&self) -> usize {
        self.0 as usize
    }

    fn fill(&self, bytes: usize, value: u8) {
        // SAFETY: the callers allocated at least as much.
        unsafe { self.0.cast::<u8>().write_bytes(value, bytes) };
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        ExFreePoolWithTag(self.0, TAG);
    }
}

/// The byte at an address.
fn byte(address: usize) -> u8 {
    // SAFETY: the cases look at memory that they allocated or mapped.
    unsafe { (address as *const u8).read_volatile() }
}

fn set_byte(address: usize, value: u8) {
    // SAFETY: as above.
    unsafe { (address as *mut u8).write_volatile(value) };
}

/// Learn, ExAllocatePoolWithTag: memory of every type and size can be written from end to end.
fn pool_can_be_used_from_end_to_end() -> Outcome {
    for kind in [NonPagedPoolNx, PagedPool, NonPagedPool] {
        for bytes in [1, 8, 100, 4000, 4096, 5000, 70_000] {
            let block = Block::new(kind, bytes)?;
            block.fill(bytes, 0xA5);
            equal!(
                byte(block.address() + bytes - 1),
                0xA5,
                "the last of {bytes} bytes of type {kind}"
            );
        }
    }
    Ok(())
}

/// Learn, ExAllocatePoolWithTag: 16-byte alignment on 64-bit systems; a page or more is page-aligned.
fn pool_is_aligned() -> Outcome {
    for bytes in [1, 24, 100, 1000, 2048] {
        equal!(
            Block::new(NonPagedPoolNx, bytes)?.address() % 16,
            0,
            "the alignment of {bytes} bytes"
        );
    }
    for bytes in [4096, 4097, 20_000] {
        equal!(
            Block::new(NonPagedPoolNx, bytes)?.address() % PAGE_SIZE,
            0,
            "the alignment of {bytes} bytes"
        );
    }
    Ok(())
}

/// Learn, ExAllocatePoolWithTag: an allocation of less than a page does not cross a page's border.
fn small_pool_stays_in_one_page() -> Outcome {
    for round in 0..64 {
        let bytes = 48 + round * 61;
        let block = Block::new(NonPagedPoolNx, bytes)?;
        equal!(
            block.address() / PAGE_SIZE,
            (block.address() + bytes - 1) / PAGE_SIZE,
            "the pages of first and last of {bytes} bytes"
        );
    }
    Ok(())
}

/// Blocks do not overlap, and keep what is in them while others come and go.
fn blocks_do_not_overlap() -> Outcome {
    let mut blocks: [Option<Block>; 32] = [const { None }; 32];
    for round in 0..200usize {
        let index = (round * 7) % blocks.len();
        let block = Block::new(NonPagedPoolNx, 64 + index * 40)?;
        block.fill(64 + index * 40, index as u8);
        blocks[index] = Some(block);
    }
    for (index, block) in blocks.iter().enumerate() {
        let Some(block) = block else { continue };
        for at in 0..64 + index * 40 {
            equal!(
                byte(block.address() + at),
                index as u8,
                "byte {at} of block {index}"
            );
        }
    }
    Ok(())
}

/// Learn, ExAllocatePoolWithTag, ExFreePoolWithTag: non-paged pool at up to DISPATCH_LEVEL.
fn non_paged_pool_comes_and_goes_at_dispatch_level() -> Outcome {
    let block = at_irql(DISPATCH_LEVEL, || {
        let block = ExAllocatePoolWithTag(NonPagedPoolNx, 256, TAG);
        if !block.is_null() {
            set_byte(block as usize, 1);
            ExFreePoolWithTag(block, TAG);
        }
        block
    });
    check!(!block.is_null(), "no pool");
    Ok(())
}

/// Learn, ExFreePool, ExFreePoolWithTag: tag 0 and ExFreePool free a block of any tag.
fn pool_is_freed_without_its_tag() -> Outcome {
    for bytes in [64, 4096] {
        let (first, second) = (
            ExAllocatePoolWithTag(NonPagedPoolNx, bytes, TAG),
            ExAllocatePoolWithTag(NonPagedPoolNx, bytes, TAG),
        );
        check!(!first.is_null() && !second.is_null(), "no pool");
        ExFreePoolWithTag(first, 0);
        ExFreePool(second);
    }
    Ok(())
}

/// Learn, ExAllocatePoolWithTag: NULL when there is not enough memory.
fn an_impossible_size_gets_nothing() -> Outcome {
    let block = ExAllocatePoolWithTag(NonPagedPoolNx, 1 << 46, TAG);
    check!(block.is_null(), "64 TiB of pool at {block:p}");
    Ok(())
}

/// Learn, MmGetPhysicalAddress: the physical address keeps the offset in its page; pages have addresses of their own.
fn every_page_has_a_physical_address() -> Outcome {
    let block = Block::new(NonPagedPoolNx, 4 * PAGE_SIZE)?;
    let mut seen = [0; 4];
    for page in 0..4 {
        let address = block.address() + page * PAGE_SIZE + 123;
        let physical = MmGetPhysicalAddress(address as PVOID);
        check!(
            physical > 0,
            "page {page} has the physical address {physical:#x}"
        );
        equal!(physical & 0xFFF, 123, "the offset in page {page}");
        check!(
            !seen.contains(&physical),
            "two pages have the physical address {physical:#x}"
        );
        seen[page] = physical;
    }
    Ok(())
}

/// Learn, MmIsAddressValid: TRUE for an address that can be read without a fault.
fn valid_addresses_are_known() -> Outcome {
    let block = Block::new(NonPagedPoolNx, 64)?;
    equal!(MmIsAddressValid(block.0), 1, "an address in non-paged pool");
    equal!(MmIsAddressValid(null_mut()), 0, "the null address");
    Ok(())
}

/// Learn, MmSizeOfMdl: the structure, and a frame number for each page that the range touches.
fn the_size_of_an_mdl_counts_pages() -> Outcome {
    let base = PAGE_SIZE as PVOID;
    let one = MmSizeOfMdl(base, 1);
    equal!(one, size_of::<MDL>() + 8, "for one byte");
    equal!(MmSizeOfMdl(base, PAGE_SIZE), one, "for a page");
    equal!(
        MmSizeOfMdl(base, PAGE_SIZE + 1),
        one + 8,
        "for a page and a byte"
    );
    equal!(
        MmSizeOfMdl((PAGE_SIZE + 4000) as PVOID, 200),
        one + 8,
        "for 200 bytes across a border"
    );
    Ok(())
}

/// Learn, IoAllocateMdl and the MDL macros: the range's page, its offset in the page, its length.
fn an_mdl_describes_its_range() -> Outcome {
    let block = Block::new(NonPagedPoolNx, 3 * PAGE_SIZE)?;
    let start = (block.address() + 100) as PVOID;
    let mdl = IoAllocateMdl(start, 5000, 0, 0, null_mut());
    check!(!mdl.is_null(), "IoAllocateMdl returned null");
    // SAFETY: the MDL was just made.
    let MDL {
        StartVa,
        ByteCount,
        ByteOffset,
        Next,
        ..
    } = unsafe { mdl.read() };
    IoFreeMdl(mdl);
    equal!(StartVa, block.0, "MmGetMdlBaseVa");
    equal!(
        (ByteOffset, ByteCount),
        (100, 5000),
        "MmGetMdlByteOffset, MmGetMdlByteCount"
    );
    check!(Next.is_null(), "Next is {Next:p}");
    Ok(())
}

/// Learn, IoAllocateMdl: with an IRP the MDL becomes its MdlAddress, a secondary buffer's goes to the end of the chain.
fn an_mdl_is_chained_to_its_irp() -> Outcome {
    let block = Block::new(NonPagedPoolNx, PAGE_SIZE)?;
    let irp = IoAllocateIrp(1, 0);
    check!(!irp.is_null(), "IoAllocateIrp returned null");
    let first = IoAllocateMdl(block.0, 100, 0, 0, irp);
    let second = IoAllocateMdl(block.0, 200, 1, 0, irp);
    let third = IoAllocateMdl(block.0, 300, 1, 0, irp);
    check!(
        !first.is_null() && !second.is_null() && !third.is_null(),
        "IoAllocateMdl returned null"
    );
    let head = fields(irp).MdlAddress;
    // SAFETY: the MDLs were just made.
    let (after_first, after_second) = unsafe { ((*first).Next, (*second).Next) };
    fields(irp).MdlAddress = null_mut();
    for mdl in [first, second, third] {
        IoFreeMdl(mdl);
    }
    IoFreeIrp(irp);
    equal!(head, first, "MdlAddress");
    equal!(
        (after_first, after_second),
        (second, third),
        "the links of the chain"
    );
    Ok(())
}

/// Learn, MmBuildMdlForNonPagedPool: fills in the frames; the pool's own address is the system address.
fn an_mdl_of_pool_has_its_frames() -> Outcome {
    let block = Block::new(NonPagedPoolNx, 3 * PAGE_SIZE)?;
    let mdl = IoAllocateMdl(block.0, 3 * PAGE_SIZE as u32, 0, 0, null_mut());
    check!(!mdl.is_null(), "IoAllocateMdl returned null");
    MmBuildMdlForNonPagedPool(mdl);
    let frames = [0, 1, 2].map(|page| {
        // SAFETY: the MDL covers three pages.
        unsafe { MmGetMdlPfnArray(mdl).wrapping_add(page).read() }
    });
    // SAFETY: the MDL was just made.
    let (flags, mapped) = unsafe { ((*mdl).MdlFlags, (*mdl).MappedSystemVa) };
    IoFreeMdl(mdl);
    for (page, frame) in frames.into_iter().enumerate() {
        let physical = MmGetPhysicalAddress((block.address() + page * PAGE_SIZE) as PVOID);
        equal!(frame as i64, physical >> 12, "the frame of page {page}");
    }
    check!(
        flags & MDL_SOURCE_IS_NONPAGED_POOL != 0,
        "the flags are {flags:#x}"
    );
    equal!(mapped, block.0, "MappedSystemVa");
    Ok(())
}

/// Pages for an MDL, freed with their owner.
struct Pages(*mut MDL);

impl Pages {
    fn new(bytes: usize, highest: i64) -> Result<Self, Finding> {
        /// MM_ALLOCATE_FULLY_REQUIRED.
        const FULLY: u32 = 4;
        let mdl = MmAllocatePagesForMdlEx(0, highest, 0, bytes, MmCached, FULLY);
        match mdl.is_null() {
            true => Err(failed(format_args!(
                "no pages for {bytes} bytes below {highest:#x}"
            ))),
            false => Ok(Self(mdl)),
        }
    }

    fn map(&self) -> PVOID {
        MmMapLockedPagesSpecifyCache(
            self.0,
            KernelMode,
            MmCached,
            null_mut(),
            0,
            NormalPagePriority | MdlMappingNoExecute,
        )
    }

    fn frame(&self, page: usize) -> usize {
        // SAFETY: the callers asked for more pages.
        unsafe { MmGetMdlPfnArray(self.0).wrapping_add(page).read() }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        MmFreePagesFromMdl(self.0);
        ExFreePool(self.0.cast());
    }
}

/// Learn, MmAllocatePagesForMdlEx: as many pages as asked for, locked, each another one, zeroed.
fn pages_for_an_mdl_are_zeroed_and_locked() -> Outcome {
    let pages = Pages::new(4 * PAGE_SIZE, i64::MAX)?;
    // SAFETY: the MDL lives as long as its owner.
    let (count, flags) = unsafe { ((*pages.0).ByteCount, (*pages.0).MdlFlags) };
    equal!(count as usize, 4 * PAGE_SIZE, "ByteCount");
    check!(flags & MDL_PAGES_LOCKED != 0, "the flags are {flags:#x}");
    for page in 1..4 {
        for other in 0..page {
            check!(
                pages.frame(page) != pages.frame(other),
                "pages {page} and {other} are the same frame"
            );
        }
    }
    let address = pages.map();
    check!(
        !address.is_null(),
        "MmMapLockedPagesSpecifyCache returned null"
    );
    let dirty = (0..4 * PAGE_SIZE).find(|at| byte(address as usize + at) != 0);
    MmUnmapLockedPages(address, pages.0);
    equal!(dirty, None, "the first byte that is not 0");
    Ok(())
}

/// Learn, MmAllocatePagesForMdlEx: pages come from the physical range that is asked for.
fn pages_for_an_mdl_keep_to_their_range() -> Outcome {
    const LIMIT: i64 = 32 << 20;
    let pages = Pages::new(2 * PAGE_SIZE, LIMIT - 1)?;
    for page in 0..2 {
        check!(
            (pages.frame(page) as i64) << 12 < LIMIT,
            "page {page} is frame {:#x}",
            pages.frame(page)
        );
    }
    Ok(())
}

/// Learn, MmMapLockedPagesSpecifyCache: every mapping of the pages shows the same memory.
fn two_mappings_show_the_same_pages() -> Outcome {
    let pages = Pages::new(2 * PAGE_SIZE, i64::MAX)?;
    let first = pages.map();
    check!(
        !first.is_null(),
        "MmMapLockedPagesSpecifyCache returned null"
    );
    // SAFETY: the MDL lives as long as its owner.
    let flags = unsafe { (*pages.0).MdlFlags };
    // A second mapping of the same pages goes through an MDL of its own, built over the first.
    let physical = MmGetPhysicalAddress((first as usize + PAGE_SIZE) as PVOID);
    let frame = pages.frame(1);
    set_byte(first as usize + PAGE_SIZE, 0x5A);
    MmUnmapLockedPages(first, pages.0);
    // SAFETY: as above.
    let later = unsafe { (*pages.0).MdlFlags };
    let second = pages.map();
    check!(!second.is_null(), "the second mapping failed");
    let seen = byte(second as usize + PAGE_SIZE);
    MmUnmapLockedPages(second, pages.0);
    equal!(physical >> 12, frame as i64, "the frame behind the mapping");
    equal!(seen, 0x5A, "the byte through the second mapping");
    check!(
        flags & MDL_MAPPED_TO_SYSTEM_VA != 0,
        "the flags of a mapped MDL are {flags:#x}"
    );
    check!(
        later & MDL_MAPPED_TO_SYSTEM_VA == 0,
        "the flags of an unmapped MDL are {later:#x}"
    );
    Ok(())
}

/// Learn, MmProbeAndLockPages, MmUnlockPages: the pages of a buffer are locked and known until they are unlocked.
fn locked_pages_are_known() -> Outcome {
    /// LOCK_OPERATION: IoModifyAccess.
    const MODIFY: i32 = 2;
    let block = Block::new(NonPagedPoolNx, 2 * PAGE_SIZE)?;
    let start = (block.address() + 64) as PVOID;
    let mdl = IoAllocateMdl(start, PAGE_SIZE as u32, 0, 0, null_mut());
    check!(!mdl.is_null(), "IoAllocateMdl returned null");
    MmProbeAndLockPages(mdl, KernelMode, MODIFY);
    // SAFETY: the MDL was just made.
    let locked = unsafe { (*mdl).MdlFlags };
    let address = MmMapLockedPagesSpecifyCache(
        mdl,
        KernelMode,
        MmCached,
        null_mut(),
        0,
        NormalPagePriority | MdlMappingNoExecute,
    );
    let mut seen = 0;
    if !address.is_null() {
        set_byte(block.address() + 64, 0x77);
        seen = byte(address as usize);
        MmUnmapLockedPages(address, mdl);
    }
    MmUnlockPages(mdl);
    // SAFETY: as above.
    let unlocked = unsafe { (*mdl).MdlFlags };
    IoFreeMdl(mdl);
    check!(
        locked & MDL_PAGES_LOCKED != 0,
        "the flags of a locked MDL are {locked:#x}"
    );
    check!(
        !address.is_null(),
        "MmMapLockedPagesSpecifyCache returned null"
    );
    equal!(
        address as usize % PAGE_SIZE,
        64,
        "the offset of the mapping's address"
    );
    equal!(seen, 0x77, "the byte through the mapping");
    check!(
        unlocked & MDL_PAGES_LOCKED == 0,
        "the flags of an unlocked MDL are {unlocked:#x}"
    );
    Ok(())
}

/// Learn, MmAllocateContiguousMemory: contiguous in physical memory, below the limit, page-aligned.
fn contiguous_memory_is_contiguous() -> Outcome {
    const LIMIT: i64 = (64 << 20) - 1;
    let memory = MmAllocateContiguousMemory(8 * PAGE_SIZE, LIMIT);
    check!(
        !memory.is_null(),
        "MmAllocateContiguousMemory returned null"
    );
    let first = MmGetPhysicalAddress(memory);
    let broken = (1..8).find(|page| {
        let address = (memory as usize + page * PAGE_SIZE) as PVOID;
        MmGetPhysicalAddress(address) != first + (page * PAGE_SIZE) as i64
    });
    MmFreeContiguousMemory(memory);
    equal!(memory as usize % PAGE_SIZE, 0, "the alignment");
    equal!(broken, None, "the first page that does not follow");
    check!(
        first + 8 * PAGE_SIZE as i64 - 1 <= LIMIT,
        "it is at {first:#x}"
    );
    Ok(())
}

/// Learn, MmGetPhysicalMemoryRanges: an array that ends with zeroes and is the caller's to free.
fn physical_memory_has_ranges() -> Outcome {
    let block = Block::new(NonPagedPoolNx, 64)?;
    let physical = MmGetPhysicalAddress(block.0);
    let ranges = MmGetPhysicalMemoryRanges();
    check!(!ranges.is_null(), "MmGetPhysicalMemoryRanges returned null");
    let (mut inside, mut end, mut ordered) = (false, 0, true);
    for index in 0..64 {
        // SAFETY: the array goes on until an entry without bytes.
        let range = unsafe { ranges.wrapping_add(index).read() };
        if range.NumberOfBytes == 0 {
            break;
        }
        inside |= (range.BaseAddress..range.BaseAddress + range.NumberOfBytes).contains(&physical);
        ordered &= range.BaseAddress >= end;
        end = range.BaseAddress + range.NumberOfBytes;
    }
    ExFreePool(ranges.cast());
    check!(inside, "pool at {physical:#x} is in no range");
    check!(ordered, "the ranges overlap");
    Ok(())
}

group!("memory":
    pool_can_be_used_from_end_to_end,
    pool_is_aligned,
    small_pool_stays_in_one_page,
    blocks_do_not_overlap,
    non_paged_pool_comes_and_goes_at_dispatch_level,
    pool_is_freed_without_its_tag,
    an_impossible_size_gets_nothing,
    every_page_has_a_physical_address,
    valid_addresses_are_known,
    the_size_of_an_mdl_counts_pages,
    an_mdl_describes_its_range,
    an_mdl_is_chained_to_its_irp,
    an_mdl_of_pool_has_its_frames,
    pages_for_an_mdl_are_zeroed_and_locked,
    pages_for_an_mdl_keep_to_their_range,
    two_mappings_show_the_same_pages,
    locked_pages_are_known,
    contiguous_memory_is_contiguous,
    physical_memory_has_ranges,
);
