//! Memory blocks: what compilers call and what drivers compare.

use core::ffi::c_void;

use crate::exports;

/// C: memcpy, which the kernel lets overlap.
///
/// # Safety
/// Both ranges of `count` bytes are valid.
pub unsafe extern "win64" fn memcpy(
    target: *mut c_void,
    source: *const c_void,
    count: usize,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy(source.cast::<u8>(), target.cast::<u8>(), count) };
    target
}

/// C: memmove.
///
/// # Safety
/// Both ranges of `count` bytes are valid.
pub unsafe extern "win64" fn memmove(
    target: *mut c_void,
    source: *const c_void,
    count: usize,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { memcpy(target, source, count) }
}

/// C: memset.
///
/// # Safety
/// The range of `count` bytes is valid.
pub unsafe extern "win64" fn memset(target: *mut c_void, value: i32, count: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { target.cast::<u8>().write_bytes(value as u8, count) };
    target
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
