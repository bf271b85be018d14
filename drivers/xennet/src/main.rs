//! xennet.sys: Xen's PV network devices as the adapters of an NDIS miniport.
//!
//! ```text
//!   NDIS ── lists of frames ──► send ──── packets ──► vif: the VIF interface of xenvif.sys
//!        ◄── lists, in batches ─ receive ◄── packets ─┘
//!        ── requests ─────────► oid ───── options, filters, hashing ──► vif
//!        ── pause, restart … ─► adapter ─► life: enabled or not; presence: what the toolstack sees
//! ```
//!
//! What NDIS asks and is told is in `core/oid`; the miniport's side of NDIS in `nt/ndis`; xenvif.sys has the rings.
#![no_std]
#![no_main]
#![cfg(windows)]

extern crate alloc;

mod adapter;
mod callback;
mod life;
mod oid;
mod presence;
mod receive;
mod segment;
mod send;
mod vif;

use adapter::Adapter;
use nt::NtStatus;
use nt_sys::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};

nt::driver_runtime!(b"XNET");

/// The image's entry point.
///
/// # Safety
/// Called by the I/O manager only.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn DriverEntry(
    driver: *mut DRIVER_OBJECT,
    registry_path: *mut UNICODE_STRING,
) -> NTSTATUS {
    nt::info!("version {}", env!("CARGO_PKG_VERSION"));
    let [major, minor, ..] = nt::VERSION;
    // SAFETY: the arguments are those of DriverEntry, which runs once.
    let result =
        unsafe { ndis::register::<Adapter>(driver, registry_path, (major as u8, minor as u8)) };
    match &result {
        Ok(version) => nt::info!("NDIS {}.{}", version.reported.0, version.reported.1),
        Err(status) => nt::error!("NDIS refused the registration: {status}"),
    }
    NtStatus::of(&result).0
}
