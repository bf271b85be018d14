//! Scheduling operations: yield, shut down, watchdog. public/sched.h.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SCHEDOP_yield`: no argument.
pub const YIELD: u32 = 0;
/// `SCHEDOP_block`: no argument.
pub const BLOCK: u32 = 1;
/// `SCHEDOP_shutdown`: [`Shutdown`]. With [`SHUTDOWN_SUSPEND`] it returns 0 in the resumed domain, 1 if cancelled.
pub const SHUTDOWN: u32 = 2;
/// `SCHEDOP_poll`: [`Poll`].
pub const POLL: u32 = 3;
/// `SCHEDOP_shutdown_code`: [`Shutdown`]; records the reason and lets the domain run on.
pub const SHUTDOWN_CODE: u32 = 5;
/// `SCHEDOP_watchdog`: [`Watchdog`].
pub const WATCHDOG: u32 = 6;

/// `SHUTDOWN_poweroff`.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// `SHUTDOWN_reboot`.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// `SHUTDOWN_suspend`.
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// `SHUTDOWN_crash`.
pub const SHUTDOWN_CRASH: u32 = 3;
/// `SHUTDOWN_watchdog`.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// `SHUTDOWN_soft_reset`.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;

/// `struct sched_shutdown`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Shutdown {
    /// One of `SHUTDOWN_*`.
    pub reason: u32,
}
layout!(Shutdown, 4, reason @ 0);

/// `struct sched_poll`: waits until one of the ports is pending.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Poll {
    /// Guest-virtual address of the ports, 4 bytes each.
    pub ports: u64,
    /// How many; at most 128.
    pub nr_ports: u32,
    /// Padding.
    pub pad: u32,
    /// Absolute system time in nanoseconds; 0 for no limit.
    pub timeout: u64,
}
layout!(Poll, 24, ports @ 0, nr_ports @ 8, timeout @ 16);

/// `struct sched_watchdog`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Watchdog {
    /// 0 takes a free one, which is returned; else an armed one.
    pub id: u32,
    /// Seconds until the domain is shut down; 0 disarms.
    pub timeout: u32,
}
layout!(Watchdog, 8, id @ 0, timeout @ 4);
