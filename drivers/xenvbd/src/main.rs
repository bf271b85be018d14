//! xenvbd.sys: Xen's PV disks as the disks of a storport adapter.
//!
//! ```text
//!   storport ──SRB──► io ──► queue (one a CPU) ──ring──► backend
//!                      │        ▲
//!                      ▼        │ connects, closes, watches the backend
//!                    scsi      disk (a thread each) ◄── adapter (finds disks in xenstore) ◄── pnp
//! ```
//!
//! The protocols are in `core/scsi` and `core/blkfront`; here they meet the kernel.
#![no_std]
#![no_main]

extern crate alloc;

mod adapter;
mod connection;
mod disk;
mod io;
mod once;
mod pnp;
mod queue;
mod session;
mod settings;
mod shape;

use adapter::Adapter;
use nt::NtStatus;
use nt::sys::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};

nt::driver_runtime!(b"XVBD");

/// The image's entry point.
///
/// # Safety
/// Called by the I/O manager only.
#[unsafe(no_mangle)]
pub unsafe extern "win64" fn DriverEntry(
    driver: *mut DRIVER_OBJECT,
    registry_path: *mut UNICODE_STRING,
) -> NTSTATUS {
    // Without a service key this is the copy that writes a crash dump or hibernation file, which needs a store and a
    // ring of its own, without any other driver.
    if registry_path.is_null() {
        return NtStatus::NOT_SUPPORTED.0;
    }
    nt::info!("version {}", env!("CARGO_PKG_VERSION"));
    // SAFETY: the arguments are those of DriverEntry, which runs once.
    let result = unsafe { storport::register::<Adapter>(driver, registry_path) };
    if let Err(status) = result {
        nt::error!("storport refused the registration: {status}");
    }
    NtStatus::of(&result).0
}
