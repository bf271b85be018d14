//! Switching stacks: from one fiber to another, and calls on another stack. No system call is involved.

use core::arch::naked_asm;

/// A suspended fiber: its stack pointer, with the callee-saved registers of the System V convention on top.
pub type Context = *mut u8;

/// Saves the current fiber to `*save` and resumes `to`. Returns when something switches back.
///
/// Functions with the Windows convention that end up here have saved its additional registers (RSI, RDI, XMM6–15)
/// themselves, since a System V call may clobber them.
///
/// # Safety
/// `save` is writable; `to` was saved by this function or made by [`prepare`], and is resumed once.
#[cfg(target_feature = "sse2")]
pub unsafe fn switch(save: *mut Context, to: Context) {
    // SAFETY: the caller's promise.
    unsafe { switch_general(save, to) }
}

/// Saves the current fiber to `*save` and resumes `to`. Returns when something switches back.
///
/// For a kernel that is compiled without SSE: it does not know that functions with the Windows convention keep XMM6–15,
/// which the drivers do use.
///
/// # Safety
/// `save` is writable; `to` was saved by this function or made by [`prepare`], and is resumed once.
#[cfg(not(target_feature = "sse2"))]
#[unsafe(naked)]
pub unsafe extern "sysv64" fn switch(save: *mut Context, to: Context) {
    naked_asm!(
        "sub rsp, 168",
        "movaps [rsp], xmm6",
        "movaps [rsp + 16], xmm7",
        "movaps [rsp + 32], xmm8",
        "movaps [rsp + 48], xmm9",
        "movaps [rsp + 64], xmm10",
        "movaps [rsp + 80], xmm11",
        "movaps [rsp + 96], xmm12",
        "movaps [rsp + 112], xmm13",
        "movaps [rsp + 128], xmm14",
        "movaps [rsp + 144], xmm15",
        "call {general}",
        "movaps xmm6, [rsp]",
        "movaps xmm7, [rsp + 16]",
        "movaps xmm8, [rsp + 32]",
        "movaps xmm9, [rsp + 48]",
        "movaps xmm10, [rsp + 64]",
        "movaps xmm11, [rsp + 80]",
        "movaps xmm12, [rsp + 96]",
        "movaps xmm13, [rsp + 112]",
        "movaps xmm14, [rsp + 128]",
        "movaps xmm15, [rsp + 144]",
        "add rsp, 168",
        "ret",
        general = sym switch_general,
    )
}

/// As [`switch`], general registers only.
///
/// # Safety
/// See [`switch`].
#[unsafe(naked)]
unsafe extern "sysv64" fn switch_general(save: *mut Context, to: Context) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Where a fresh fiber starts: calls the function in R12 with the argument in R13.
#[unsafe(naked)]
extern "sysv64" fn trampoline() {
    naked_asm!("mov rdi, r13", "xor ebp, ebp", "call r12", "ud2")
}

/// A fiber that will call `entry(argument)` on the stack that ends at `top`; `entry` never returns.
///
/// # Safety
/// At least 128 bytes below `top` are writable; `top` is 16-byte aligned.
pub unsafe fn prepare(
    top: *mut u8,
    entry: extern "sysv64" fn(*mut u8) -> !,
    argument: *mut u8,
) -> Context {
    // r15, r14, r13, r12, rbx, rbp, return address, two words so that RSP is aligned at the call.
    let frame: [usize; 9] = [
        0,
        0,
        argument as usize,
        entry as usize,
        0,
        0,
        trampoline as *const () as usize,
        0,
        0,
    ];
    let context = top.wrapping_sub(size_of_val(&frame)).cast::<[usize; 9]>();
    // SAFETY: the caller's promise: the words below `top` are writable.
    unsafe { context.write(frame) };
    context.cast()
}

/// Calls `function(argument)` on the stack that ends at `top` and returns on the current one.
///
/// # Safety
/// `top` is 16-byte aligned, the end of a stack that nothing uses, with room for what `function` does.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn call_on(
    top: *mut u8,
    function: extern "sysv64" fn(*mut u8),
    argument: *mut u8,
) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
    )
}
