//! Signals of vCPU threads: instructions to emulate, faults of drivers, faults of the rig.
//!
//! ```text
//!   SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP
//!     └─ in driver code? ── emulate ── done: the driver goes on
//!         │                     └── a bug check, with the driver's stack
//!         └─ a jump to nowhere: the same, from the return address
//!         └─ the rig itself: says so and aborts
//! ```
//! SIGUSR2 interrupts a driver that has not called the executive for long; elsewhere it does nothing.
//!
//! The handler has a stack of its own in each thread, since a driver's may be exhausted.

use std::io::{self, Write};
use std::ptr::null_mut;
use std::sync::OnceLock;

use nt_host::ke::backtrace;
use nt_host::ke::bugcheck::{
    self, KERNEL_SECURITY_CHECK_FAILURE, KMODE_EXCEPTION_NOT_HANDLED, PAGE_FAULT_IN_NONPAGED_AREA,
    UNEXPECTED_KERNEL_MODE_TRAP,
};
use nt_host::pe::{modules, unwind};

use super::emulate::Outcome;
use super::registers::{RCX, RSP, Registers};
use super::{Linux, detour, step, vcpu};

/// Bytes of a handler's stack: reports read debug information.
const STACK: usize = 1 << 20;
/// How far below a stack's end an access still counts as its overflow.
const OVERFLOW: u64 = 64 << 10;

/// A driver that does not get on (bugcodes.h).
const THREAD_STUCK_IN_DEVICE_DRIVER: u32 = 0xEA;

// Exceptions of the processor (Intel SDM volume 3, 6.3.1).
const DIVIDE: u64 = 0;
const DEBUG: u64 = 1;
const BREAKPOINT: u64 = 3;
const INVALID_OPCODE: u64 = 6;
const PAGE_FAULT: u64 = 14;

// Statuses that KMODE_EXCEPTION_NOT_HANDLED reports (ntstatus.h).
const STATUS_BREAKPOINT: u64 = 0x8000_0003;
const STATUS_ACCESS_VIOLATION: u64 = 0xC000_0005;
const STATUS_ILLEGAL_INSTRUCTION: u64 = 0xC000_001D;
const STATUS_INTEGER_DIVIDE_BY_ZERO: u64 = 0xC000_0094;
const STATUS_PRIVILEGED_INSTRUCTION: u64 = 0xC000_0096;
const STATUS_ASSERTION_FAILURE: u64 = 0xC000_0420;

/// The signal that interrupts a driver.
pub const NUDGE: libc::c_int = libc::SIGUSR2;

static MACHINE: OnceLock<&'static Linux> = OnceLock::new();

/// The machine of this process, once its signals are installed.
pub fn machine() -> Option<&'static Linux> {
    MACHINE.get().copied()
}

/// Makes the process's signals those of `machine`.
pub fn install(machine: &'static Linux) -> io::Result<()> {
    if MACHINE.set(machine).is_err() {
        return Err(io::Error::other("there is one machine in a process"));
    }
    let faults = [
        libc::SIGILL,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGTRAP,
    ];
    for signal in faults.into_iter().chain([NUDGE]) {
        // SAFETY: all zeroes are a valid value of this C structure.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = match signal {
            NUDGE => nudged as *const () as usize,
            _ => handle as *const () as usize,
        };
        // Emulation may itself be interrupted, by a fault that it reports.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_RESTART;
        // SAFETY: the action is initialised; the handler has the signature that SA_SIGINFO asks for.
        if unsafe { libc::sigaction(signal, &raw const action, null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Gives the calling thread a stack for signals. The thread keeps it for ever.
pub fn prepare_thread() -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(null_mut(), STACK, access, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let stack = libc::stack_t {
        ss_sp: base,
        ss_flags: 0,
        ss_size: STACK,
    };
    // SAFETY: the stack is mapped and used for nothing else.
    match unsafe { libc::sigaltstack(&raw const stack, null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn handle(signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the interrupted thread's context, which nothing else uses.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let mut registers = Registers::new(context);
    if let (Some(machine), Some(cpu)) = (MACHINE.get(), vcpu::current()) {
        if registers.trap() == DEBUG {
            return step::trapped(&mut registers);
        }
        machine.signal(signal, cpu, &mut registers);
    } else {
        own_fault(signal, &registers);
    }
}

extern "C" fn nudged(
    _signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes the interrupted thread's context, which nothing else uses.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let mut registers = Registers::new(context);
    // A driver between two instructions holds no lock of the rig: this is as good a place as one of its calls.
    if vcpu::current().is_some() && in_driver(registers.rip()) {
        // SAFETY: driver code always has a stack, as an interrupt would need it; an exhausted one faults and is reported
        // as the rig's own fault.
        unsafe { registers.call(detour::nudge as *const () as u64) };
    }
}

/// Ends a seeded machine that has made no turn for some seconds.
pub fn stuck(context: &mut libc::ucontext_t, seconds: u64) {
    let registers = Registers::new(context);
    if vcpu::current().is_some() && in_driver(registers.rip()) {
        bugcheck::fault(
            THREAD_STUCK_IN_DEVICE_DRIVER,
            [0, 0, registers.rip(), 0],
            &registers.for_unwind(),
            format_args!(
                "has called no kernel function for {seconds} s, and waits without `pause`"
            ),
        );
    }
    own_fault(libc::SIGALRM, &registers);
}

/// The driver whose code is at an address.
pub(super) fn driver_at(address: u64) -> Option<&'static modules::Module> {
    modules::by_address(address).filter(|module| module.is_code(address))
}

fn in_driver(address: u64) -> bool {
    driver_at(address).is_some()
}

impl Linux {
    fn signal(&self, signal: libc::c_int, cpu: u32, registers: &mut Registers) {
        if !in_driver(registers.rip()) {
            self.jumped_nowhere(registers);
            own_fault(signal, registers);
        }
        match self.emulate(cpu, registers) {
            Outcome::Done => {}
            Outcome::Fault { address, write } => self.page_fault(address, write, registers),
            Outcome::NotEmulated => self.driver_fault(registers),
        }
    }

    /// Reports a driver that called or jumped to what is no code.
    fn jumped_nowhere(&self, registers: &Registers) {
        let mut back = [0; 8];
        if registers.trap() != PAGE_FAULT
            || !registers.is_fetch()
            || self.memory().read(registers.get(RSP), &mut back).is_err()
        {
            return;
        }
        let caller = u64::from_le_bytes(back);
        if in_driver(caller) {
            let mut state = registers.for_unwind();
            state.rip = caller;
            state.general[RSP] += 8;
            let target = registers.rip();
            bugcheck::fault(
                PAGE_FAULT_IN_NONPAGED_AREA,
                [target, 16, caller, 0],
                &state,
                format_args!("calls {target:#x}, {}", self.what_is_at(target)),
            );
        }
    }

    fn driver_fault(&self, registers: &Registers) -> ! {
        let rip = registers.rip();
        let state = registers.for_unwind();
        let exception = |status: u64, what: std::fmt::Arguments| -> ! {
            let parameters = [status, rip, 0, 0];
            bugcheck::fault(KMODE_EXCEPTION_NOT_HANDLED, parameters, &state, what)
        };
        match registers.trap() {
            PAGE_FAULT => {
                self.page_fault(registers.fault_address(), registers.is_write(), registers)
            }
            DIVIDE => exception(
                STATUS_INTEGER_DIVIDE_BY_ZERO,
                format_args!("divides by zero"),
            ),
            BREAKPOINT => exception(STATUS_BREAKPOINT, format_args!("runs into a breakpoint")),
            INVALID_OPCODE => exception(
                STATUS_ILLEGAL_INSTRUCTION,
                format_args!("executes ud2 or another illegal instruction"),
            ),
            _ => {}
        }
        let Some(instruction) = self.decode(rip) else {
            exception(
                STATUS_ILLEGAL_INSTRUCTION,
                format_args!("executes an illegal instruction"),
            );
        };
        if instruction.code() == iced_x86::Code::Int_imm8 {
            match instruction.immediate8() {
                0x29 => {
                    // RCX has the reason (winnt.h: FAST_FAIL_*).
                    let reason = registers.get(RCX);
                    bugcheck::fault(
                        KERNEL_SECURITY_CHECK_FAILURE,
                        [reason, 0, rip, 0],
                        &state,
                        format_args!("ends by __fastfail({reason})"),
                    );
                }
                0x2c => exception(STATUS_ASSERTION_FAILURE, format_args!("fails an assertion")),
                _ => {}
            }
        }
        if has_memory_operand(&instruction) {
            exception(
                STATUS_ACCESS_VIOLATION,
                format_args!("accesses memory at a non-canonical or misaligned address"),
            );
        }
        exception(
            STATUS_PRIVILEGED_INSTRUCTION,
            format_args!(
                "executes {:?}, which the rig does not emulate",
                instruction.mnemonic()
            ),
        )
    }

    fn page_fault(&self, address: u64, write: bool, registers: &Registers) -> ! {
        let state: unwind::Registers = registers.for_unwind();
        let verb = if write { "writes to" } else { "reads" };
        let rsp = registers.get(RSP);
        if address < rsp.saturating_add(4096)
            && rsp.saturating_sub(address) < OVERFLOW
            && !self.memory().is_readable(address, 1)
        {
            bugcheck::fault(
                UNEXPECTED_KERNEL_MODE_TRAP,
                [8, address, rsp, registers.rip()],
                &state,
                format_args!("uses more stack than it has"),
            );
        }
        bugcheck::fault(
            PAGE_FAULT_IN_NONPAGED_AREA,
            [address, u64::from(write) * 2, registers.rip(), 0],
            &state,
            format_args!("{verb} {address:#x}, {}", self.what_is_at(address)),
        )
    }

    /// What is at an address that cannot be accessed.
    fn what_is_at(&self, address: u64) -> String {
        if address < 0x10000 {
            return "near the null pointer".to_owned();
        }
        if let Some(module) = modules::by_address(address) {
            return format!("which is protected memory of {}", module.describe(address));
        }
        self.memory().describe(address)
    }
}

fn has_memory_operand(instruction: &iced_x86::Instruction) -> bool {
    (0..instruction.op_count()).any(|index| instruction.op_kind(index) == iced_x86::OpKind::Memory)
}

/// A fault outside of driver code: the rig's own, perhaps for a driver's bad argument. Says what is known and aborts.
fn own_fault(signal: libc::c_int, registers: &Registers) -> ! {
    // A fault in here must not come back.
    // SAFETY: resets the action of a signal to its default.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let mut err = io::stderr();
    let _ = writeln!(
        err,
        "rig: fault in the rig's own code (signal {signal}, exception {}) at {:#x}, address {:#x}",
        registers.trap(),
        registers.rip(),
        registers.fault_address(),
    );
    if vcpu::current().is_some() {
        let _ = writeln!(
            err,
            "rig: perhaps for a bad argument of the last call by a driver:"
        );
        for line in backtrace::describe(&backtrace::of_caller()) {
            let _ = writeln!(err, "      {line}");
        }
    }
    let _ = writeln!(err, "{}", std::backtrace::Backtrace::force_capture());
    std::process::abort()
}
