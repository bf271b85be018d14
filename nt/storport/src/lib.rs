//! A storage miniport, safely: the driver implements [`Miniport`], storport's callbacks arrive at its methods.
//!
//! ```text
//!   storport ── HwBuildIo, HwStartIo ──►  Miniport::prepare, start_io      (Srb: owned until completed)
//!            ── HwInitialize ──►          Miniport::start                  (PASSIVE_LEVEL)
//!   PnP, power ──► hook ──►               Miniport::pnp, power ──► Next::forward ──► storport's own dispatch
//! ```
//!
//! A physical miniport, so that SRBs come with scatter-gather lists and the disk can be a boot disk. One adapter a
//! driver. Source: Microsoft Learn, "Storport miniport drivers"; storport.h.
#![no_std]
#![cfg(windows)]

extern crate alloc;

mod adapter;
mod dispatch;
mod register;
mod srb;

pub use adapter::{Adapter, DeviceObjects};
pub use dispatch::{Next, retire};
pub use register::{Config, register};
pub use srb::Srb;

use alloc::boxed::Box;

/// A miniport's one adapter.
pub trait Miniport: Sized + Send + Sync + 'static {
    /// What storport is told at registration.
    const CONFIG: Config;

    /// Makes the adapter. PASSIVE_LEVEL, while the adapter's device starts.
    fn start(adapter: Adapter) -> nt::Result<Box<Self>>;

    /// Looks at a request first, without any lock of storport's: completes it (`None`), or gives it back for
    /// [`Miniport::start_io`]. IRQL ≤ DISPATCH_LEVEL.
    fn prepare(&self, srb: Srb) -> Option<Srb>;

    /// Carries a request out, or begins to. DISPATCH_LEVEL, on several processors at once.
    fn start_io(&self, srb: Srb);

    /// Storport resets the bus: asks for everything outstanding to be completed. DISPATCH_LEVEL.
    fn reset(&self);

    /// A PnP request to the adapter or a disk, before storport sees it. `adapter` is `None` until [`Miniport::start`]
    /// has succeeded. PASSIVE_LEVEL.
    fn pnp(adapter: Option<&'static Self>, next: Next) -> nt::NtStatus;

    /// A power request, before storport sees it. IRQL ≤ DISPATCH_LEVEL.
    fn power(adapter: Option<&'static Self>, next: Next) -> nt::NtStatus;
}
