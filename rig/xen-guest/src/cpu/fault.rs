//! Faults: what a driver did wrong becomes a bug check with its stack; the kernel's own end the run.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use nt_host::ke::backtrace;
use nt_host::ke::bugcheck::{
    self, KERNEL_SECURITY_CHECK_FAILURE, KMODE_EXCEPTION_NOT_HANDLED, PAGE_FAULT_IN_NONPAGED_AREA,
    UNEXPECTED_KERNEL_MODE_TRAP,
};
use nt_host::ke::fault as access;
use nt_host::pe::{modules, unwind};
use nt_host::verifier::{code, quarantine};

use super::interrupt::Frame;
use crate::memory::{self, paging};
use crate::{console, end};

// Exceptions of the processor (Intel SDM volume 3, 6.3.1).
const DIVIDE: u64 = 0;
const BREAKPOINT: u64 = 3;
const INVALID_OPCODE: u64 = 6;
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;
/// Page fault error code: a write; an instruction fetch.
const WRITE: u64 = 2;
const FETCH: u64 = 16;
/// `int 0x29` and `int 0x2c` in driver code: `__fastfail`, an assertion. They come by gates of their own, whose vectors
/// are below those of devices.
const FAST_FAIL: u64 = 0x29;
const ASSERTION: u64 = 0x2C;

// Statuses that KMODE_EXCEPTION_NOT_HANDLED reports (ntstatus.h).
const STATUS_BREAKPOINT: u64 = 0x8000_0003;
const STATUS_ACCESS_VIOLATION: u64 = 0xC000_0005;
const STATUS_ILLEGAL_INSTRUCTION: u64 = 0xC000_001D;
const STATUS_INTEGER_DIVIDE_BY_ZERO: u64 = 0xC000_0094;
const STATUS_ASSERTION_FAILURE: u64 = 0xC000_0420;

/// How far below a stack's end an access still counts as its overflow.
const OVERFLOW: u64 = 64 << 10;
const RSP: usize = 4;

/// A fault of the kernel's own is being reported.
static REPORTING: AtomicBool = AtomicBool::new(false);

fn fault_address() -> u64 {
    let address: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

fn for_unwind(frame: &Frame) -> unwind::Registers {
    let [
        r15,
        r14,
        r13,
        r12,
        r11,
        r10,
        r9,
        r8,
        rdi,
        rsi,
        rbp,
        rbx,
        rdx,
        rcx,
        rax,
    ] = frame.general;
    unwind::Registers {
        rip: frame.rip,
        general: [
            rax, rcx, rdx, rbx, frame.rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,
        ],
        complete: true,
    }
}

fn in_driver(address: u64) -> bool {
    modules::by_address(address).is_some_and(|module| module.is_code(address))
}

/// A fault has come. Returns if it was none.
pub fn taken(frame: &mut Frame) {
    if frame.vector == PAGE_FAULT {
        let address = fault_address();
        let access = paging::access(address);
        let allowed = match frame.error {
            error if error & FETCH != 0 => access.execute,
            error if error & WRITE != 0 => access.write,
            _ => access.read,
        };
        if allowed {
            // Another processor gave the page this access a moment ago.
            return paging::look_again(address);
        }
    }
    if frame.vector == PAGE_FAULT {
        let kind = match frame.error {
            error if error & FETCH != 0 => access::EXECUTE,
            error if error & WRITE != 0 => access::WRITE,
            _ => access::READ,
        };
        code::demand_there(kind, fault_address(), &for_unwind(frame));
    }
    if in_driver(frame.rip) {
        of_driver(frame);
    }
    jumped_nowhere(frame);
    of_kernel(frame);
}

/// Whether a vector is one of the software interrupts by which drivers end the machine.
pub fn is_software(vector: u8) -> bool {
    [FAST_FAIL, ASSERTION].contains(&u64::from(vector))
}

/// `int 0x29` or `int 0x2c`, from a driver.
pub fn software(frame: &Frame) -> ! {
    let state = for_unwind(frame);
    if frame.vector == ASSERTION {
        bugcheck::fault(
            KMODE_EXCEPTION_NOT_HANDLED,
            [STATUS_ASSERTION_FAILURE, frame.rip, 0, 0],
            &state,
            format_args!("fails an assertion"),
        );
    }
    let reason = state.general[1];
    bugcheck::fault(
        KERNEL_SECURITY_CHECK_FAILURE,
        [reason, 0, frame.rip, 0],
        &state,
        format_args!("ends by __fastfail({reason})"),
    )
}

fn of_driver(frame: &Frame) -> ! {
    let state = for_unwind(frame);
    let exception = |status: u64, what: &str| -> ! {
        bugcheck::fault(
            KMODE_EXCEPTION_NOT_HANDLED,
            [status, frame.rip, 0, 0],
            &state,
            format_args!("{what}"),
        )
    };
    match frame.vector {
        PAGE_FAULT => page_fault(frame),
        DIVIDE => exception(STATUS_INTEGER_DIVIDE_BY_ZERO, "divides by zero"),
        BREAKPOINT => exception(STATUS_BREAKPOINT, "runs into a breakpoint"),
        INVALID_OPCODE => exception(
            STATUS_ILLEGAL_INSTRUCTION,
            "executes ud2 or another illegal instruction",
        ),
        GENERAL_PROTECTION => exception(
            STATUS_ACCESS_VIOLATION,
            "accesses a non-canonical or misaligned address, or a register that is not there",
        ),
        _ => bugcheck::fault(
            UNEXPECTED_KERNEL_MODE_TRAP,
            [frame.vector, frame.error, frame.rip, 0],
            &state,
            format_args!("raises exception {}", frame.vector),
        ),
    }
}

fn page_fault(frame: &Frame) -> ! {
    let state = for_unwind(frame);
    let address = fault_address();
    if address < frame.rsp.saturating_add(4096) && frame.rsp.saturating_sub(address) < OVERFLOW {
        bugcheck::fault(
            UNEXPECTED_KERNEL_MODE_TRAP,
            [8, address, frame.rsp, frame.rip],
            &state,
            format_args!("uses more stack than it has"),
        );
    }
    let write = frame.error & WRITE != 0;
    quarantine::check(address, u64::from(write), &state);
    let verb = if write { "writes to" } else { "reads" };
    bugcheck::fault(
        PAGE_FAULT_IN_NONPAGED_AREA,
        [address, u64::from(write) * 2, frame.rip, 0],
        &state,
        format_args!("{verb} {address:#x}, {}", what_is_at(address)),
    )
}

/// A driver that called or jumped to what is no code.
fn jumped_nowhere(frame: &Frame) {
    if frame.vector != PAGE_FAULT || frame.error & FETCH == 0 {
        return;
    }
    let Some(caller) = unwind::read_stack(frame.rsp) else {
        return;
    };
    if in_driver(caller) {
        let mut state = for_unwind(frame);
        state.rip = caller;
        state.general[RSP] += 8;
        let target = frame.rip;
        bugcheck::fault(
            PAGE_FAULT_IN_NONPAGED_AREA,
            [target, 16, caller, 0],
            &state,
            format_args!("calls {target:#x}, {}", what_is_at(target)),
        );
    }
}

/// What is at an address that cannot be accessed.
fn what_is_at(address: u64) -> alloc::string::String {
    if address < 0x10000 {
        return "near the null pointer".into();
    }
    if let Some(module) = modules::by_address(address) {
        return alloc::format!("which is protected memory of {}", module.describe(address));
    }
    match address.checked_sub(memory::DIRECT) {
        Some(physical) if physical < 1 << 40 => {
            alloc::format!("protected memory at physical {physical:#x}")
        }
        _ => "where nothing is mapped".into(),
    }
}

/// A fault of the kernel's own, perhaps for a driver's bad argument.
fn of_kernel(frame: &Frame) -> ! {
    if REPORTING.swap(true, Ordering::AcqRel) {
        console::last_line(format_args!(
            "log and, while that was reported, exception {} at {:#x}, address {:#x}",
            frame.vector,
            frame.rip,
            fault_address()
        ));
        end::now(end::Verdict::Broken);
    }
    console::last_line(format_args!(
        "panic exception {} (error {:#x}) in the kernel at {:#x}, address {:#x}, stack {:#x}",
        frame.vector,
        frame.error,
        frame.rip,
        fault_address(),
        frame.rsp
    ));
    for address in kernel_stack(frame.rsp) {
        console::last_line(format_args!("at {}", crate::names::kernel(address)));
    }
    console::last_line(format_args!("log the last call of a driver:"));
    for line in backtrace::describe(&backtrace::of_caller()) {
        console::last_line(format_args!("at {line}"));
    }
    end::now(end::Verdict::Broken)
}

/// Words of the stack that look like return addresses of the kernel, innermost first.
pub fn kernel_stack(from: u64) -> impl Iterator<Item = u64> {
    /// Words to look at, and addresses to find.
    const WORDS: u64 = 1024;
    const FOUND: usize = 24;
    let [start, code_end, ..] = memory::kernel();
    (0..WORDS)
        .map(move |word| (from & !7) + 8 * word)
        .map_while(unwind::read_stack)
        .filter(move |value| (start..code_end).contains(value))
        .take(FOUND)
}
