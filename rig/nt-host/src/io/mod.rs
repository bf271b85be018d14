//! The I/O manager: drivers, device stacks, IRPs, work items, interrupts.
//!
//! ```text
//!   driver ─ device objects ─ stacks          IRP ──IofCallDriver──> top … bottom
//!                                                 <─IofCompleteRequest─
//! ```

pub mod complete;
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
pub mod work;
