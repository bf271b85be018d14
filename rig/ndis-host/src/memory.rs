//! Memory, events, time and waiting, as NDIS offers them.

use core::ptr::null_mut;

use nt_host::ke::event::{KeInitializeEvent, KeResetEvent, KeSetEvent};
use nt_host::ke::wait::KeWaitForSingleObject;
use nt_host::ke::{processor, time, wait};
use nt_host::mm::pool as memory;
use nt_host::{exports, host};
use nt_sys::ndis::{NDIS_HANDLE, NDIS_STATUS, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS};
use nt_sys::{BOOLEAN, KEVENT, LARGE_INTEGER, NotificationEvent, PVOID, STATUS_TIMEOUT};

use crate::adapter::Adapter;

/// Microsoft Learn: NdisAllocateMemoryWithTagPriority.
pub extern "win64" fn NdisAllocateMemoryWithTagPriority(
    _handle: NDIS_HANDLE,
    length: u32,
    tag: u32,
    _priority: i32,
) -> PVOID {
    let owner = processor::caller();
    let allocated = memory::allocate_for(owner, length.max(1) as usize, tag.to_le_bytes());
    allocated.map_or(null_mut(), |memory| memory.as_ptr().cast())
}

/// Microsoft Learn: NdisAllocateMemoryWithTag.
///
/// # Safety
/// `out` is writable.
pub unsafe extern "win64" fn NdisAllocateMemoryWithTag(
    out: *mut PVOID,
    length: u32,
    tag: u32,
) -> NDIS_STATUS {
    let allocated = NdisAllocateMemoryWithTagPriority(null_mut(), length, tag, 0);
    // SAFETY: the caller's promise.
    unsafe { out.write(allocated) };
    match allocated.is_null() {
        true => NDIS_STATUS_RESOURCES,
        false => NDIS_STATUS_SUCCESS,
    }
}

/// Microsoft Learn: NdisFreeMemory.
///
/// # Safety
/// `address` came from one of the functions above, and nothing uses it any more.
pub unsafe extern "win64" fn NdisFreeMemory(address: PVOID, _length: u32, _flags: u32) {
    // SAFETY: the caller's promise.
    unsafe { memory::ExFreePool(address) };
}

/// Microsoft Learn: NdisMSleep.
pub extern "win64" fn NdisMSleep(microseconds: u32) {
    wait::delay(u64::from(microseconds) * 10);
}

/// Microsoft Learn: NdisGetSystemUpTimeEx: milliseconds.
///
/// # Safety
/// `out` is writable.
pub unsafe extern "win64" fn NdisGetSystemUpTimeEx(out: *mut LARGE_INTEGER) {
    // SAFETY: the caller's promise.
    unsafe { out.write((time::interrupt_time() / 10_000).cast_signed()) };
}

/// Microsoft Learn: NdisGetCurrentSystemTime.
///
/// # Safety
/// `out` is writable.
pub unsafe extern "win64" fn NdisGetCurrentSystemTime(out: *mut LARGE_INTEGER) {
    // SAFETY: the caller's promise.
    unsafe { out.write(host().platform().system_time().cast_signed()) };
}

/// Microsoft Learn: NdisInitializeEvent; an NDIS_EVENT is a KEVENT.
///
/// # Safety
/// `event` is writable and not in use.
pub unsafe extern "win64" fn NdisInitializeEvent(event: *mut KEVENT) {
    // SAFETY: the caller's promise.
    unsafe { KeInitializeEvent(event, NotificationEvent, 0) };
}

/// Microsoft Learn: NdisSetEvent.
///
/// # Safety
/// `event` is initialised.
pub unsafe extern "win64" fn NdisSetEvent(event: *mut KEVENT) {
    // SAFETY: the caller's promise.
    unsafe { KeSetEvent(event, 0, 0) };
}

/// Microsoft Learn: NdisResetEvent.
///
/// # Safety
/// `event` is initialised.
pub unsafe extern "win64" fn NdisResetEvent(event: *mut KEVENT) {
    // SAFETY: the caller's promise.
    unsafe { KeResetEvent(event) };
}

/// Microsoft Learn: NdisWaitEvent; 0 milliseconds wait for ever. Whether the event was set.
///
/// # Safety
/// `event` is initialised.
pub unsafe extern "win64" fn NdisWaitEvent(event: *mut KEVENT, milliseconds: u32) -> BOOLEAN {
    let due: LARGE_INTEGER = -10_000 * i64::from(milliseconds);
    let due = match milliseconds {
        0 => core::ptr::null(),
        _ => &raw const due,
    };
    // SAFETY: the caller's promise.
    let status = unsafe { KeWaitForSingleObject(event.cast(), 0, 0, 0, due) };
    BOOLEAN::from(status != STATUS_TIMEOUT)
}

/// Microsoft Learn: NdisWriteErrorLogEntry. Variadic in C: values that belong to the code, `count` of them.
pub extern "win64" fn NdisWriteErrorLogEntry(
    handle: NDIS_HANDLE,
    code: u32,
    count: u32,
    first: u32,
) {
    let adapter = Adapter::of(handle, "NdisWriteErrorLogEntry");
    match count {
        0 => adapter.log(&alloc::format!("error log: {code:#010x}")),
        _ => adapter.log(&alloc::format!("error log: {code:#010x} {first:#x}")),
    }
}

exports!("ndis.sys": NdisAllocateMemoryWithTagPriority, NdisAllocateMemoryWithTag, NdisFreeMemory, NdisMSleep,
    NdisGetSystemUpTimeEx, NdisGetCurrentSystemTime, NdisInitializeEvent, NdisSetEvent, NdisResetEvent, NdisWaitEvent,
    NdisWriteErrorLogEntry);
