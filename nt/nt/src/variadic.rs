//! Exporting functions that take a variable number of arguments.
//!
//! Under the x64 convention a caller puts the first four arguments into registers and leaves them room on the stack,
//! right below the others. Spilling the registers there makes all of them one array of 8-byte slots, which is also
//! what a `va_list` points into.

/// Defines `unsafe extern "win64" fn $name(...)`, which calls `$inner(arguments)` with a pointer to its arguments.
///
/// ```text
/// unsafe extern "win64" fn printf_inner(arguments: *const u64) -> i32 { … }
/// nt::variadic! { pub fn printf => printf_inner }
/// ```
/// `$name` has the type `unsafe extern "win64" fn()`; cast it to what the table or the export promises.
#[macro_export]
macro_rules! variadic {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident => $inner:path) => {
        $(#[$attribute])*
        #[unsafe(naked)]
        $visibility unsafe extern "win64" fn $name() {
            core::arch::naked_asm!(
                ".seh_proc {this}",
                "mov [rsp + 8], rcx",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], r8",
                "mov [rsp + 32], r9",
                "lea rcx, [rsp + 8]",
                "sub rsp, 40",
                ".seh_stackalloc 40",
                ".seh_endprologue",
                "call {inner}",
                "add rsp, 40",
                "ret",
                ".seh_endproc",
                this = sym $name,
                inner = sym $inner,
            )
        }
    };
}
