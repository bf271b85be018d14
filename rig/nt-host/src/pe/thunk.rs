//! Import thunks: each kernel function that a driver imports is called through a few instructions of its own.
//!
//! They note which module called and where its return address is, which costs two stores, compare the stack in use with
//! the most so far, the IRQL with the function's range, and jump on. So an exported function knows its caller (pool owners, reports), a stack walk knows
//! where to start, without any guessing, and each call is checked where it is made.
//!
//! Where shortages are played, the thunk of a function that can lack memory asks first whether it does. When calls are
//! traced, a thunk calls the function in place of the driver, and records both ends; when the time on either side of the
//! border is measured, it takes the way through [`border::measured`].

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::arch::naked_asm;

use nt_sys::DISPATCH_LEVEL;
use trace::{Class, Event, table};

use super::image::{Layout, Memory};

use crate::export::Export;
use crate::ke::border;
use crate::ke::irql;
use crate::ke::processor::{self, CALLER, CALLER_RSP, IRQL};
use crate::place;
use crate::platform::PAGE_SIZE;
use crate::rtl::memory;
use crate::shortage::{self, Fallible};
use crate::sync::Mutex;
use crate::verifier::irql::{self as ranges, Checked, Range};
use crate::verifier::{code, stack};

/// Size of a thunk in bytes: no thunk lies in two pages.
pub const SIZE: usize = 256;
const _: () = assert!(PAGE_SIZE.is_multiple_of(SIZE));

/// How every thunk starts.
const START: [u8; 4] = [0x65, 0xC7, 0x04, 0x25];

// Short jumps of the processor (Intel SDM volume 2, Jcc).
const JUMP_IF_BELOW: u8 = 0x72;
const JUMP_IF_ABOVE: u8 = 0x77;

struct Code {
    bytes: [u8; SIZE],
    at: usize,
}

impl Code {
    fn emit(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// `cmp byte ptr gs:[IRQL], limit` and a jump that [`land`](Self::land) completes.
    fn compare_irql(&mut self, limit: u8, jump: u8) -> usize {
        self.emit(&[0x65, 0x80, 0x3C, 0x25]);
        self.emit(&IRQL.to_le_bytes());
        self.emit(&[limit, jump, 0]);
        self.at
    }

    /// Tells the verifier when drivers take more stack than ever before when this module calls.
    fn compare_stack(&mut self, module: u32) {
        // mov r11, gs:[ORIGIN]; sub r11, rsp; cmp r11, gs:[the module's most]: R11 carries no argument
        self.emit(&[0x65, 0x4C, 0x8B, 0x1C, 0x25]);
        self.emit(&stack::ORIGIN.to_le_bytes());
        self.emit(&[0x49, 0x29, 0xE3, 0x65, 0x4C, 0x3B, 0x1C, 0x25]);
        self.emit(&stack::deepest(module).to_le_bytes());
        // jle over the rest; mov r10d, module; mov r11, deeper; call r11
        self.emit(&[0x7E, 19, 0x41, 0xBA]);
        self.emit(&module.to_le_bytes());
        self.emit(&[0x49, 0xBB]);
        self.emit(&(stack::deeper as *const () as u64).to_le_bytes());
        self.emit(&[0x41, 0xFF, 0xD3]);
    }

    /// Tells the verifier when the caller lies between the ends of its pageable code, at DISPATCH_LEVEL or above.
    fn compare_caller(&mut self, Pageable { start, size }: Pageable) {
        let below = self.compare_irql(DISPATCH_LEVEL, JUMP_IF_BELOW);
        // mov r11, [rsp]; mov r10, start; sub r11, r10; cmp r11, size: registers that carry no argument
        self.emit(&[0x4C, 0x8B, 0x1C, 0x24, 0x49, 0xBA]);
        self.emit(&start.to_le_bytes());
        self.emit(&[0x4D, 0x29, 0xD3, 0x49, 0x81, 0xFB]);
        self.emit(&size.to_le_bytes());
        // jae over the next two; mov r11, look; call r11
        self.emit(&[0x73, 13, 0x49, 0xBB]);
        self.emit(&(code::from_pageable as *const () as u64).to_le_bytes());
        self.emit(&[0x41, 0xFF, 0xD3]);
        self.land(below);
    }

    /// Makes a jump that ends at `jump` lead to here.
    fn land(&mut self, jump: usize) {
        self.bytes[jump - 1] = (self.at - jump) as u8;
    }

    /// `jmp [rip]`; the target follows.
    fn jump(&mut self, target: u64) {
        self.emit(&[0xFF, 0x25, 0, 0, 0, 0]);
        self.emit(&target.to_le_bytes());
    }

    /// Leads to the function, by way of the trace where calls are traced.
    fn go_on(&mut self, export: &Export) {
        let (name, target) = (export.name, export.address as u64);
        if LOOK_AT_THE_CALLER.contains(&name) {
            return self.jump(target);
        }
        if !trace::wants(Class::Call) {
            if !DRIVERS_OWN_WORK.contains(&name) {
                self.measure(target);
            }
            return self.jump(target);
        }
        // mov r10d, number; mov r11, target: registers that carry no argument
        self.emit(&[0x41, 0xBA]);
        self.emit(&number(name).to_le_bytes());
        self.emit(&[0x49, 0xBB]);
        self.emit(&target.to_le_bytes());
        self.jump(call_traced as *const () as u64);
    }

    /// Leads to the function by way of the border while it is measured.
    fn measure(&mut self, target: u64) {
        // je over the next two
        self.emit(&test());
        self.emit(&[0x74, 24]);
        // mov r10, target
        self.emit(&[0x49, 0xBA]);
        self.emit(&target.to_le_bytes());
        self.jump(border::measured as *const () as u64);
    }

    /// Returns to the driver without a call of the function where it lacks memory.
    fn ask_for_shortage(&mut self, Fallible { index, answer }: Fallible) {
        // push rcx; push rdx; push r8; push r9; sub rsp, 0x28: the stack is aligned for a call again
        self.emit(&[0x51, 0x52, 0x41, 0x50, 0x41, 0x51, 0x48, 0x83, 0xEC, 0x28]);
        // mov ecx, index
        self.emit(&[0xB9]);
        self.emit(&index.to_le_bytes());
        // mov rax, strikes; call rax
        self.emit(&[0x48, 0xB8]);
        self.emit(&(shortage::strikes as *const () as u64).to_le_bytes());
        self.emit(&[0xFF, 0xD0]);
        // add rsp, 0x28; pop r9; pop r8; pop rdx; pop rcx
        self.emit(&[0x48, 0x83, 0xC4, 0x28, 0x41, 0x59, 0x41, 0x58, 0x5A, 0x59]);
        // test al, al; jz over the next two; mov eax, answer; ret
        self.emit(&[0x84, 0xC0, 0x74, 0x06, 0xB8]);
        self.emit(&answer.to_le_bytes());
        self.emit(&[0xC3]);
    }
}

/// Where an image has pageable code.
#[derive(Clone, Copy, Debug)]
pub struct Pageable {
    start: u64,
    size: u32,
}

impl Pageable {
    /// That of an image.
    pub fn of(layout: &Layout, memory: &Memory) -> Option<Self> {
        let range = layout.pageable()?;
        Some(Self {
            start: memory.base().as_ptr() as u64 + u64::from(range.start),
            size: range.end - range.start,
        })
    }
}

/// The code of a thunk for module `module`, with this pageable code, that jumps to an exported function.
pub fn code(module: u32, pageable: Option<Pageable>, export: &Export) -> [u8; SIZE] {
    let mut code = Code {
        bytes: [0xCC; SIZE],
        at: 0,
    };
    // mov dword ptr gs:[CALLER], module
    code.emit(&START);
    code.emit(&CALLER.to_le_bytes());
    code.emit(&module.to_le_bytes());
    // mov gs:[CALLER_RSP], rsp
    code.emit(&[0x65, 0x48, 0x89, 0x24, 0x25]);
    code.emit(&CALLER_RSP.to_le_bytes());
    code.compare_stack(module);
    if let Some(pageable) = pageable {
        code.compare_caller(pageable);
    }
    let checked = ranges::checked(export.name);
    let wrong = checked.map(|function| check_irql(&mut code, function.range));
    if let Some(fallible) = shortage::of(export.name) {
        code.ask_for_shortage(fallible);
    }
    code.go_on(export);
    if let (Some(function), Some(jumps)) = (checked, wrong)
        && jumps != [None; 2]
    {
        report(&mut code, function, jumps);
    }
    code.bytes
}

/// Compares the IRQL with the ends of the range that it can miss; the jumps for when it does.
fn check_irql(code: &mut Code, Range { lowest, highest }: Range) -> [Option<usize>; 2] {
    let above = (highest != nt_sys::HIGH_LEVEL).then(|| code.compare_irql(highest, JUMP_IF_ABOVE));
    let below = (lowest != 0).then(|| code.compare_irql(lowest, JUMP_IF_BELOW));
    [above, below]
}

/// Where those jumps lead.
fn report(code: &mut Code, function: &'static Checked, jumps: [Option<usize>; 2]) {
    for jump in jumps.into_iter().flatten() {
        code.land(jump);
    }
    // mov rcx, function
    code.emit(&[0x48, 0xB9]);
    code.emit(&(core::ptr::from_ref(function) as u64).to_le_bytes());
    code.jump(ranges::wrong as *const () as u64);
}

/// `cmp byte ptr gs:[ON], 0`, which only those thunks have whose functions can be measured.
fn test() -> [u8; 9] {
    let mut code = [0x65, 0x80, 0x3C, 0x25, 0, 0, 0, 0, 0];
    code[4..8].copy_from_slice(&border::ON.to_le_bytes());
    code
}

/// Functions that do a driver's own work, which a compiler might as well have put in its place: never measured.
const DRIVERS_OWN_WORK: &[&str] = &[
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "strlen",
    "RtlCompareMemory",
];

/// What a thunk leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A function whose calls can be measured.
    Measured,
    /// memcpy or memmove: so many bytes as the third argument says.
    Copy,
    /// Another function that is never measured.
    Direct,
}

/// What the code at `address` leads to, if it is a thunk.
///
/// # Safety
/// The address is that of code.
pub unsafe fn look(address: u64) -> Option<Target> {
    // SAFETY: code goes on for four bytes.
    let start = unsafe { (address as *const [u8; 4]).read_unaligned() };
    if start != START {
        return None;
    }
    // SAFETY: code that starts so is a thunk.
    let code = unsafe { (address as *const [u8; SIZE]).read_unaligned() };
    let has = |part: &[u8]| code.windows(part.len()).any(|bytes| bytes == part);
    // Both are one function here.
    let copy = (memory::memcpy as *const () as u64).to_le_bytes();
    Some(match () {
        () if has(&test()) => Target::Measured,
        () if has(&copy) => Target::Copy,
        () => Target::Direct,
    })
}

/// Functions for which the frame below them is their caller's, since they raise exceptions in it or unwind it, or that
/// take arguments in other registers.
const LOOK_AT_THE_CALLER: &[&str] = &[
    "ExRaiseAccessViolation",
    "ExRaiseDatatypeMisalignment",
    "ExRaiseStatus",
    "MmProbeAndLockPages",
    "ProbeForRead",
    "ProbeForWrite",
    "RtlCaptureContext",
    "RtlRaiseException",
    "RtlRaiseStatus",
    "RtlRestoreContext",
    "RtlUnwind",
    "RtlUnwindEx",
    "__C_specific_handler",
    "__chkstk",
    "_local_unwind",
    "_setjmp",
    "_setjmpex",
    "longjmp",
    "memcpy",
    "memmove",
    "memset",
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
