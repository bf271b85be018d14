//! The I/O manager: drivers, device stacks, IRPs, work items, interrupts.
//!
//! ```text
//!   driver ─ device objects ─ stacks          IRP ──IofCallDriver──> top … bottom
//!                                                 <─IofCompleteRequest─
//! ```

pub mod cancel;
pub mod complete;
pub mod csq;
pub mod device;
pub mod driver;
pub mod driver_key;
pub mod function;
pub mod incoming;
pub mod interrupt;
pub mod irp;
pub mod remove_lock;
pub mod request;
pub mod shutdown;
pub mod wmi;
pub mod work;
