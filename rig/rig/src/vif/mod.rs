//! Users of xenvif.sys' devices without NDIS.

pub mod client;
pub mod driver;
