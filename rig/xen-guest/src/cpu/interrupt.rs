//! Interrupts as the processor takes them.
//!
//! ```text
//!   stub of the vector ─> common: registers saved ─> taken ─┬─ fault                         cpu::fault
//!                                                           └─ event, timer, kick: note it   ke::interrupt::raise
//!   interrupted driver code then finds itself in `nudge`, which delivers what the IRQL allows; elsewhere the executive
//!   looks for itself when it ends what it does
//! ```

use core::arch::{global_asm, naked_asm};
use core::sync::atomic::AtomicU64;

use nt_host::ke;
use nt_host::pe::modules;

use super::{MOST, apic, fault};
use crate::memory::paging;
use crate::platform;

/// The interrupted state, as the stub leaves it on the stack.
#[repr(C)]
pub struct Frame {
    /// R15, R14, … RAX, as they were pushed.
    pub general: [u64; 15],
    /// The interrupt's vector.
    pub vector: u64,
    /// The processor's error code, 0 where it has none.
    pub error: u64,
    /// Where.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

global_asm!(
    ".section .text.interrupt, \"ax\"",
    ".balign 16",
    ".globl interrupt_stubs",
    "interrupt_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    // Vectors for which the processor pushes an error code: 8, 10 to 14, 17, 21, 29, 30.
    ".if !((vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30))",
    "push 0",
    ".endif",
    "push vector",
    "jmp interrupt_common",
    ".set vector, vector + 1",
    ".endr",
    "interrupt_common:",
    "push rax",
    "push rcx",
    "push rdx",
    "push rbx",
    "push rbp",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "call {taken}",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rbp",
    "pop rbx",
    "pop rdx",
    "pop rcx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    taken = sym taken,
);

unsafe extern "C" {
    static interrupt_stubs: u8;
}

/// The first instruction for a vector.
pub fn entry(vector: u8) -> u64 {
    (&raw const interrupt_stubs) as u64 + 16 * u64::from(vector)
}

/// What each processor has flushed.
static FLUSHED: [AtomicU64; MOST as usize] = [const { AtomicU64::new(0) }; MOST as usize];

extern "sysv64" fn taken(frame: &mut Frame) {
    let vector = frame.vector as u8;
    if vector < 32 {
        return fault::taken(frame);
    }
    if fault::is_software(vector) {
        fault::software(frame);
    }
    if vector == apic::SPURIOUS {
        return;
    }
    apic::end_of(vector);
    let Some(cpu) = super::current() else {
        return;
    };
    if let Some(seen) = FLUSHED.get(cpu as usize) {
        paging::catch_up(seen);
    }
    match vector {
        apic::TIMER => platform::timer(cpu),
        apic::KICK => {}
        _ => ke::interrupt::raise(cpu, vector),
    }
    if modules::by_address(frame.rip).is_some_and(|module| module.is_code(frame.rip)) {
        // A driver between two instructions holds no lock of the executive's. Code for Windows keeps nothing below RSP.
        frame.rsp -= 8;
        // SAFETY: driver code runs on a stack with room; an exhausted one faults on its guard page and is reported.
        unsafe { (frame.rsp as *mut u64).write(frame.rip) };
        frame.rip = nudge as *const () as u64;
    }
}

/// Where a driver finds itself that was interrupted: delivers what is pending, then goes on where the driver was. That
/// address is on the stack. Nothing of the driver's state changes.
#[unsafe(naked)]
unsafe extern "sysv64" fn nudge() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "pushfq",
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "sub rsp, 512",
        "and rsp, -16",
        "fxsave64 [rsp]",
        "cld",
        "call {deliver}",
        "fxrstor64 [rsp]",
        // Behind the flags and nine registers that were pushed.
        "lea rsp, [rbp - 80]",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "popfq",
        "pop rbp",
        "ret",
        deliver = sym deliver,
    )
}

extern "sysv64" fn deliver() {
    ke::interrupted();
}
