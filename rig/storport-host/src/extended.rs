//! StorPortExtendedFunction and the other calls of a miniport for memory, addresses and settings.

use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use nt_host::exports;
use nt_host::ke::processor;
use nt_host::mm::frames;
use nt_host::platform::PAGE_SIZE;
use nt_sys::storport::{
    ExtFunctionAllocatePool, ExtFunctionFreePool, ExtFunctionGetCurrentProcessorNumber,
    ExtFunctionGetDeviceObjects, ExtFunctionGetSystemAddress,
    ExtFunctionInitializePerformanceOptimizations, PERF_CONFIGURATION_DATA, SCSI_REQUEST_BLOCK,
    STOR_PERF_CONCURRENT_CHANNELS, STOR_PERF_DPC_REDIRECTION,
    STOR_PERF_OPTIMIZE_FOR_COMPLETION_DURING_STARTIO, STOR_SCATTER_GATHER_LIST,
    STOR_STATUS_BUFFER_TOO_SMALL, STOR_STATUS_INSUFFICIENT_RESOURCES,
    STOR_STATUS_INVALID_PARAMETER, STOR_STATUS_NOT_IMPLEMENTED, STOR_STATUS_SUCCESS,
    STOR_STATUS_UNSUCCESSFUL,
};
use nt_sys::{BOOLEAN, DEVICE_OBJECT, PROCESSOR_NUMBER, PVOID, UCHAR};

use crate::adapter::Adapter;
use crate::slot::Slot;

/// Microsoft Learn: the StorPort functions that storport.h builds on StorPortExtendedFunction. Variadic in C;
/// every argument takes one slot.
///
/// # Safety
/// The arguments are those of the function.
pub unsafe extern "win64" fn StorPortExtendedFunction(
    code: i32,
    extension: PVOID,
    first: PVOID,
    second: PVOID,
    third: PVOID,
) -> u32 {
    match code {
        ExtFunctionAllocatePool => {
            let owner = processor::caller();
            let (size, tag) = (first as usize & 0xffff_ffff, (second as u32).to_le_bytes());
            let Some(memory) = nt_host::mm::pool::allocate_for(owner, size, tag) else {
                return STOR_STATUS_INSUFFICIENT_RESOURCES;
            };
            // SAFETY: the caller's place for the address.
            unsafe { third.cast::<*mut u8>().write(memory.as_ptr()) };
            STOR_STATUS_SUCCESS
        }
        ExtFunctionFreePool => {
            let Some(memory) = core::ptr::NonNull::new(first.cast::<u8>()) else {
                return STOR_STATUS_INVALID_PARAMETER;
            };
            // SAFETY: the miniport gives up its allocation.
            unsafe { nt_host::mm::pool::free(memory) };
            STOR_STATUS_SUCCESS
        }
        // SAFETY: the caller's place for the address.
        ExtFunctionGetSystemAddress => unsafe { system_address(first.cast(), second.cast()) },
        ExtFunctionGetDeviceObjects => {
            let adapter = Adapter::of(extension, "StorPortGetDeviceObjects");
            for (place, device) in [
                (first, adapter.fdo),
                (second, adapter.pdo),
                (third, adapter.lower),
            ] {
                // SAFETY: the caller's places for the three addresses.
                unsafe { place.cast::<*mut DEVICE_OBJECT>().write(device) };
            }
            STOR_STATUS_SUCCESS
        }
        ExtFunctionInitializePerformanceOptimizations => {
            let adapter = Adapter::of(extension, "StorPortInitializePerfOpts");
            // SAFETY: the caller's structure.
            unsafe { performance(&adapter, first as usize & 0xff != 0, second.cast()) }
        }
        ExtFunctionGetCurrentProcessorNumber => {
            let number = PROCESSOR_NUMBER {
                Group: 0,
                Number: processor::current().number as u8,
                Reserved: 0,
            };
            // SAFETY: the caller's place for the number.
            unsafe { first.cast::<PROCESSOR_NUMBER>().write(number) };
            STOR_STATUS_SUCCESS
        }
        _ => STOR_STATUS_NOT_IMPLEMENTED,
    }
}

/// StorPortGetSystemAddress: data in small buffers lie in pages next to each other.
///
/// # Safety
/// `out` is a place for an address.
unsafe fn system_address(srb: *mut SCSI_REQUEST_BLOCK, out: *mut PVOID) -> u32 {
    let slot = Slot::of(srb, "StorPortGetSystemAddress");
    // SAFETY: `of` found it to be a slot, which the miniport has now.
    let request = unsafe { &(*slot.as_ptr()).request };
    let Some(buffer) = request.as_ref().and_then(|request| request.buffer.as_ref()) else {
        return STOR_STATUS_INVALID_PARAMETER;
    };
    if !buffer
        .frames()
        .is_sorted_by(|a, b| a.checked_add(1) == Some(*b))
    {
        return STOR_STATUS_UNSUCCESSFUL;
    }
    // SAFETY: the caller's promise.
    unsafe { out.write(buffer.address().cast()) };
    STOR_STATUS_SUCCESS
}

/// StorPortInitializePerfOpts: says what is offered, or takes what is asked for.
///
/// # Safety
/// `data` is null or a valid structure.
unsafe fn performance(adapter: &Adapter, query: bool, data: *mut PERF_CONFIGURATION_DATA) -> u32 {
    const OFFERED: u32 = STOR_PERF_DPC_REDIRECTION
        | STOR_PERF_CONCURRENT_CHANNELS
        | STOR_PERF_OPTIMIZE_FOR_COMPLETION_DURING_STARTIO;
    // SAFETY: the caller's promise.
    let Some(data) = (unsafe { data.as_mut() }) else {
        return STOR_STATUS_INVALID_PARAMETER;
    };
    if (data.Size as usize) < core::mem::offset_of!(PERF_CONFIGURATION_DATA, DeviceNode) {
        return STOR_STATUS_BUFFER_TOO_SMALL;
    }
    if query {
        data.Flags = OFFERED;
        data.ConcurrentChannels = adapter.most_channels();
        return STOR_STATUS_SUCCESS;
    }
    if data.Flags & !OFFERED != 0 {
        return STOR_STATUS_INVALID_PARAMETER;
    }
    if data.Flags & STOR_PERF_CONCURRENT_CHANNELS != 0 {
        let channels = data.ConcurrentChannels.clamp(1, adapter.most_channels());
        adapter.channels.store(channels, Ordering::Relaxed);
    }
    STOR_STATUS_SUCCESS
}

/// Microsoft Learn: StorPortGetScatterGatherList.
///
/// # Safety
/// `srb` is a request that the miniport has.
pub unsafe extern "win64" fn StorPortGetScatterGatherList(
    _extension: PVOID,
    srb: *mut SCSI_REQUEST_BLOCK,
) -> *mut STOR_SCATTER_GATHER_LIST {
    let slot = Slot::of(srb, "StorPortGetScatterGatherList");
    // SAFETY: `of` found it to be a slot, which the miniport has now.
    unsafe { &mut *slot.as_ptr() }.build_list()
}

/// Microsoft Learn: StorPortGetUncachedExtension; only while HwFindAdapter runs, and once. The memory stays
/// until the adapter is removed.
///
/// # Safety
/// `extension` is the caller's device extension.
pub unsafe extern "win64" fn StorPortGetUncachedExtension(
    extension: PVOID,
    _config: PVOID,
    size: u32,
) -> PVOID {
    let adapter = Adapter::of(extension, "StorPortGetUncachedExtension");
    if adapter.uncached.lock().is_some() {
        return null_mut();
    }
    let count = u64::from(size).div_ceil(PAGE_SIZE as u64).max(1);
    let Some(first) = frames::allocate(count) else {
        return null_mut();
    };
    *adapter.uncached.lock() = Some((first, count));
    let start = frames::address(first).as_ptr();
    // SAFETY: fresh frames, one after the other.
    unsafe { start.write_bytes(0, count as usize * PAGE_SIZE) };
    start.cast()
}

/// Microsoft Learn: StorPortSetDeviceQueueDepth. A depth of 255 and more is refused, as storport.sys does.
///
/// # Safety
/// `extension` is the caller's device extension.
pub unsafe extern "win64" fn StorPortSetDeviceQueueDepth(
    extension: PVOID,
    path: UCHAR,
    target: UCHAR,
    lun: UCHAR,
    depth: u32,
) -> BOOLEAN {
    let adapter = Adapter::of(extension, "StorPortSetDeviceQueueDepth");
    if path != 0 || lun != 0 || !(1..255).contains(&depth) {
        return 0;
    }
    if let Some(place) = adapter.depths.get(usize::from(target)) {
        place.store(depth, Ordering::Relaxed);
    }
    1
}

/// Microsoft Learn: StorPortStallExecution.
pub extern "win64" fn StorPortStallExecution(microseconds: u32) {
    nt_host::ke::time::KeStallExecutionProcessor(microseconds);
}

exports!("storport.sys": StorPortExtendedFunction, StorPortGetScatterGatherList, StorPortGetUncachedExtension,
    StorPortSetDeviceQueueDepth, StorPortStallExecution);
