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
use std::sync::atomic::Ordering;

use nt_host::ke::bugcheck::{self, KERNEL_SECURITY_CHECK_FAILURE, PAGE_FAULT_IN_NONPAGED_AREA};
use nt_host::ke::exception::{self, Record};
use nt_host::ke::fault;
use nt_host::ke::processor;
use nt_host::pe::{modules, unwind};
use nt_host::rtl::context::Context;
use nt_host::rtl::memory;
use nt_host::verifier::{Rule, code, quarantine};
use nt_sys::{NTSTATUS, STATUS_ACCESS_VIOLATION};

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
const PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;

// Software interrupts with a meaning in the kernel (Microsoft Learn: __fastfail; DbgRaiseAssertionFailure).
const FAST_FAIL: u8 = 0x29;
const ASSERTION: u8 = 0x2c;

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
        if registers.trap() == PAGE_FAULT {
            let kind = match registers.is_fetch() {
                true => fault::EXECUTE,
                false => access(registers),
            };
            code::demand_there(kind, registers.fault_address(), &registers.for_unwind());
        }
        if !in_driver(registers.rip()) {
            if !self.jumped_nowhere(registers) && !self.failed_copy(registers) {
                own_fault(signal, registers);
            }
            return;
        }
        match self.emulate(cpu, registers) {
            Outcome::Done => {}
            Outcome::Fault { address, write } => {
                let kind = if write { fault::WRITE } else { fault::READ };
                self.page_fault(address, kind, registers, registers.context());
            }
            Outcome::NotEmulated => self.driver_fault(registers),
        }
    }

    /// Raises an exception for a driver that called or jumped to what is no code, where it did; whether it did.
    fn jumped_nowhere(&self, registers: &mut Registers) -> bool {
        let mut back = [0; 8];
        let rsp = registers.get(RSP);
        if registers.trap() != PAGE_FAULT
            || !registers.is_fetch()
            || self.memory().read(rsp, &mut back).is_err()
            || !in_driver(u64::from_le_bytes(back))
        {
            return false;
        }
        let target = registers.rip();
        let mut context = registers.context();
        context.rip = u64::from_le_bytes(back);
        context.general[RSP] = rsp + 8;
        self.page_fault(target, fault::EXECUTE, registers, context);
        true
    }

    /// Raises an exception for a driver that had memory copied or filled which is not there; whether it did.
    fn failed_copy(&self, registers: &mut Registers) -> bool {
        let mut context = registers.context();
        if registers.trap() != PAGE_FAULT && registers.trap() != PROTECTION
            || !memory::caller_of(&mut context)
            || !in_driver(context.rip)
        {
            return false;
        }
        let kind = access(registers);
        let address = match registers.trap() {
            PAGE_FAULT => registers.fault_address(),
            _ => fault::NO_ADDRESS,
        };
        self.page_fault(address, kind, registers, context);
        true
    }

    /// Lets the driver go on where its exception is handled, or reports it.
    fn exception(&self, record: &Record, registers: &mut Registers, context: &Context) {
        // SAFETY: the thread was stopped in driver code on this CPU, in this state.
        match unsafe { exception::prepare(record, context) } {
            Some(entry) => registers.enter(entry),
            None => exception::unhandled(record, &context.registers()),
        }
    }

    fn driver_fault(&self, registers: &mut Registers) {
        let rip = registers.rip();
        let mut context = registers.context();
        let (status, information): (NTSTATUS, &[u64]) = match registers.trap() {
            PAGE_FAULT => {
                let kind = access(registers);
                return self.page_fault(registers.fault_address(), kind, registers, context);
            }
            DIVIDE => (fault::STATUS_INTEGER_DIVIDE_BY_ZERO, &[]),
            BREAKPOINT => {
                // The processor stops behind it, Windows on it.
                context.rip = rip - 1;
                (fault::STATUS_BREAKPOINT, &[0])
            }
            INVALID_OPCODE => (fault::STATUS_ILLEGAL_INSTRUCTION, &[]),
            _ => match self.decode(rip) {
                None => (fault::STATUS_ILLEGAL_INSTRUCTION, &[]),
                Some(instruction) if instruction.code() == iced_x86::Code::Int_imm8 => {
                    match instruction.immediate8() {
                        FAST_FAIL => fast_fail(registers),
                        ASSERTION => (fault::STATUS_ASSERTION_FAILURE, &[]),
                        _ => (STATUS_ACCESS_VIOLATION, &[0, fault::NO_ADDRESS]),
                    }
                }
                Some(instruction) if is_privileged(&instruction) => {
                    (fault::STATUS_PRIVILEGED_INSTRUCTION, &[])
                }
                Some(_) => (STATUS_ACCESS_VIOLATION, &[0, fault::NO_ADDRESS]),
            },
        };
        let record = Record::new(status, context.rip, information);
        self.exception(&record, registers, &context);
    }

    /// An access to memory that is not there. In the kernel's own memory, which the guest's RAM is, that is the end;
    /// elsewhere it is an exception, as it is for a user's address.
    fn page_fault(&self, address: u64, kind: u64, registers: &mut Registers, context: Context) {
        let state = context.registers();
        let rsp = context.general[RSP];
        if kind != fault::EXECUTE
            && address < rsp.saturating_add(4096)
            && rsp.saturating_sub(address) < OVERFLOW
            && !self.memory().is_readable(address, 1)
        {
            Rule::StackOverflow.fault(
                [8, address, rsp, context.rip],
                &state,
                format_args!("uses more stack than it has"),
            );
        }
        if self.memory().covers(address) {
            quarantine::check(address, kind, &state);
            // The parameter's values: 0 for a read, 2 for a write, 16 for a fetch.
            bugcheck::fault(
                PAGE_FAULT_IN_NONPAGED_AREA,
                [address, kind * 2, context.rip, 0],
                &state,
                format_args!("{}", fault::access(kind, address)),
            );
        }
        let record = Record::new(STATUS_ACCESS_VIOLATION, context.rip, &[kind, address]);
        self.exception(&record, registers, &context);
    }
}

/// How a fault accessed memory.
fn access(registers: &Registers) -> u64 {
    match registers.is_write() {
        true => fault::WRITE,
        false => fault::READ,
    }
}

/// `int 29h`: the end, without asking anyone. RCX has the reason (winnt.h: FAST_FAIL_*).
fn fast_fail(registers: &Registers) -> ! {
    let reason = registers.get(RCX);
    bugcheck::fault(
        KERNEL_SECURITY_CHECK_FAILURE,
        [reason, 0, registers.rip(), 0],
        &registers.for_unwind(),
        format_args!("ends by __fastfail({reason})"),
    )
}

/// Whether a general protection fault comes from what an instruction is, rather than from what it accesses.
fn is_privileged(instruction: &iced_x86::Instruction) -> bool {
    instruction.is_privileged() || !has_memory_operand(instruction)
}

fn has_memory_operand(instruction: &iced_x86::Instruction) -> bool {
    (0..instruction.op_count()).any(|index| instruction.op_kind(index) == iced_x86::OpKind::Memory)
}

/// A fault outside of driver code: the rig's own, or that of a driver which passed a bad pointer. Says what is known and
/// ends the process.
fn own_fault(signal: libc::c_int, registers: &Registers) -> ! {
    // A fault in here must not come back.
    // SAFETY: resets the action of a signal to its default.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let mut err = io::stderr();
    if let Some(call) = vcpu::current().and_then(|cpu| call_of_a_driver(cpu, registers)) {
        let _ = writeln!(err, "rig: {}", std::backtrace::Backtrace::force_capture());
        bad_argument(call, registers);
    }
    let _ = writeln!(
        err,
        "rig: fault in the rig's own code (signal {signal}, exception {}) at {:#x}, address {:#x}",
        registers.trap(),
        registers.rip(),
        registers.fault_address(),
    );
    let _ = writeln!(err, "{}", std::backtrace::Backtrace::force_capture());
    std::process::abort()
}

/// The state behind the call of a driver that the executive is serving on the stack of these registers.
fn call_of_a_driver(cpu: u32, registers: &Registers) -> Option<unwind::Registers> {
    /// No kernel stack is longer than this, in bytes.
    const STACK: u64 = 64 << 10;
    let is_memory = [PAGE_FAULT, PROTECTION].contains(&registers.trap());
    let noted = processor::processor_block(cpu)
        .caller_rsp
        .load(Ordering::Relaxed);
    if !is_memory || noted.wrapping_sub(registers.get(RSP)) >= STACK {
        return None;
    }
    let mut state = unwind::Registers {
        rip: unwind::read_stack(noted).filter(|&back| in_driver(back))?,
        ..Default::default()
    };
    state.general[RSP] = noted + 8;
    Some(state)
}

/// Reports a fault in the executive as that of the driver which made this call.
fn bad_argument(call: unwind::Registers, registers: &Registers) -> ! {
    let function = modules::called_before(call.rip);
    let function = function.as_deref().unwrap_or("a kernel function");
    let (address, kind) = match registers.trap() {
        PAGE_FAULT => (registers.fault_address(), access(registers)),
        _ => (fault::NO_ADDRESS, fault::READ),
    };
    bugcheck::fault(
        PAGE_FAULT_IN_NONPAGED_AREA,
        [address, kind * 2, registers.rip(), 0],
        &call,
        format_args!(
            "calls {function} with a bad argument: it {}",
            fault::access(kind, address)
        ),
    )
}
