//! Ordinary Linux network stacks at both ends of the drivers.
//!
//! ```text
//!   ip netns exec winpv-PID-windows …         ip netns exec winpv-PID-peer …
//!     Linux's TCP/IP                            Linux's TCP/IP
//!     Tap  ── vnet header, frame                Tap  ── vnet header, frame
//! ```
//! [`Namespace`] is a stack of its own, [`Tap`] a device in it whose frames the rig reads and writes, [`vnet`] what is
//! said of a frame beside its bytes, [`frame`] where things are in a frame and what its checksums are. Nothing here
//! knows of Xen or of Windows.

pub mod frame;
mod namespace;
mod tap;
pub mod vnet;
mod waker;

use std::io;

pub use namespace::{Inside, Namespace};
pub use tap::{Address, Offloads, Tap};
pub use waker::Waker;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Not root, or root without the right.
    #[error("{what} needs root, with CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    Forbidden {
        /// What was tried.
        what: &'static str,
    },
    /// The kernel has no TAP devices, or the container does not show them.
    #[error(
        "there is no /dev/net/tun: the kernel's module tun is missing, or the container hides it"
    )]
    NoTun,
    /// Anything else.
    #[error("{what}: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        reason: io::Error,
    },
}

impl NetError {
    fn new(what: &'static str, reason: io::Error) -> Self {
        match reason.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden { what },
            _ => Self::System { what, reason },
        }
    }
}
