//! Ways from a driver into the rig that are not calls of the driver's: nothing but what they are for changes.
//!
//! - [`hypercall`] stands for the instruction `vmcall` or `vmmcall`, where a jump to it could be patched in;
//! - [`pause`] stands for the instruction `pause` in a seeded machine;
//! - [`nudge`] is where a driver finds itself that has not called the executive for too long, as by an interrupt.

use std::arch::naked_asm;

use nt_host::platform::PAGE_SIZE;

use nt_host::ke::border;

use super::{Linux, fault, seeded, vcpu};

/// "no such hypercall" (xen/errno.h).
const ENOSYS: i64 = 38;

/// A function that calls `$function` with every register saved that it may change, RAX excepted. It is called with RDI
/// = RAX and RSI pointing to RDI, RSI, RDX, R10, R8 and a free word, which `$before` and `$after` may use.
macro_rules! saving_registers {
    ($function:ident, $before:literal, $after:literal) => {
        naked_asm!(
            "push rbp",
            "mov rbp, rsp",
            "pushfq",
            "push rcx",
            "push rdx",
            "push rsi",
            "push rdi",
            "push r8",
            "push r9",
            "push r10",
            "push r11",
            "sub rsp, 304",
            "and rsp, -16",
            "movaps [rsp + 48], xmm0",
            "movaps [rsp + 64], xmm1",
            "movaps [rsp + 80], xmm2",
            "movaps [rsp + 96], xmm3",
            "movaps [rsp + 112], xmm4",
            "movaps [rsp + 128], xmm5",
            "movaps [rsp + 144], xmm6",
            "movaps [rsp + 160], xmm7",
            "movaps [rsp + 176], xmm8",
            "movaps [rsp + 192], xmm9",
            "movaps [rsp + 208], xmm10",
            "movaps [rsp + 224], xmm11",
            "movaps [rsp + 240], xmm12",
            "movaps [rsp + 256], xmm13",
            "movaps [rsp + 272], xmm14",
            "movaps [rsp + 288], xmm15",
            "mov [rsp], rdi",
            "mov [rsp + 8], rsi",
            "mov [rsp + 16], rdx",
            "mov [rsp + 24], r10",
            "mov [rsp + 32], r8",
            $before,
            "mov rdi, rax",
            "mov rsi, rsp",
            "cld",
            "call {function}",
            $after,
            "movaps xmm0, [rsp + 48]",
            "movaps xmm1, [rsp + 64]",
            "movaps xmm2, [rsp + 80]",
            "movaps xmm3, [rsp + 96]",
            "movaps xmm4, [rsp + 112]",
            "movaps xmm5, [rsp + 128]",
            "movaps xmm6, [rsp + 144]",
            "movaps xmm7, [rsp + 160]",
            "movaps xmm8, [rsp + 176]",
            "movaps xmm9, [rsp + 192]",
            "movaps xmm10, [rsp + 208]",
            "movaps xmm11, [rsp + 224]",
            "movaps xmm12, [rsp + 240]",
            "movaps xmm13, [rsp + 256]",
            "movaps xmm14, [rsp + 272]",
            "movaps xmm15, [rsp + 288]",
            // Behind the flags and eight registers that were pushed.
            "lea rsp, [rbp - 72]",
            "pop r11",
            "pop r10",
            "pop r9",
            "pop r8",
            "pop rdi",
            "pop rsi",
            "pop rdx",
            "pop rcx",
            "popfq",
            "pop rbp",
            "ret",
            function = sym $function,
        )
    };
}

/// Stands for a hypercall instruction: the number in RAX, arguments in RDI, RSI, RDX, R10, R8, the result in RAX
/// (xen/arch-x86/xen-x86_64.h).
///
/// # Safety
/// Called by a patched driver on a vCPU thread, with the registers of a hypercall.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn hypercall() {
    saving_registers!(carry_out, "", "")
}

/// What Xen puts into a guest's hypercall page: 32 bytes for each hypercall, to be called.
pub fn hypercall_page() -> [u8; PAGE_SIZE] {
    const SLOT: usize = 32;
    let mut page = [0xCC; PAGE_SIZE];
    for (number, slot) in (0u32..).zip(page.chunks_exact_mut(SLOT)) {
        // mov eax, number; call [rip + 1: behind the next]; ret; the address to call
        slot[0] = 0xB8;
        slot[1..5].copy_from_slice(&number.to_le_bytes());
        slot[5..12].copy_from_slice(&[0xFF, 0x15, 1, 0, 0, 0, 0xC3]);
        slot[12..20].copy_from_slice(&(hypercall as *const () as u64).to_le_bytes());
    }
    page
}

extern "sysv64" fn carry_out(number: u64, arguments: &[u64; 5]) -> i64 {
    let xen = fault::machine().and_then(|machine| machine.xen());
    match (xen, vcpu::current()) {
        (Some(xen), Some(cpu)) => border::serve(|| {
            let result = xen.hypercall(cpu, number, *arguments);
            if let Some(world) = seeded::world() {
                world.call();
            }
            result
        }),
        _ => -ENOSYS,
    }
}

/// Stands for the instruction `pause`.
///
/// # Safety
/// Entered from driver code on a vCPU thread.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn pause() {
    saving_registers!(spin, "mov [rsp + 40], rax", "mov rax, [rsp + 40]")
}

extern "sysv64" fn spin() {
    border::serve(|| {
        nt_host::ke::interrupted();
        if let Some(world) = seeded::world() {
            world.spin(!fault::machine().is_some_and(Linux::is_suspended));
        }
    });
}

/// Delivers what is pending, then goes on where the driver was; that address is on the stack.
///
/// # Safety
/// Entered from driver code on a vCPU thread.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn nudge() {
    saving_registers!(deliver, "mov [rsp + 40], rax", "mov rax, [rsp + 40]")
}

extern "sysv64" fn deliver() {
    border::serve(nt_host::ke::interrupted);
}
