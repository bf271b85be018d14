//! Scatter-gather lists and memory shared with a device.

use alloc::format;
use alloc::string::String;
use core::ptr::NonNull;

use nt_host::mm::{frames, mdl as pages, pool as memory};
use nt_host::platform::PAGE_SIZE;
use nt_host::verifier::Rule;
use nt_host::{exports, ke};
use nt_sys::ndis::{
    NDIS_HANDLE, NDIS_OBJECT_TYPE_SG_DMA_DESCRIPTION, NDIS_SG_DMA_DESCRIPTION,
    NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1, NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_2,
    NDIS_STATUS, NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS,
    NET_BUFFER,
};
use nt_sys::{BOOLEAN, MDL, PHYSICAL_ADDRESS, PVOID};

use crate::adapter::Adapter;
use crate::attributes::header;
use crate::handle::Handles;

/// Elements that a list has room for, as NDIS says when it is asked: a large send's pages and its headers.
const ELEMENTS: usize = 32;

/// An element of a SCATTER_GATHER_LIST (wdm.h).
#[repr(C)]
struct Element {
    address: PHYSICAL_ADDRESS,
    length: u32,
    reserved: usize,
}

/// What an adapter has registered.
pub struct Dma {
    handle: usize,
    adapter: &'static Adapter,
    description: NDIS_SG_DMA_DESCRIPTION,
}

// SAFETY: a routine and numbers; the device in it is only handed back.
unsafe impl Send for Dma {}
// SAFETY: as for `Send`; nothing changes.
unsafe impl Sync for Dma {}

static DMAS: Handles<Dma> = Handles::new(5, "scatter-gather DMA");

/// What a handle's owner has left registered, for people.
pub fn left_by(owner: NDIS_HANDLE) -> Option<String> {
    let found = DMAS.all().find(|dma| dma.adapter.handle() == owner)?;
    Some(format!("scatter-gather DMA {:#x} registered", found.handle))
}

/// Microsoft Learn: NdisMRegisterScatterGatherDma.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn NdisMRegisterScatterGatherDma(
    handle: NDIS_HANDLE,
    description: *mut NDIS_SG_DMA_DESCRIPTION,
    out: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    let adapter = Adapter::of(handle, "NdisMRegisterScatterGatherDma");
    let sizes = [
        (1, NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1, 0),
        (2, NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_2, 85),
    ];
    let kind = NDIS_OBJECT_TYPE_SG_DMA_DESCRIPTION;
    // SAFETY: the caller's promise.
    let size = unsafe { header(description.cast(), "NDIS_SG_DMA_DESCRIPTION", kind, &sizes) };
    // SAFETY: the header says that so much is there; numbers, routines and a pointer.
    let given: NDIS_SG_DMA_DESCRIPTION =
        unsafe { crate::attributes::copy(description.cast_const().cast(), size) };
    if given.ProcessSGListHandler.is_none() {
        return NDIS_STATUS_INVALID_PARAMETER;
    }
    let opened = DMAS.open(|own| Dma {
        handle: own as usize,
        adapter,
        description: given,
    });
    let Some(opened) = opened else {
        return NDIS_STATUS_RESOURCES;
    };
    let room = size_of::<[usize; 2]>() + ELEMENTS * size_of::<Element>();
    // SAFETY: part of what the header says that is there.
    unsafe { (*description).ScatterGatherListSize = room as u32 };
    // SAFETY: the caller's place for the handle.
    unsafe { out.write(opened.handle as NDIS_HANDLE) };
    NDIS_STATUS_SUCCESS
}

/// Microsoft Learn: NdisMDeregisterScatterGatherDma.
pub extern "win64" fn NdisMDeregisterScatterGatherDma(handle: NDIS_HANDLE) {
    DMAS.close(handle, "NdisMDeregisterScatterGatherDma");
}

/// The physical extents of a NET_BUFFER's data, neighbours as one.
///
/// # Safety
/// `nb` is valid, its MDLs locked or of nonpaged memory.
unsafe fn extents(nb: *const NET_BUFFER) -> alloc::vec::Vec<Element> {
    let mut found: alloc::vec::Vec<Element> = alloc::vec::Vec::new();
    // SAFETY: the caller's promise.
    let fields = unsafe { &*nb };
    let (mut mdl, mut skip) = (fields.CurrentMdl, fields.CurrentMdlOffset as usize);
    let mut left = fields.DataLength as usize;
    while let Some(own) = NonNull::new(mdl).filter(|_| left != 0) {
        // SAFETY: an MDL of the chain.
        let MDL {
            Next,
            ByteCount,
            ByteOffset,
            ..
        } = *unsafe { own.as_ref() };
        // SAFETY: as above.
        let numbers = unsafe { pages::pages(own) };
        let end = (skip + left).min(ByteCount as usize);
        while skip < end {
            let at = ByteOffset as usize + skip;
            let count = (PAGE_SIZE - at % PAGE_SIZE).min(end - skip);
            let frame = numbers.get(at / PAGE_SIZE).copied().unwrap_or(0);
            let address = (frame as usize * PAGE_SIZE + at % PAGE_SIZE) as PHYSICAL_ADDRESS;
            match found.last_mut() {
                Some(last) if last.address + i64::from(last.length) == address => {
                    last.length += count as u32;
                }
                _ => found.push(Element {
                    address,
                    length: count as u32,
                    reserved: 0,
                }),
            }
            skip += count;
            left -= count;
        }
        skip = skip.saturating_sub(ByteCount as usize);
        mdl = Next;
    }
    found
}

/// Microsoft Learn: NdisMAllocateNetBufferSGList: the list is given to MiniportProcessSGList before this returns.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn NdisMAllocateNetBufferSGList(
    handle: NDIS_HANDLE,
    nb: *mut NET_BUFFER,
    context: PVOID,
    _flags: u32,
    buffer: PVOID,
    size: u32,
) -> NDIS_STATUS {
    let dma = DMAS.demand(handle, "NdisMAllocateNetBufferSGList");
    let Some(routine) = dma.description.ProcessSGListHandler else {
        return NDIS_STATUS_INVALID_PARAMETER;
    };
    // SAFETY: the caller's promise.
    let elements = unsafe { extents(nb) };
    let bytes = size_of::<[usize; 2]>() + elements.len() * size_of::<Element>();
    let list = match buffer.is_null() || bytes > size as usize {
        true => match memory::allocate(bytes, *b"NdSg") {
            Some(memory) => memory.as_ptr(),
            None => return NDIS_STATUS_RESOURCES,
        },
        false => buffer.cast::<u8>(),
    };
    // NumberOfElements and Reserved; the latter says whether the list is the host's to free.
    let is_own = usize::from(list != buffer.cast());
    // SAFETY: `list` has room for as much.
    unsafe { list.cast::<[usize; 2]>().write([elements.len(), is_own]) };
    let place = list.wrapping_add(size_of::<[usize; 2]>()).cast::<Element>();
    for (index, element) in elements.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe { place.wrapping_add(index).write(element) };
    }
    let fdo = dma.adapter.fdo.cast();
    // SAFETY: the miniport's own routine, called as documented.
    crate::call::handler(routine as usize, "MiniportProcessSGList", || unsafe {
        routine(fdo, core::ptr::null_mut(), list.cast(), context)
    });
    NDIS_STATUS_SUCCESS
}

/// Microsoft Learn: NdisMFreeNetBufferSGList.
///
/// # Safety
/// `list` was given to MiniportProcessSGList.
pub unsafe extern "win64" fn NdisMFreeNetBufferSGList(
    handle: NDIS_HANDLE,
    list: PVOID,
    _nb: *mut NET_BUFFER,
) {
    DMAS.demand(handle, "NdisMFreeNetBufferSGList");
    // SAFETY: the caller's promise.
    let [_, is_own] = unsafe { list.cast::<[usize; 2]>().read() };
    if let Some(own) = NonNull::new(list.cast::<u8>()).filter(|_| is_own != 0) {
        // SAFETY: allocated by NdisMAllocateNetBufferSGList.
        unsafe { memory::free(own) };
    }
}

/// Microsoft Learn: NdisMAllocateSharedMemory.
///
/// # Safety
/// The places are writable.
pub unsafe extern "win64" fn NdisMAllocateSharedMemory(
    handle: NDIS_HANDLE,
    length: u32,
    _cached: BOOLEAN,
    address: *mut PVOID,
    physical: *mut PHYSICAL_ADDRESS,
) {
    Adapter::of(handle, "NdisMAllocateSharedMemory");
    let count = (length as u64).div_ceil(PAGE_SIZE as u64);
    let first = frames::allocate(count.max(1));
    let start = first.map_or(core::ptr::null_mut(), |first| {
        frames::address(first).as_ptr()
    });
    // SAFETY: the caller's places.
    unsafe { address.write(start.cast()) };
    let at = first.unwrap_or(0) as i64 * PAGE_SIZE as i64;
    // SAFETY: as above.
    unsafe { physical.write(at) };
}

/// Microsoft Learn: NdisMFreeSharedMemory.
pub extern "win64" fn NdisMFreeSharedMemory(
    handle: NDIS_HANDLE,
    length: u32,
    _cached: BOOLEAN,
    address: PVOID,
    _physical: PHYSICAL_ADDRESS,
) {
    Adapter::of(handle, "NdisMFreeSharedMemory");
    let count = (length as u64).div_ceil(PAGE_SIZE as u64).max(1);
    match frames::frame_of(address as usize) {
        Some(first) => frames::free(first, count),
        None => Rule::PoolNotAllocated
            .breach(format_args!("frees {address:p}, which is no shared memory")),
    }
    ke::poll();
}

exports!("ndis.sys": NdisMRegisterScatterGatherDma, NdisMDeregisterScatterGatherDma, NdisMAllocateNetBufferSGList,
    NdisMFreeNetBufferSGList, NdisMAllocateSharedMemory, NdisMFreeSharedMemory);
