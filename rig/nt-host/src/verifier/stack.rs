//! How much stack the drivers take.
//!
//! A kernel stack of Windows on x64 has 24 KiB (ntddk.h: `KERNEL_STACK_SIZE`; Microsoft Learn, "Using the Kernel Stack":
//! about three pages for drivers). Here drivers share a longer one with an executive whose frames are not Windows', so
//! only frames of drivers count:
//!
//! ```text
//!   top of the stack ─ executive │ driver │ executive │ driver │ import thunk
//!                      ├─ origin ┘        ├───────────┘        │
//!                      │   (moved down by what the executive took: enter)
//!                      └─────────── origin − RSP: what the drivers took ──┘
//! ```
//! Import thunks look at it with each call, in three instructions, and come here when it is more than ever before for
//! their driver. What a driver takes between two calls shows with the guard page only. Interrupts and DPCs have stacks
//! of their own, as on Windows.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Rule;
use crate::ke::processor::{self, Processor};
use crate::pe::modules;

/// What Windows gives a kernel stack, in bytes.
const LIMIT: u64 = 24 << 10;
/// No stack here is longer than this, in bytes.
const STACK: u64 = 64 << 10;

/// A processor's part.
#[repr(C)]
pub struct PerCpu {
    /// Where the stack would start if drivers alone were on it; 0 when none is.
    origin: AtomicU64,
    /// Where the innermost driver was entered.
    entered: AtomicU64,
    /// The most that drivers took when a module called, by its number.
    deepest: [AtomicU64; modules::MOST + 1],
}

/// Offset of the origin from the GS base.
pub const ORIGIN: u32 = (offset_of!(Processor, stack) + offset_of!(PerCpu, origin)) as u32;

/// Offset from the GS base of the most that was taken when `module` called.
pub const fn deepest(module: u32) -> u32 {
    (offset_of!(Processor, stack) + offset_of!(PerCpu, deepest)) as u32 + module * 8
}

impl PerCpu {
    pub(crate) const fn new() -> Self {
        Self {
            origin: AtomicU64::new(0),
            entered: AtomicU64::new(0),
            deepest: [const { AtomicU64::new(0) }; modules::MOST + 1],
        }
    }
}

/// A stack's account, while something else runs.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    origin: u64,
    entered: u64,
    caller_rsp: u64,
}

/// The account of the stack that this processor uses.
#[inline]
pub fn keep() -> Account {
    let cpu = processor::current();
    Account {
        origin: cpu.stack.origin.load(Relaxed),
        entered: cpu.stack.entered.load(Relaxed),
        caller_rsp: cpu.caller_rsp.load(Relaxed),
    }
}

/// Goes on with an account, perhaps on another processor.
#[inline]
pub fn resume(account: Account) {
    let cpu = processor::current();
    cpu.stack.origin.store(account.origin, Relaxed);
    cpu.stack.entered.store(account.entered, Relaxed);
    cpu.caller_rsp.store(account.caller_rsp, Relaxed);
}

/// Starts a new account: no driver is on the stack.
#[inline]
pub fn start(cpu: &Processor) {
    cpu.stack.origin.store(0, Relaxed);
}

/// Runs what has a stack of its own on Windows.
#[inline]
pub fn apart<R>(cpu: &Processor, body: impl FnOnce() -> R) -> R {
    let account = keep();
    start(cpu);
    let result = body();
    resume(account);
    result
}

/// A driver is called from here; what to give to [`resume`] when it has returned.
#[inline(always)]
pub fn enter() -> Account {
    let here: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    let outer = keep();
    // The last call of the driver above, unless it has made none since it was entered.
    let low = match outer.caller_rsp < outer.entered && outer.entered - outer.caller_rsp < STACK {
        true => outer.caller_rsp,
        false => outer.entered,
    };
    let executive = low.wrapping_sub(here);
    let stack = &processor::current().stack;
    let origin = match outer.origin != 0 && executive < STACK {
        true => outer.origin.wrapping_sub(executive),
        false => here,
    };
    stack.origin.store(origin, Relaxed);
    stack.entered.store(here, Relaxed);
    outer
}

/// A function that a thunk calls: it keeps every register that may be an argument (RAX and the vector registers for
/// `__chkstk`) and calls another one with what is in R10D.
macro_rules! keeping_arguments {
    ($(#[$about:meta])* $name:ident, $calls:ident) => {
        $(#[$about])*
        ///
        /// # Safety
        /// Called by a thunk, which has noted its caller.
        #[unsafe(naked)]
        pub unsafe extern "win64" fn $name() {
            core::arch::naked_asm!(
                "push rax",
                "push rcx",
                "push rdx",
                "push r8",
                "push r9",
                "sub rsp, 0x68",
                "movups [rsp + 0x20], xmm0",
                "movups [rsp + 0x30], xmm1",
                "movups [rsp + 0x40], xmm2",
                "movups [rsp + 0x50], xmm3",
                "mov ecx, r10d",
                "call {calls}",
                "movups xmm0, [rsp + 0x20]",
                "movups xmm1, [rsp + 0x30]",
                "movups xmm2, [rsp + 0x40]",
                "movups xmm3, [rsp + 0x50]",
                "add rsp, 0x68",
                "pop r9",
                "pop r8",
                "pop rdx",
                "pop rcx",
                "pop rax",
                "ret",
                calls = sym $calls,
            )
        }
    };
}
pub(super) use keeping_arguments;

keeping_arguments! {
    /// Where an import thunk calls when its module, in R10D, calls from deeper than ever.
    deeper, note
}

extern "win64" fn note(module: u32) {
    let cpu = processor::current();
    let used = cpu.stack.origin.load(Relaxed) - cpu.caller_rsp.load(Relaxed);
    if let Some(deepest) = cpu.stack.deepest.get(module as usize) {
        deepest.store(used, Relaxed);
    }
    if used > LIMIT {
        Rule::StackLimit.breach(format_args!(
            "uses {used} bytes of stack, with the drivers that called it; Windows has {LIMIT} for all"
        ));
    }
}

/// The most stack in bytes that was in use by drivers when `module` called the kernel.
pub fn most(module: u32) -> u64 {
    let cpus = processor::all().iter();
    let deepest = cpus.filter_map(|cpu| cpu.stack.deepest.get(module as usize));
    deepest.map(|used| used.load(Relaxed)).max().unwrap_or(0)
}
