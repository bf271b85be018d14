//! Calls of a driver that the executive makes for another driver: IofCallDriver. Exceptions of the one can be handled by
//! the other, whose state the executive keeps meanwhile.
//!
//! ```text
//!   driver A ── IofCallDriver: Caller, Bridge ── executive ──> dispatch routine of driver B ── exception
//!      ▲                                                                                         │ no handler in B
//!      └──────────────── the search goes on, and unwinding leads here ───────────────────────────┘
//! ```

use core::sync::atomic::Ordering;

use super::exception::STACK;
use super::thread;
use crate::pe::unwind::{Registers, Vectors};
use crate::verifier::stack::{self, Account};

// Numbers of general registers.
const RBX: usize = 3;
const RSP: usize = 4;
const RBP: usize = 5;
const RSI: usize = 6;
const RDI: usize = 7;

/// The registers that functions preserve, as they are in a driver that has called the executive, behind its call.
#[repr(C, align(16))]
pub struct Caller {
    /// XMM6 to XMM15.
    vectors: [[u64; 2]; 10],
    rbx: u64,
    rbp: u64,
    rsi: u64,
    rdi: u64,
    /// R12 to R15.
    upper: [u64; 4],
    rsp: u64,
    rip: u64,
}

const _: () = assert!(size_of::<Caller>() == 240);

/// The body of a naked function with two arguments: calls `$inner` with them and with the caller's state
/// (`*const Caller`).
macro_rules! with_caller {
    ($inner:ident) => {
        // The state at RSP + 0x20; the stack is aligned for the call.
        core::arch::naked_asm!(
            "sub rsp, 0x128",
            "movaps [rsp + 0x20], xmm6",
            "movaps [rsp + 0x30], xmm7",
            "movaps [rsp + 0x40], xmm8",
            "movaps [rsp + 0x50], xmm9",
            "movaps [rsp + 0x60], xmm10",
            "movaps [rsp + 0x70], xmm11",
            "movaps [rsp + 0x80], xmm12",
            "movaps [rsp + 0x90], xmm13",
            "movaps [rsp + 0xa0], xmm14",
            "movaps [rsp + 0xb0], xmm15",
            "mov [rsp + 0xc0], rbx",
            "mov [rsp + 0xc8], rbp",
            "mov [rsp + 0xd0], rsi",
            "mov [rsp + 0xd8], rdi",
            "mov [rsp + 0xe0], r12",
            "mov [rsp + 0xe8], r13",
            "mov [rsp + 0xf0], r14",
            "mov [rsp + 0xf8], r15",
            "lea rax, [rsp + 0x130]",
            "mov [rsp + 0x100], rax",
            "mov rax, [rsp + 0x128]",
            "mov [rsp + 0x108], rax",
            "lea r8, [rsp + 0x20]",
            "call {inner}",
            "add rsp, 0x128",
            "ret",
            inner = sym $inner,
        )
    };
}
pub(crate) use with_caller;

/// A driver's call that another driver made, on a thread's stack.
pub struct Bridge {
    previous: *const Bridge,
    caller: *const Caller,
    undo: fn(u64),
    argument: u64,
    /// Of the stack, as it is while the caller runs.
    account: Account,
}

impl Bridge {
    /// The call around this one.
    pub(super) fn previous(&self) -> *const Bridge {
        self.previous
    }

    /// The registers of the driver for which the call is made, behind its own call.
    ///
    /// # Safety
    /// The call has not returned.
    pub(super) unsafe fn state(&self) -> (Registers, Vectors) {
        // SAFETY: valid as long as the call.
        let caller = unsafe { &*self.caller };
        let mut registers = Registers {
            rip: caller.rip,
            complete: true,
            ..Registers::default()
        };
        let general = &mut registers.general;
        (general[RBX], general[RSP], general[RBP]) = (caller.rbx, caller.rsp, caller.rbp);
        (general[RSI], general[RDI]) = (caller.rsi, caller.rdi);
        general[12..].copy_from_slice(&caller.upper);
        let mut vectors = [[0; 2]; 16];
        vectors[6..].copy_from_slice(&caller.vectors);
        (registers, vectors)
    }
}

/// Calls a driver by `body` for the driver whose state is `caller`. When the caller handles an exception of the other,
/// `body` does not return, and `undo(argument)` takes back what was noted of the call.
///
/// # Safety
/// `caller` is valid until `body` has returned.
pub(crate) unsafe fn across<R>(
    caller: *const Caller,
    undo: fn(u64),
    argument: u64,
    body: impl FnOnce() -> R,
) -> R {
    let bridge = Bridge {
        previous: innermost(),
        caller,
        undo,
        argument,
        account: stack::keep(),
    };
    set_innermost(&raw const bridge);
    let result = body();
    set_innermost(bridge.previous);
    result
}

/// The innermost call of a driver for a driver on this thread, or null.
pub(super) fn innermost() -> *const Bridge {
    thread::current().bridges.load(Ordering::Relaxed)
}

fn set_innermost(bridge: *const Bridge) {
    thread::current()
        .bridges
        .store(bridge.cast_mut(), Ordering::Relaxed);
}

/// The call above `rsp` that comes next from `at` on, which is moved to it.
pub(super) fn above(at: &mut *const Bridge, rsp: u64) -> Option<&'static Bridge> {
    loop {
        // SAFETY: null, or in a frame of this thread that has not returned.
        let bridge = unsafe { at.as_ref() }?;
        if (*at as u64).wrapping_sub(rsp) < STACK {
            return Some(bridge);
        }
        // Below: the walk has passed it by.
        if rsp.wrapping_sub(*at as u64) >= STACK {
            return None;
        }
        *at = bridge.previous;
    }
}

/// The calls of drivers for drivers up to `to` will not return.
pub(super) fn leave(to: *const Bridge) {
    let mut at = innermost();
    while at != to {
        // SAFETY: null, or in a frame of this thread that has not returned.
        let Some(bridge) = (unsafe { at.as_ref() }) else {
            break;
        };
        (bridge.undo)(bridge.argument);
        stack::resume(bridge.account);
        at = bridge.previous;
    }
    set_innermost(at);
}
