//! Pool: tagged allocations with an owner, checked on every free.
//!
//! ```text
//!   small (one of CLASSES):  | header 32 | body ... | red zone >= 16 |      several in a page
//!   large:                   | body, page aligned ... | red zone |           whole pages, header kept aside
//! ```
//!
//! Fresh memory is filled with 0xA5, so that reads of what was never written show; freed memory with 0xDD, checked
//! before it is given out again, so that writes after a free show. The oldest free block is used first, which leaves
//! the longest time for such a write to happen.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::NonNull;

use super::{PAGE_SIZE, frames};
use crate::exports;
use crate::ke::bugcheck;
use crate::ke::processor::{self, Counters};
use crate::sync::Mutex;
use crate::verifier::{Rule, freed, quarantine, shared};

/// A pool tag; its bytes as they appear in memory.
pub type Tag = [u8; 4];

#[repr(C, align(16))]
struct Header {
    magic: u32,
    tag: Tag,
    /// The module that allocated it (0: the executive).
    owner: u32,
    class: u32,
    /// Size of the body in bytes.
    size: usize,
    check: usize,
}

const HEADER: usize = size_of::<Header>();
const LIVE: u32 = 0x6c6f_6f70;
const FREED: u32 = 0x6565_7266;
const RED_ZONE: usize = 16;
const RED: u8 = 0xBD;
const FRESH: u8 = 0xA5;
const DEAD: u8 = 0xDD;

/// Sizes of small blocks in bytes, header and red zone included.
const CLASSES: [usize; 10] = [64, 96, 128, 192, 256, 384, 512, 1008, 1360, 2048];

struct Class {
    free: VecDeque<Block>,
    pages: Vec<frames::Frame>,
}

#[derive(Clone, Copy)]
struct Block(NonNull<Header>);
// SAFETY: a free block belongs to the pool, which is behind a lock.
unsafe impl Send for Block {}

static SMALL: [Mutex<Class>; CLASSES.len()] = [const {
    Mutex::new(Class {
        free: VecDeque::new(),
        pages: Vec::new(),
    })
}; CLASSES.len()];

#[derive(Clone, Copy)]
struct Large {
    tag: Tag,
    owner: u32,
    size: usize,
    pages: usize,
}

static LARGE: Mutex<BTreeMap<usize, Large>> = Mutex::new(BTreeMap::new());

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// No allocation starts at the address.
    NotAllocated,
    /// It was freed before.
    DoubleFree,
    /// Bytes behind its end were written.
    Overrun,
    /// Bytes before its start were written.
    Underrun,
    /// The tag of the free is not that of the allocation.
    WrongTag,
}

/// One allocation, in a leak list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Where its body starts.
    pub address: usize,
    /// Size of the body in bytes.
    pub size: usize,
    /// Its tag.
    pub tag: Tag,
}

/// Memory for the executive itself, filled with 0xA5; 16-byte aligned, page-aligned from a page on.
pub fn allocate(size: usize, tag: Tag) -> Option<NonNull<u8>> {
    allocate_for(0, size, tag)
}

/// As [`allocate`], zeroed.
pub fn allocate_zeroed(size: usize, tag: Tag) -> Option<NonNull<u8>> {
    let memory = allocate(size, tag)?;
    // SAFETY: the allocation is `size` bytes long.
    unsafe { memory.write_bytes(0, size) };
    Some(memory)
}

/// Memory owned by module `owner`.
pub fn allocate_for(owner: u32, size: usize, tag: Tag) -> Option<NonNull<u8>> {
    let needed = size.checked_add(HEADER + RED_ZONE)?;
    match CLASSES.iter().position(|&class| class >= needed) {
        Some(class) if size < PAGE_SIZE => allocate_small(class, owner, size, tag),
        _ => allocate_large(owner, size, tag),
    }
}

fn allocate_small(class: usize, owner: u32, size: usize, tag: Tag) -> Option<NonNull<u8>> {
    let block = {
        let mut pool = SMALL[class].lock();
        if pool.free.is_empty() {
            pool.grow(class)?;
        }
        pool.free.pop_front()?
    };
    let body = body_of(block.0);
    let room = CLASSES[class] - HEADER;
    // SAFETY: the block is free and `room` bytes long behind its header.
    let bytes = unsafe { core::slice::from_raw_parts_mut(body.as_ptr(), room) };
    if let Some(at) = bytes.iter().position(|&byte| byte != DEAD) {
        // SAFETY: the block is the pool's; its header still names the last owner.
        let last = unsafe { block.0.as_ref() };
        Rule::PoolWriteAfterFree.bug_check(
            [
                body.as_ptr() as u64 + at as u64,
                u64::from(last.owner),
                last.size as u64,
                0,
            ],
            format_args!(
                "pool block {body:p} (last tag '{}', {} bytes) was written at +{at:#x} after it was freed",
                tag_text(last.tag),
                last.size,
            ),
        );
    }
    bytes[..size].fill(FRESH);
    bytes[size..].fill(RED);
    let header = Header {
        magic: LIVE,
        tag,
        owner,
        class: class as u32,
        size,
        check: check(size, owner),
    };
    // SAFETY: the block is the pool's and starts with room for a header.
    unsafe { block.0.write(header) };
    Some(body)
}

impl Class {
    fn grow(&mut self, class: usize) -> Option<()> {
        let page = frames::allocate(1)?;
        let start = frames::address(page);
        // SAFETY: the frame was just allocated and is a page long.
        unsafe { start.write_bytes(DEAD, PAGE_SIZE) };
        for index in 0..PAGE_SIZE / CLASSES[class] {
            // SAFETY: the block lies within the page.
            let block = unsafe { start.add(index * CLASSES[class]) }.cast::<Header>();
            let header = Header {
                magic: FREED,
                tag: [0; 4],
                owner: 0,
                class: 0,
                size: 0,
                check: 0,
            };
            // SAFETY: the page is ours and the block is as long as a header at least.
            unsafe { block.write(header) };
            self.free.push_back(Block(block));
        }
        self.pages.push(page);
        Some(())
    }
}

fn allocate_large(owner: u32, size: usize, tag: Tag) -> Option<NonNull<u8>> {
    let pages = size.checked_add(RED_ZONE)?.div_ceil(PAGE_SIZE);
    let start = frames::address(frames::allocate(pages as u64)?);
    // SAFETY: the frames were just allocated.
    unsafe { start.write_bytes(FRESH, size) };
    // SAFETY: the allocation spans `pages` pages, which hold more than `size` bytes.
    let tail = unsafe { start.add(size) };
    // SAFETY: the rest of the last page belongs to the allocation.
    unsafe { tail.write_bytes(RED, pages * PAGE_SIZE - size) };
    LARGE.lock().insert(
        start.as_ptr() as usize,
        Large {
            tag,
            owner,
            size,
            pages,
        },
    );
    Some(start)
}

fn body_of(header: NonNull<Header>) -> NonNull<u8> {
    // SAFETY: a block is longer than its header.
    unsafe { header.cast::<u8>().add(HEADER) }
}

/// Ties a header to its contents, so that a stray write into it shows.
fn check(size: usize, owner: u32) -> usize {
    size ^ ((owner as usize) << 32) ^ 0x5a5a_1234_8765_a5a5
}

/// Frees an allocation.
///
/// # Safety
/// `memory` came from this pool, and nothing uses it any more.
pub unsafe fn free(memory: NonNull<u8>) {
    if let Err(error) = try_free(memory, None) {
        refuse(memory, error);
    }
}

/// Frees an allocation if every check holds; `tag` is that of the free, if it has one.
pub fn try_free(memory: NonNull<u8>, tag: Option<Tag>) -> Result<(), PoolError> {
    let address = memory.as_ptr() as usize;
    if address.is_multiple_of(PAGE_SIZE) {
        return free_large(memory, tag);
    }
    let start = address.wrapping_sub(HEADER);
    let frame = frames::frame_of(start).ok_or(PoolError::NotAllocated)?;
    if !start.is_multiple_of(16) || frame < frames::FIRST {
        return Err(PoolError::NotAllocated);
    }
    if !crate::host::platform().readable(start as u64, HEADER) {
        return Err(PoolError::NotAllocated);
    }
    let block = NonNull::new(start as *mut Header).ok_or(PoolError::NotAllocated)?;
    // SAFETY: the memory is readable RAM in the physical view and aligned; any bytes are a valid header.
    let header = unsafe { block.read() };
    match header.magic {
        LIVE => {}
        FREED => return Err(PoolError::DoubleFree),
        _ => return Err(PoolError::NotAllocated),
    }
    if header.check != check(header.size, header.owner) {
        return Err(PoolError::Underrun);
    }
    let class = header.class as usize;
    let room = CLASSES.get(class).ok_or(PoolError::Underrun)? - HEADER;
    // SAFETY: the header's check holds, so this is a live block of that class.
    let bytes = unsafe { core::slice::from_raw_parts_mut(memory.as_ptr(), room) };
    if bytes[header.size..].iter().any(|&byte| byte != RED) {
        return Err(PoolError::Overrun);
    }
    if tag.is_some_and(|tag| tag != header.tag) {
        return Err(PoolError::WrongTag);
    }
    freed::check(address, header.size);
    bytes.fill(DEAD);
    // SAFETY: the block is live and ours to change: its owner has just given it up.
    unsafe {
        block.write(Header {
            magic: FREED,
            ..header
        })
    };
    SMALL[class].lock().free.push_back(Block(block));
    Ok(())
}

/// Memory for `owner` with pages of its own, for [`free_late`].
pub fn allocate_apart(owner: u32, size: usize, tag: Tag) -> Option<NonNull<u8>> {
    let size = (size + RED_ZONE).next_multiple_of(PAGE_SIZE) - RED_ZONE;
    allocate_large(owner, size, tag)
}

/// Frees what [`allocate_apart`] made, which was `what`; whoever touches it now breaks `rule`.
///
/// # Safety
/// `memory` came from [`allocate_apart`], and nothing uses it any more.
pub unsafe fn free_late(memory: NonNull<u8>, what: &'static str, rule: Rule) {
    match take_large(memory, None) {
        Ok((first, pages)) => quarantine::put(first, pages, what, rule),
        Err(error) => refuse(memory, error),
    }
}

fn free_large(memory: NonNull<u8>, tag: Option<Tag>) -> Result<(), PoolError> {
    let (first, pages) = take_large(memory, tag)?;
    frames::free(first, pages as u64);
    Ok(())
}

/// Ends a large allocation; its frames, which are still in use, and how many they are.
fn take_large(memory: NonNull<u8>, tag: Option<Tag>) -> Result<(frames::Frame, usize), PoolError> {
    let address = memory.as_ptr() as usize;
    let large = {
        let mut pool = LARGE.lock();
        let large = *pool.get(&address).ok_or(PoolError::NotAllocated)?;
        if tag.is_some_and(|tag| tag != large.tag) {
            return Err(PoolError::WrongTag);
        }
        pool.remove(&address);
        large
    };
    // SAFETY: the allocation is live and spans `pages` pages.
    let bytes =
        unsafe { core::slice::from_raw_parts_mut(memory.as_ptr(), large.pages * PAGE_SIZE) };
    if bytes[large.size..].iter().any(|&byte| byte != RED) {
        return Err(PoolError::Overrun);
    }
    freed::check(address, large.size);
    let frame = frames::frame_of(address).ok_or(PoolError::NotAllocated)?;
    if large.owner != 0 {
        let pages = frame..frame + large.pages as u64;
        shared::freed("pool", |frame| pages.contains(&frame));
    }
    bytes.fill(DEAD);
    Ok((frame, large.pages))
}

/// What module `owner` has allocated and not freed.
pub fn allocations(owner: u32) -> Vec<Allocation> {
    let mut found = Vec::new();
    for (class, pool) in SMALL.iter().enumerate() {
        let pool = pool.lock();
        for &page in &pool.pages {
            for index in 0..PAGE_SIZE / CLASSES[class] {
                // SAFETY: the block lies within a page of this class.
                let block =
                    unsafe { frames::address(page).add(index * CLASSES[class]) }.cast::<Header>();
                // SAFETY: every block of a class starts with a header.
                let header = unsafe { block.read() };
                if header.magic == LIVE && header.owner == owner {
                    let address = body_of(block).as_ptr() as usize;
                    found.push(Allocation {
                        address,
                        size: header.size,
                        tag: header.tag,
                    });
                }
            }
        }
    }
    let large = LARGE.lock();
    found.extend(large.iter().filter(|(_, large)| large.owner == owner).map(
        |(&address, large)| Allocation {
            address,
            size: large.size,
            tag: large.tag,
        },
    ));
    found
}

/// The module that has allocated pool in a frame, if one has.
pub fn owner_of(frame: frames::Frame) -> Option<u32> {
    let address = frames::address(frame).as_ptr() as usize;
    let large = LARGE.lock();
    let found = large.range(..=address).next_back();
    let is_there = |(start, large): &(&usize, &Large)| address - *start < large.pages * PAGE_SIZE;
    found.filter(is_there).map(|(_, large)| large.owner)
}

/// A tag as text; what does not print is a dot.
pub fn tag_text(tag: Tag) -> String {
    tag.iter()
        .map(|&byte| {
            if byte.is_ascii_graphic() || byte == b' ' {
                byte as char
            } else {
                '.'
            }
        })
        .collect()
}

fn refuse(memory: NonNull<u8>, error: PoolError) -> ! {
    let (rule, what) = match error {
        PoolError::NotAllocated => (Rule::PoolNotAllocated, "which is no pool allocation"),
        PoolError::DoubleFree => (Rule::PoolDoubleFree, "which was freed before"),
        PoolError::Overrun => (Rule::PoolOverrun, "which was written beyond its end"),
        PoolError::Underrun => (Rule::PoolUnderrun, "whose header was overwritten"),
        PoolError::WrongTag => (Rule::PoolWrongTag, "with another tag than it was made with"),
    };
    let address = memory.as_ptr() as u64;
    rule.bug_check(
        [address, 0, 0, 0],
        format_args!("frees pool {memory:p}, {what}"),
    )
}

// POOL_TYPE (wdm.h): the bits that matter here.
const PAGED_POOL: i32 = 1;

/// Microsoft Learn: ExAllocatePoolWithTag. All pool is nonpaged and not executable here; paged pool keeps its rule,
/// APC_LEVEL at most.
pub extern "win64" fn ExAllocatePoolWithTag(kind: i32, size: usize, tag: u32) -> *mut c_void {
    let owner = processor::caller();
    let limit = if kind & PAGED_POOL != 0 {
        nt_sys::APC_LEVEL
    } else {
        nt_sys::DISPATCH_LEVEL
    };
    bugcheck::irql_at_most("ExAllocatePoolWithTag", limit);
    if size == 0 {
        Rule::PoolZeroSize.breach(format_args!("allocates pool of no bytes"));
    }
    Counters::count(&processor::current().counters.allocations);
    let memory = allocate_for(owner, size, tag.to_le_bytes());
    memory.map_or(core::ptr::null_mut(), |memory| memory.as_ptr().cast())
}

/// Microsoft Learn: ExAllocatePoolWithQuotaTag; raises no exception, as with POOL_QUOTA_FAIL_INSTEAD_OF_RAISE.
pub extern "win64" fn ExAllocatePoolWithQuotaTag(kind: i32, size: usize, tag: u32) -> *mut c_void {
    ExAllocatePoolWithTag(kind, size, tag)
}

/// Microsoft Learn: ExFreePoolWithTag. A tag of 0 matches every allocation.
///
/// # Safety
/// Nothing uses the allocation any more.
pub unsafe extern "win64" fn ExFreePoolWithTag(memory: *mut c_void, tag: u32) {
    let tag = (tag != 0).then_some(tag.to_le_bytes());
    let Some(memory) = NonNull::new(memory.cast::<u8>()) else {
        Rule::PoolNotAllocated.bug_check([0x46, 0, 0, 0], format_args!("frees a null pointer"));
    };
    if let Err(error) = try_free(memory, tag) {
        refuse(memory, error);
    }
}

/// Microsoft Learn: ExFreePool.
///
/// # Safety
/// Nothing uses the allocation any more.
pub unsafe extern "win64" fn ExFreePool(memory: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { ExFreePoolWithTag(memory, 0) }
}

exports!(
    "ntoskrnl.exe":
    ExAllocatePoolWithTag,
    ExAllocatePoolWithQuotaTag,
    ExFreePoolWithTag,
    ExFreePool,
);
