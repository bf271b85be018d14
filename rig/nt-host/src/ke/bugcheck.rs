//! The end of the machine when a rule is broken: a report, the drivers' bug check callbacks, and a halt.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nt_sys::{HIGH_LEVEL, KIRQL};

use super::{backtrace, bugcheck_callback, irql, processor};
use crate::exports;
use crate::host::platform;
use crate::pe::modules;
use crate::pe::unwind::Registers;
use crate::verifier::Rule;

// Microsoft Learn: "Bug check code reference".
/// An exception that nothing handles.
pub const KMODE_EXCEPTION_NOT_HANDLED: u32 = 0x1E;
/// The same, below DISPATCH_LEVEL: all threads here are system threads.
pub const SYSTEM_THREAD_EXCEPTION_NOT_HANDLED: u32 = 0x7E;
/// An access, at DISPATCH_LEVEL or above, to memory that might be paged.
pub const DRIVER_IRQL_NOT_LESS_OR_EQUAL: u32 = 0xD1;
/// An access to memory that is not there.
pub const PAGE_FAULT_IN_NONPAGED_AREA: u32 = 0x50;
/// A kernel stack is exhausted.
pub const UNEXPECTED_KERNEL_MODE_TRAP: u32 = 0x7F;
/// The system cannot start: here, the executive lacks memory for itself.
pub const INSTALL_MORE_MEMORY: u32 = 0x7D;
/// A processor does not answer.
pub const CLOCK_WATCHDOG_TIMEOUT: u32 = 0x101;
/// `__fastfail`.
pub const KERNEL_SECURITY_CHECK_FAILURE: u32 = 0x139;

/// `KiBugCheckData`: the code and its parameters, once there is a bug check.
pub static KiBugCheckData: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

/// Who reports: the CPU's number plus one, [`NO_CPU`] for a host thread that is none, 0 for nobody yet.
static REPORTER: AtomicU32 = AtomicU32::new(0);
const NO_CPU: u32 = u32::MAX;
/// How long another CPU waits for the report to be complete, in 100 ns units: 10 s.
const REPORT_TIME: u64 = 100_000_000;

/// Ends the machine. `what` completes the sentence "DRIVER …": "calls KeBugCheckEx".
pub fn bug_check(code: u32, parameters: [u64; 4], what: fmt::Arguments) -> ! {
    report(code, parameters, None, what, || {
        backtrace::describe(&backtrace::of_caller())
    })
}

/// Ends the machine because the executive itself cannot go on.
pub fn give_up(what: fmt::Arguments) -> ! {
    bug_check(INSTALL_MORE_MEMORY, [0; 4], what)
}

/// As [`bug_check`], for a rule of the verifier if one is broken, with a stack from elsewhere than the last call into
/// the executive.
pub(crate) fn report(
    code: u32,
    parameters: [u64; 4],
    rule: Option<Rule>,
    what: fmt::Arguments,
    stack: impl FnOnce() -> Vec<String>,
) -> ! {
    let cpu = processor::try_current();
    let me = cpu.map_or(NO_CPU, |cpu| cpu.number + 1);
    if let Err(other) = REPORTER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        give_way(other == me, code, what);
    }
    let values = [
        u64::from(code),
        parameters[0],
        parameters[1],
        parameters[2],
        parameters[3],
    ];
    for (cell, value) in KiBugCheckData.iter().zip(values) {
        cell.store(value, Ordering::Relaxed);
    }
    let driver = cpu.map_or(0, |cpu| cpu.caller.load(Ordering::Relaxed));
    let say = |line: &str| platform().log(line);
    say(&format!(
        "*** bug check {code:#010x}: {} {what}",
        modules::name_of(driver)
    ));
    if let Some(rule) = rule {
        say(&format!("    rule {rule}: {}", rule.row().about));
    }
    let [a, b, c, d] = parameters;
    say(&format!("    parameters {a:#x} {b:#x} {c:#x} {d:#x}"));
    if let Some(cpu) = cpu {
        say(&format!("    {}", super::scheduler::describe(cpu)));
    }
    for line in stack() {
        say(&format!("      {line}"));
    }
    for module in modules::loaded() {
        say(&format!(
            "    {:#x}..{:#x} {}",
            module.base(),
            module.base() + module.size(),
            module.name
        ));
    }
    if cpu.is_some() {
        irql::set(HIGH_LEVEL);
        bugcheck_callback::run(code);
    }
    platform().halt(code)
}

/// A second bug check: within the first one it cuts the report short, on another CPU it waits for the report.
fn give_way(nested: bool, code: u32, what: fmt::Arguments) -> ! {
    if nested {
        platform().log(&format!(
            "*** and, while that was reported, bug check {code:#010x}: {what}"
        ));
    } else {
        let end = platform().interrupt_time() + REPORT_TIME;
        while platform().interrupt_time() < end {
            platform().relax();
        }
    }
    platform().halt(code)
}

/// A fault in driver code: a bug check whose stack starts at `registers`.
pub fn fault(code: u32, parameters: [u64; 4], registers: &Registers, what: fmt::Arguments) -> ! {
    fault_of(code, parameters, None, registers, what)
}

/// As [`fault`], for a rule of the verifier if one is broken.
pub(crate) fn fault_of(
    code: u32,
    parameters: [u64; 4],
    rule: Option<Rule>,
    registers: &Registers,
    what: fmt::Arguments,
) -> ! {
    if let (Some(cpu), Some(module)) =
        (processor::try_current(), modules::by_address(registers.rip))
    {
        cpu.caller.store(module.id, Ordering::Relaxed);
    }
    report(code, parameters, rule, what, || {
        backtrace::describe(&backtrace::walk(*registers))
    })
}

#[cold]
fn wrong_irql(function: &str, current: KIRQL, limit: KIRQL) -> ! {
    Rule::IrqlCall.bug_check(
        [u64::from(current), u64::from(limit), 0, 0],
        format_args!("calls {function} at IRQL {current}; it may be called at IRQL <= {limit}"),
    )
}

/// The rule that `function` is called at `limit` or below, where an argument decides or a driver has returned: what
/// holds for every call of a function is its import thunk's business ([`crate::verifier::irql`]).
#[inline]
pub fn irql_at_most(function: &str, limit: KIRQL) {
    let current = irql::current();
    if current > limit {
        wrong_irql(function, current, limit);
    }
}

/// Microsoft Learn: KeBugCheckEx.
pub extern "win64" fn KeBugCheckEx(code: u32, a: usize, b: usize, c: usize, d: usize) -> ! {
    let parameters = [a as u64, b as u64, c as u64, d as u64];
    bug_check(code, parameters, format_args!("calls KeBugCheckEx"))
}

/// Microsoft Learn: KeBugCheck.
pub extern "win64" fn KeBugCheck(code: u32) -> ! {
    bug_check(code, [0; 4], format_args!("calls KeBugCheck"))
}

exports!(
    "ntoskrnl.exe":
    KeBugCheckEx,
    KeBugCheck;
    data KiBugCheckData,
);
