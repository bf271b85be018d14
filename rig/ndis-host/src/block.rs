//! The memory of a NET_BUFFER_LIST and of a NET_BUFFER, with what NDIS notes beside them.
//!
//! ```text
//!   Block │ NET_BUFFER_LIST │ magic, pool, holder, what it looked like │ Buffer │ NET_BUFFER │ magic, pool │ context
//! ```
//! A pool uses its blocks again and again. While nobody has one it is filled with a pattern, so that a late write shows.

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use nt_host::mm::pool as memory;
use nt_host::verifier::Rule;
use nt_sys::MDL;
use nt_sys::ndis::{NET_BUFFER, NET_BUFFER_LIST, NET_BUFFER_LIST_CONTEXT};

use crate::adapter::Adapter;
use crate::large::Large;
use crate::pool::Pool;
use crate::seen::Seen;

/// Who has a list.
pub mod holder {
    /// Nobody: it lies in its pool.
    pub const POOL: u32 = 0;
    /// Whoever allocated it.
    pub const MAKER: u32 = 1;
    /// A miniport, to send it.
    pub const SENDER: u32 = 2;
    /// A protocol, which received it.
    pub const RECEIVER: u32 = 3;
}

const LIST: usize = 0x7473_694c_7366_7542;
const BUFFER: usize = 0x7265_6666_7542_654e;
/// What fills a list that nobody has.
const DEAD: u8 = 0xDD;
/// The alignment of contexts (MEMORY_ALLOCATION_ALIGNMENT).
const ALIGNMENT: usize = 16;

/// A NET_BUFFER with its notes; its address is the NET_BUFFER's.
#[repr(C)]
pub struct Buffer {
    /// The miniport's view.
    pub nb: NET_BUFFER,
    magic: usize,
    /// The pool of NET_BUFFERs that it came from; none for one that belongs to a list.
    pub pool: Option<&'static Pool>,
    /// Its own data, where its pool makes them: an MDL and memory.
    pub own: Own,
}

/// A NET_BUFFER_LIST with its notes; its address is the NET_BUFFER_LIST's.
#[repr(C)]
pub struct Block {
    /// The miniport's view.
    pub nbl: NET_BUFFER_LIST,
    magic: usize,
    /// The pool it came from.
    pub pool: &'static Pool,
    holder: AtomicU32,
    /// The adapter whose miniport or protocol has it.
    adapter: AtomicPtr<Adapter>,
    /// What it looked like when it was handed over.
    pub seen: Seen,
    /// What was asked of a large send.
    pub large: Large,
    /// Where it was in a list of them, for whoever has to walk that again.
    pub bytes: u32,
    /// What is a protocol's own about it.
    pub tag: u64,
    /// Memory of a frame to be sent, for lists of the host's own.
    pub frame: Option<crate::packet::Memory>,
    /// A context beyond the pool's usual size.
    extra: Option<NonNull<u8>>,
    /// The list's own NET_BUFFER.
    pub buffer: Buffer,
}

/// An MDL and memory that belong to a NET_BUFFER.
#[derive(Default)]
pub struct Own {
    /// The MDL and the memory behind it.
    pub data: Option<NonNull<u8>>,
}

impl Buffer {
    /// The NET_BUFFER of a pool of them that a miniport names.
    pub fn of<'a>(nb: *mut NET_BUFFER, function: &str) -> &'a mut Self {
        let buffer = nb.cast::<Self>();
        // SAFETY: NET_BUFFERs of NDIS lie in one of these. Any other pointer is a bug of the miniport, which the magic
        // number finds as long as the memory is readable at all.
        if nb.is_null() || !buffer.is_aligned() || unsafe { (*buffer).magic } != BUFFER {
            Rule::NblInvalid.breach(format_args!(
                "{function}: {nb:p} is no NET_BUFFER of NDIS, or was freed"
            ));
        }
        // SAFETY: as above; the caller's miniport has it.
        unsafe { &mut *buffer }
    }

    /// Lays it over a chain of MDLs.
    ///
    /// # Safety
    /// `chain` is null or a chain of MDLs.
    pub unsafe fn describe(&mut self, chain: *mut MDL, offset: u32, length: u32) {
        // SAFETY: all zero is valid for numbers and null pointers.
        self.nb = unsafe { core::mem::zeroed() };
        self.nb.MdlChain = chain;
        self.nb.DataOffset = offset;
        self.nb.DataLength = length;
        // SAFETY: the caller's promise.
        let (mdl, rest) = unsafe { crate::data::locate(chain, offset) };
        self.nb.CurrentMdl = mdl;
        self.nb.CurrentMdlOffset = rest;
    }

    fn live(&mut self, pool: Option<&'static Pool>) {
        self.magic = BUFFER;
        self.pool = pool;
        // SAFETY: all zero is valid for numbers and null pointers.
        self.nb = unsafe { core::mem::zeroed() };
    }

    fn bytes(&mut self) -> &mut [u8; size_of::<NET_BUFFER>()] {
        // SAFETY: the NET_BUFFER's own bytes, of which any are valid.
        unsafe { &mut *(&raw mut self.nb).cast() }
    }

    /// A fresh one from a pool of NET_BUFFERs.
    pub fn allocate(pool: &'static Pool) -> Option<NonNull<Self>> {
        let memory = memory::allocate(size_of::<Self>(), *b"NdNb")?.cast::<Self>();
        let fresh = Self {
            // SAFETY: all zero is valid for numbers and null pointers.
            nb: unsafe { core::mem::zeroed() },
            magic: 0,
            pool: Some(pool),
            own: Own::default(),
        };
        // SAFETY: fresh memory of that size, aligned to 16.
        unsafe { memory.write(fresh) };
        // SAFETY: as above.
        unsafe { (*memory.as_ptr()).retire() };
        Some(memory)
    }

    /// Somebody has it from now on.
    pub fn revive(&mut self) {
        if *self.bytes() != [DEAD; size_of::<NET_BUFFER>()] {
            touched("NET_BUFFER", (&raw const self.nb) as usize, self.pool);
        }
        self.live(self.pool);
    }

    /// Nobody has it from now on.
    pub fn retire(&mut self) {
        self.magic = 0;
        self.bytes().fill(DEAD);
    }
}

#[cold]
fn touched(what: &str, at: usize, pool: Option<&'static Pool>) -> ! {
    let start = pool.map_or(0, Pool::driver_start);
    Rule::NblTouched.breach_of(
        start,
        format_args!("wrote {what} {at:#x} after it was freed"),
    )
}

impl Block {
    /// The list that a miniport names; anything else is a bug of the miniport.
    #[inline]
    pub fn of(nbl: *mut NET_BUFFER_LIST, function: &str) -> NonNull<Self> {
        let block = nbl.cast::<Self>();
        match NonNull::new(block) {
            // SAFETY: lists of NDIS lie in blocks. Any other pointer is a bug of the miniport, which the magic number finds
            // as long as the memory is readable at all.
            Some(found) if block.is_aligned() && unsafe { (*block).magic } == LIST => found,
            _ => Rule::NblInvalid.breach(format_args!(
                "{function}: {nbl:p} is no NET_BUFFER_LIST of NDIS, or was freed"
            )),
        }
    }

    /// Fresh memory for a list of a pool, with room for its contexts.
    pub fn allocate(pool: &'static Pool) -> Option<NonNull<Self>> {
        let size = size_of::<Self>() + size_of::<NET_BUFFER_LIST_CONTEXT>() + pool.context_room();
        let memory = memory::allocate(size, *b"NdLs")?.cast::<Self>();
        // SAFETY: all zero is valid for numbers and null pointers.
        let (nbl, nb) = unsafe { core::mem::zeroed() };
        let fresh = Self {
            nbl,
            magic: 0,
            pool,
            holder: AtomicU32::new(holder::POOL),
            adapter: AtomicPtr::new(null_mut()),
            seen: Seen::default(),
            large: Large::default(),
            bytes: 0,
            tag: 0,
            frame: None,
            extra: None,
            buffer: Buffer {
                nb,
                magic: 0,
                pool: None,
                own: Own::default(),
            },
        };
        // SAFETY: fresh memory of that size, aligned to 16.
        unsafe { memory.write(fresh) };
        // SAFETY: as above.
        unsafe { (*memory.as_ptr()).retire() };
        Some(memory)
    }

    fn list_bytes(&mut self) -> &mut [u8; size_of::<NET_BUFFER_LIST>()] {
        // SAFETY: the list's own bytes, of which any are valid.
        unsafe { &mut *(&raw mut self.nbl).cast() }
    }

    /// Nobody has it from now on.
    pub fn retire(&mut self) {
        if let Some(extra) = self.extra.take() {
            // SAFETY: allocated by `add_context`, and nobody has the list any more.
            unsafe { memory::free(extra) };
        }
        self.holder.store(holder::POOL, Ordering::Release);
        self.magic = 0;
        self.list_bytes().fill(DEAD);
        self.buffer.retire();
    }

    /// Somebody has it from now on, as an empty list; with a NET_BUFFER of its own if the pool gives one.
    pub fn revive(&mut self) {
        if *self.list_bytes() != [DEAD; size_of::<NET_BUFFER_LIST>()] {
            touched(
                "NET_BUFFER_LIST",
                (&raw const self.nbl) as usize,
                Some(self.pool),
            );
        }
        if *self.buffer.bytes() != [DEAD; size_of::<NET_BUFFER>()] {
            let at = (&raw const self.buffer.nb) as usize;
            touched("NET_BUFFER", at, Some(self.pool));
        }
        self.magic = LIST;
        // SAFETY: all zero is valid for numbers and null pointers.
        self.nbl = unsafe { core::mem::zeroed() };
        self.nbl.NdisPoolHandle = self.pool.handle();
        self.tag = 0;
        if self.pool.gives_buffers() {
            self.buffer.live(None);
            self.nbl.FirstNetBuffer = &raw mut self.buffer.nb;
        }
        self.holder.store(holder::MAKER, Ordering::Release);
    }

    /// Puts a context of so many bytes in front, in room for `back_fill` more. Sizes are multiples of 16.
    pub fn add_context(&mut self, size: u16, back_fill: u16) -> bool {
        let bytes = usize::from(size) + usize::from(back_fill);
        if bytes == 0 {
            return true;
        }
        let usual = (&raw mut *self)
            .wrapping_add(1)
            .cast::<NET_BUFFER_LIST_CONTEXT>();
        let context = if bytes <= self.pool.context_room() && self.nbl.Context.is_null() {
            usual
        } else {
            let whole = size_of::<NET_BUFFER_LIST_CONTEXT>() + bytes;
            let (None, Some(extra)) = (self.extra, memory::allocate(whole, *b"NdCx")) else {
                return false;
            };
            self.extra = Some(extra);
            extra.as_ptr().cast()
        };
        // SAFETY: the room behind the block, or fresh memory; any bytes are valid.
        let header = unsafe { &mut *context };
        header.Next = self.nbl.Context;
        header.Size = size.saturating_add(back_fill);
        header.Offset = back_fill;
        self.nbl.Context = context;
        true
    }

    /// Who has it.
    pub fn holder(&self) -> u32 {
        self.holder.load(Ordering::Acquire)
    }

    /// Passes it on from one holder to the next; `false` when it is with another.
    #[inline]
    pub fn pass(&self, from: u32, to: u32, adapter: &'static Adapter) -> bool {
        let passed = self
            .holder
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        if passed.is_ok() {
            self.adapter
                .store(core::ptr::from_ref(adapter).cast_mut(), Ordering::Relaxed);
        }
        passed.is_ok()
    }

    /// Whether an adapter's miniport or protocol had it last.
    pub fn is_of(&self, adapter: &'static Adapter) -> bool {
        core::ptr::eq(self.adapter.load(Ordering::Relaxed), adapter)
    }
}

/// Whether a size of a context is one that NDIS takes.
pub fn is_context_size(size: u16) -> bool {
    usize::from(size).is_multiple_of(ALIGNMENT)
}

/// Who has a list, for people.
pub fn holder_text(of: u32) -> &'static str {
    match of {
        holder::POOL => "was freed",
        holder::MAKER => "is its own",
        holder::SENDER => "it was given to send",
        _ => "was indicated and has not come back",
    }
}
