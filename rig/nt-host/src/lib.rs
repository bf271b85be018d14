//! An NT executive as a library.
//!
//! Loads unmodified x64 drivers, gives them the kernel functions which Windows documents, and runs them on virtual
//! CPUs with a scheduler of its own. Everything it needs from below comes through one trait, [`Platform`]: memory,
//! time, sleep, a log and an end.
//!
//! The kernel's exports carry no context, so there is one executive in a process: [`init`] makes it, [`host`] finds it.
//!
//! ```text
//!   driver.sys ──imports──> exports (ke, ex, mm, ob, rtl, dbg, io, po, cm)  ──> Platform
//! ```
#![no_std]
#![allow(
    non_snake_case,
    non_upper_case_globals,
    reason = "kernel functions keep the names by which drivers import them"
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cm;
pub mod cng;
pub mod dbg;
pub mod ex;
pub mod export;
pub mod host;
pub mod hypervisor;
pub mod inf;
pub mod io;
pub mod ke;
pub mod mm;
pub mod netio;
pub mod ob;
pub mod pe;
pub mod place;
pub mod platform;
pub mod pnp;
pub mod po;
pub mod rtl;
pub mod shortage;
pub mod sync;
pub mod verifier;

pub use export::Export;
pub use host::{Config, host, init};
pub use platform::{Platform, Protection};
pub use trace;
