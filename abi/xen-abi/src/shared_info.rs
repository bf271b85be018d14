//! The shared info page and the time records in it. public/xen.h, public/arch-x86/xen.h.

use crate::hvm::LEGACY_MAX_VCPUS;
use core::sync::atomic::{AtomicI8, AtomicU8, AtomicU32, AtomicU64};

/// `struct vcpu_time_info`. A reader takes it as valid if `version` is even and the same before and after.
///
/// System time in ns = `system_time` + (((TSC − `tsc_timestamp`) shifted left by `tsc_shift`) × `tsc_to_system_mul`) >> 32.
#[derive(Debug)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while Xen writes.
    pub version: AtomicU32,
    /// Padding.
    pub pad0: AtomicU32,
    /// TSC at the last update.
    pub tsc_timestamp: AtomicU64,
    /// Nanoseconds since boot at the last update.
    pub system_time: AtomicU64,
    /// Fraction of 2^32.
    pub tsc_to_system_mul: AtomicU32,
    /// Negative shifts right.
    pub tsc_shift: AtomicI8,
    /// Bit 0: the TSC is stable.
    pub flags: AtomicU8,
    /// Padding.
    pub pad1: [AtomicU8; 2],
}
layout!(
    VcpuTimeInfo, 32, version @ 0, tsc_timestamp @ 8, system_time @ 16, tsc_to_system_mul @ 24, tsc_shift @ 28, flags @ 29
);

/// `struct vcpu_info`.
#[derive(Debug)]
#[repr(C)]
pub struct VcpuInfo {
    /// Set by Xen when an event arrived, cleared by the guest before it looks.
    pub evtchn_upcall_pending: AtomicU8,
    /// Set by the guest: no upcalls.
    pub evtchn_upcall_mask: AtomicU8,
    /// Padding.
    pub pad: [AtomicU8; 6],
    /// Two-level: bit n is set if word n of `evtchn_pending` may hold something.
    pub evtchn_pending_sel: AtomicU64,
    /// `struct arch_vcpu_info`: cr2 and padding.
    pub arch: [AtomicU64; 2],
    /// This vCPU's time.
    pub time: VcpuTimeInfo,
}
layout!(VcpuInfo, 64, evtchn_upcall_pending @ 0, evtchn_upcall_mask @ 1, evtchn_pending_sel @ 8, arch @ 16, time @ 32);

/// `struct shared_info`: the first 3136 bytes of the shared info page.
#[derive(Debug)]
#[repr(C)]
pub struct SharedInfo {
    /// One for each of the first vCPUs, unless registered elsewhere.
    pub vcpu_info: [VcpuInfo; LEGACY_MAX_VCPUS],
    /// Two-level: a bit per port, set by Xen, cleared by the guest.
    pub evtchn_pending: [AtomicU64; 64],
    /// Two-level: a bit per port, set by the guest to hold upcalls back.
    pub evtchn_mask: [AtomicU64; 64],
    /// Odd while Xen writes the wall clock.
    pub wc_version: AtomicU32,
    /// Wall clock at system time 0: seconds since 1970, low word.
    pub wc_sec: AtomicU32,
    /// Nanoseconds.
    pub wc_nsec: AtomicU32,
    /// Seconds since 1970, high word.
    pub wc_sec_hi: AtomicU32,
    /// `struct arch_shared_info`.
    pub arch: [AtomicU64; 6],
}
layout!(
    SharedInfo, 3136, vcpu_info @ 0, evtchn_pending @ 2048, evtchn_mask @ 2560, wc_version @ 3072, wc_sec @ 3076,
    wc_nsec @ 3080, wc_sec_hi @ 3084, arch @ 3088
);
