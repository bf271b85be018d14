//! A network miniport, safely: the driver implements [`Miniport`], NDIS' handlers arrive at its methods.
//!
//! ```text
//!   NDIS ── MiniportInitializeEx ──────►  Miniport::create, describe       (the adapter is a box that NDIS keeps)
//!        ── MiniportSendNetBufferLists ►  Miniport::send       SendList: owned until the last Share of it ends
//!        ◄─ NdisMIndicateReceive… ──────  Pool ─► ReceiveList ─► ReceiveChain::indicate
//!        ── MiniportReturn… ───────────►  Miniport::returned   ReceiveList again
//!        ── MiniportOidRequest ────────►  Miniport::request    OidRequest
//! ```
//!
//! A list that NDIS gave is completed once whatever becomes of the value that stands for it: dropping it completes it
//! as failed. Source: Microsoft Learn, "NDIS miniport drivers"; ndis.h. Which revisions go with which NDIS is in
//! [`version`], which is all of this that builds on the host.
#![cfg_attr(not(test), no_std)]

#[cfg(windows)]
extern crate alloc;

pub mod version;

#[cfg(windows)]
mod adapter;
#[cfg(windows)]
mod attributes;
#[cfg(windows)]
mod configuration;
#[cfg(windows)]
mod dma;
#[cfg(windows)]
mod miniport;
#[cfg(windows)]
mod oid;
#[cfg(windows)]
mod receive;
#[cfg(windows)]
mod send;

#[cfg(windows)]
pub use {
    adapter::{Adapter, DeviceObjects, LinkState},
    attributes::{General, RegistrationFlags, Scale},
    configuration::Configuration,
    dma::ScatterGather,
    miniport::{Halt, Miniport, Pause, register, runtime_version},
    oid::{Kind, OidRequest},
    receive::{Pool, ReceiveChain, ReceiveList, Returned},
    send::{CancelId, Frame, Frames, SendList, Sends, Share},
};

/// The raw declarations.
pub use nt_sys::ndis as sys;

/// An `NDIS_STATUS`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
#[must_use]
pub struct NdisStatus(pub sys::NDIS_STATUS);

impl NdisStatus {
    /// `NDIS_STATUS_SUCCESS`.
    pub const SUCCESS: NdisStatus = NdisStatus(sys::NDIS_STATUS_SUCCESS);
    /// `NDIS_STATUS_FAILURE`.
    pub const FAILURE: NdisStatus = NdisStatus(sys::NDIS_STATUS_FAILURE);
    /// `NDIS_STATUS_NOT_ACCEPTED`.
    pub const NOT_ACCEPTED: NdisStatus = NdisStatus(sys::NDIS_STATUS_NOT_ACCEPTED);
    /// `NDIS_STATUS_NOT_SUPPORTED`.
    pub const NOT_SUPPORTED: NdisStatus = NdisStatus(sys::NDIS_STATUS_NOT_SUPPORTED);
    /// `NDIS_STATUS_RESOURCES`.
    pub const RESOURCES: NdisStatus = NdisStatus(sys::NDIS_STATUS_RESOURCES);
    /// `NDIS_STATUS_PAUSED`.
    pub const PAUSED: NdisStatus = NdisStatus(sys::NDIS_STATUS_PAUSED);
    /// `NDIS_STATUS_SEND_ABORTED`.
    pub const SEND_ABORTED: NdisStatus = NdisStatus(sys::NDIS_STATUS_SEND_ABORTED);
    /// `NDIS_STATUS_INVALID_PACKET`.
    pub const INVALID_PACKET: NdisStatus = NdisStatus(sys::NDIS_STATUS_INVALID_PACKET);
    /// `NDIS_STATUS_INVALID_LENGTH`.
    pub const INVALID_LENGTH: NdisStatus = NdisStatus(sys::NDIS_STATUS_INVALID_LENGTH);
    /// `NDIS_STATUS_INVALID_DATA`.
    pub const INVALID_DATA: NdisStatus = NdisStatus(sys::NDIS_STATUS_INVALID_DATA);
    /// `NDIS_STATUS_INVALID_PARAMETER`.
    pub const INVALID_PARAMETER: NdisStatus = NdisStatus(sys::NDIS_STATUS_INVALID_PARAMETER);
    /// `NDIS_STATUS_BUFFER_TOO_SHORT`.
    pub const BUFFER_TOO_SHORT: NdisStatus = NdisStatus(sys::NDIS_STATUS_BUFFER_TOO_SHORT);

    /// Whether the severity is success or information.
    pub const fn is_success(self) -> bool {
        self.0 >= 0
    }

    /// `Ok` where `status` is a success.
    pub const fn check(status: sys::NDIS_STATUS) -> Result<(), NdisStatus> {
        if status >= 0 {
            Ok(())
        } else {
            Err(NdisStatus(status))
        }
    }
}

impl From<nt::NtStatus> for NdisStatus {
    fn from(status: nt::NtStatus) -> NdisStatus {
        match status {
            nt::NtStatus::NO_MEMORY | nt::NtStatus::INSUFFICIENT_RESOURCES => NdisStatus::RESOURCES,
            // The other values mean the same to both, where NDIS knows them at all.
            other if !other.is_success() => NdisStatus(other.0),
            _ => NdisStatus::SUCCESS,
        }
    }
}

impl core::fmt::Debug for NdisStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "0x{:08X}", self.0)
    }
}

impl core::fmt::Display for NdisStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self, f)
    }
}
