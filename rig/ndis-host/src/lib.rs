//! NDIS.SYS as a miniport sees it, and its adapters as the protocol above them sees them.
//!
//! ```text
//!   protocol ── Binding::send ──▶ send: gate, snapshots ──MiniportSendNetBufferLists──▶ miniport
//!            ◀── Protocol::sent ──┘        ◀──NdisMSendNetBufferListsComplete──────────┤
//!            ◀── Protocol::receive ── receive: checks ◀──NdisMIndicateReceiveNetBufferLists
//!            ── Kept dropped ──────▶ MiniportReturnNetBufferLists
//!   Adapter::request, control, PnP and power IRPs ──▶ desk: a thread an adapter, one thing after the other
//!                                     └─▶ initialize, restart, pause, halt, OID requests
//! ```
//!
//! What a miniport must keep is checked in passing and is a rule of the verifier (`nt_host::verifier::Rule`, chapter
//! "NDIS"). The version that is played is a setting ([`set_version`]).
#![no_std]
#![allow(
    non_snake_case,
    non_upper_case_globals,
    reason = "the names are those by which miniports and headers know them"
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod adapter;
mod attributes;
mod block;
pub mod blocks;
mod call;
mod configuration;
mod control;
mod data;
mod desk;
mod dispatch;
mod dma;
mod frame;
mod handle;
mod install;
mod interface;
mod keyword;
mod large;
mod life;
mod memory;
mod oid;
mod packet;
mod pnp;
mod pool;
mod power;
mod property;
mod protocol;
mod receive;
mod registration;
mod scale;
mod seen;
mod send;
mod status;
mod timer;
mod version;
mod work;

pub use adapter::{Adapter, Counters, Info, Link, State, adapters};
pub use attributes::{Checksums, Large, Offload};
pub use control::Control;
pub use frame::{Frame, Kept, Received, Rsc, RxChecksum, Verdict};
pub use keyword::{Keyword, Values, set_keyword};
pub use oid::{Kind, OidAnswer, OidRequest};
pub use packet::{Checksum, Hash, Layout, Packet, Segmentation, Tag};
pub use protocol::{Binding, Protocol, Taken};
pub use version::set_version;

use alloc::vec::Vec;

/// What ndis.sys exports, for the executive's table.
pub fn exports() -> Vec<&'static [nt_host::Export]> {
    alloc::vec![
        attributes::EXPORTS,
        configuration::EXPORTS,
        data::EXPORTS,
        dma::EXPORTS,
        life::EXPORTS,
        memory::EXPORTS,
        oid::EXPORTS,
        pool::EXPORTS,
        property::EXPORTS,
        receive::EXPORTS,
        registration::EXPORTS,
        send::EXPORTS,
        status::EXPORTS,
        timer::EXPORTS,
        version::EXPORTS,
        work::EXPORTS,
    ]
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    #[test]
    fn every_exported_function_has_an_irql_range() {
        let missing: Vec<_> = super::exports()
            .into_iter()
            .flatten()
            .filter(|export| nt_host::verifier::irql::of(export.name).is_none())
            .map(|export| export.name)
            .collect();
        assert!(
            missing.is_empty(),
            "nt-host/src/verifier/irql.rs lacks {missing:?}"
        );
    }
}
