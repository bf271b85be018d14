//! The Windows kernel's binary interface for x64: structures, numbers, and (on the Windows target) imports.
//!
//! ```text
//!   drivers/*  ──►  nt (safe)  ──►  nt-sys  ◄──  rig/nt-host, rig/*-host
//! ```
//!
//! Both sides of the border use these types: the drivers through `nt`, and the rig, which plays Windows on Linux.
//! Names and fields are Microsoft's own (Microsoft Learn, "Windows driver kit"), so that they can be looked up there.
//! Every structure states its size and the offsets that matter; a test compiles the same statements against
//! mingw-w64's DDK headers. No logic lives here. Sizes of pointers and `ULONG_PTR` are those of x64.
#![no_std]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
// The fields are documented by Microsoft under these very names; repeating that would add nothing.
#![allow(missing_docs)]

#[cfg(test)]
extern crate std;

#[macro_use]
mod layout;

mod base;
mod csq;
mod device;
mod interrupt;
mod irp;
mod ke;
mod mm;
mod netio;
mod pci;
mod pnp;
mod power;
mod registry;
mod resources;
mod status;

pub mod ndis;
pub mod storport;

#[cfg(windows)]
pub mod imports;

pub use base::*;
pub use csq::*;
pub use device::*;
pub use interrupt::*;
pub use irp::*;
pub use ke::*;
pub use mm::*;
pub use netio::*;
pub use pci::*;
pub use pnp::*;
pub use power::*;
pub use registry::*;
pub use resources::*;
pub use status::*;

#[cfg(test)]
mod oracle;
