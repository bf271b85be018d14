//! Pools of NET_BUFFER_LISTs and of NET_BUFFERs.

use alloc::vec::Vec;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering};

use nt_host::exports;
use nt_host::ke::processor;
use nt_host::mm::pool as memory;
use nt_host::sync::Mutex;
use nt_host::verifier::Rule;
use nt_sys::MDL;
use nt_sys::ndis::{
    NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1, NET_BUFFER, NET_BUFFER_LIST,
    NET_BUFFER_LIST_POOL_PARAMETERS,
};

use crate::adapter::Adapter;
use crate::attributes::header;
use crate::block::{self, Block, Buffer, holder, holder_text};
use crate::handle::Handles;
use crate::{data, registration};

/// What NdisAllocateNetBufferPool is given (ndis.h).
#[repr(C)]
pub struct NET_BUFFER_POOL_PARAMETERS {
    Header: NDIS_OBJECT_HEADER,
    PoolTag: u32,
    DataSize: u32,
}

/// What a pool gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// Lists, perhaps with a NET_BUFFER each.
    Lists { buffers: bool },
    /// NET_BUFFERs.
    Buffers,
}

/// See the module.
pub struct Pool {
    handle: usize,
    /// Whose it is: an adapter's or a driver's handle, or nobody's.
    owner: usize,
    module: u32,
    gives: Gives,
    /// Bytes of context that a list has room for.
    context: usize,
    /// Bytes of data that come with each NET_BUFFER.
    data: u32,
    tag: u32,
    free: Mutex<Vec<usize>>,
    /// How many are not in the pool.
    out: AtomicUsize,
}

static POOLS: Handles<Pool> = Handles::new(3, "a pool");

impl Pool {
    fn open(
        owner: NDIS_HANDLE,
        module: u32,
        gives: Gives,
        context: usize,
        data: u32,
        tag: u32,
    ) -> Option<&'static Self> {
        POOLS.open(|handle| Self {
            handle: handle as usize,
            owner: owner as usize,
            module,
            gives,
            context,
            data,
            tag,
            free: Mutex::new(Vec::new()),
            out: AtomicUsize::new(0),
        })
    }

    /// A pool for the host's own lists, each with a NET_BUFFER.
    pub fn of_host() -> Option<&'static Self> {
        let gives = Gives::Lists { buffers: true };
        Self::open(null_mut(), 0, gives, 0, 0, 0)
    }

    /// What a miniport knows it by.
    pub fn handle(&self) -> NDIS_HANDLE {
        self.handle as NDIS_HANDLE
    }

    /// Whether each list has a NET_BUFFER of its own.
    pub fn gives_buffers(&self) -> bool {
        self.gives == Gives::Lists { buffers: true }
    }

    /// Bytes of context that a list has room for.
    pub fn context_room(&self) -> usize {
        self.context
    }

    /// Where the image of the pool's driver starts; 0 for the host's.
    pub fn driver_start(&self) -> usize {
        let module = nt_host::pe::modules::all().find(|module| module.id == self.module);
        module.map_or(0, |module| module.base())
    }

    /// A list.
    #[inline]
    pub fn take(&'static self) -> Option<NonNull<Block>> {
        let kept = self.free.lock().pop();
        let block = match kept.and_then(|block| NonNull::new(block as *mut Block)) {
            Some(block) => block,
            None => Block::allocate(self)?,
        };
        // SAFETY: a block that nobody has.
        unsafe { (*block.as_ptr()).revive() };
        self.out.fetch_add(1, Ordering::Relaxed);
        Some(block)
    }

    /// A list comes back.
    ///
    /// # Safety
    /// Nobody uses it any more.
    #[inline]
    pub unsafe fn give(&self, block: NonNull<Block>) {
        // SAFETY: the caller's promise.
        let fields = unsafe { &mut *block.as_ptr() };
        data::take_memory(&mut fields.buffer);
        fields.retire();
        self.out.fetch_sub(1, Ordering::Relaxed);
        self.free.lock().push(block.as_ptr() as usize);
    }

    fn take_buffer(&'static self) -> Option<NonNull<Buffer>> {
        let kept = self.free.lock().pop();
        let buffer = match kept.and_then(|buffer| NonNull::new(buffer as *mut Buffer)) {
            Some(buffer) => buffer,
            None => Buffer::allocate(self)?,
        };
        // SAFETY: a NET_BUFFER that nobody has.
        unsafe { (*buffer.as_ptr()).revive() };
        self.out.fetch_add(1, Ordering::Relaxed);
        Some(buffer)
    }

    /// Ends it: whatever came from it must be back.
    fn close(&'static self, function: &str) {
        let out = self.out.load(Ordering::Acquire);
        if out != 0 {
            let what = match self.gives {
                Gives::Lists { .. } => "NET_BUFFER_LISTs",
                Gives::Buffers => "NET_BUFFERs",
            };
            Rule::NblPoolLeak.breach(format_args!(
                "{function}: {out} {what} of pool {:#x} have not been freed",
                self.handle
            ));
        }
        POOLS.close(self.handle(), function);
        for block in core::mem::take(&mut *self.free.lock()) {
            if let Some(block) = NonNull::new(block as *mut u8) {
                // SAFETY: allocated by `Block::allocate` or `Buffer::allocate`, and nobody has it.
                unsafe { memory::free(block) };
            }
        }
    }
}

/// The pools that belong to a handle, for people: one line.
pub fn left_by(owner: NDIS_HANDLE) -> Option<alloc::string::String> {
    let of_owner = |pool: &&Pool| pool.owner == owner as usize;
    let pool = POOLS.all().find(of_owner)?;
    let tag = memory::tag_text(pool.tag.to_le_bytes());
    Some(alloc::format!(
        "a pool with tag {tag} and {} lists or buffers out",
        pool.out.load(Ordering::Relaxed)
    ))
}

/// A handle that a pool may belong to: an adapter's, a driver's, or none.
fn demand_owner(handle: NDIS_HANDLE, function: &str) {
    if !handle.is_null() && Adapter::find(handle).is_none() && !registration::is_driver(handle) {
        Rule::NdisHandle.breach(format_args!(
            "{function}: {handle:p} is no handle of an adapter or a driver, or was closed"
        ));
    }
}

/// Microsoft Learn: NdisAllocateNetBufferListPool.
///
/// # Safety
/// `parameters` is valid as documented.
pub unsafe extern "win64" fn NdisAllocateNetBufferListPool(
    owner: NDIS_HANDLE,
    parameters: *const NET_BUFFER_LIST_POOL_PARAMETERS,
) -> NDIS_HANDLE {
    const NAME: &str = "NdisAllocateNetBufferListPool";
    let module = processor::caller();
    demand_owner(owner, NAME);
    let sizes = [(1, NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1, 0)];
    // SAFETY: the caller's promise.
    unsafe {
        header(
            parameters.cast(),
            "NET_BUFFER_LIST_POOL_PARAMETERS",
            NDIS_OBJECT_TYPE_DEFAULT,
            &sizes,
        )
    };
    // SAFETY: the header says that it is there.
    let asked = unsafe { &*parameters };
    if !block::is_context_size(asked.ContextSize) || asked.PoolTag == 0 {
        Rule::NdisAttributes.breach(format_args!(
            "{NAME}: a context of {} bytes and tag {:#x}; sizes are multiples of 16, tags not 0",
            asked.ContextSize, asked.PoolTag
        ));
    }
    let gives = Gives::Lists {
        buffers: asked.fAllocateNetBuffer != 0,
    };
    let context = usize::from(asked.ContextSize);
    let pool = Pool::open(owner, module, gives, context, asked.DataSize, asked.PoolTag);
    pool.map_or(null_mut(), Pool::handle)
}

fn lists(handle: NDIS_HANDLE, function: &str) -> &'static Pool {
    let pool = POOLS.demand(handle, function);
    match pool.gives {
        Gives::Lists { .. } => pool,
        Gives::Buffers => Rule::NdisHandle.breach(format_args!(
            "{function}: {handle:p} is a pool of NET_BUFFERs, not of lists"
        )),
    }
}

fn buffers(handle: NDIS_HANDLE, function: &str) -> &'static Pool {
    let pool = POOLS.demand(handle, function);
    match pool.gives {
        Gives::Buffers => pool,
        Gives::Lists { .. } => Rule::NdisHandle.breach(format_args!(
            "{function}: {handle:p} is a pool of lists, not of NET_BUFFERs"
        )),
    }
}

/// Microsoft Learn: NdisFreeNetBufferListPool.
pub extern "win64" fn NdisFreeNetBufferListPool(handle: NDIS_HANDLE) {
    const NAME: &str = "NdisFreeNetBufferListPool";
    lists(handle, NAME).close(NAME);
}

fn new_list(
    pool: &'static Pool,
    context: u16,
    back_fill: u16,
    function: &str,
) -> Option<NonNull<Block>> {
    if !block::is_context_size(context) || !block::is_context_size(back_fill) {
        Rule::NdisAttributes.breach(format_args!(
            "{function}: contexts of {context} and {back_fill} bytes are no multiples of 16"
        ));
    }
    let block = pool.take()?;
    // SAFETY: just taken.
    if !unsafe { (*block.as_ptr()).add_context(context, back_fill) } {
        // SAFETY: nobody has seen it.
        unsafe { pool.give(block) };
        return None;
    }
    Some(block)
}

/// Microsoft Learn: NdisAllocateNetBufferAndNetBufferList.
///
/// # Safety
/// `chain` is null or a chain of MDLs.
pub unsafe extern "win64" fn NdisAllocateNetBufferAndNetBufferList(
    handle: NDIS_HANDLE,
    context: u16,
    back_fill: u16,
    chain: *mut MDL,
    offset: u32,
    length: usize,
) -> *mut NET_BUFFER_LIST {
    const NAME: &str = "NdisAllocateNetBufferAndNetBufferList";
    let pool = lists(handle, NAME);
    if !pool.gives_buffers() || pool.data != 0 {
        Rule::NdisHandle.breach(format_args!(
            "{NAME}: the pool was not made with fAllocateNetBuffer, or with DataSize"
        ));
    }
    let Some(block) = new_list(pool, context, back_fill, NAME) else {
        return null_mut();
    };
    // SAFETY: just taken.
    let fields = unsafe { &mut *block.as_ptr() };
    // SAFETY: the caller's promise.
    unsafe { fields.buffer.describe(chain, offset, length as u32) };
    &raw mut fields.nbl
}

/// Microsoft Learn: NdisAllocateNetBufferList. From a pool with DataSize it comes with a NET_BUFFER, an MDL and memory.
pub extern "win64" fn NdisAllocateNetBufferList(
    handle: NDIS_HANDLE,
    context: u16,
    back_fill: u16,
) -> *mut NET_BUFFER_LIST {
    const NAME: &str = "NdisAllocateNetBufferList";
    let pool = lists(handle, NAME);
    let Some(block) = new_list(pool, context, back_fill, NAME) else {
        return null_mut();
    };
    // SAFETY: just taken.
    let fields = unsafe { &mut *block.as_ptr() };
    if pool.data != 0 && pool.gives_buffers() && !data::give_memory(&mut fields.buffer, pool.data) {
        // SAFETY: nobody has seen it.
        unsafe { pool.give(block) };
        return null_mut();
    }
    &raw mut fields.nbl
}

/// Microsoft Learn: NdisFreeNetBufferList.
///
/// # Safety
/// `nbl` is the caller's.
pub unsafe extern "win64" fn NdisFreeNetBufferList(nbl: *mut NET_BUFFER_LIST) {
    const NAME: &str = "NdisFreeNetBufferList";
    let block = Block::of(nbl, NAME);
    // SAFETY: `of` found it to be a block.
    let fields = unsafe { block.as_ref() };
    let has = fields.holder();
    if has != holder::MAKER {
        Rule::NblFreedInUse.breach(format_args!("{NAME}: list {nbl:p} {}", holder_text(has)));
    }
    if fields.frame.is_some() {
        Rule::NblFreedInUse.breach(format_args!("{NAME}: list {nbl:p} is not the caller's"));
    }
    let pool = fields.pool;
    // SAFETY: the caller gives it up.
    unsafe { pool.give(block) };
}

/// Microsoft Learn: NdisAllocateNetBufferPool.
///
/// # Safety
/// `parameters` is valid as documented.
pub unsafe extern "win64" fn NdisAllocateNetBufferPool(
    owner: NDIS_HANDLE,
    parameters: *const NET_BUFFER_POOL_PARAMETERS,
) -> NDIS_HANDLE {
    const NAME: &str = "NdisAllocateNetBufferPool";
    let module = processor::caller();
    demand_owner(owner, NAME);
    let sizes = [(1, size_of::<NET_BUFFER_POOL_PARAMETERS>() as u16, 0)];
    // SAFETY: the caller's promise.
    unsafe {
        header(
            parameters.cast(),
            "NET_BUFFER_POOL_PARAMETERS",
            NDIS_OBJECT_TYPE_DEFAULT,
            &sizes,
        )
    };
    // SAFETY: the header says that it is there.
    let asked = unsafe { &*parameters };
    let pool = Pool::open(
        owner,
        module,
        Gives::Buffers,
        0,
        asked.DataSize,
        asked.PoolTag,
    );
    pool.map_or(null_mut(), Pool::handle)
}

/// Microsoft Learn: NdisFreeNetBufferPool.
pub extern "win64" fn NdisFreeNetBufferPool(handle: NDIS_HANDLE) {
    const NAME: &str = "NdisFreeNetBufferPool";
    buffers(handle, NAME).close(NAME);
}

/// Microsoft Learn: NdisAllocateNetBuffer.
///
/// # Safety
/// `chain` is null or a chain of MDLs.
pub unsafe extern "win64" fn NdisAllocateNetBuffer(
    handle: NDIS_HANDLE,
    chain: *mut MDL,
    offset: u32,
    length: usize,
) -> *mut NET_BUFFER {
    let pool = buffers(handle, "NdisAllocateNetBuffer");
    let Some(buffer) = pool.take_buffer() else {
        return null_mut();
    };
    // SAFETY: just taken.
    let fields = unsafe { &mut *buffer.as_ptr() };
    // SAFETY: the caller's promise.
    unsafe { fields.describe(chain, offset, length as u32) };
    fields.nb.NdisPoolHandle = handle;
    &raw mut fields.nb
}

/// Microsoft Learn: NdisAllocateNetBufferMdlAndData.
pub extern "win64" fn NdisAllocateNetBufferMdlAndData(handle: NDIS_HANDLE) -> *mut NET_BUFFER {
    let pool = buffers(handle, "NdisAllocateNetBufferMdlAndData");
    let Some(buffer) = pool.take_buffer() else {
        return null_mut();
    };
    // SAFETY: just taken.
    let fields = unsafe { &mut *buffer.as_ptr() };
    if !data::give_memory(fields, pool.data) {
        free_buffer(pool, fields);
        return null_mut();
    }
    fields.nb.NdisPoolHandle = handle;
    &raw mut fields.nb
}

fn free_buffer(pool: &'static Pool, buffer: &mut Buffer) {
    data::take_memory(buffer);
    buffer.retire();
    pool.out.fetch_sub(1, Ordering::Relaxed);
    pool.free.lock().push(core::ptr::from_mut(buffer) as usize);
}

/// Microsoft Learn: NdisFreeNetBuffer.
///
/// # Safety
/// `nb` is the caller's.
pub unsafe extern "win64" fn NdisFreeNetBuffer(nb: *mut NET_BUFFER) {
    const NAME: &str = "NdisFreeNetBuffer";
    let buffer = Buffer::of(nb, NAME);
    match buffer.pool {
        Some(pool) => free_buffer(pool, buffer),
        None => {
            Rule::NblFreedInUse.breach(format_args!("{NAME}: {nb:p} belongs to a NET_BUFFER_LIST"))
        }
    }
}

exports!("ndis.sys": NdisAllocateNetBufferListPool, NdisFreeNetBufferListPool,
    NdisAllocateNetBufferAndNetBufferList, NdisAllocateNetBufferList, NdisFreeNetBufferList,
    NdisAllocateNetBufferPool, NdisFreeNetBufferPool, NdisAllocateNetBuffer, NdisAllocateNetBufferMdlAndData,
    NdisFreeNetBuffer);
