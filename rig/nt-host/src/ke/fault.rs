//! Exceptions that nothing handles, as bug checks: what happened, in words, and with the codes that Windows uses.

use alloc::format;
use alloc::string::String;

use nt_sys::{DISPATCH_LEVEL, NTSTATUS, STATUS_ACCESS_VIOLATION};

use super::exception::Record;
use super::{bugcheck, irql};
use crate::host::platform;
use crate::pe::modules;
use crate::pe::unwind::Registers;

// Statuses of exceptions (ntstatus.h).
/// `int 3`.
pub const STATUS_BREAKPOINT: NTSTATUS = 0x8000_0003_u32 as i32;
/// `ud2` and what is no instruction.
pub const STATUS_ILLEGAL_INSTRUCTION: NTSTATUS = 0xC000_001D_u32 as i32;
/// `div` and `idiv`.
pub const STATUS_INTEGER_DIVIDE_BY_ZERO: NTSTATUS = 0xC000_0094_u32 as i32;
/// What only the kernel may do, and the rig does not emulate.
pub const STATUS_PRIVILEGED_INSTRUCTION: NTSTATUS = 0xC000_0096_u32 as i32;
/// `int 2Ch`.
pub const STATUS_ASSERTION_FAILURE: NTSTATUS = 0xC000_0420_u32 as i32;

/// EXCEPTION_RECORD.ExceptionInformation[0] of an access violation: a read.
pub const READ: u64 = 0;
/// The same: a write.
pub const WRITE: u64 = 1;
/// The same: an instruction fetch.
pub const EXECUTE: u64 = 8;
/// The address that is reported where the processor tells none.
pub const NO_ADDRESS: u64 = u64::MAX;

/// What is at an address that cannot be accessed.
fn what_is_at(address: u64) -> String {
    if address < 0x10000 {
        return String::from("near the null pointer");
    }
    match modules::by_address(address) {
        Some(module) => format!("which is protected memory of {}", module.describe(address)),
        None => platform().describe(address),
    }
}

/// What a driver did to `address`, to complete the sentence "DRIVER …".
pub fn access(kind: u64, address: u64) -> String {
    let verb = match kind {
        READ => "reads",
        WRITE => "writes to",
        _ => "calls",
    };
    match address {
        NO_ADDRESS => format!("{verb} a non-canonical or misaligned address"),
        _ => format!("{verb} {address:#x}, {}", what_is_at(address)),
    }
}

/// Completes the sentence "DRIVER …".
fn sentence(record: &Record) -> String {
    let [kind, address, ..] = record.information;
    match record.code as NTSTATUS {
        STATUS_ACCESS_VIOLATION if record.parameters < 2 || address == NO_ADDRESS => {
            String::from("accesses memory at a non-canonical or misaligned address")
        }
        STATUS_ACCESS_VIOLATION => access(kind, address),
        STATUS_BREAKPOINT => String::from("runs into a breakpoint"),
        STATUS_ILLEGAL_INSTRUCTION => String::from("executes ud2 or another illegal instruction"),
        STATUS_INTEGER_DIVIDE_BY_ZERO => String::from("divides by zero"),
        STATUS_PRIVILEGED_INSTRUCTION => {
            String::from("executes a privileged instruction, which the rig does not emulate")
        }
        STATUS_ASSERTION_FAILURE => String::from("fails an assertion"),
        code => format!("raises status {code:#010x}, which nothing handles"),
    }
}

/// Ends the machine (Microsoft Learn, "Bug check code reference").
pub fn report(record: &Record, registers: &Registers) -> ! {
    let level = irql::current();
    let [kind, address, ..] = record.information;
    let code = u64::from(record.code);
    let (check, parameters) = if level < DISPATCH_LEVEL {
        let here = core::ptr::from_ref(record) as u64;
        (
            bugcheck::SYSTEM_THREAD_EXCEPTION_NOT_HANDLED,
            [code, record.address, here, 0],
        )
    } else if record.code as NTSTATUS == STATUS_ACCESS_VIOLATION && address != NO_ADDRESS {
        (
            bugcheck::DRIVER_IRQL_NOT_LESS_OR_EQUAL,
            [address, u64::from(level), kind, record.address],
        )
    } else {
        (
            bugcheck::KMODE_EXCEPTION_NOT_HANDLED,
            [code, record.address, kind, address],
        )
    };
    bugcheck::fault(
        check,
        parameters,
        registers,
        format_args!("{}", sentence(record)),
    )
}
