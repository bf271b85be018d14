//! Functions that raise exceptions in the driver that called them: by order, or for a bad address.
//!
//! What they find is raised in the state behind their call, as if the call itself had faulted.

use core::arch::naked_asm;

use nt_sys::{NTSTATUS, STATUS_ACCESS_VIOLATION, STATUS_DATATYPE_MISALIGNMENT, STATUS_SUCCESS};

use super::exception::{self, EXCEPTION_NONCONTINUABLE, Record};
use crate::exports;
use crate::host::platform;
use crate::mm::{PAGE_SIZE, address};
use crate::rtl::context::{Context, RtlCaptureContext};

/// The body of a naked function with one argument: captures the state of its caller and calls `$inner` with the
/// argument and the state.
macro_rules! in_the_callers_state {
    ($inner:ident) => {
        // A CONTEXT at RSP + 0x30, the argument below it.
        naked_asm!(
            "sub rsp, 0x508",
            "mov [rsp + 0x20], rcx",
            "lea rcx, [rsp + 0x30]",
            "call {capture}",
            "lea rax, [rsp + 0x510]",
            "mov [rsp + 0x30 + 0x98], rax",
            "mov rax, [rsp + 0x508]",
            "mov [rsp + 0x30 + 0xf8], rax",
            "mov rcx, [rsp + 0x20]",
            "mov [rsp + 0x30 + 0x80], rcx",
            "lea rdx, [rsp + 0x30]",
            "call {inner}",
            "ud2",
            capture = sym RtlCaptureContext,
            inner = sym $inner,
        )
    };
}

/// The body of a naked function that calls `$check` with its up to four arguments and raises the status that it
/// returns, if that is a failure.
macro_rules! raises_what_fails {
    ($check:ident) => {
        core::arch::naked_asm!(
            "sub rsp, 0x28",
            "call {check}",
            "add rsp, 0x28",
            "test eax, eax",
            "js 2f",
            "ret",
            "2:",
            "mov ecx, eax",
            "jmp {raise}",
            check = sym $check,
            raise = sym $crate::ke::raise::ExRaiseStatus,
        )
    };
}
pub(crate) use raises_what_fails;

unsafe extern "win64" fn raise_status(status: NTSTATUS, context: *mut Context) -> ! {
    // SAFETY: the state was just captured.
    let address = unsafe { (*context).rip };
    let mut record = Record::new(status, address, &[]);
    record.flags = EXCEPTION_NONCONTINUABLE;
    // SAFETY: the frames above are those of the state.
    unsafe { exception::raise(&raw mut record, context) }
}

unsafe extern "win64" fn raise_record(record: *mut Record, context: *mut Context) -> ! {
    // SAFETY: the state was just captured.
    let address = unsafe { (*context).rip };
    // SAFETY: the record is the caller's.
    unsafe { (*record).address = address };
    // SAFETY: the frames above are those of the state.
    unsafe { exception::raise(record, context) }
}

/// Microsoft Learn: ExRaiseStatus. IRQL up to APC_LEVEL.
///
/// # Safety
/// Called by a driver.
#[unsafe(naked)]
pub unsafe extern "win64" fn ExRaiseStatus(_status: NTSTATUS) -> ! {
    in_the_callers_state!(raise_status)
}

/// Microsoft Learn: RtlRaiseException; returns when a handler says that execution goes on.
///
/// # Safety
/// Called by a driver, with a valid record.
#[unsafe(naked)]
pub unsafe extern "win64" fn RtlRaiseException(_record: *mut Record) {
    in_the_callers_state!(raise_record)
}

/// The kernel's RtlRaiseStatus: as [`ExRaiseStatus`].
///
/// # Safety
/// Called by a driver.
#[unsafe(naked)]
pub unsafe extern "win64" fn RtlRaiseStatus(_status: NTSTATUS) -> ! {
    in_the_callers_state!(raise_status)
}

/// Microsoft Learn: ExRaiseAccessViolation.
///
/// # Safety
/// Called by a driver.
#[unsafe(naked)]
pub unsafe extern "win64" fn ExRaiseAccessViolation() -> ! {
    naked_asm!("mov ecx, {status}", "jmp {raise}",
        status = const STATUS_ACCESS_VIOLATION, raise = sym ExRaiseStatus)
}

/// Microsoft Learn: ExRaiseDatatypeMisalignment.
///
/// # Safety
/// Called by a driver.
#[unsafe(naked)]
pub unsafe extern "win64" fn ExRaiseDatatypeMisalignment() -> ! {
    naked_asm!("mov ecx, {status}", "jmp {raise}",
        status = const STATUS_DATATYPE_MISALIGNMENT, raise = sym ExRaiseStatus)
}

/// Whether a range may be a user's: none of the kernel's memory, and there.
extern "win64" fn probe(start: u64, length: usize, alignment: u32) -> NTSTATUS {
    if length == 0 {
        return STATUS_SUCCESS;
    }
    if !start.is_multiple_of(u64::from(alignment.max(1))) {
        return STATUS_DATATYPE_MISALIGNMENT;
    }
    let Some(end) = start.checked_add(length as u64) else {
        return STATUS_ACCESS_VIOLATION;
    };
    let is_kernel = (start..end)
        .step_by(PAGE_SIZE)
        .chain([end - 1])
        .any(|at| address::translate(at as usize).is_some());
    match is_kernel || !platform().readable(start, length) {
        true => STATUS_ACCESS_VIOLATION,
        false => STATUS_SUCCESS,
    }
}

/// Microsoft Learn: ProbeForRead; raises STATUS_ACCESS_VIOLATION or STATUS_DATATYPE_MISALIGNMENT.
///
/// # Safety
/// Called by a driver.
#[unsafe(naked)]
pub unsafe extern "win64" fn ProbeForRead(_start: u64, _length: usize, _alignment: u32) {
    raises_what_fails!(probe)
}

/// Microsoft Learn: ProbeForWrite; raises STATUS_ACCESS_VIOLATION or STATUS_DATATYPE_MISALIGNMENT.
///
/// # Safety
/// Called by a driver.
#[unsafe(naked)]
pub unsafe extern "win64" fn ProbeForWrite(_start: u64, _length: usize, _alignment: u32) {
    raises_what_fails!(probe)
}

exports!(
    "ntoskrnl.exe":
    ExRaiseStatus,
    RtlRaiseStatus,
    RtlRaiseException,
    ExRaiseAccessViolation,
    ExRaiseDatatypeMisalignment,
    ProbeForRead,
    ProbeForWrite,
);
