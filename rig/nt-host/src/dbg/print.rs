//! DbgPrint and its kin: from a format to lines of the log.

use alloc::string::String;
use alloc::vec::Vec;
use core::arch::naked_asm;
use core::ffi::CStr;

use nt_sys::{ANSI_STRING, BOOLEAN, NTSTATUS, STATUS_SUCCESS, STATUS_UNSUCCESSFUL};

use super::format::{self, Arguments};
use crate::exports;
use crate::host::platform;
use crate::ke::poll;
use crate::sync::Mutex;

/// Component and level of plain `DbgPrint` (dpfilter.h: DPFLTR_DEFAULT_ID, DPFLTR_INFO_LEVEL).
const DEFAULT_ID: u32 = 101;
const INFO: u32 = 3;

/// What was printed since the last end of a line, with its level.
static PARTIAL: Mutex<String> = Mutex::new(String::new());

/// A routine that gets everything printed (`PDEBUG_PRINT_CALLBACK`): the text, its component and level.
pub type Callback = unsafe extern "win64" fn(*mut ANSI_STRING, u32, u32);

static CALLBACKS: Mutex<Vec<Callback>> = Mutex::new(Vec::new());

fn emit(component: u32, level: u32, text: &str) {
    let callbacks = CALLBACKS.lock().clone();
    for callback in callbacks {
        let mut bytes = text.as_bytes()[..text.len().min(usize::from(u16::MAX))].to_vec();
        let length = bytes.len() as u16;
        let mut string = ANSI_STRING {
            Length: length,
            MaximumLength: length,
            Buffer: bytes.as_mut_ptr(),
        };
        // SAFETY: a driver registered this routine; its argument lives on this stack.
        unsafe { callback(&raw mut string, component, level) };
    }
    let mut ready = String::new();
    {
        let mut partial = PARTIAL.lock();
        partial.push_str(text);
        if let Some(end) = partial.rfind('\n') {
            ready = partial.drain(..=end).collect();
        }
    }
    for line in ready.lines() {
        platform().print(level, line.trim_end_matches('\r'));
    }
}

/// # Safety
/// `pattern` ends in NUL, and `list` has what it asks for.
unsafe fn formatted(pattern: *const u8, list: *const u64) -> String {
    // SAFETY: the caller's promise.
    let pattern = unsafe { CStr::from_ptr(pattern.cast()) };
    // SAFETY: the caller's promise.
    let mut arguments = unsafe { Arguments::new(list) };
    // SAFETY: the caller's promise.
    unsafe { format::format(pattern.to_bytes(), &mut arguments) }
}

/// Microsoft Learn: vDbgPrintEx. Every component and level is let through; the platform's log has its own filter.
///
/// # Safety
/// `pattern` ends in NUL, and `list` has what it asks for.
pub unsafe extern "win64" fn vDbgPrintEx(
    component: u32,
    level: u32,
    pattern: *const u8,
    list: *const u64,
) -> u32 {
    // SAFETY: the caller's promise.
    emit(component, level, &unsafe { formatted(pattern, list) });
    poll();
    STATUS_SUCCESS as u32
}

/// Microsoft Learn: vDbgPrintExWithPrefix.
///
/// # Safety
/// As for [`vDbgPrintEx`]; `prefix` ends in NUL.
pub unsafe extern "win64" fn vDbgPrintExWithPrefix(
    prefix: *const u8,
    component: u32,
    level: u32,
    pattern: *const u8,
    list: *const u64,
) -> u32 {
    // SAFETY: the caller's promise.
    let prefix = unsafe { CStr::from_ptr(prefix.cast()) };
    let mut text = String::from_utf8_lossy(prefix.to_bytes()).into_owned();
    // SAFETY: the caller's promise.
    text.push_str(&unsafe { formatted(pattern, list) });
    emit(component, level, &text);
    poll();
    STATUS_SUCCESS as u32
}

unsafe extern "win64" fn dbg_print(pattern: *const u8, list: *const u64) -> u32 {
    // SAFETY: DbgPrint's caller promises what vDbgPrintEx asks for.
    unsafe { vDbgPrintEx(DEFAULT_ID, INFO, pattern, list) }
}

/// Microsoft Learn: DbgPrint, which is variadic: stores the register arguments in their home slots, so that all
/// arguments lie in a row, and passes their address on.
///
/// # Safety
/// As for [`vDbgPrintEx`].
#[unsafe(naked)]
pub unsafe extern "win64" fn DbgPrint(_pattern: *const u8) -> u32 {
    naked_asm!(
        "mov [rsp + 16], rdx",
        "mov [rsp + 24], r8",
        "mov [rsp + 32], r9",
        "lea rdx, [rsp + 16]",
        "jmp {target}",
        target = sym dbg_print,
    )
}

/// Microsoft Learn: DbgPrintEx, variadic as [`DbgPrint`].
///
/// # Safety
/// As for [`vDbgPrintEx`].
#[unsafe(naked)]
pub unsafe extern "win64" fn DbgPrintEx(_component: u32, _level: u32, _pattern: *const u8) -> u32 {
    naked_asm!(
        "mov [rsp + 32], r9",
        "lea r9, [rsp + 32]",
        "jmp {target}",
        target = sym vDbgPrintEx,
    )
}

/// Microsoft Learn: DbgSetDebugFilterState; nothing is filtered here.
pub extern "win64" fn DbgSetDebugFilterState(
    _component: u32,
    _level: u32,
    _on: BOOLEAN,
) -> NTSTATUS {
    STATUS_SUCCESS
}

/// The kernel's DbgSetDebugPrintCallback: a routine that hears what is printed, until it is taken back.
pub extern "win64" fn DbgSetDebugPrintCallback(callback: Callback, enable: BOOLEAN) -> NTSTATUS {
    let mut callbacks = CALLBACKS.lock();
    let known = callbacks
        .iter()
        .position(|&known| core::ptr::fn_addr_eq(known, callback));
    match (enable != 0, known) {
        (true, None) => callbacks.push(callback),
        (false, Some(index)) => drop(callbacks.remove(index)),
        _ => return STATUS_UNSUCCESSFUL,
    }
    STATUS_SUCCESS
}

exports!(
    "ntoskrnl.exe":
    DbgSetDebugPrintCallback,
    vDbgPrintEx,
    vDbgPrintExWithPrefix,
    DbgPrint,
    DbgPrintEx,
    DbgSetDebugFilterState,
);
