//! The machine below the executive: this kernel, on Xen.
//!
//! Drivers run in ring 0 in the executive's address space. Their hypercalls, port I/O and cpuid are the processor's own
//! business, and reach Xen.

use alloc::string::String;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use nt_host::Platform;
use nt_host::platform::{Physical, Protection};

use crate::cpu::{self, MOST, apic};
use crate::memory::{DIRECT, PAGE, paging};
use crate::{clock, console, end, names};

/// How often a processor that does not sleep is interrupted, in 100 ns units: 10 ms.
const TICK: u64 = 100_000;
/// The longest sleep without a deadline: a second.
const LONG: u64 = 10_000_000;
/// The least severe of what drivers print that is shown (dpfilter.h: 3, information).
pub static LEVEL: AtomicU32 = AtomicU32::new(3);

/// A processor's sleep.
struct Sleep {
    kicked: AtomicBool,
    asleep: AtomicBool,
}

static SLEEPS: [Sleep; MOST as usize] = [const {
    Sleep {
        kicked: AtomicBool::new(false),
        asleep: AtomicBool::new(false),
    }
}; MOST as usize];

/// The machine.
pub struct Guest {
    cpus: AtomicU32,
    frames: AtomicU64,
    ram_frames: AtomicU64,
}

/// The one machine.
pub static GUEST: Guest = Guest {
    cpus: AtomicU32::new(1),
    frames: AtomicU64::new(0),
    ram_frames: AtomicU64::new(0),
};

impl Guest {
    /// Says what it has, before the executive asks.
    pub fn describe(&self, cpus: u32, ram_end: u64, end: u64) {
        self.cpus.store(cpus, Ordering::Release);
        self.ram_frames.store(ram_end / PAGE, Ordering::Release);
        self.frames.store(end / PAGE, Ordering::Release);
    }
}

/// The timer of `cpu` has interrupted it.
pub fn timer(_cpu: u32) {
    apic::set_timer(TICK);
}

// SAFETY: the view is mapped once and never moves, its RAM is what `Layout` left to the executive; mappings and
// protections are the page tables'; `cpu::current` reads the processor block, to which the GS base points.
unsafe impl Platform for Guest {
    fn cpus(&self) -> u32 {
        self.cpus.load(Ordering::Acquire)
    }

    fn current_cpu(&self) -> Option<u32> {
        cpu::current()
    }

    fn idle(&self, cpu: u32, deadline: Option<u64>) {
        let Some(sleep) = SLEEPS.get(cpu as usize) else {
            return;
        };
        let amount = deadline.map_or(LONG, |deadline| {
            deadline.saturating_sub(clock::interrupt_time()).min(LONG)
        });
        cpu::disable_interrupts();
        sleep.asleep.store(true, Ordering::SeqCst);
        if !sleep.kicked.load(Ordering::SeqCst) && amount != 0 {
            apic::set_timer(amount);
            cpu::sleep();
            cpu::disable_interrupts();
            apic::set_timer(TICK);
        }
        sleep.asleep.store(false, Ordering::SeqCst);
        sleep.kicked.store(false, Ordering::SeqCst);
        // SAFETY: the executive's loop runs with interrupts on.
        unsafe { cpu::enable_interrupts() };
    }

    fn kick(&self, cpu: u32) {
        let Some(sleep) = SLEEPS.get(cpu as usize) else {
            return;
        };
        sleep.kicked.store(true, Ordering::SeqCst);
        if sleep.asleep.load(Ordering::SeqCst) && cpu::current() != Some(cpu) {
            apic::kick(cpu);
        }
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn interrupt_time(&self) -> u64 {
        clock::interrupt_time()
    }

    fn system_time(&self) -> u64 {
        clock::system_time()
    }

    fn counter(&self) -> u64 {
        clock::interrupt_time()
    }

    fn counter_frequency(&self) -> u64 {
        // Windows' usual one: 10 MHz.
        10_000_000
    }

    fn physical(&self) -> Physical {
        Physical {
            base: NonNull::new(DIRECT as *mut u8).unwrap_or(NonNull::dangling()),
            frames: self.frames.load(Ordering::Acquire),
            ram_frames: self.ram_frames.load(Ordering::Acquire),
        }
    }

    fn map(&self, frames: &[u64], protection: Protection) -> Option<NonNull<u8>> {
        paging::map(frames, protection).and_then(|base| NonNull::new(base as *mut u8))
    }

    unsafe fn unmap(&self, base: NonNull<u8>, pages: usize) {
        paging::unmap(base.as_ptr() as u64, pages);
    }

    unsafe fn protect(&self, base: NonNull<u8>, pages: usize, protection: Protection) {
        paging::protect(base.as_ptr() as u64, pages, protection);
    }

    fn interrupt_done(&self, _cpu: u32) {}

    fn log(&self, line: &str) {
        if line.starts_with("***") {
            console::line(format_args!("bugcheck {line}"));
        } else {
            console::line(format_args!("log {line}"));
        }
    }

    fn print(&self, level: u32, line: &str) {
        if level <= LEVEL.load(Ordering::Relaxed) {
            self.log(line);
        }
    }

    fn symbol(&self, image: &str, rva: u32) -> Option<String> {
        names::of_image(image, rva)
    }

    fn is_native(&self) -> bool {
        true
    }

    fn readable(&self, address: u64, len: usize) -> bool {
        paging::is_readable(address, len)
    }

    fn halt(&self, _code: u32) -> ! {
        end::now(end::Verdict::BugCheck)
    }
}
