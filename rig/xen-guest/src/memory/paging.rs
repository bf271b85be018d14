//! Page tables: 4 KiB pages with the protections that the executive asks for.
//!
//! A page that loses access on one processor may be found in another's TLB for a while. That only delays the fault of a
//! driver that uses what it must not. A page that gains access is looked up again when the processor faults on it, and
//! addresses of mappings are used again only after every processor has flushed.

use alloc::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use alloc::{boxed::Box, vec};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use nt_host::platform::Protection;
use nt_host::sync::Mutex;

use super::{DIRECT, PAGE};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const NO_EXECUTE: u64 = 1 << 63;
/// The bits of an entry that hold an address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Where mappings of the executive show.
const WINDOW: u64 = 0xFFFF_9000_0000_0000;
/// Pages of the window: 1 GiB.
const WINDOW_PAGES: usize = 1 << 18;

/// The top-level table's physical address, once the boot's tables are left.
static ROOT: AtomicU64 = AtomicU64::new(0);
/// Raised when each processor must flush its TLB.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// Guards changes of the tables.
static CHANGES: Mutex<()> = Mutex::new(());
static WINDOW_USE: Mutex<Option<Window>> = Mutex::new(None);

/// Which pages of the window are in use; the next ones to try.
struct Window {
    used: Box<[u64]>,
    next: usize,
}

fn bits(protection: Protection) -> u64 {
    match protection {
        Protection::None => 0,
        Protection::Read => PRESENT | NO_EXECUTE,
        Protection::ReadWrite => PRESENT | WRITABLE | NO_EXECUTE,
        Protection::ReadExecute => PRESENT,
    }
}

/// A table's entry at `level` (4 to 1) for an address.
fn slot(table: u64, level: u32, address: u64) -> *mut u64 {
    let index = address >> (12 + 9 * (level - 1)) & 511;
    (DIRECT + table + index * 8) as *mut u64
}

fn read(slot: *mut u64) -> u64 {
    // SAFETY: the slot lies in a page table, which is mapped and never given back.
    unsafe { slot.read_volatile() }
}

/// The last-level slot for an address; `make` fills in the tables on the way.
fn find(address: u64, make: bool) -> Option<*mut u64> {
    let mut table = ROOT.load(Ordering::Acquire);
    for level in [4, 3, 2] {
        let at = slot(table, level, address);
        let mut entry = read(at);
        if entry & PRESENT == 0 {
            if !make {
                return None;
            }
            entry = new_table() | PRESENT | WRITABLE;
            // SAFETY: as in `read`; the caller holds the lock of changes.
            unsafe { at.write_volatile(entry) };
        }
        table = entry & ADDRESS;
    }
    Some(slot(table, 1, address))
}

/// An empty table's physical address.
fn new_table() -> u64 {
    const { assert!(PAGE == 4096) };
    let layout = Layout::new::<Aligned>();
    // SAFETY: the layout has a size.
    let table = unsafe { alloc_zeroed(layout) };
    if table.is_null() {
        handle_alloc_error(layout);
    }
    table as u64 - DIRECT
}

#[repr(align(4096))]
#[expect(dead_code, reason = "only its layout is of use")]
struct Aligned([u8; PAGE as usize]);

/// Changes one page; the caller holds the lock of changes.
fn set(address: u64, entry: u64) {
    if let Some(slot) = find(address, true) {
        // SAFETY: as in `read`.
        unsafe { slot.write_volatile(entry) };
        flush(address);
    }
}

fn flush(address: u64) {
    // SAFETY: only makes the processor look the page up again.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Makes the kernel's tables and uses them: `identity` are ranges (start, end, protection) that show where they are,
/// `view` those that show at `DIRECT`.
pub fn initialise(identity: &[(u64, u64, Protection)], view: &[(u64, u64)]) {
    ROOT.store(new_table(), Ordering::Release);
    *WINDOW_USE.lock() = Some(Window {
        used: vec![0; WINDOW_PAGES / 64].into(),
        next: 0,
    });
    let _changes = CHANGES.lock();
    for &(start, end, protection) in identity {
        for page in (start..end).step_by(PAGE as usize) {
            set(page, page | bits(protection));
        }
    }
    for &(start, end) in view {
        for page in (start..end).step_by(PAGE as usize) {
            set(DIRECT + page, page | bits(Protection::ReadWrite));
        }
    }
    // SAFETY: the tables show the running code, its data, stack and heap where they were.
    unsafe { load() };
}

/// Uses the kernel's tables on this processor.
///
/// # Safety
/// What runs is mapped in them.
unsafe fn load() {
    let root = ROOT.load(Ordering::Acquire);
    // SAFETY: the caller's promise.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
}

/// The top-level table, for another processor.
pub fn root() -> u64 {
    ROOT.load(Ordering::Acquire)
}

/// Flushes this processor's TLB if that has become due since it did so last; `seen` is the processor's memory of it.
pub fn catch_up(seen: &AtomicU64) {
    let now = GENERATION.load(Ordering::Acquire);
    if seen.swap(now, Ordering::Relaxed) != now {
        // SAFETY: the tables in use are loaded again.
        unsafe { load() };
    }
}

/// Maps frames one after the other in the window.
pub fn map(frames: &[u64], protection: Protection) -> Option<u64> {
    let first = {
        let mut guard = WINDOW_USE.lock();
        guard.as_mut()?.take(frames.len() + 1)?
    };
    let base = WINDOW + first as u64 * PAGE;
    let _changes = CHANGES.lock();
    for (address, frame) in (base..).step_by(PAGE as usize).zip(frames) {
        set(address, (frame * PAGE) | bits(protection));
    }
    Some(base)
}

/// Ends a mapping of [`map`].
pub fn unmap(base: u64, pages: usize) {
    {
        let _changes = CHANGES.lock();
        for address in (base..).step_by(PAGE as usize).take(pages) {
            set(address, 0);
        }
    }
    if let Some(window) = WINDOW_USE.lock().as_mut() {
        window.give_back(((base - WINDOW) / PAGE) as usize, pages + 1);
    }
}

/// Changes the protection of mapped pages.
pub fn protect(base: u64, pages: usize, protection: Protection) {
    let _changes = CHANGES.lock();
    for address in (base..).step_by(PAGE as usize).take(pages) {
        let frame = find(address, false).map_or(0, |slot| read(slot) & ADDRESS);
        set(address, frame | bits(protection));
    }
}

/// What the tables allow at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Reads.
    pub read: bool,
    /// Writes.
    pub write: bool,
    /// Instruction fetches.
    pub execute: bool,
}

/// What the tables allow at an address now.
pub fn access(address: u64) -> Access {
    let is_canonical = (address as i64) << 16 >> 16 == address as i64;
    let slot = if is_canonical {
        find(address, false)
    } else {
        None
    };
    let entry = slot.map_or(0, read);
    let read = entry & PRESENT != 0;
    Access {
        read,
        write: read && entry & WRITABLE != 0,
        execute: read && entry & NO_EXECUTE == 0,
    }
}

/// Whether every byte of a range can be read.
pub fn is_readable(address: u64, length: usize) -> bool {
    let Some(last) = address.checked_add((length as u64).saturating_sub(1)) else {
        return false;
    };
    (address & !(PAGE - 1)..=last)
        .step_by(PAGE as usize)
        .all(|page| access(page).read)
}

/// A fault whose reason is gone: the processor looks the page up again.
pub fn look_again(address: u64) {
    flush(address);
}

impl Window {
    fn is_used(&self, page: usize) -> bool {
        self.used[page / 64] & 1 << (page % 64) != 0
    }

    /// Pages that follow each other, each of them used for the first time since every processor flushed.
    fn take(&mut self, pages: usize) -> Option<usize> {
        let mut start = self.next;
        let mut wrapped = false;
        loop {
            if start + pages > WINDOW_PAGES {
                if wrapped {
                    return None;
                }
                wrapped = true;
                start = 0;
                GENERATION.fetch_add(1, Ordering::AcqRel);
                continue;
            }
            match (start..start + pages)
                .rev()
                .find(|page| self.is_used(*page))
            {
                Some(used) => start = used + 1,
                None => break,
            }
        }
        for page in start..start + pages {
            self.used[page / 64] |= 1 << (page % 64);
        }
        self.next = start + pages;
        Some(start)
    }

    fn give_back(&mut self, start: usize, pages: usize) {
        for page in start..start + pages {
            self.used[page / 64] &= !(1 << (page % 64));
        }
    }
}
