//! The processor's state as Windows hands it around (`CONTEXT`, winnt.h): capturing it, and going on from one.

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::exports;
use crate::pe::unwind::{Registers, Vectors};

/// `CONTEXT_AMD64 | CONTEXT_CONTROL | CONTEXT_INTEGER | CONTEXT_SEGMENTS | CONTEXT_FLOATING_POINT`.
pub const FULL: u32 = 0x0010_000f;

/// `CONTEXT` of x64.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct Context {
    _home: [u64; 6],
    /// Which parts are valid.
    pub flags: u32,
    /// Control of vector instructions.
    pub mxcsr: u32,
    /// CS, DS, ES, FS, GS, SS.
    pub segments: [u16; 6],
    /// EFLAGS.
    pub eflags: u32,
    _debug: [u64; 6],
    /// General registers in encoding order.
    pub general: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    _legacy: [u8; 0xa0],
    /// XMM0 to XMM15.
    pub vectors: Vectors,
    _rest: [u64; 70],
}

const _: () = {
    assert!(size_of::<Context>() == 0x4d0);
    assert!(offset_of!(Context, flags) == 0x30);
    assert!(offset_of!(Context, eflags) == 0x44);
    assert!(offset_of!(Context, general) == 0x78);
    assert!(offset_of!(Context, rip) == 0xf8);
    assert!(offset_of!(Context, vectors) == 0x1a0);
};

impl Context {
    /// A state with these registers and nothing else.
    pub fn new(registers: &Registers, vectors: &Vectors, eflags: u32) -> Self {
        Self {
            _home: [0; 6],
            flags: FULL,
            // All exceptions masked: the processor's state at start.
            mxcsr: 0x1f80,
            segments: [0; 6],
            eflags,
            _debug: [0; 6],
            general: registers.general,
            rip: registers.rip,
            _legacy: [0; 0xa0],
            vectors: *vectors,
            _rest: [0; 70],
        }
    }

    /// What unwinding needs.
    pub fn registers(&self) -> Registers {
        Registers {
            rip: self.rip,
            general: self.general,
            complete: true,
        }
    }
}

/// Microsoft Learn: RtlCaptureContext; the state is that behind the call.
///
/// # Safety
/// `context` is writable.
#[unsafe(naked)]
pub unsafe extern "win64" fn RtlCaptureContext(_context: *mut Context) {
    naked_asm!(
        "pushfq",
        "mov [rcx + 0x78], rax",
        "mov [rcx + 0x80], rcx",
        "mov [rcx + 0x88], rdx",
        "mov [rcx + 0x90], rbx",
        "mov [rcx + 0xa0], rbp",
        "mov [rcx + 0xa8], rsi",
        "mov [rcx + 0xb0], rdi",
        "mov [rcx + 0xb8], r8",
        "mov [rcx + 0xc0], r9",
        "mov [rcx + 0xc8], r10",
        "mov [rcx + 0xd0], r11",
        "mov [rcx + 0xd8], r12",
        "mov [rcx + 0xe0], r13",
        "mov [rcx + 0xe8], r14",
        "mov [rcx + 0xf0], r15",
        "movups [rcx + 0x1a0], xmm0",
        "movups [rcx + 0x1b0], xmm1",
        "movups [rcx + 0x1c0], xmm2",
        "movups [rcx + 0x1d0], xmm3",
        "movups [rcx + 0x1e0], xmm4",
        "movups [rcx + 0x1f0], xmm5",
        "movups [rcx + 0x200], xmm6",
        "movups [rcx + 0x210], xmm7",
        "movups [rcx + 0x220], xmm8",
        "movups [rcx + 0x230], xmm9",
        "movups [rcx + 0x240], xmm10",
        "movups [rcx + 0x250], xmm11",
        "movups [rcx + 0x260], xmm12",
        "movups [rcx + 0x270], xmm13",
        "movups [rcx + 0x280], xmm14",
        "movups [rcx + 0x290], xmm15",
        "mov [rcx + 0x38], cs",
        "mov [rcx + 0x3a], ds",
        "mov [rcx + 0x3c], es",
        "mov [rcx + 0x3e], fs",
        "mov [rcx + 0x40], gs",
        "mov [rcx + 0x42], ss",
        "stmxcsr [rcx + 0x34]",
        "mov dword ptr [rcx + 0x30], 0x10000f",
        "lea rax, [rsp + 16]",
        "mov [rcx + 0x98], rax",
        "mov rax, [rsp + 8]",
        "mov [rcx + 0xf8], rax",
        "mov eax, [rsp]",
        "mov [rcx + 0x44], eax",
        "mov rax, [rcx + 0x78]",
        "popfq",
        "ret",
    )
}

/// Goes on from a state: every register of it, EFLAGS included, on its stack. Below its RSP three words are written
/// first: code for Windows keeps nothing there.
///
/// # Safety
/// The state is one in which execution may go on, and `context` does not lie in the three words.
#[unsafe(naked)]
pub unsafe extern "win64" fn resume(_context: *mut Context) -> ! {
    naked_asm!(
        "mov rax, [rcx + 0x98]",
        "sub rax, 24",
        "mov rdx, [rcx + 0xf8]",
        "mov [rax + 16], rdx",
        "mov edx, [rcx + 0x44]",
        "mov [rax + 8], rdx",
        "mov rdx, [rcx + 0x80]",
        "mov [rax], rdx",
        "mov [rcx + 0x98], rax",
        "ldmxcsr [rcx + 0x34]",
        "movups xmm0, [rcx + 0x1a0]",
        "movups xmm1, [rcx + 0x1b0]",
        "movups xmm2, [rcx + 0x1c0]",
        "movups xmm3, [rcx + 0x1d0]",
        "movups xmm4, [rcx + 0x1e0]",
        "movups xmm5, [rcx + 0x1f0]",
        "movups xmm6, [rcx + 0x200]",
        "movups xmm7, [rcx + 0x210]",
        "movups xmm8, [rcx + 0x220]",
        "movups xmm9, [rcx + 0x230]",
        "movups xmm10, [rcx + 0x240]",
        "movups xmm11, [rcx + 0x250]",
        "movups xmm12, [rcx + 0x260]",
        "movups xmm13, [rcx + 0x270]",
        "movups xmm14, [rcx + 0x280]",
        "movups xmm15, [rcx + 0x290]",
        "mov rax, [rcx + 0x78]",
        "mov rdx, [rcx + 0x88]",
        "mov rbx, [rcx + 0x90]",
        "mov rbp, [rcx + 0xa0]",
        "mov rsi, [rcx + 0xa8]",
        "mov rdi, [rcx + 0xb0]",
        "mov r8, [rcx + 0xb8]",
        "mov r9, [rcx + 0xc0]",
        "mov r10, [rcx + 0xc8]",
        "mov r11, [rcx + 0xd0]",
        "mov r12, [rcx + 0xd8]",
        "mov r13, [rcx + 0xe0]",
        "mov r14, [rcx + 0xe8]",
        "mov r15, [rcx + 0xf0]",
        "mov rsp, [rcx + 0x98]",
        "pop rcx",
        "popfq",
        "ret",
    )
}

exports!("ntoskrnl.exe": RtlCaptureContext);
