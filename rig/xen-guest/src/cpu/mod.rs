//! The processors: segments and the interrupt table, interrupts and faults, the local APIC, starting the others.

pub mod apic;
pub mod descriptors;
pub mod fault;
pub mod interrupt;
pub mod smp;

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use nt_host::ke::processor::Processor;

/// The most processors that the kernel starts.
pub const MOST: u32 = 16;

/// MSR: the GS base.
const IA32_GS_BASE: u32 = 0xC000_0101;
/// What [`current`] answers from before there is an executive.
const NOBODY: u32 = u32::MAX;

/// As much of a processor block as [`current`] reads, until there are processor blocks.
#[repr(C, align(64))]
struct Block([AtomicU32; 1024]);

static EARLY: Block = Block([const { AtomicU32::new(NOBODY) }; 1024]);
const _: () = assert!(offset_of!(Processor, number) < size_of::<Block>());

/// Reads a model-specific register.
pub fn rdmsr(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: only registers that every processor under Xen has are named in this kernel.
    unsafe {
        asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The register exists, and what runs survives its new value.
pub unsafe fn wrmsr(number: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags))
    };
}

/// Lets [`current`] work, before any processor has a block.
pub fn be_nobody() {
    // SAFETY: nothing else uses the GS base yet.
    unsafe { wrmsr(IA32_GS_BASE, (&raw const EARLY) as u64) };
}

/// Makes the calling processor number `cpu`.
pub fn become_processor(cpu: u32) {
    let block = core::ptr::from_ref(nt_host::ke::processor_block(cpu));
    // SAFETY: the executive wants the GS base to point to the processor's block, which lives for ever.
    unsafe { wrmsr(IA32_GS_BASE, block as u64) };
}

/// The processor that runs the caller, once the executive knows it.
pub fn current() -> Option<u32> {
    let number: u32;
    // SAFETY: the GS base points to a processor block or to EARLY, both longer than the offset.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) number, const offset_of!(Processor, number),
            options(nostack, readonly, preserves_flags))
    };
    (number != NOBODY).then_some(number)
}

/// Whether this processor takes interrupts.
pub fn interrupts_are_on() -> bool {
    let flags: u64;
    // SAFETY: reads the flags.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    flags & 1 << 9 != 0
}

/// Stops interrupts on this processor.
pub fn disable_interrupts() {
    // SAFETY: interrupts that do not come change nothing.
    unsafe { asm!("cli", options(nostack)) };
}

/// Lets interrupts come.
///
/// # Safety
/// The interrupt table is loaded, and whoever turned them off wants them on.
pub unsafe fn enable_interrupts() {
    // SAFETY: the caller's promise.
    unsafe { asm!("sti", options(nostack)) };
}

/// Runs `body` without interrupts on this processor.
pub fn without_interrupts<R>(body: impl FnOnce() -> R) -> R {
    let on = interrupts_are_on();
    disable_interrupts();
    let result = body();
    if on {
        // SAFETY: they were on.
        unsafe { enable_interrupts() };
    }
    result
}

/// Sleeps until the next interrupt, and takes it. Interrupts are off before and on afterwards.
pub fn sleep() {
    // SAFETY: the interrupt table is loaded; `sti` lets nothing in before `hlt`.
    unsafe { asm!("sti", "hlt", options(nostack)) };
}

/// The registers CR0, CR4 and EFER.
pub fn control() -> (u64, u64, u64) {
    let (cr0, cr4): (u64, u64);
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack, preserves_flags)) };
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags)) };
    (cr0, cr4, rdmsr(0xC000_0080))
}

/// Ends the domain as a broken kernel does: an exception without an interrupt table is a triple fault.
pub fn triple_fault() -> ! {
    let nothing = [0u16; 5];
    disable_interrupts();
    // SAFETY: nothing of this domain runs after it.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) nothing.as_ptr(), options(noreturn)) };
}

/// Turns what stays of this processor into a stop.
pub fn stop_for_ever() -> ! {
    disable_interrupts();
    loop {
        // SAFETY: nothing wakes a processor that takes no interrupts.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

/// How far the processors have come: one that has begun counts.
pub static STARTED: AtomicU32 = AtomicU32::new(0);

/// Counts the caller among the processors that have begun.
pub fn count_me() {
    STARTED.fetch_add(1, Ordering::AcqRel);
}
