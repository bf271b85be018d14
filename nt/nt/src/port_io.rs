//! x86 I/O ports. Any IRQL.
//!
//! A port can do anything to a machine, so each function's duty is the same: the port is a device's that the caller
//! drives, and the access is one that the device defines.

use core::arch::asm;

/// Reads a byte.
///
/// # Safety
/// See the module.
pub unsafe fn read_u8(port: u16) -> u8 {
    let value;
    // SAFETY: the caller vouches for the port; no memory is touched.
    unsafe {
        asm!("in al, dx", out("al") value, in("dx") port, options(nomem, nostack, preserves_flags))
    };
    value
}

/// Reads 16 bits.
///
/// # Safety
/// See the module.
pub unsafe fn read_u16(port: u16) -> u16 {
    let value;
    // SAFETY: the caller vouches for the port; no memory is touched.
    unsafe {
        asm!("in ax, dx", out("ax") value, in("dx") port, options(nomem, nostack, preserves_flags))
    };
    value
}

/// Writes 16 bits.
///
/// # Safety
/// See the module.
pub unsafe fn write_u16(port: u16, value: u16) {
    // SAFETY: the caller vouches for the port; no memory is touched.
    unsafe {
        asm!("out dx, ax", in("ax") value, in("dx") port, options(nomem, nostack, preserves_flags))
    };
}

/// Writes 32 bits.
///
/// # Safety
/// See the module.
pub unsafe fn write_u32(port: u16, value: u32) {
    // SAFETY: the caller vouches for the port; no memory is touched.
    unsafe {
        asm!("out dx, eax", in("eax") value, in("dx") port, options(nomem, nostack, preserves_flags))
    };
}

/// Writes each byte of `bytes` in turn.
///
/// # Safety
/// See the module.
pub unsafe fn write_bytes(port: u16, bytes: &[u8]) {
    // SAFETY: the caller vouches for the port; `rep outsb` reads the bytes of the slice.
    unsafe {
        asm!(
            "rep outsb",
            in("dx") port,
            inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _,
            options(readonly, nostack, preserves_flags)
        );
    }
}
