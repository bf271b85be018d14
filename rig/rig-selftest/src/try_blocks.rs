//! `__try` with `__except` and `__finally`, which Rust lacks: functions in assembly with the tables that a C compiler
//! makes for them (Microsoft Learn, "x64 exception handling"; the scope table as compilers emit it).

use core::arch::global_asm;

use crate::wdk::*;

/// What runs inside.
pub type Body = extern "system" fn(PVOID);
/// Decides: below 0 goes on where it was raised, 0 looks further, above 0 takes the exception.
pub type Filter = extern "system" fn(*mut EXCEPTION_POINTERS, PVOID) -> i32;
/// Runs at the end: whether an exception ends it.
pub type Finally = extern "system" fn(u8, PVOID);

unsafe extern "system" {
    fn selftest_try(body: Body, argument: PVOID, filter: Filter, context: PVOID) -> u64;
    fn selftest_finally(body: Body, argument: PVOID, block: Finally, context: PVOID);
    fn selftest_keep(body: Body, argument: PVOID) -> u64;
}

/// Runs `body`; the code of the exception that `filter` took, or `None`.
pub fn attempt(body: Body, argument: PVOID, filter: Filter, context: PVOID) -> Option<u32> {
    // SAFETY: nothing that an exception skips has to be dropped.
    let result = unsafe { selftest_try(body, argument, filter, context) };
    (result >> 32 != 0).then_some(result as u32)
}

/// Runs `body`, and `block` whatever happens.
pub fn finally(body: Body, argument: PVOID, block: Finally, context: PVOID) {
    // SAFETY: nothing that an exception skips has to be dropped.
    unsafe { selftest_finally(body, argument, block, context) }
}

/// Runs `body`, which must raise an exception below a function that changes the registers which functions preserve.
/// How many of them are wrong where the exception is taken; all ones when none was raised.
pub fn wrong_registers(body: Body, argument: PVOID) -> u64 {
    // SAFETY: nothing that an exception skips has to be dropped.
    unsafe { selftest_keep(body, argument) }
}

global_asm!(
    r#"
    .text
    .p2align 4
    .globl selftest_try
    .def selftest_try; .scl 2; .type 32; .endef
    .seh_proc selftest_try
    selftest_try:
        push rbp
        .seh_pushreg rbp
        sub rsp, 0x40
        .seh_stackalloc 0x40
        lea rbp, [rsp + 0x40]
        .seh_setframe rbp, 0x40
        .seh_endprologue
        mov [rbp - 8], r8
        mov [rbp - 16], r9
        mov rax, rcx
        mov rcx, rdx
    .Ltry_begin:
        call rax
        nop
    .Ltry_end:
        xor eax, eax
    .Ltry_leave:
        add rsp, 0x40
        pop rbp
        ret
    .Ltry_except:
        mov eax, eax
        bts rax, 32
        jmp .Ltry_leave
        .seh_handler __C_specific_handler, @unwind, @except
        .seh_handlerdata
        .long 1
        .long .Ltry_begin@IMGREL, .Ltry_end@IMGREL, selftest_filter@IMGREL, .Ltry_except@IMGREL
        .text
        .seh_endproc

    .p2align 4
    .seh_proc selftest_filter
    selftest_filter:
        sub rsp, 0x28
        .seh_stackalloc 0x28
        .seh_endprologue
        mov rax, [rdx + 0x38]
        mov rdx, [rdx + 0x30]
        call rax
        nop
        add rsp, 0x28
        ret
        .seh_endproc

    .p2align 4
    .globl selftest_finally
    .def selftest_finally; .scl 2; .type 32; .endef
    .seh_proc selftest_finally
    selftest_finally:
        sub rsp, 0x38
        .seh_stackalloc 0x38
        .seh_endprologue
        mov [rsp + 0x28], r8
        mov [rsp + 0x30], r9
        mov rax, rcx
        mov rcx, rdx
    .Lfinally_begin:
        call rax
        nop
    .Lfinally_end:
        xor ecx, ecx
        mov rdx, [rsp + 0x30]
        call qword ptr [rsp + 0x28]
        nop
        add rsp, 0x38
        ret
        .seh_handler __C_specific_handler, @unwind
        .seh_handlerdata
        .long 1
        .long .Lfinally_begin@IMGREL, .Lfinally_end@IMGREL, selftest_block@IMGREL, 0
        .text
        .seh_endproc

    .p2align 4
    .seh_proc selftest_block
    selftest_block:
        sub rsp, 0x28
        .seh_stackalloc 0x28
        .seh_endprologue
        mov rax, [rdx + 0x28]
        mov rdx, [rdx + 0x30]
        movzx ecx, cl
        call rax
        nop
        add rsp, 0x28
        ret
        .seh_endproc

    .p2align 4
    .globl selftest_keep
    .def selftest_keep; .scl 2; .type 32; .endef
    .seh_proc selftest_keep
    selftest_keep:
        push rbx
        .seh_pushreg rbx
        push rsi
        .seh_pushreg rsi
        push rdi
        .seh_pushreg rdi
        push r12
        .seh_pushreg r12
        push r15
        .seh_pushreg r15
        sub rsp, 0x40
        .seh_stackalloc 0x40
        movaps [rsp + 0x20], xmm6
        .seh_savexmm xmm6, 0x20
        movaps [rsp + 0x30], xmm15
        .seh_savexmm xmm15, 0x30
        .seh_endprologue
        mov ebx, 0x1001
        mov esi, 0x1002
        mov edi, 0x1003
        mov r12d, 0x1004
        mov r15d, 0x1005
        movq xmm6, rbx
        movq xmm15, rsi
    .Lkeep_begin:
        call selftest_spoil
        nop
    .Lkeep_end:
        mov rax, -1
        jmp .Lkeep_leave
    .Lkeep_except:
        xor eax, eax
        xor ecx, ecx
        cmp rbx, 0x1001
        setne cl
        add rax, rcx
        cmp rsi, 0x1002
        setne cl
        add rax, rcx
        cmp rdi, 0x1003
        setne cl
        add rax, rcx
        cmp r12, 0x1004
        setne cl
        add rax, rcx
        cmp r15, 0x1005
        setne cl
        add rax, rcx
        movq rdx, xmm6
        cmp rdx, 0x1001
        setne cl
        add rax, rcx
        movq rdx, xmm15
        cmp rdx, 0x1002
        setne cl
        add rax, rcx
    .Lkeep_leave:
        movaps xmm6, [rsp + 0x20]
        movaps xmm15, [rsp + 0x30]
        add rsp, 0x40
        pop r15
        pop r12
        pop rdi
        pop rsi
        pop rbx
        ret
        .seh_handler __C_specific_handler, @unwind, @except
        .seh_handlerdata
        .long 1
        .long .Lkeep_begin@IMGREL, .Lkeep_end@IMGREL, 1, .Lkeep_except@IMGREL
        .text
        .seh_endproc

    // RCX: a function, RDX: its argument. Saves registers in every way that unwind codes know.
    .p2align 4
    .seh_proc selftest_spoil
    selftest_spoil:
        push r12
        .seh_pushreg r12
        sub rsp, 0x2060
        .seh_stackalloc 0x2060
        mov [rsp + 0x2020], rbx
        .seh_savereg rbx, 0x2020
        mov [rsp + 0x2028], rsi
        .seh_savereg rsi, 0x2028
        mov [rsp + 0x2030], rdi
        .seh_savereg rdi, 0x2030
        mov [rsp + 0x2038], r15
        .seh_savereg r15, 0x2038
        movaps [rsp + 0x2040], xmm6
        .seh_savexmm xmm6, 0x2040
        movaps [rsp + 0x2050], xmm15
        .seh_savexmm xmm15, 0x2050
        .seh_endprologue
        mov rax, rcx
        mov rcx, rdx
        xor ebx, ebx
        xor esi, esi
        xor edi, edi
        xor r12d, r12d
        xor r15d, r15d
        xorps xmm6, xmm6
        xorps xmm15, xmm15
        call rax
        nop
        movaps xmm6, [rsp + 0x2040]
        movaps xmm15, [rsp + 0x2050]
        mov rbx, [rsp + 0x2020]
        mov rsi, [rsp + 0x2028]
        mov rdi, [rsp + 0x2030]
        mov r15, [rsp + 0x2038]
        add rsp, 0x2060
        pop r12
        ret
        .seh_endproc
    "#
);
