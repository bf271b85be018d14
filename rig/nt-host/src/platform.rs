//! What the executive needs from the machine below it: memory, time, sleep, a log and an end.
//!
//! Two platforms exist: a Linux process (`rig`), and a guest kernel on a real Xen. Port I/O, hypercalls and other
//! privileged instructions of drivers never come here: the platform emulates or runs them on its own.

use alloc::string::String;
use core::ptr::NonNull;

/// Size of a page in bytes, and the unit of every "pages" below.
pub const PAGE_SIZE: usize = 4096;

/// What the CPU may do with a mapped page. Nothing is both writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Every access faults: guard pages, freed ranges.
    None,
    /// Reads only.
    Read,
    /// Reads and writes.
    ReadWrite,
    /// Reads and instruction fetches.
    ReadExecute,
}

/// The guest-physical address space as the executive sees it.
#[derive(Clone, Copy, Debug)]
pub struct Physical {
    /// Where physical address 0 is mapped; physical address `a` is at `base + a` for every `a` below
    /// `frames * PAGE_SIZE`. Frames that are neither RAM nor put in place by the hypervisor fault.
    pub base: NonNull<u8>,
    /// Frames which the view at `base` spans, RAM and MMIO space together.
    pub frames: u64,
    /// Frames of RAM, from frame 0 on.
    pub ram_frames: u64,
}

/// The machine below the executive.
///
/// # Safety
/// The executive builds every mapping, stack and lock on these promises:
/// - [`physical`](Self::physical) never changes and its RAM is readable and writable memory that nothing else uses;
/// - memory from [`map`](Self::map) shows exactly the given frames until [`unmap`](Self::unmap);
/// - [`protect`](Self::protect) changes no contents;
/// - [`current_cpu`](Self::current_cpu) is `Some(n)` only on the one host thread that runs virtual CPU `n`, and on that
///   thread the GS base is [`ke::processor_block(n)`](crate::ke::processor_block).
pub unsafe trait Platform: Sync {
    /// Number of virtual CPUs, 1 to 64; constant.
    fn cpus(&self) -> u32;

    /// The virtual CPU which the calling host thread runs, `None` on any other thread.
    fn current_cpu(&self) -> Option<u32>;

    /// Sleeps on virtual CPU `cpu` until it is kicked (also by a kick since the last return) or until interrupt time
    /// `deadline` (100 ns units). Early returns are allowed.
    fn idle(&self, cpu: u32, deadline: Option<u64>);

    /// Ends the current or the next [`idle`](Self::idle) of `cpu`. Callable from any host thread; never blocks.
    fn kick(&self, cpu: u32);

    /// A hint inside a spin loop: lets other host threads run.
    fn relax(&self);

    /// Whether every choice of this machine follows from a seed. Then it runs on one host thread, instructions that
    /// tell the time or spin are replaced as well, and [`call_ends`](Self::call_ends) is called.
    fn is_seeded(&self) -> bool {
        false
    }

    /// A kernel function ends, with no lock of the executive held: a seeded machine may let another virtual CPU run.
    fn call_ends(&self) {}

    /// Nanoseconds for which the calling virtual CPU has run, neither asleep nor waiting for a processor of the host; a
    /// seeded machine's are virtual. `None` where nobody knows: then the verifier has no figures of time.
    fn running_time(&self) -> Option<u64> {
        None
    }

    /// Frequency of the time stamp counter in kHz.
    fn tsc_khz(&self) -> u64 {
        1_000_000
    }

    /// Time since the machine started, in 100 ns units; never goes back.
    fn interrupt_time(&self) -> u64;

    /// UTC in 100 ns units since 1601-01-01, as `KeQuerySystemTime` has it.
    fn system_time(&self) -> u64;

    /// The performance counter.
    fn counter(&self) -> u64;

    /// Ticks of [`counter`](Self::counter) per second.
    fn counter_frequency(&self) -> u64;

    /// The guest-physical address space.
    fn physical(&self) -> Physical;

    /// Maps `frames` one after the other at a fresh, page-aligned address. `None` when address space is short.
    fn map(&self, frames: &[u64], protection: Protection) -> Option<NonNull<u8>>;

    /// Ends a mapping of `pages` pages made by [`map`](Self::map).
    ///
    /// # Safety
    /// `base` and `pages` are those of one `map`, and nothing uses the range any more.
    unsafe fn unmap(&self, base: NonNull<u8>, pages: usize);

    /// Changes the protection of `pages` pages at `base`, inside the physical view or a mapping. The frames behind
    /// them keep their contents, other mappings of the frames keep their protection.
    ///
    /// # Safety
    /// Whatever still uses the range accepts the new protection.
    unsafe fn protect(&self, base: NonNull<u8>, pages: usize, protection: Protection);

    /// An interrupt routine has returned on `cpu`, or the CPU is about to sleep: the moment at which a hypervisor
    /// re-evaluates level-triggered lines.
    fn interrupt_done(&self, cpu: u32);

    /// Writes a line (without its end) to the machine's log.
    fn log(&self, line: &str);

    /// Writes a line that a driver printed with `DbgPrint` and its kin at `level` (dpfilter.h: 0 error, 1 warning,
    /// 2 trace, 3 information).
    fn print(&self, level: u32, line: &str) {
        let _ = level;
        self.log(line);
    }

    /// The symbol that covers offset `rva` of a loaded image, with the offset into it, where the platform has the
    /// image's debug information.
    fn symbol(&self, image: &str, rva: u32) -> Option<String> {
        let _ = (image, rva);
        None
    }

    /// Whether drivers run in ring 0, where each of their instructions does what it is there for: nothing in an image is
    /// replaced.
    fn is_native(&self) -> bool {
        false
    }

    /// An image was loaded at `base`.
    fn image_loaded(&self, image: &str, base: usize) {
        let _ = (image, base);
    }

    /// Code that drivers call in place of a hypercall instruction: it takes the registers of the instruction, and changes
    /// nothing but what the instruction does. `None` where every hypercall should trap.
    fn hypercall_entry(&self) -> Option<usize> {
        None
    }

    /// A check that reads foreign memory: whether `len` bytes at `address` are mapped and readable. Stack walks and
    /// reports use it before they read through a driver's pointer.
    fn readable(&self, address: u64, len: usize) -> bool;

    /// What is at an address that cannot be accessed, as the end of a sentence: "which is the guard page of …".
    fn describe(&self, address: u64) -> String {
        let _ = address;
        String::from("where nothing is")
    }

    /// Ends the machine after a bug check with the given code. What was to say has gone through [`log`](Self::log).
    fn halt(&self, code: u32) -> !;
}
