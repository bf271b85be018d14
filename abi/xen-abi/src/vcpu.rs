//! Operations on a vCPU. public/vcpu.h.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `VCPUOP_is_up`.
pub const IS_UP: u32 = 3;
/// `VCPUOP_set_periodic_timer`: [`SetPeriodicTimer`]; raises `VIRQ_TIMER`.
pub const SET_PERIODIC_TIMER: u32 = 6;
/// `VCPUOP_stop_periodic_timer`: no argument.
pub const STOP_PERIODIC_TIMER: u32 = 7;
/// `VCPUOP_register_vcpu_info`: [`RegisterVcpuInfo`]; once per boot or resume.
pub const REGISTER_VCPU_INFO: u32 = 10;

/// Xen refuses shorter periods. xen/common/domain.c: `VCPUOP_set_periodic_timer`.
pub const MIN_PERIOD_NS: u64 = 1_000_000;

/// `struct vcpu_set_periodic_timer`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetPeriodicTimer {
    /// Nanoseconds.
    pub period_ns: u64,
}
layout!(SetPeriodicTimer, 8, period_ns @ 0);

/// `struct vcpu_register_vcpu_info`: where the vCPU's `vcpu_info` shall live from now on.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegisterVcpuInfo {
    /// Guest frame (the header's `mfn`).
    pub gfn: u64,
    /// Bytes from the start of that frame.
    pub offset: u32,
    /// 0.
    pub rsvd: u32,
}
layout!(RegisterVcpuInfo, 16, gfn @ 0, offset @ 8, rsvd @ 12);
