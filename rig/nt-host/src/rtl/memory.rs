//! Memory blocks: what compilers call and what drivers compare.

use core::arch::global_asm;
use core::ffi::c_void;

use super::context::Context;
use crate::exports;
use crate::pe::unwind;

// Leaf functions without a stack frame, which keep RDI and RSI in R10 and R11: a fault in one is a fault of its caller,
// whose state is found again ([`caller_of`]), so that a handler of the driver's can take it.
global_asm!(
    ".globl nt_host_copy, nt_host_fill, nt_host_copy_begin, nt_host_copy_end",
    ".p2align 4",
    "nt_host_copy_begin:",
    "nt_host_copy:",
    "mov rax, rcx",
    "mov r10, rdi",
    "mov r11, rsi",
    "cmp r8, 16",
    "jb 2f",
    "cmp r8, 32",
    "ja 4f",
    "movups xmm0, [rdx]",
    "movups xmm1, [rdx + r8 - 16]",
    "movups [rcx], xmm0",
    "movups [rcx + r8 - 16], xmm1",
    "ret",
    "2:",
    "cmp r8, 8",
    "jb 3f",
    "mov r9, [rdx]",
    "mov rdx, [rdx + r8 - 8]",
    "mov [rcx], r9",
    "mov [rcx + r8 - 8], rdx",
    "ret",
    "3:",
    "cmp r8, 4",
    "jb 4f",
    "mov r9d, [rdx]",
    "mov edx, [rdx + r8 - 4]",
    "mov [rcx], r9d",
    "mov [rcx + r8 - 4], edx",
    "ret",
    "4:",
    "mov rdi, rcx",
    "mov rsi, rdx",
    "mov rcx, r8",
    "mov rdx, rdi",
    "sub rdx, rsi",
    "cmp rdx, rcx",
    "jb 5f",
    "rep movsb",
    "mov rdi, r10",
    "mov rsi, r11",
    "ret",
    // The target starts within the source: from the end.
    "5:",
    "lea rsi, [rsi + rcx - 1]",
    "lea rdi, [rdi + rcx - 1]",
    "std",
    "rep movsb",
    "cld",
    "mov rdi, r10",
    "mov rsi, r11",
    "ret",
    "nt_host_fill:",
    "mov r10, rdi",
    "mov r11, rsi",
    // What drivers clear is mostly shorter than the start of a string instruction takes.
    "cmp r8, 16",
    "jb 8f",
    "cmp r8, 1024",
    "ja 8f",
    "mov rax, rcx",
    "movzx edx, dl",
    "mov r9, 0x0101010101010101",
    "imul rdx, r9",
    "movq xmm0, rdx",
    "punpcklqdq xmm0, xmm0",
    "lea rdx, [rcx + r8 - 16]",
    "6:",
    "cmp rcx, rdx",
    "jae 7f",
    "movups [rcx], xmm0",
    "add rcx, 16",
    "jmp 6b",
    "7:",
    "movups [rdx], xmm0",
    "ret",
    "8:",
    "mov r9, rcx",
    "mov eax, edx",
    "mov rdi, rcx",
    "mov rcx, r8",
    "rep stosb",
    "mov rdi, r10",
    "mov rax, r9",
    "ret",
    "nt_host_copy_end:",
);

unsafe extern "win64" {
    static nt_host_copy_begin: u8;
    static nt_host_copy_end: u8;

    /// C: memcpy, which the kernel lets overlap.
    ///
    /// # Safety
    /// Both ranges of `count` bytes are valid.
    #[link_name = "nt_host_copy"]
    pub fn memcpy(target: *mut c_void, source: *const c_void, count: usize) -> *mut c_void;

    /// C: memmove.
    ///
    /// # Safety
    /// Both ranges of `count` bytes are valid.
    #[link_name = "nt_host_copy"]
    pub fn memmove(target: *mut c_void, source: *const c_void, count: usize) -> *mut c_void;

    /// C: memset.
    ///
    /// # Safety
    /// The range of `count` bytes is valid.
    #[link_name = "nt_host_fill"]
    pub fn memset(target: *mut c_void, value: i32, count: usize) -> *mut c_void;
}

/// Turns the state of a fault in one of the functions above into that of its caller. `false` for a state elsewhere.
pub fn caller_of(context: &mut Context) -> bool {
    const RSP: usize = 4;
    const RSI: usize = 6;
    const RDI: usize = 7;
    const R10: usize = 10;
    const R11: usize = 11;
    /// EFLAGS.DF, which is clear whenever functions are called.
    const DIRECTION: u32 = 1 << 10;
    let code = (&raw const nt_host_copy_begin) as u64..(&raw const nt_host_copy_end) as u64;
    if !code.contains(&context.rip) {
        return false;
    }
    let Some(back) = unwind::read_stack(context.general[RSP]) else {
        return false;
    };
    context.rip = back;
    context.general[RSP] += 8;
    context.general[RDI] = context.general[R10];
    context.general[RSI] = context.general[R11];
    context.eflags &= !DIRECTION;
    true
}

/// # Safety
/// The range of `count` bytes is readable.
unsafe fn slice<'a>(start: *const c_void, count: usize) -> &'a [u8] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(start.cast(), count) }
}

/// C: memcmp.
///
/// # Safety
/// Both ranges of `count` bytes are readable.
pub unsafe extern "win64" fn memcmp(
    first: *const c_void,
    second: *const c_void,
    count: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    let (first, second) = (unsafe { slice(first, count) }, unsafe {
        slice(second, count)
    });
    first.cmp(second) as i32
}

/// Microsoft Learn: RtlCompareMemory; how many bytes are equal from the start.
///
/// # Safety
/// Both ranges of `count` bytes are readable.
pub unsafe extern "win64" fn RtlCompareMemory(
    first: *const c_void,
    second: *const c_void,
    count: usize,
) -> usize {
    // SAFETY: the caller's promise.
    let (first, second) = (unsafe { slice(first, count) }, unsafe {
        slice(second, count)
    });
    first.iter().zip(second).take_while(|(a, b)| a == b).count()
}

/// C: strlen.
///
/// # Safety
/// `text` is NUL-terminated.
pub unsafe extern "win64" fn strlen(text: *const c_void) -> usize {
    // SAFETY: the caller's promise.
    unsafe { core::ffi::CStr::from_ptr(text.cast()) }
        .to_bytes()
        .len()
}

exports!("ntoskrnl.exe": memcpy, memmove, memset, memcmp, strlen, RtlCompareMemory);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_overlap_is_copied() {
        let fresh: [u8; 96] = core::array::from_fn(|index| index as u8);
        for length in 0..=48 {
            for (from, to) in [(0, 48), (0, 1), (1, 0), (8, 8), (0, 7), (7, 0), (3, 40)] {
                let mut bytes = fresh;
                let mut expected = fresh;
                expected.copy_within(from..from + length, to);
                let start = bytes.as_mut_ptr();
                let (source, target) = (start.wrapping_add(from), start.wrapping_add(to));
                // SAFETY: both ranges lie within the array.
                let result = unsafe { memcpy(target.cast(), source.cast(), length) };
                assert_eq!(result.cast(), target);
                assert_eq!(bytes, expected, "{length} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn filling_stays_within_its_range() {
        for length in (0..=100).chain([1023, 1024, 1025, 1100]) {
            let mut bytes = [1u8; 1200];
            let start = bytes.as_mut_ptr().wrapping_add(3);
            // SAFETY: the range lies within the array.
            let result = unsafe { memset(start.cast(), 0x1f7, length) };
            assert_eq!(result.cast(), start);
            let (before, rest) = bytes.split_at(3);
            let (filled, after) = rest.split_at(length);
            assert!(filled.iter().all(|&byte| byte == 0xf7), "{length}");
            assert!(before.iter().chain(after).all(|&byte| byte == 1));
        }
    }
}
