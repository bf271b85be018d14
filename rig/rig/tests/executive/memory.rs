//! Pool, MDLs, addresses.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::Ordering;

use nt_host::ke::{processor, thread, wait};
use nt_host::mm::pool::{self, PoolError};
use nt_host::mm::{address, frames, mdl};
use nt_host::ob::{self, handle};
use nt_host::platform::PAGE_SIZE;
use nt_sys::{MM_ALLOCATE_FULLY_REQUIRED, MmCached, PFN_NUMBER};

use crate::machine::{machine, on_cpu};

const TAG: pool::Tag = *b"Test";

#[test]
fn an_allocation_is_aligned_and_filled_with_what_nobody_expects() {
    let _machine = machine();
    for size in [1, 16, 100, 976, 2000, 4095, 4096, 10_000] {
        let memory = pool::allocate(size, TAG).unwrap();
        assert_eq!(
            memory.as_ptr() as usize % if size >= PAGE_SIZE { PAGE_SIZE } else { 16 },
            0
        );
        // SAFETY: the allocation is `size` bytes long.
        let bytes = unsafe { std::slice::from_raw_parts(memory.as_ptr(), size) };
        assert!(bytes.iter().all(|&byte| byte == 0xA5));
        assert_eq!(pool::try_free(memory, Some(TAG)), Ok(()));
    }
}

#[test]
fn a_write_behind_the_end_is_found_when_the_block_is_freed() {
    let _machine = machine();
    for size in [10, 1000, 5000] {
        let memory = pool::allocate(size, TAG).unwrap();
        // SAFETY: one byte behind the body is red zone, which the pool owns: no other allocation is hit.
        unsafe { memory.as_ptr().wrapping_add(size).write(1) };
        assert_eq!(pool::try_free(memory, None), Err(PoolError::Overrun));
    }
}

#[test]
fn wrong_frees_are_told_apart() {
    let _machine = machine();
    let memory = pool::allocate(40, TAG).unwrap();
    assert_eq!(
        pool::try_free(memory, Some(*b"Else")),
        Err(PoolError::WrongTag)
    );
    // SAFETY: inside the allocation.
    let inside = unsafe { memory.add(16) };
    assert_eq!(pool::try_free(inside, None), Err(PoolError::NotAllocated));
    assert_eq!(pool::try_free(memory, None), Ok(()));
    assert_eq!(pool::try_free(memory, None), Err(PoolError::DoubleFree));
    let nowhere = NonNull::new(0x10_0040 as *mut u8).unwrap();
    assert_eq!(pool::try_free(nowhere, None), Err(PoolError::NotAllocated));
}

#[test]
fn what_a_module_did_not_free_is_listed() {
    let _machine = machine();
    let (small, large) = (
        pool::allocate_for(77, 24, TAG).unwrap(),
        pool::allocate_for(77, 9000, TAG).unwrap(),
    );
    let mut sizes: Vec<usize> = pool::allocations(77).iter().map(|left| left.size).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [24, 9000]);
    assert_eq!(pool::try_free(small, None), Ok(()));
    assert_eq!(pool::try_free(large, None), Ok(()));
    assert!(pool::allocations(77).is_empty());
}

#[test]
fn scattered_pages_are_mapped_in_a_row_and_keep_their_physical_addresses() {
    let _machine = machine();
    on_cpu(0, || {
        let pages = 3;
        let allocated = mdl::MmAllocatePagesForMdlEx(
            0,
            -1,
            0,
            pages * PAGE_SIZE,
            MmCached,
            MM_ALLOCATE_FULLY_REQUIRED,
        );
        let pointer = NonNull::new(allocated).unwrap();
        // SAFETY: a fresh MDL; swapping its frames makes them scattered, and is undone below.
        let frames: &mut [PFN_NUMBER] = unsafe { mdl::pages(pointer) };
        frames.swap(0, 2);
        let expected = frames.to_vec();
        let map = || {
            // SAFETY: the MDL's pages are locked.
            unsafe {
                mdl::MmMapLockedPagesSpecifyCache(
                    allocated,
                    0,
                    MmCached,
                    std::ptr::null_mut(),
                    0,
                    16,
                )
            }
        };
        let base = map().cast::<u8>();
        for (index, &frame) in expected.iter().enumerate() {
            // SAFETY: within the mapping.
            let at = unsafe { base.add(index * PAGE_SIZE + 5) };
            assert_eq!(
                address::translate(at as usize),
                Some(frame * PAGE_SIZE as u64 + 5)
            );
            // SAFETY: within the mapping, which is writable.
            unsafe { at.write(index as u8 + 1) };
            let frame = frames::address(frame).as_ptr().wrapping_add(5);
            // SAFETY: the frame is the MDL's.
            assert_eq!(unsafe { frame.read() }, index as u8 + 1);
        }
        // SAFETY: mapped above.
        unsafe { mdl::MmUnmapLockedPages(base.cast(), allocated) };
        assert_eq!(address::translate(base as usize), None);
        // SAFETY: nothing uses the pages any more.
        unsafe { mdl::MmFreePagesFromMdl(allocated) };
        // SAFETY: the MDL is pool.
        unsafe { pool::ExFreePool(allocated.cast()) };
    });
}

#[test]
fn pool_has_the_physical_address_that_the_view_says() {
    let _machine = machine();
    let memory = pool::allocate(100, TAG).unwrap();
    let physical = address::MmGetPhysicalAddress(memory.as_ptr().cast::<c_void>()) as u64;
    let base = frames::address(0).as_ptr() as u64;
    assert_eq!(base + physical, memory.as_ptr() as u64);
    assert_eq!(pool::try_free(memory, None), Ok(()));
}

#[test]
fn pages_mappings_and_threads_are_counted_for_the_module_that_asked() {
    const MODULE: u32 = 78;
    unsafe extern "win64" fn wait_a_little(_: *mut c_void) {
        wait::delay(100_000);
    }
    let _machine = machine();
    on_cpu(0, || {
        let as_module = || {
            let cpu = processor::current();
            cpu.caller.store(MODULE, Ordering::Relaxed);
        };
        as_module();
        let allocated = mdl::MmAllocatePagesForMdlEx(0, -1, 0, 2 * PAGE_SIZE, MmCached, 0);
        as_module();
        let mapped = address::MmMapIoSpace(0xF200_0000, PAGE_SIZE, MmCached);
        as_module();
        let (null, mut handle) = (null_mut(), null_mut());
        let routine = Some(wait_a_little as nt_sys::KSTART_ROUTINE);
        // SAFETY: the handle lives on this stack, the routine takes any context.
        unsafe { thread::PsCreateSystemThread(&mut handle, 0, null, null, null, routine, null) };
        assert_eq!(mdl::pages_of(MODULE), 2);
        assert_eq!(address::io_mappings(MODULE).len(), 1);
        assert_eq!(thread::count_of(MODULE), 1);
        // SAFETY: nothing uses the pages.
        unsafe { mdl::MmFreePagesFromMdl(allocated) };
        // SAFETY: the MDL is pool.
        unsafe { pool::ExFreePool(allocated.cast()) };
        // SAFETY: nothing uses the mapping.
        unsafe { address::MmUnmapIoSpace(mapped, PAGE_SIZE) };
        let thread = handle::reference(handle as usize, None).unwrap();
        handle::close(handle as usize).unwrap();
        // SAFETY: the reference keeps the thread object.
        unsafe { wait::KeWaitForSingleObject(thread.as_ptr(), 0, 0, 0, std::ptr::null()) };
        // SAFETY: the reference is ours.
        unsafe { ob::dereference(thread) };
        assert_eq!(mdl::pages_of(MODULE), 0);
        assert!(address::io_mappings(MODULE).is_empty());
        assert_eq!(thread::count_of(MODULE), 0);
        assert!(pool::allocations(MODULE).is_empty());
        processor::current().caller.store(0, Ordering::Relaxed);
    });
}
