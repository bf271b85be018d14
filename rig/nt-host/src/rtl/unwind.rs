//! Unwinding as drivers use it: looking up functions, single steps, and the handler of the C compiler's `__try`.

use core::arch::naked_asm;
use core::ffi::c_void;
use core::ptr::{null, null_mut};

use nt_sys::NTSTATUS;

use super::context::{Context, RtlCaptureContext};
use crate::exports;
use crate::ke::exception::{
    self, CONTINUE_EXECUTION, CONTINUE_SEARCH, DispatcherContext, EXCEPTION_TARGET_UNWIND,
    EXCEPTION_UNWINDING, Pointers, Record,
};
use crate::pe::modules;
use crate::pe::unwind::{self, RuntimeFunction, Saved};

/// `STATUS_UNWIND` (ntstatus.h): the code of an unwinding without an exception.
const STATUS_UNWIND: NTSTATUS = 0xC000_0027_u32 as i32;

/// Microsoft Learn: RtlLookupFunctionEntry; null for a function without a row.
///
/// # Safety
/// `base` is writable.
pub unsafe extern "win64" fn RtlLookupFunctionEntry(
    pc: u64,
    base: *mut u64,
    _history: *mut c_void,
) -> *const RuntimeFunction {
    let Some(module) = modules::by_address(pc).filter(|module| !module.is_unloaded()) else {
        return null();
    };
    // SAFETY: the caller's promise.
    unsafe { base.write(module.base() as u64) };
    module
        .function_row((pc - module.base() as u64) as u32)
        .map_or(null(), core::ptr::from_ref)
}

/// Microsoft Learn: RtlVirtualUnwind; the frame's handler of a wanted kind, or null. `saved` gets where the frame keeps its
/// caller's registers, and keeps what it has for those that it does not keep.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn RtlVirtualUnwind(
    kinds: u32,
    base: u64,
    pc: u64,
    _function: *const RuntimeFunction,
    context: *mut Context,
    data: *mut *const c_void,
    establisher: *mut u64,
    saved: *mut Saved,
) -> *const c_void {
    // SAFETY: the caller's promise.
    let context = unsafe { &mut *context };
    let mut registers = context.registers();
    registers.rip = pc;
    let mut found = Saved::default();
    let module = modules::by_address(pc).filter(|module| module.base() as u64 == base);
    let Some(frame) = module.and_then(|module| {
        unwind::unwind(
            module,
            &mut registers,
            Some(&mut context.vectors),
            kinds as u8,
            Some(&mut found),
        )
    }) else {
        return null();
    };
    // SAFETY: the caller's promise: null, or a structure of its own.
    if let Some(saved) = unsafe { saved.as_mut() } {
        let old = saved.general.iter_mut().chain(&mut saved.vectors);
        let new = found.general.iter().chain(&found.vectors);
        old.zip(new)
            .filter(|(_, new)| **new != 0)
            .for_each(|(old, new)| *old = *new);
    }
    context.general = registers.general;
    context.rip = registers.rip;
    // SAFETY: the caller's promise.
    unsafe { establisher.write(frame.establisher) };
    match frame.handler {
        Some((handler, at)) => {
            // SAFETY: the caller's promise.
            unsafe { data.write((base + u64::from(at)) as *const c_void) };
            (base + u64::from(handler)) as *const c_void
        }
        None => null(),
    }
}

/// Microsoft Learn: RtlUnwindEx. Starts at the exception that is being handled, or at the caller.
///
/// # Safety
/// The target is a frame of this stack; `record` is null or valid.
#[unsafe(naked)]
pub unsafe extern "win64" fn RtlUnwindEx(
    _target: *mut c_void,
    _target_ip: *mut c_void,
    _record: *mut Record,
    _value: *mut c_void,
) -> ! {
    // A CONTEXT at RSP + 0x40, its state that of the caller; the arguments in between.
    naked_asm!(
        "sub rsp, 0x518",
        "mov [rsp + 0x28], rcx",
        "mov [rsp + 0x30], rdx",
        "mov [rsp + 0x38], r8",
        "mov [rsp + 0x510], r9",
        "lea rcx, [rsp + 0x40]",
        "call {capture}",
        "lea rax, [rsp + 0x520]",
        "mov [rsp + 0x40 + 0x98], rax",
        "mov rax, [rsp + 0x518]",
        "mov [rsp + 0x40 + 0xf8], rax",
        "lea rax, [rsp + 0x40]",
        "mov [rsp + 0x20], rax",
        "mov rcx, [rsp + 0x28]",
        "mov rdx, [rsp + 0x30]",
        "mov r8, [rsp + 0x38]",
        "mov r9, [rsp + 0x510]",
        "call {unwind}",
        "ud2",
        capture = sym RtlCaptureContext,
        unwind = sym unwind_from,
    )
}

unsafe extern "win64" fn unwind_from(
    target: u64,
    target_ip: u64,
    record: *mut Record,
    value: u64,
    context: *mut Context,
) -> ! {
    // SAFETY: the state of the caller was just captured.
    let pc = unsafe { (*context).rip };
    let mut own = Record::new(STATUS_UNWIND, pc, &[]);
    let record = if record.is_null() {
        &raw mut own
    } else {
        record
    };
    // SAFETY: the promise of RtlUnwindEx's caller.
    unsafe { exception::unwind_to(target, target_ip, record, value, context) }
}

/// A row of a scope table, which the compiler makes for each `__try`: addresses relative to the image.
struct Scope {
    begin: u32,
    end: u32,
    /// A filter, [`EXECUTE_HANDLER`], or the finally block.
    handler: u32,
    /// The `__except` block; 0 for a `__finally`.
    target: u32,
}

/// Instead of a filter's address: the block takes every exception.
const EXECUTE_HANDLER: u32 = 1;
/// More scopes in one function are a damaged table.
const MAX_SCOPES: u32 = 1 << 16;

/// # Safety
/// `table` is a scope table with more than `index` rows.
unsafe fn scope(table: *const u32, index: u32) -> Scope {
    let at = |word: usize| {
        let row = table.wrapping_add(1 + 4 * index as usize + word);
        // SAFETY: the caller's promise.
        unsafe { row.read_unaligned() }
    };
    Scope {
        begin: at(0),
        end: at(1),
        handler: at(2),
        target: at(3),
    }
}

/// The handler of C's `__try`: asks filters, takes exceptions, runs finally blocks, by the function's scope table.
///
/// # Safety
/// Called by the dispatcher of exceptions, or as it would call it.
pub unsafe extern "win64" fn __C_specific_handler(
    record: *mut Record,
    frame: u64,
    context: *mut Context,
    dispatcher: *mut DispatcherContext,
) -> i32 {
    // SAFETY: the caller's promise.
    let told = unsafe { &mut *dispatcher };
    // SAFETY: the caller's promise.
    let flags = unsafe { (*record).flags };
    let pc = (told.control_pc - told.image_base) as u32;
    // SAFETY: the data of a function with this handler is a scope table.
    let count = unsafe { told.data.read_unaligned() }.min(MAX_SCOPES);
    for index in told.scope..count {
        // SAFETY: as above.
        let scope = unsafe { scope(told.data, index) };
        if !(scope.begin..scope.end).contains(&pc) {
            continue;
        }
        if flags & EXCEPTION_UNWINDING != 0 {
            let target = told.target_ip.wrapping_sub(told.image_base) as u32;
            let arrives = flags & EXCEPTION_TARGET_UNWIND != 0
                && (scope.target == target && scope.target != 0
                    || (scope.begin..scope.end).contains(&target));
            if arrives {
                break;
            }
            if scope.target == 0 {
                // An exception in the block goes on behind this scope.
                told.scope = index + 1;
                let block = told.image_base + u64::from(scope.handler);
                // SAFETY: the table names a finally block of the frame: whether it is left by an exception, the frame.
                let block: extern "win64" fn(u8, u64) =
                    unsafe { core::mem::transmute(block as usize) };
                block(1, frame);
            }
        } else if scope.target != 0 {
            let answer = match scope.handler {
                EXECUTE_HANDLER => 1,
                filter => {
                    let mut pointers = Pointers { record, context };
                    let filter = told.image_base + u64::from(filter);
                    // SAFETY: the table names a filter of the frame.
                    let filter: extern "win64" fn(*mut Pointers, u64) -> i32 =
                        unsafe { core::mem::transmute(filter as usize) };
                    filter(&raw mut pointers, frame)
                }
            };
            if answer < 0 {
                return CONTINUE_EXECUTION;
            }
            if answer > 0 {
                let target = told.image_base + u64::from(scope.target);
                // SAFETY: the caller's promise.
                let code = unsafe { (*record).code };
                // SAFETY: the frame is the one that the dispatcher has found.
                unsafe { exception::unwind_to(frame, target, record, u64::from(code), context) };
            }
        }
    }
    CONTINUE_SEARCH
}

/// Microsoft Learn: RtlPcToFileHeader.
///
/// # Safety
/// `base` is writable.
pub unsafe extern "win64" fn RtlPcToFileHeader(pc: u64, base: *mut *mut c_void) -> *mut c_void {
    let module = modules::by_address(pc).filter(|module| !module.is_unloaded());
    let header = module.map_or(null_mut(), |module| module.base() as *mut c_void);
    // SAFETY: the caller's promise.
    unsafe { base.write(header) };
    header
}

exports!(
    "ntoskrnl.exe":
    RtlLookupFunctionEntry,
    RtlVirtualUnwind,
    RtlUnwindEx,
    RtlPcToFileHeader,
    __C_specific_handler,
);
