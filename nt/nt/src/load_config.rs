//! The image's load configuration: where the kernel finds the tables of control-flow guard.
//!
//! The compiler turns an indirect call into a call through `__guard_dispatch_icall_fptr`. Here it points to a plain
//! jump; a kernel that guards control flow replaces it when it loads the image. The linker fills the tables in.
//!
//! Layout: Microsoft Learn, "PE Format", "The Load Configuration Structure", 64-bit column.

core::arch::global_asm!(
    ".section .text,\"xr\"",
    ".p2align 4",
    "__winpv_guard_dispatch:",
    "jmp rax",
    ".p2align 4",
    "__winpv_guard_check:",
    "ret",
    // The section of its own lets the kernel protect the two pointers again after it has written them.
    ".section .00cfg,\"dr\"",
    ".p2align 3",
    ".globl __guard_check_icall_fptr",
    "__guard_check_icall_fptr:",
    ".quad __winpv_guard_check",
    ".globl __guard_dispatch_icall_fptr",
    "__guard_dispatch_icall_fptr:",
    ".quad __winpv_guard_dispatch",
    ".section .rdata,\"dr\"",
    ".p2align 3",
    ".globl _load_config_used",
    "_load_config_used:",
    // Size of the structure up to and with GuardLongJumpTargetCount.
    ".long 0xC0",
    // Nothing up to GuardCFCheckFunctionPointer at 0x70 applies to a driver.
    ".zero 0x6C",
    ".quad __guard_check_icall_fptr",
    ".quad __guard_dispatch_icall_fptr",
    ".quad __guard_fids_table",
    ".quad __guard_fids_count",
    ".long __guard_flags",
    // CodeIntegrity.
    ".zero 12",
    ".quad __guard_iat_table",
    ".quad __guard_iat_count",
    ".quad __guard_longjmp_table",
    ".quad __guard_longjmp_count",
);
