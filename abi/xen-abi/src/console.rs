//! The PV console's page. public/io/console.h.

use core::sync::atomic::{AtomicU8, AtomicU32};

/// `struct xencons_interface`. Indices run freely; a byte lies at index modulo the ring's size.
#[derive(Debug)]
#[repr(C)]
pub struct XenconsInterface {
    /// To the guest.
    pub input: [AtomicU8; 1024],
    /// From the guest.
    pub output: [AtomicU8; 2048],
    /// Consumed by the guest.
    pub in_cons: AtomicU32,
    /// Produced by the console daemon.
    pub in_prod: AtomicU32,
    /// Consumed by the console daemon.
    pub out_cons: AtomicU32,
    /// Produced by the guest.
    pub out_prod: AtomicU32,
}
layout!(XenconsInterface, 3088, input @ 0, output @ 1024, in_cons @ 3072, in_prod @ 3076, out_cons @ 3080, out_prod @ 3084);
