//! Lists of the miniport's own, for received frames: made ahead, lent to NDIS, used again.
//!
//! ```text
//!   Pool ─▶ ReceiveList ─describe─▶ ReceiveChain ─indicate─▶ NDIS ─▶ Returned ─take─▶ ReceiveList
//!                                       └─lend─▶ NDIS, for the call only ─▶ ReceiveChain again
//! ```
//!
//! The miniport keeps two numbers with a list, which come back with it. NDIS leaves `MiniportReserved` to it.

use crate::{Adapter, NdisStatus};
use core::ptr::NonNull;
use nt_sys::MDL;
use nt_sys::imports::{
    NdisAllocateNetBufferAndNetBufferList, NdisAllocateNetBufferListPool, NdisFreeNetBufferList,
    NdisFreeNetBufferListPool, NdisMIndicateReceiveNetBufferLists,
};
use nt_sys::ndis::*;

/// Where lists come from. To be dropped after all its lists.
#[derive(Debug)]
pub struct Pool {
    handle: NonNull<core::ffi::c_void>,
}

// SAFETY: NDIS synchronises its pools.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool of lists with one frame each. PASSIVE_LEVEL.
    pub fn new(adapter: Adapter, tag: [u8; 4]) -> Result<Pool, NdisStatus> {
        let parameters = NET_BUFFER_LIST_POOL_PARAMETERS {
            Header: NDIS_OBJECT_HEADER::new(
                NDIS_OBJECT_TYPE_DEFAULT,
                NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
                NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
            ),
            ProtocolId: NDIS_PROTOCOL_ID_DEFAULT,
            fAllocateNetBuffer: nt_sys::TRUE,
            ContextSize: 0,
            PoolTag: u32::from_le_bytes(tag),
            DataSize: 0,
        };
        // SAFETY: the handle is live, the parameters outlive the call.
        let handle = unsafe { NdisAllocateNetBufferListPool(adapter.as_ptr(), &parameters) };
        NonNull::new(handle)
            .map(|handle| Pool { handle })
            .ok_or(NdisStatus::RESOURCES)
    }

    /// A new list. IRQL ≤ DISPATCH_LEVEL.
    pub fn allocate(&self, adapter: Adapter) -> Option<ReceiveList> {
        // SAFETY: the pool is live; without a chain the frame is empty.
        let list = unsafe {
            NdisAllocateNetBufferAndNetBufferList(
                self.handle.as_ptr(),
                0,
                0,
                core::ptr::null_mut(),
                0,
                0,
            )
        };
        let list = NonNull::new(list)?;
        // SAFETY: a new list, ours alone.
        unsafe { (*list.as_ptr()).SourceHandle = adapter.as_ptr() };
        Some(ReceiveList { list })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: allocated once; its lists are gone, as the type's documentation demands.
        unsafe { NdisFreeNetBufferListPool(self.handle.as_ptr()) };
    }
}

/// A list of the miniport's. Dropping it frees it.
#[derive(Debug)]
pub struct ReceiveList {
    list: NonNull<NET_BUFFER_LIST>,
}

// SAFETY: the list is owned, and may be used on any processor.
unsafe impl Send for ReceiveList {}

impl ReceiveList {
    fn fields(&mut self) -> &mut NET_BUFFER_LIST {
        // SAFETY: the list is this value's.
        unsafe { self.list.as_mut() }
    }

    /// Makes it the list of a frame of `length` bytes, `offset` bytes into the chain at `mdl`, of which nothing is said
    /// yet. `cookie` and `number` come back with it. `false` where the chain is too short.
    ///
    /// # Safety
    /// Null or a chain of MDLs, which stays as it is until the list was returned.
    pub unsafe fn describe(
        &mut self,
        mdl: *mut MDL,
        offset: u32,
        length: u32,
        cookie: usize,
        number: usize,
    ) -> bool {
        let fields = self.fields();
        fields.Next = core::ptr::null_mut();
        fields.NblFlags = 0;
        fields.Flags = 0;
        fields.Status = NDIS_STATUS_SUCCESS;
        fields.NetBufferListInfo = [core::ptr::null_mut(); MaxNetBufferListInfo];
        fields.MiniportReserved = [
            core::ptr::without_provenance_mut(cookie),
            core::ptr::without_provenance_mut(number),
        ];
        // SAFETY: a list of this pool has a buffer, which belongs to it.
        let Some(buffer) = (unsafe { fields.FirstNetBuffer.as_mut() }) else {
            return false;
        };
        // SAFETY: the caller's duty.
        let Some((current, within)) = (unsafe { locate(mdl, offset) }) else {
            return false;
        };
        buffer.MdlChain = mdl;
        buffer.DataOffset = offset;
        buffer.CurrentMdl = current;
        buffer.CurrentMdlOffset = within;
        buffer.DataLength = length;
        buffer.DataLengthUpper = 0;
        true
    }

    /// Says something in one of the slots of `sys::*Info`.
    pub fn set_info(&mut self, slot: usize, value: u32) {
        if let Some(place) = self.fields().NetBufferListInfo.get_mut(slot) {
            *place = core::ptr::without_provenance_mut(value as usize);
        }
    }

    /// The numbers that [`ReceiveList::describe`] was given.
    pub fn numbers(&self) -> (usize, usize) {
        // SAFETY: the list is this value's.
        let fields = unsafe { self.list.as_ref() };
        let [cookie, number] = fields.MiniportReserved;
        (cookie as usize, number as usize)
    }

    fn into_raw(self) -> *mut NET_BUFFER_LIST {
        let raw = self.list.as_ptr();
        core::mem::forget(self);
        raw
    }
}

impl Drop for ReceiveList {
    fn drop(&mut self) {
        // SAFETY: allocated from a pool that is live, freed once.
        unsafe { NdisFreeNetBufferList(self.list.as_ptr()) };
    }
}

/// The MDL in which a place of a chain is, and where in it.
///
/// # Safety
/// Null or a chain of MDLs.
unsafe fn locate(mut mdl: *mut MDL, mut offset: u32) -> Option<(*mut MDL, u32)> {
    loop {
        // SAFETY: the caller's duty.
        let fields = unsafe { mdl.as_ref() }?;
        if offset < fields.ByteCount || (offset == 0 && fields.Next.is_null()) {
            return Some((mdl, offset));
        }
        offset -= fields.ByteCount;
        mdl = fields.Next;
    }
}

/// Lists in their order: to be indicated, or kept.
#[derive(Debug)]
pub struct ReceiveChain {
    first: *mut NET_BUFFER_LIST,
    last: *mut NET_BUFFER_LIST,
    count: u32,
}

// SAFETY: the lists are owned, and may be used on any processor.
unsafe impl Send for ReceiveChain {}

impl ReceiveChain {
    /// None.
    pub const fn new() -> ReceiveChain {
        ReceiveChain {
            first: core::ptr::null_mut(),
            last: core::ptr::null_mut(),
            count: 0,
        }
    }

    /// How many.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts one at the end.
    pub fn push(&mut self, list: ReceiveList) {
        let list = list.into_raw();
        // SAFETY: the list is ours.
        unsafe { (*list).Next = core::ptr::null_mut() };
        // SAFETY: null or the last list of this chain, which is ours.
        match unsafe { self.last.as_mut() } {
            Some(last) => last.Next = list,
            None => self.first = list,
        }
        self.last = list;
        self.count = self.count.saturating_add(1);
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<ReceiveList> {
        let list = NonNull::new(self.first)?;
        // SAFETY: a list of this chain, which is ours.
        self.first = unsafe { (*list.as_ptr()).Next };
        if self.first.is_null() {
            self.last = core::ptr::null_mut();
        }
        self.count = self.count.saturating_sub(1);
        Some(ReceiveList { list })
    }

    /// Gives all to NDIS; they come back by [`Miniport::returned`](crate::Miniport::returned). DISPATCH_LEVEL, no lock
    /// held.
    ///
    /// Neither NDIS_RECEIVE_FLAGS_PERFECT_FILTERED nor _SINGLE_QUEUE is said. The first promises that every frame is one
    /// of the packet filter's and the multicast list's, so that NDIS does not look itself: frames may be under way
    /// while either changes, and a provider of the VIF interface may pass more groups than the list has. The second
    /// is about queues of virtual machines (Learn, "VMQ Receive Path"), which there are none of here.
    pub fn indicate(self, adapter: Adapter) {
        let (first, count) = (self.first, self.count);
        core::mem::forget(self);
        if count != 0 {
            // SAFETY: the lists are this miniport's, chained, and NDIS' from here on.
            unsafe {
                NdisMIndicateReceiveNetBufferLists(
                    adapter.as_ptr(),
                    first,
                    NDIS_DEFAULT_PORT_NUMBER,
                    count,
                    NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL,
                );
            }
        }
    }

    /// Shows all to NDIS, which may copy and must not keep them: they are the caller's again. DISPATCH_LEVEL, no lock held.
    pub fn lend(self, adapter: Adapter) -> ReceiveChain {
        if self.count != 0 {
            // SAFETY: as above, but the lists stay the miniport's, as the flag says.
            unsafe {
                NdisMIndicateReceiveNetBufferLists(
                    adapter.as_ptr(),
                    self.first,
                    NDIS_DEFAULT_PORT_NUMBER,
                    self.count,
                    NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL | NDIS_RECEIVE_FLAGS_RESOURCES,
                );
            }
        }
        self
    }
}

impl Default for ReceiveChain {
    fn default() -> Self {
        ReceiveChain::new()
    }
}

impl Drop for ReceiveChain {
    fn drop(&mut self) {
        while let Some(list) = self.pop() {
            drop(list);
        }
    }
}

/// Lists that came back.
#[derive(Debug)]
pub struct Returned(ReceiveChain);

impl Returned {
    /// # Safety
    /// Null or a chain of lists that this miniport indicated and NDIS gave back, used through this value only.
    pub(crate) unsafe fn new(first: *mut NET_BUFFER_LIST) -> Returned {
        Returned(ReceiveChain {
            first,
            last: first,
            count: 0,
        })
    }

    /// Takes the next.
    pub fn take(&mut self) -> Option<ReceiveList> {
        self.0.pop()
    }
}
