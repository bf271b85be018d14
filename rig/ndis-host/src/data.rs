//! A NET_BUFFER's data: where it starts in its chain of MDLs, moved by Retreat and Advance, read in one piece or copied.

use core::ptr::{NonNull, null_mut};

use nt_host::exports;
use nt_host::mm::{frames, mdl as pages, pool as memory};
use nt_host::platform::PAGE_SIZE;
use nt_host::verifier::Rule;
use nt_sys::ndis::{
    NDIS_HANDLE, NDIS_STATUS, NDIS_STATUS_FAILURE, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS,
    NET_BUFFER, NET_BUFFER_LIST,
};
use nt_sys::{MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_SOURCE_IS_NONPAGED_POOL, PVOID};

use crate::block::Buffer;

/// MDLs of a chain that are looked at; what is longer is a circle.
const MOST: usize = 4096;

/// The MDL of a chain that an offset lies in, and the offset in it. An offset at the end stays in the last MDL.
///
/// # Safety
/// `chain` is null or a chain of MDLs.
pub unsafe fn locate(chain: *mut MDL, offset: u32) -> (*mut MDL, u32) {
    let (mut mdl, mut rest) = (chain, offset);
    for _ in 0..MOST {
        // SAFETY: the caller's promise.
        let Some(fields) = (unsafe { mdl.as_ref() }) else {
            break;
        };
        if rest < fields.ByteCount || fields.Next.is_null() {
            break;
        }
        rest = rest.saturating_sub(fields.ByteCount);
        mdl = fields.Next;
    }
    (mdl, rest)
}

/// The bytes of an MDL in pieces that lie in a row: all of it where it is mapped, page by page where it is not.
pub struct Pieces {
    mdl: *const MDL,
    /// Bytes of the MDL that are to be skipped.
    skip: usize,
    /// Bytes that are wanted.
    left: usize,
    /// MDLs that may come.
    most: usize,
}

impl Pieces {
    /// `left` bytes from `skip` on in a chain.
    ///
    /// # Safety
    /// `mdl` is null or a chain of MDLs whose memory stays.
    pub unsafe fn new(mdl: *const MDL, skip: usize, left: usize) -> Self {
        Self {
            mdl,
            skip,
            left,
            most: MOST,
        }
    }
}

impl Iterator for Pieces {
    type Item = (*mut u8, usize);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while self.left != 0 && self.most != 0 {
            // SAFETY: the promise of `new`.
            let mdl = unsafe { self.mdl.as_ref() }?;
            let there = (mdl.ByteCount as usize).saturating_sub(self.skip);
            if there == 0 {
                self.skip = self.skip.saturating_sub(mdl.ByteCount as usize);
                self.mdl = mdl.Next;
                self.most -= 1;
                continue;
            }
            let mapped = mdl.MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL);
            let wanted = there.min(self.left);
            let (start, count) = match mapped {
                0 => {
                    let at = mdl.ByteOffset as usize + self.skip;
                    // SAFETY: the promise of `new`.
                    let frames = unsafe { pages::pages(NonNull::from(mdl)) };
                    let frame = *frames.get(at / PAGE_SIZE)?;
                    let start = frames::address(frame).as_ptr();
                    let rest = PAGE_SIZE - at % PAGE_SIZE;
                    (start.wrapping_add(at % PAGE_SIZE), wanted.min(rest))
                }
                _ => (
                    mdl.MappedSystemVa.cast::<u8>().wrapping_add(self.skip),
                    wanted,
                ),
            };
            self.skip += count;
            self.left -= count;
            return Some((start, count));
        }
        None
    }
}

/// The data of a NET_BUFFER.
///
/// # Safety
/// `nb` is a NET_BUFFER whose MDLs are valid and stay.
pub unsafe fn of(nb: *const NET_BUFFER) -> Pieces {
    // SAFETY: the caller's promise.
    let fields = unsafe { &*nb };
    // SAFETY: as above.
    unsafe {
        Pieces::new(
            fields.CurrentMdl,
            fields.CurrentMdlOffset as usize,
            fields.DataLength as usize,
        )
    }
}

/// Copies the first bytes of a NET_BUFFER's data; how many there were.
///
/// # Safety
/// As for [`of`].
pub unsafe fn copy_out(nb: *const NET_BUFFER, out: &mut [u8]) -> usize {
    let mut at = 0;
    // SAFETY: the caller's promise.
    for (start, count) in unsafe { of(nb) } {
        let Some(room) = out.get_mut(at..) else { break };
        let count = count.min(room.len());
        // SAFETY: an MDL's own memory, and room for as much.
        unsafe { room.as_mut_ptr().copy_from_nonoverlapping(start, count) };
        at += count;
    }
    at
}

/// An MDL of the host's own over memory of the pool, in the same allocation: header, page numbers, then the memory.
fn mdl_and_memory(bytes: u32) -> Option<(NonNull<u8>, *mut MDL)> {
    let mdl_room = 64 + 8 * (bytes as usize / PAGE_SIZE + 2);
    let whole = memory::allocate(mdl_room + bytes as usize, *b"NdMd")?;
    let start = whole.as_ptr().wrapping_add(mdl_room);
    let mdl = whole.as_ptr().cast::<MDL>();
    // SAFETY: fresh memory with room for the MDL and its page numbers.
    unsafe { write_mdl(mdl, start, bytes) };
    Some((whole, mdl))
}

/// Writes an MDL over memory that stays mapped.
///
/// # Safety
/// `mdl` has room for the header and the numbers of the pages.
pub unsafe fn write_mdl(mdl: *mut MDL, start: *mut u8, bytes: u32) {
    let at = start as usize;
    let count = (at % PAGE_SIZE + bytes as usize).div_ceil(PAGE_SIZE);
    let header = MDL {
        Next: null_mut(),
        Size: (size_of::<MDL>() + 8 * count) as i16,
        MdlFlags: nt_sys::MDL_ALLOCATED_FIXED_SIZE | MDL_SOURCE_IS_NONPAGED_POOL,
        Process: null_mut(),
        MappedSystemVa: start.cast(),
        StartVa: (at & !(PAGE_SIZE - 1)) as PVOID,
        ByteCount: bytes,
        ByteOffset: (at % PAGE_SIZE) as u32,
    };
    // SAFETY: the caller's promise.
    unsafe { mdl.write(header) };
    let numbers = mdl.wrapping_add(1).cast::<u64>();
    let first = at & !(PAGE_SIZE - 1);
    for page in 0..count {
        let frame = frames::frame_of(first + page * PAGE_SIZE).unwrap_or(0);
        // SAFETY: the caller's promise.
        unsafe { numbers.wrapping_add(page).write(frame) };
    }
}

/// Gives a NET_BUFFER an MDL and memory of its own; `false` without memory.
pub fn give_memory(buffer: &mut Buffer, bytes: u32) -> bool {
    let Some((whole, mdl)) = mdl_and_memory(bytes) else {
        return false;
    };
    buffer.own.data = Some(whole);
    // SAFETY: a chain of one MDL; data starts at its end, where there is room to retreat.
    unsafe { buffer.describe(mdl, bytes, 0) };
    true
}

/// Takes the memory back that came with a NET_BUFFER.
pub fn take_memory(buffer: &mut Buffer) {
    if let Some(whole) = buffer.own.data.take() {
        // SAFETY: allocated by `give_memory`, and its NET_BUFFER is given up.
        unsafe { memory::free(whole) };
    }
}

/// Microsoft Learn: NdisRetreatNetBufferDataStart. Room that the chain has in front is used; more is allocated, with an
/// MDL in front of the chain.
///
/// # Safety
/// `nb` is the caller's.
pub unsafe extern "win64" fn NdisRetreatNetBufferDataStart(
    nb: *mut NET_BUFFER,
    delta: u32,
    back_fill: u32,
    allocate: Option<unsafe extern "win64" fn(*mut u32) -> *mut MDL>,
) -> NDIS_STATUS {
    let buffer = Buffer::of(nb, "NdisRetreatNetBufferDataStart");
    let fields = &mut buffer.nb;
    if let Some(offset) = fields.DataOffset.checked_sub(delta) {
        fields.DataOffset = offset;
        fields.DataLength = fields.DataLength.saturating_add(delta);
        // SAFETY: the caller's chain.
        let (mdl, rest) = unsafe { locate(fields.MdlChain, offset) };
        fields.CurrentMdl = mdl;
        fields.CurrentMdlOffset = rest;
        return NDIS_STATUS_SUCCESS;
    }
    // What there is in front of the data is used as well; the new MDL holds the rest, and room in front of that.
    let missing = delta.saturating_sub(fields.DataOffset);
    let mut room = missing.saturating_add(back_fill);
    let mdl = match allocate {
        // SAFETY: the caller's routine, called as documented.
        Some(allocate) => nt_host::ke::border::call(|| unsafe { allocate(&raw mut room) }),
        None => mdl_and_memory(room).map_or(null_mut(), |(_, mdl)| mdl),
    };
    if mdl.is_null() {
        return NDIS_STATUS_RESOURCES;
    }
    // SAFETY: a fresh MDL.
    unsafe { (*mdl).Next = fields.MdlChain };
    fields.MdlChain = mdl;
    fields.CurrentMdl = mdl;
    fields.DataOffset = back_fill;
    fields.CurrentMdlOffset = back_fill;
    fields.DataLength = fields.DataLength.saturating_add(delta);
    NDIS_STATUS_SUCCESS
}

/// Microsoft Learn: NdisAdvanceNetBufferDataStart; an MDL that Retreat made is freed if `free` says so.
///
/// # Safety
/// `nb` is the caller's.
pub unsafe extern "win64" fn NdisAdvanceNetBufferDataStart(
    nb: *mut NET_BUFFER,
    delta: u32,
    free: u8,
    free_routine: Option<unsafe extern "win64" fn(*mut MDL)>,
) {
    let buffer = Buffer::of(nb, "NdisAdvanceNetBufferDataStart");
    let fields = &mut buffer.nb;
    if delta > fields.DataLength {
        Rule::NblMalformed.breach(format_args!(
            "NdisAdvanceNetBufferDataStart: NET_BUFFER {nb:p} has {} bytes of data, which start {delta} bytes later",
            fields.DataLength
        ));
    }
    fields.DataLength -= delta;
    fields.DataOffset = fields.DataOffset.saturating_add(delta);
    // SAFETY: the caller's chain.
    let first = unsafe { fields.MdlChain.as_ref() };
    if let Some(first) = first
        && free != 0
        && !first.Next.is_null()
        && fields.DataOffset >= first.ByteCount
    {
        let (mdl, next) = (fields.MdlChain, first.Next);
        fields.DataOffset -= first.ByteCount;
        fields.MdlChain = next;
        match free_routine {
            // SAFETY: the caller's routine, called as documented.
            Some(routine) => nt_host::ke::border::call(|| unsafe { routine(mdl) }),
            None => {
                if let Some(whole) = NonNull::new(mdl.cast::<u8>()) {
                    // SAFETY: made by NdisRetreatNetBufferDataStart, whose allocation starts with the MDL.
                    unsafe { memory::free(whole) };
                }
            }
        }
    }
    // SAFETY: the caller's chain.
    let (mdl, rest) = unsafe { locate(fields.MdlChain, fields.DataOffset) };
    fields.CurrentMdl = mdl;
    fields.CurrentMdlOffset = rest;
}

/// Every NET_BUFFER of a list.
unsafe fn buffers(list: *mut NET_BUFFER_LIST) -> impl Iterator<Item = *mut NET_BUFFER> {
    // SAFETY: the caller's list.
    let first = unsafe { (*list).FirstNetBuffer };
    core::iter::successors((!first.is_null()).then_some(first), |nb| {
        // SAFETY: as above.
        let next = unsafe { (**nb).Next };
        (!next.is_null()).then_some(next)
    })
}

/// Microsoft Learn: NdisRetreatNetBufferListDataStart. Either all NET_BUFFERs are moved, or none.
///
/// # Safety
/// `list` is the caller's.
pub unsafe extern "win64" fn NdisRetreatNetBufferListDataStart(
    list: *mut NET_BUFFER_LIST,
    delta: u32,
    back_fill: u32,
    allocate: Option<unsafe extern "win64" fn(*mut u32) -> *mut MDL>,
    free: Option<unsafe extern "win64" fn(*mut MDL)>,
) -> NDIS_STATUS {
    // SAFETY: the caller's promise.
    for (count, nb) in unsafe { buffers(list) }.enumerate() {
        // SAFETY: as above.
        let status = unsafe { NdisRetreatNetBufferDataStart(nb, delta, back_fill, allocate) };
        if status != NDIS_STATUS_SUCCESS {
            // SAFETY: as above.
            for done in unsafe { buffers(list) }.take(count) {
                // SAFETY: as above.
                unsafe { NdisAdvanceNetBufferDataStart(done, delta, 1, free) };
            }
            return status;
        }
    }
    NDIS_STATUS_SUCCESS
}

/// Microsoft Learn: NdisAdvanceNetBufferListDataStart.
///
/// # Safety
/// `list` is the caller's.
pub unsafe extern "win64" fn NdisAdvanceNetBufferListDataStart(
    list: *mut NET_BUFFER_LIST,
    delta: u32,
    free: u8,
    free_routine: Option<unsafe extern "win64" fn(*mut MDL)>,
) {
    // SAFETY: the caller's promise.
    for nb in unsafe { buffers(list) } {
        // SAFETY: as above.
        unsafe { NdisAdvanceNetBufferDataStart(nb, delta, free, free_routine) };
    }
}

/// Microsoft Learn: NdisGetDataBuffer: the first bytes of the data in one piece, in place if they lie so, else copied to
/// `storage`; null if there is no such storage, or fewer bytes.
///
/// # Safety
/// `nb` is valid, `storage` null or room for so many bytes.
pub unsafe extern "win64" fn NdisGetDataBuffer(
    nb: *mut NET_BUFFER,
    needed: u32,
    storage: PVOID,
    align: u32,
    offset: u32,
) -> PVOID {
    // SAFETY: the caller's promise.
    if needed == 0 || needed > unsafe { (*nb).DataLength } {
        return null_mut();
    }
    // SAFETY: the caller's promise.
    let first = unsafe { of(nb) }.next();
    if let Some((start, count)) = first
        && count >= needed as usize
        && (align <= 1
            || (start as usize)
                .wrapping_sub(offset as usize)
                .is_multiple_of(align as usize))
    {
        return start.cast();
    }
    if storage.is_null() {
        return null_mut();
    }
    // SAFETY: the caller's promise.
    let room = unsafe { core::slice::from_raw_parts_mut(storage.cast::<u8>(), needed as usize) };
    // SAFETY: as above.
    match unsafe { copy_out(nb, room) } == needed as usize {
        true => storage,
        false => null_mut(),
    }
}

/// Microsoft Learn: NdisCopyFromNetBufferToNetBuffer.
///
/// # Safety
/// Both NET_BUFFERs are valid.
pub unsafe extern "win64" fn NdisCopyFromNetBufferToNetBuffer(
    to: *mut NET_BUFFER,
    to_offset: u32,
    count: u32,
    from: *const NET_BUFFER,
    from_offset: u32,
    copied: *mut u32,
) -> NDIS_STATUS {
    let data = |nb: *const NET_BUFFER, offset: u32| {
        // SAFETY: the caller's promise.
        let fields = unsafe { &*nb };
        let skip = fields.CurrentMdlOffset as usize + offset as usize;
        let left = fields.DataLength.saturating_sub(offset).min(count) as usize;
        // SAFETY: the caller's promise.
        unsafe { Pieces::new(fields.CurrentMdl, skip, left) }
    };
    let (mut targets, mut sources) = (data(to, to_offset), data(from, from_offset));
    let (mut target, mut source) = (targets.next(), sources.next());
    let mut done = 0u32;
    while let (Some((to, room)), Some((from, there))) = (target, source) {
        let bytes = room.min(there);
        // SAFETY: memory of two MDLs, as long as that; they may be the same.
        unsafe { to.copy_from(from, bytes) };
        done = done.saturating_add(bytes as u32);
        target = match room - bytes {
            0 => targets.next(),
            rest => Some((to.wrapping_add(bytes), rest)),
        };
        source = match there - bytes {
            0 => sources.next(),
            rest => Some((from.wrapping_add(bytes), rest)),
        };
    }
    // SAFETY: the caller's place for the number.
    unsafe { copied.write(done) };
    match done {
        0 if count != 0 => NDIS_STATUS_FAILURE,
        _ => NDIS_STATUS_SUCCESS,
    }
}

/// Microsoft Learn: NdisAllocateMdl: an MDL over nonpaged memory, built.
///
/// # Safety
/// `start` is nonpaged memory of `bytes` bytes.
pub unsafe extern "win64" fn NdisAllocateMdl(
    _handle: NDIS_HANDLE,
    start: PVOID,
    bytes: u32,
) -> *mut MDL {
    // SAFETY: no IRP.
    let mdl = unsafe { pages::IoAllocateMdl(start, bytes, 0, 0, null_mut()) };
    if !mdl.is_null() {
        // SAFETY: a fresh MDL over nonpaged memory.
        unsafe { pages::MmBuildMdlForNonPagedPool(mdl) };
    }
    mdl
}

/// Microsoft Learn: NdisFreeMdl.
///
/// # Safety
/// `mdl` came from [`NdisAllocateMdl`].
pub unsafe extern "win64" fn NdisFreeMdl(mdl: *mut MDL) {
    // SAFETY: the caller's promise.
    unsafe { pages::IoFreeMdl(mdl) };
}

exports!("ndis.sys": NdisRetreatNetBufferDataStart, NdisAdvanceNetBufferDataStart,
    NdisRetreatNetBufferListDataStart, NdisAdvanceNetBufferListDataStart, NdisGetDataBuffer,
    NdisCopyFromNetBufferToNetBuffer, NdisAllocateMdl, NdisFreeMdl);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::ffi::c_void;

    /// MDLs over parts of `bytes`, chained.
    fn chain(bytes: &mut [u8], lengths: &[usize]) -> Vec<MDL> {
        let start = bytes.as_mut_ptr();
        let mut at = 0;
        let mut mdls: Vec<MDL> = lengths
            .iter()
            .map(|&length| {
                let own = start.wrapping_add(at);
                at += length;
                MDL {
                    Next: null_mut(),
                    Size: 56,
                    MdlFlags: MDL_SOURCE_IS_NONPAGED_POOL,
                    Process: null_mut(),
                    MappedSystemVa: own.cast::<c_void>(),
                    StartVa: own.cast(),
                    ByteCount: length as u32,
                    ByteOffset: 0,
                }
            })
            .collect();
        for index in 1..mdls.len() {
            let next = &raw mut mdls[index];
            mdls[index - 1].Next = next;
        }
        mdls
    }

    fn read(mdls: &[MDL], skip: usize, left: usize) -> Vec<u8> {
        // SAFETY: the chain of the test.
        let pieces = unsafe { Pieces::new(mdls.as_ptr(), skip, left) };
        pieces
            .flat_map(|(start, count)| {
                // SAFETY: memory of the test.
                unsafe { core::slice::from_raw_parts(start, count) }.to_vec()
            })
            .collect()
    }

    #[test]
    fn data_are_found_over_empty_mdls_and_offsets_beyond_the_first() {
        let mut bytes: Vec<u8> = (0..20).collect();
        let mdls = chain(&mut bytes, &[4, 0, 6, 0, 10]);
        assert_eq!(read(&mdls, 0, 20), (0..20).collect::<Vec<u8>>());
        assert_eq!(read(&mdls, 5, 8), (5..13).collect::<Vec<u8>>());
        assert_eq!(read(&mdls, 4, 1), [4]);
        assert_eq!(read(&mdls, 12, 100), (12..20).collect::<Vec<u8>>());
        assert_eq!(read(&mdls, 20, 1), []);
    }

    #[test]
    fn an_offset_lies_in_the_mdl_that_has_its_byte() {
        let mut bytes = [0; 20];
        let mut mdls = chain(&mut bytes, &[4, 0, 6, 10]);
        let first = mdls.as_mut_ptr();
        let find = |offset| {
            // SAFETY: the chain of the test.
            let (mdl, rest) = unsafe { locate(first, offset) };
            // SAFETY: as above.
            (unsafe { mdl.offset_from(first) }, rest)
        };
        assert_eq!(find(3), (0, 3));
        assert_eq!(find(4), (2, 0));
        assert_eq!(find(10), (3, 0));
        assert_eq!(find(20), (3, 10));
    }
}
