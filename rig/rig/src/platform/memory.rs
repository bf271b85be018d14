//! Guest memory.
//!
//! ```text
//!   memfd "ram" ──┬─ stable alias ram(n): what other domains see
//!                 ├─ view: 4 GiB of reserved addresses, guest-physical address a at base + a
//!   memfd "xen" ──┤        RAM at the bottom, Xen's frames where the guest mapped them, holes elsewhere
//!                 └─ aliases: frames in any order, one after the other (MDLs)
//! ```
//! A change of the physmap remaps the page in the view and in every alias. Each page of the view has a state byte, so
//! that a guest address is checked without a system call or a lock.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nt_host::platform::{PAGE_SIZE, Physical, Protection};
use xen_model::{Fault, P2m};

use crate::debugger;

/// Frames of the view: 4 GiB.
const VIEW_FRAMES: u64 = 1 << 20;
/// Where the view is, and aliases are from: the same addresses in every run, far from what Linux chooses.
const VIEW_AT: usize = 0x1000_0000_0000;
/// See [`VIEW_AT`].
const ALIASES_AT: usize = 0x2000_0000_0000;
/// Addresses for aliases: 16 TiB.
const ALIASES: usize = 1 << 44;
/// State of a page in the view: something is behind it.
const PRESENT: u8 = 4;

/// The memory of a guest.
pub struct Memory {
    ram: Mapped,
    xen: Mapped,
    view: Region,
    states: Vec<AtomicU8>,
    map: Mutex<Map>,
}

#[derive(Default)]
struct Map {
    /// What the guest sees where that is not what it began with.
    changed: HashMap<u64, P2m>,
    /// Where the next alias comes, counted from the first.
    next_alias: usize,
    /// Aliases by address.
    aliases: BTreeMap<usize, Alias>,
}

struct Alias {
    frames: Vec<u64>,
    protections: Vec<Protection>,
}

/// Memory of its own with a stable mapping.
struct Mapped {
    file: OwnedFd,
    region: Region,
    frames: u64,
}

/// A range of addresses that is unmapped on drop.
struct Region {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: a region is a range of addresses; what is in it is shared with the guest, and handed out as raw pointers.
unsafe impl Send for Region {}
// SAFETY: as for `Send`.
unsafe impl Sync for Region {}

impl Region {
    /// Addresses at which nothing can be accessed, at `hint` if there is one and they are free.
    fn reserve(hint: Option<usize>, length: usize) -> io::Result<Self> {
        let length = length.max(PAGE_SIZE);
        let map = |at: usize, more: libc::c_int| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | more;
            // SAFETY: a fresh anonymous mapping where nothing is mapped yet.
            unsafe { libc::mmap(at as *mut _, length, libc::PROT_NONE, flags, -1, 0) }
        };
        let mut base = libc::MAP_FAILED;
        if let Some(hint) = hint {
            base = map(hint, libc::MAP_FIXED_NOREPLACE);
        }
        if base == libc::MAP_FAILED {
            base = map(0, 0);
        }
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { base, length })
    }

    fn page(&self, index: u64) -> *mut u8 {
        assert!(
            (index as usize) < self.length / PAGE_SIZE,
            "page {index:#x} is out of range"
        );
        self.base.as_ptr().wrapping_add(index as usize * PAGE_SIZE)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `reserve` and belongs to `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

impl Mapped {
    fn new(name: &CStr, frames: u64) -> io::Result<Self> {
        // SAFETY: the name is a C string.
        let file = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and has no other owner.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        let length = frames as usize * PAGE_SIZE;
        // SAFETY: the descriptor is open.
        if unsafe { libc::ftruncate(file.as_raw_fd(), length as libc::off_t) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let region = Region::reserve(None, length)?;
        if frames > 0 {
            fix(
                region.page(0),
                frames as usize,
                Protection::ReadWrite,
                Some((&file, 0)),
            )?;
        }
        Ok(Self {
            file,
            region,
            frames,
        })
    }
}

/// Puts pages of a file, or nothing, in place of what is mapped at `at`, which is inside a [`Region`].
fn fix(
    at: *mut u8,
    pages: usize,
    protection: Protection,
    source: Option<(&OwnedFd, u64)>,
) -> io::Result<()> {
    let (flags, file, frame) = match source {
        Some((file, frame)) => (libc::MAP_SHARED, file.as_raw_fd(), frame),
        None => (
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        ),
    };
    let protection = if source.is_some() {
        bits(protection)
    } else {
        libc::PROT_NONE
    };
    let offset = (frame as usize * PAGE_SIZE) as libc::off_t;
    // SAFETY: the range is inside a region of ours, whose pages are given to guest code only as raw memory.
    let result = unsafe {
        libc::mmap(
            at.cast(),
            pages * PAGE_SIZE,
            protection,
            flags | libc::MAP_FIXED,
            file,
            offset,
        )
    };
    if result == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn bits(protection: Protection) -> libc::c_int {
    match protection {
        Protection::None => libc::PROT_NONE,
        Protection::Read => libc::PROT_READ,
        Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        // gdb's breakpoints are written into the code, which the kernel lets it do in a shared mapping that is writable.
        Protection::ReadExecute if debugger::is_wanted() => {
            libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC
        }
        Protection::ReadExecute => libc::PROT_READ | libc::PROT_EXEC,
    }
}

fn encode(protection: Protection) -> u8 {
    match protection {
        Protection::None => 0,
        Protection::Read => 1,
        Protection::ReadWrite => 2,
        Protection::ReadExecute => 3,
    }
}

fn decode(state: u8) -> Protection {
    match state & 3 {
        0 => Protection::None,
        1 => Protection::Read,
        2 => Protection::ReadWrite,
        _ => Protection::ReadExecute,
    }
}

impl Memory {
    /// Memory of `ram_frames` frames of RAM, and `xen_frames` that the guest does not see yet.
    pub fn new(ram_frames: u64, xen_frames: u64) -> io::Result<Self> {
        if ram_frames == 0 || ram_frames >= VIEW_FRAMES {
            return Err(io::Error::other("the guest's RAM must be less than 4 GiB"));
        }
        let ram = Mapped::new(c"ram", ram_frames)?;
        let xen = Mapped::new(c"xen", xen_frames)?;
        let view = Region::reserve(Some(VIEW_AT), VIEW_FRAMES as usize * PAGE_SIZE)?;
        fix(
            view.page(0),
            ram_frames as usize,
            Protection::ReadWrite,
            Some((&ram.file, 0)),
        )?;
        let usable = encode(Protection::ReadWrite);
        let state = |frame| {
            if frame < ram_frames {
                usable | PRESENT
            } else {
                usable
            }
        };
        let states = (0..VIEW_FRAMES)
            .map(|frame| AtomicU8::new(state(frame)))
            .collect();
        Ok(Self {
            ram,
            xen,
            view,
            states,
            map: Mutex::default(),
        })
    }

    /// The guest-physical address space.
    pub fn physical(&self) -> Physical {
        Physical {
            base: self.view.base,
            frames: VIEW_FRAMES,
            ram_frames: self.ram.frames,
        }
    }

    /// Frames of RAM.
    pub fn ram_frames(&self) -> u64 {
        self.ram.frames
    }

    /// The stable alias of RAM frame `n`.
    pub fn ram(&self, n: u64) -> *mut u8 {
        self.ram.region.page(n)
    }

    /// Xen's frames.
    pub fn xen_frames(&self) -> u64 {
        self.xen.frames
    }

    /// The stable alias of Xen's frame `i`.
    pub fn xen_frame(&self, i: u64) -> *mut u8 {
        self.xen.region.page(i)
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is behind guest frame `gfn`: a file and a frame of it.
    fn source(&self, map: &Map, gfn: u64) -> Option<(&OwnedFd, u64)> {
        let began = if gfn < self.ram.frames {
            P2m::Ram(gfn)
        } else {
            P2m::Hole
        };
        match map.changed.get(&gfn).copied().unwrap_or(began) {
            P2m::Ram(n) => Some((&self.ram.file, n)),
            P2m::Xen(i) => Some((&self.xen.file, i)),
            P2m::Hole => None,
        }
    }

    /// Changes what the guest sees at `gfn`; `false` where there can be nothing.
    pub fn set_p2m(&self, gfn: u64, to: P2m) -> bool {
        let exists = match to {
            P2m::Ram(n) => n < self.ram.frames,
            P2m::Xen(i) => i < self.xen.frames,
            P2m::Hole => true,
        };
        let Some(state) = self.states.get(gfn as usize).filter(|_| exists) else {
            return false;
        };
        let mut map = self.lock();
        map.changed.insert(gfn, to);
        let source = self.source(&map, gfn);
        let protection = decode(state.load(Ordering::Relaxed));
        let present = if source.is_some() { PRESENT } else { 0 };
        if present == 0 {
            state.store(encode(protection), Ordering::Release);
        }
        let mut done = fix(self.view.page(gfn), 1, protection, source);
        state.store(encode(protection) | present, Ordering::Release);
        for (&base, alias) in &map.aliases {
            for (index, _) in alias
                .frames
                .iter()
                .enumerate()
                .filter(|&(_, &frame)| frame == gfn)
            {
                let page = (base + index * PAGE_SIZE) as *mut u8;
                done = done.and(fix(page, 1, alias.protections[index], source));
            }
        }
        done.expect("a page of a reserved range can be mapped again");
        true
    }

    /// Maps frames one after the other.
    pub fn map(&self, frames: &[u64], protection: Protection) -> Option<NonNull<u8>> {
        let mut map = self.lock();
        let length = frames.len() * PAGE_SIZE;
        let region = Region::reserve(Some(ALIASES_AT + map.next_alias), length).ok()?;
        // Addresses are not used again, and there is a gap between mappings: late accesses fault.
        map.next_alias = (map.next_alias + length + PAGE_SIZE) % ALIASES;
        let mut index = 0;
        while index < frames.len() {
            let source = self.source(&map, frames[index]);
            let mut pages = 1;
            // Neighbours in the file are mapped at once.
            while let (Some((file, first)), Some(&frame)) = (source, frames.get(index + pages))
                && let Some((other, next)) = self.source(&map, frame)
                && other.as_raw_fd() == file.as_raw_fd()
                && next == first + pages as u64
            {
                pages += 1;
            }
            fix(region.page(index as u64), pages, protection, source).ok()?;
            index += pages;
        }
        let base = region.base;
        std::mem::forget(region);
        let alias = Alias {
            frames: frames.to_vec(),
            protections: vec![protection; frames.len()],
        };
        map.aliases.insert(base.as_ptr() as usize, alias);
        Some(base)
    }

    /// Ends what [`map`](Self::map) mapped.
    pub fn unmap(&self, base: NonNull<u8>, pages: usize) {
        let mut map = self.lock();
        let alias = map.aliases.remove(&(base.as_ptr() as usize));
        let alias = alias.expect("a mapping is unmapped once, by its first address");
        assert_eq!(
            alias.frames.len(),
            pages,
            "a mapping is unmapped as a whole"
        );
        drop(Region {
            base,
            length: pages.max(1) * PAGE_SIZE,
        });
    }

    /// Protects pages of the view or of a mapping.
    pub fn protect(&self, base: NonNull<u8>, pages: usize, protection: Protection) {
        let mut map = self.lock();
        let address = base.as_ptr() as usize;
        if let Some(first) = self.page_of(address as u64) {
            self.protect_view(first, pages, protection);
            return;
        }
        let found = map.aliases.range_mut(..=address).next_back();
        let (&start, alias) = found.expect("protected pages are guest memory");
        let first = (address - start) / PAGE_SIZE;
        let range = alias.protections.get_mut(first..first + pages);
        range
            .expect("protected pages are one mapping")
            .fill(protection);
        // Holes stay inaccessible.
        for index in first..first + pages {
            if self
                .source(&map, map.aliases[&start].frames[index])
                .is_some()
            {
                protect_pages((start + index * PAGE_SIZE) as *mut u8, 1, protection);
            }
        }
    }

    fn protect_view(&self, first: usize, pages: usize, protection: Protection) {
        let states = &self.states[first..first + pages];
        let is_present = |state: &AtomicU8| state.load(Ordering::Relaxed) & PRESENT;
        let mut at = first;
        for run in states.chunk_by(|a, b| is_present(a) == is_present(b)) {
            let present = is_present(&run[0]);
            for state in run {
                state.store(encode(protection) | present, Ordering::Release);
            }
            if present != 0 {
                protect_pages(self.view.page(at as u64), run.len(), protection);
            }
            at += run.len();
        }
    }

    /// The page of the view at `address`.
    fn page_of(&self, address: u64) -> Option<usize> {
        let offset = address.checked_sub(self.view.base.as_ptr() as u64)? as usize;
        (offset < self.view.length).then_some(offset / PAGE_SIZE)
    }

    /// Whether a range in the view can be accessed; `None` if it is elsewhere.
    fn check_view(&self, address: u64, length: usize, write: bool) -> Option<bool> {
        let first = self.page_of(address)?;
        let last = self.page_of(address.checked_add(length.max(1) as u64 - 1)?)?;
        let allows = |state: &AtomicU8| {
            let state = state.load(Ordering::Acquire);
            let protection = decode(state);
            state & PRESENT != 0
                && protection != Protection::None
                && (!write || protection == Protection::ReadWrite)
        };
        Some(self.states[first..=last].iter().all(allows))
    }

    /// Whether `length` bytes at `address` can be read, wherever they are.
    pub fn is_readable(&self, address: u64, length: usize) -> bool {
        self.check_view(address, length, false).unwrap_or_else(|| {
            let mut byte = [0];
            let first_bytes = (address..address.saturating_add(length as u64)).step_by(PAGE_SIZE);
            let last = address.saturating_add(length.max(1) as u64 - 1);
            first_bytes
                .chain([last])
                .all(|at| foreign(at, Transfer::Read(&mut byte)).is_ok())
        })
    }

    /// Whether an address lies in the guest's memory, accessible or not.
    pub fn covers(&self, address: u64) -> bool {
        self.page_of(address).is_some()
    }

    /// What is at an address that cannot be accessed, completing "ADDRESS, …".
    pub fn describe(&self, address: u64) -> String {
        let Some(page) = self.page_of(address) else {
            return "where nothing is mapped".to_owned();
        };
        let offset = address - self.view.base.as_ptr() as u64;
        let state = self.states[page].load(Ordering::Relaxed);
        match (state & PRESENT != 0, decode(state)) {
            (false, _) => format!("a hole in the guest's memory at physical {offset:#x}"),
            (true, Protection::None) => format!("a guard page at physical {offset:#x}"),
            (true, _) => format!("protected memory at physical {offset:#x}"),
        }
    }

    /// Copies from guest-virtual memory.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Fault> {
        match self.check_view(address, out.len(), false) {
            Some(true) => {
                let from = address as *const u8;
                // SAFETY: the range is in the view and readable; `out` is the caller's and elsewhere.
                unsafe { std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) };
                Ok(())
            }
            Some(false) => Err(Fault { address }),
            None => foreign(address, Transfer::Read(out)),
        }
    }

    /// Copies to guest-virtual memory.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), Fault> {
        match self.check_view(address, data.len(), true) {
            Some(true) => {
                let to = address as *mut u8;
                // SAFETY: the range is in the view and writable; it is the guest's raw memory.
                unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
                Ok(())
            }
            Some(false) => Err(Fault { address }),
            None => foreign(address, Transfer::Write(data)),
        }
    }
}

fn protect_pages(at: *mut u8, pages: usize, protection: Protection) {
    // SAFETY: the pages are guest memory, which is handed out as raw memory only.
    let result = unsafe { libc::mprotect(at.cast(), pages * PAGE_SIZE, bits(protection)) };
    assert_eq!(
        result,
        0,
        "guest pages can be protected: {}",
        io::Error::last_os_error()
    );
}

enum Transfer<'a> {
    Read(&'a mut [u8]),
    Write(&'a [u8]),
}

/// Copies from or to any address of the process, letting the kernel check it.
fn foreign(address: u64, transfer: Transfer<'_>) -> Result<(), Fault> {
    let (local, length, is_read) = match transfer {
        Transfer::Read(out) => (out.as_mut_ptr(), out.len(), true),
        Transfer::Write(data) => (data.as_ptr().cast_mut(), data.len(), false),
    };
    let local = libc::iovec {
        iov_base: local.cast(),
        iov_len: length,
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: length,
    };
    // SAFETY: takes no argument.
    let process = unsafe { libc::getpid() };
    let copied = if is_read {
        // SAFETY: `local` is writable for its length; the kernel checks `remote`.
        unsafe { libc::process_vm_readv(process, &raw const local, 1, &raw const remote, 1, 0) }
    } else {
        // SAFETY: `local` is readable for its length; the kernel checks `remote`, which is the guest's to name.
        unsafe { libc::process_vm_writev(process, &raw const local, 1, &raw const remote, 1, 0) }
    };
    if copied == length as isize {
        Ok(())
    } else {
        Err(Fault { address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::new(64, 2).unwrap()
    }

    fn at(memory: &Memory, frame: u64) -> u64 {
        memory.view.page(frame) as u64
    }

    #[test]
    fn the_view_and_the_alias_show_the_same_ram() {
        let memory = memory();
        memory.write(at(&memory, 3) + 5, b"hello").unwrap();
        let start = memory.ram(3).wrapping_add(5);
        // SAFETY: the bytes lie in frame 3, which is RAM.
        let bytes = unsafe { std::slice::from_raw_parts(start, 5) };
        assert_eq!(bytes, b"hello");
    }

    #[test]
    fn a_hole_faults_and_keeps_its_frame_for_xen() {
        let memory = memory();
        memory.write(at(&memory, 3), &[7]).unwrap();
        assert!(memory.set_p2m(3, P2m::Hole));
        assert!(memory.read(at(&memory, 3), &mut [0]).is_err());
        assert!(!memory.is_readable(at(&memory, 2), 2 * PAGE_SIZE));
        // SAFETY: frame 3 is RAM.
        assert_eq!(unsafe { memory.ram(3).read() }, 7);
    }

    #[test]
    fn aliases_follow_the_physmap() {
        let memory = memory();
        let alias = memory
            .map(&[9, 10, 4], Protection::ReadWrite)
            .unwrap()
            .as_ptr() as u64;
        memory.write(at(&memory, 4), &[1]).unwrap();
        let mut byte = [0];
        memory
            .read(alias + 2 * PAGE_SIZE as u64, &mut byte)
            .unwrap();
        assert_eq!(byte, [1]);
        assert!(memory.set_p2m(4, P2m::Xen(1)));
        memory.write(alias + 2 * PAGE_SIZE as u64, &[2]).unwrap();
        // SAFETY: frame 1 is Xen's.
        assert_eq!(unsafe { memory.xen_frame(1).read() }, 2);
        memory.unmap(NonNull::new(alias as *mut u8).unwrap(), 3);
        assert!(!memory.is_readable(alias, 1));
    }

    #[test]
    fn protections_hold_over_changes_of_the_physmap() {
        let memory = memory();
        let page = NonNull::new(at(&memory, 5) as *mut u8).unwrap();
        memory.protect(page, 2, Protection::Read);
        assert!(memory.write(at(&memory, 6), &[1]).is_err());
        assert!(memory.set_p2m(6, P2m::Hole));
        assert!(memory.set_p2m(6, P2m::Ram(6)));
        assert!(memory.write(at(&memory, 6), &[1]).is_err());
        memory.protect(page, 2, Protection::ReadWrite);
        assert!(memory.write(at(&memory, 6), &[1]).is_ok());
    }

    #[test]
    fn addresses_outside_of_the_guest_are_checked_by_the_kernel() {
        let memory = memory();
        let mut value = 5_u8;
        let address = (&raw mut value) as u64;
        assert!(memory.is_readable(address, 1));
        memory.write(address, &[6]).unwrap();
        assert_eq!(value, 6);
        assert!(!memory.is_readable(0x10, 1));
        assert!(memory.write(0x10, &[0]).is_err());
    }
}
