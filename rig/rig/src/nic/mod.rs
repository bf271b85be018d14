//! A PV network card between two Linux network stacks.
//!
//! ```text
//!   namespace winpv-PID-windows                               namespace winpv-PID-peer
//!     TAP ◄─► stack (a protocol of NDIS) ◄─► xennet.sys, xenvif.sys ◄─► netback ◄─► TAP
//! ```

pub mod capture;
pub mod ends;
pub mod offload;
pub mod probe;
