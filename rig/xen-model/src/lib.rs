//! Xen as a library, for one guest: domain 1 runs on a [`Machine`] which the caller provides, domain 0 is Rust code.
//!
//! Written from Xen's public headers and documents, not from the drivers it serves.

pub mod machine;

pub use machine::{Fault, Machine, P2m, Upcall};
