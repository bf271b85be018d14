//! Import thunks: each kernel function that a driver imports is called through a few instructions of its own.
//!
//! They note which module called and where its return address is, which costs two stores, and jump on. So an exported
//! function knows its caller (pool owners, reports), and a stack walk knows where to start, without any guessing.
//!
//! Where shortages are played, the thunk of a function that can lack memory asks first whether it does. When calls are traced, a thunk calls the function in place of the driver, and records both ends.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::arch::naked_asm;

use trace::{Class, Event, table};

use crate::ke::irql;
use crate::ke::processor::{self, CALLER, CALLER_RSP};
use crate::place;
use crate::shortage::{self, Fallible};
use crate::sync::Mutex;

/// Size of a thunk in bytes.
pub const SIZE: usize = 112;

/// The code of a thunk for module `module` that leads to the kernel function `name` at `target`, unless the function
/// `lacks` what it needs.
pub fn code(module: u32, name: &str, target: u64, lacks: Option<Fallible>) -> [u8; SIZE] {
    let mut code = [0xCC; SIZE];
    let mut at = 0;
    let mut emit = |bytes: &[u8]| {
        code[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    // mov dword ptr gs:[CALLER], module
    emit(&[0x65, 0xC7, 0x04, 0x25]);
    emit(&CALLER.to_le_bytes());
    emit(&module.to_le_bytes());
    // mov gs:[CALLER_RSP], rsp
    emit(&[0x65, 0x48, 0x89, 0x24, 0x25]);
    emit(&CALLER_RSP.to_le_bytes());
    if let Some(Fallible { index, answer }) = lacks {
        // push rcx; push rdx; push r8; push r9; sub rsp, 0x28: the stack is aligned for a call again
        emit(&[0x51, 0x52, 0x41, 0x50, 0x41, 0x51, 0x48, 0x83, 0xEC, 0x28]);
        // mov ecx, index
        emit(&[0xB9]);
        emit(&index.to_le_bytes());
        // mov rax, strikes; call rax
        emit(&[0x48, 0xB8]);
        emit(&(shortage::strikes as *const () as u64).to_le_bytes());
        emit(&[0xFF, 0xD0]);
        // add rsp, 0x28; pop r9; pop r8; pop rdx; pop rcx
        emit(&[0x48, 0x83, 0xC4, 0x28, 0x41, 0x59, 0x41, 0x58, 0x5A, 0x59]);
        // test al, al; jz over the next two; mov eax, answer; ret
        emit(&[0x84, 0xC0, 0x74, 0x06, 0xB8]);
        emit(&answer.to_le_bytes());
        emit(&[0xC3]);
    }
    let mut go_on = target;
    if trace::wants(Class::Call) && !LOOK_AT_THE_CALLER.contains(&name) {
        // mov r10d, number; mov r11, target: registers that carry no argument
        emit(&[0x41, 0xBA]);
        emit(&number(name).to_le_bytes());
        emit(&[0x49, 0xBB]);
        emit(&target.to_le_bytes());
        go_on = call_traced as *const () as u64;
    }
    // jmp [rip]; where to go on follows
    emit(&[0xFF, 0x25, 0, 0, 0, 0]);
    emit(&go_on.to_le_bytes());
    code
}

/// Functions for which the frame below them is their caller's, or that take arguments in other registers.
const LOOK_AT_THE_CALLER: &[&str] = &[
    "ExRaiseAccessViolation",
    "ExRaiseDatatypeMisalignment",
    "ExRaiseStatus",
    "RtlCaptureContext",
    "RtlRaiseException",
    "RtlRestoreContext",
    "RtlUnwind",
    "RtlUnwindEx",
    "__chkstk",
    "_local_unwind",
    "_setjmp",
    "_setjmpex",
    "longjmp",
];

/// Numbers of functions in a trace, from 1.
static NUMBERS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

fn number(name: &str) -> u32 {
    let mut numbers = NUMBERS.lock();
    let next = numbers.len() as u32 + 1;
    let number = *numbers.entry(name.into()).or_insert(next);
    drop(numbers);
    trace::emit(Class::Name, || Event::Name {
        table: table::FUNCTION,
        id: u64::from(number),
        text: name,
    });
    number
}

/// Calls the function at R11 with the caller's arguments, the first 20 of them, and records its number, R10.
#[unsafe(naked)]
extern "win64" fn call_traced() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push rdi",
        "push rsi",
        // 20 words of arguments, and room for XMM0 to XMM3.
        "sub rsp, 224",
        "mov rbx, r10",
        "mov r12, r11",
        "mov [rbp + 16], rcx",
        "mov [rbp + 24], rdx",
        "mov [rbp + 32], r8",
        "mov [rbp + 40], r9",
        "movaps [rsp + 160], xmm0",
        "movaps [rsp + 176], xmm1",
        "movaps [rsp + 192], xmm2",
        "movaps [rsp + 208], xmm3",
        "mov rcx, rbx",
        "mov rdx, [rbp + 8]",
        "call {enter}",
        // Words above the caller's frame are copied too; there is always that much stack, as its end shows.
        "lea rsi, [rbp + 48]",
        "lea rdi, [rsp + 32]",
        "mov ecx, 16",
        "rep movsq",
        "mov rcx, [rbp + 16]",
        "mov rdx, [rbp + 24]",
        "mov r8, [rbp + 32]",
        "mov r9, [rbp + 40]",
        "movaps xmm0, [rsp + 160]",
        "movaps xmm1, [rsp + 176]",
        "movaps xmm2, [rsp + 192]",
        "movaps xmm3, [rsp + 208]",
        "call r12",
        "mov r12, rax",
        "movaps [rsp + 160], xmm0",
        "mov rcx, rbx",
        "call {leave}",
        "mov rax, r12",
        "movaps xmm0, [rsp + 160]",
        "add rsp, 224",
        "pop rsi",
        "pop rdi",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        enter = sym entered,
        leave = sym left,
    )
}

extern "win64" fn entered(function: u64, back: u64) {
    trace::emit(Class::Call, || {
        let (driver, rva) = place::of_code(back);
        Event::CallEnter {
            driver,
            function,
            rva,
            irql: u64::from(irql::current()),
        }
    });
}

extern "win64" fn left(function: u64) {
    trace::emit(Class::Call, || Event::CallLeave {
        driver: u64::from(processor::caller()),
        function,
        irql: u64::from(irql::current()),
    });
}
