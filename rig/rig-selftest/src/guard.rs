//! The load configuration that control-flow guard asks of an image (Microsoft Learn, "PE Format", "The Load Configuration
//! Structure"): indirect calls go through a pointer of the image, which a kernel that guards them replaces.

core::arch::global_asm!(
    ".section .text,\"xr\"",
    ".p2align 4",
    "__selftest_dispatch:",
    "jmp rax",
    ".p2align 4",
    "__selftest_check:",
    "ret",
    ".section .00cfg,\"dr\"",
    ".p2align 3",
    ".globl __guard_check_icall_fptr",
    "__guard_check_icall_fptr: .quad __selftest_check",
    ".globl __guard_dispatch_icall_fptr",
    "__guard_dispatch_icall_fptr: .quad __selftest_dispatch",
    ".section .rdata,\"dr\"",
    ".p2align 3",
    ".globl _load_config_used",
    // Size at 0; GuardCFCheckFunctionPointer at 0x70, then dispatch pointer, function table and count, flags (0x90),
    // CodeIntegrity (12 bytes), address-taken table and count, long jump table and count.
    "_load_config_used: .long 0xC0",
    ".zero 0x6C",
    ".quad __guard_check_icall_fptr, __guard_dispatch_icall_fptr",
    ".quad __guard_fids_table, __guard_fids_count",
    ".long __guard_flags",
    ".zero 12",
    ".quad __guard_iat_table, __guard_iat_count",
    ".quad __guard_longjmp_table, __guard_longjmp_count",
);
