//! A real Xen with a Linux dom0 in QEMU, for the drivers to run against: no hardware virtualisation, nothing of Xen
//! installed, no root mounts.
//!
//! ```text
//! packages ── Debian's packages by name, unpacked ──▶ image ── one cpio, in a cache ──┐
//! job ── jobs/*.job ──▶ archive ── a second cpio: configurations, guests, steps ──────┼─▶ machine ── QEMU, two serial lines
//!                                                                                     │      │
//!                                                                  session ◀── markers, Xen's log ──┘ ──▶ verdicts
//! ```

pub mod archive;
pub mod cpio;
pub mod elf;
pub mod image;
pub mod job;
pub mod machine;
pub mod packages;
pub mod qemu;
pub mod session;
