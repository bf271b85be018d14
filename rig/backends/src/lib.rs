//! Backends of PV devices: what domain 0 offers to the guest of the Xen model.

pub mod block;
pub mod hostile;
pub mod net;
