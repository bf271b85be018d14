//! An NDIS miniport that breaks a rule, and the protocol above it.

use std::sync::{Arc, Mutex};

use ndis_host::{Binding, Control, Kept, OidRequest, Protocol, Received, Segmentation};
use nt_host::pnp::PciFunction;
use nt_sys::ndis::{
    NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL, NDIS_STATUS_LINK_STATE, OID_GEN_CURRENT_PACKET_FILTER,
    OID_GEN_STATISTICS,
};
use nt_sys::{PowerActionSleep, PowerSystemSleeping3};

use super::on_thread;
use crate::wire;

/// The cases, in the order of the rules.
const CASES: &[&str] = &[
    "closes-a-configuration-twice",
    "passes-an-unknown-revision",
    "has-an-address-of-a-group",
    "stays-registered",
    "returns-at-another-irql",
    "ends-a-pause-that-is-none",
    "indicates-a-status-when-halted",
    "leaves-a-configuration",
    "completes-what-is-no-list",
    "completes-a-list-twice",
    "completes-a-list-without-a-status",
    "shortens-a-list",
    "writes-what-it-is-to-send",
    "completes-with-unknown-flags",
    "says-dispatch-level-below-it",
    "keeps-a-list",
    "indicates-what-it-is-to-send",
    "indicates-a-runt",
    "indicates-more-than-its-mtu",
    "forgets-that-a-send-was-large",
    "indicates-a-wrong-hash",
    "frees-what-it-is-to-send",
    "writes-a-freed-list",
    "changes-an-indicated-list",
    "pauses-with-lists-out",
    "indicates-while-paused",
    "leaves-a-pool",
    "completes-an-oid-request-twice",
    "completes-an-oid-request-as-pending",
    "keeps-an-oid-request",
    "writes-too-much",
    "indicates-half-a-link-state",
    "has-short-statistics",
];

/// Makes the miniport and the function that it drives, if the case is one of these.
pub fn prepare(case: &str) -> Vec<PciFunction> {
    if !CASES.contains(&case) {
        return Vec::new();
    }
    let name = case.to_owned();
    on_thread(move || wire::register(&name));
    vec![wire::function()]
}

/// Keeps every frame.
struct Keeper(Mutex<Vec<Kept>>);

impl Protocol for Keeper {
    fn receive(&self, frames: &mut Received<'_>) {
        let kept = frames.filter_map(|frame| frame.keep().ok());
        self.0.lock().unwrap().extend(kept);
    }
    fn sent(&self, _tag: u64, _status: i32) {}
}

/// Plays the case when the adapter runs, if it is one of these. The frames that the protocol keeps stay until the end.
pub fn play(case: &str) {
    if !CASES.contains(&case) {
        return;
    }
    if case == "stays-registered" {
        return on_thread(wire::call_unload);
    }
    let Some(&adapter) = ndis_host::adapters().first() else {
        return;
    };
    let keeper = Arc::new(Keeper(Mutex::new(Vec::new())));
    let binding: &'static Binding =
        Box::leak(Box::new(adapter.open(keeper.clone()).expect("a binding")));
    match case {
        "ends-a-pause-that-is-none" => on_thread(|| wire::NdisMPauseComplete(wire::adapter())),
        "indicates-a-status-when-halted" => on_thread(|| {
            nt_host::po::transition(PowerSystemSleeping3, PowerActionSleep).expect("sleep");
            wire::indicate_status(NDIS_STATUS_LINK_STATE, &mut [0; 40]);
        }),
        "says-dispatch-level-below-it" => on_thread(|| {
            let flags = NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL;
            wire::NdisMSendNetBufferListsComplete(wire::adapter(), std::ptr::null_mut(), flags);
        }),
        "changes-an-indicated-list" => {
            on_thread(|| {
                let list = wire::frame(&[0; 60]);
                wire::indicate(list);
                // The protocol has the list; that the miniport writes it is the case.
                wire::buffer(list).DataLength = 61;
            });
            on_thread(move || keeper.0.lock().unwrap().clear());
        }
        "pauses-with-lists-out" => on_thread(|| wire::indicate(wire::frame(&[0; 60]))),
        "indicates-while-paused" => {
            rig::port_nic::control(adapter, Control::Pause).expect("a pause");
            on_thread(|| wire::indicate(wire::frame(&[0; 60])));
        }
        "completes-an-oid-request-twice"
        | "completes-an-oid-request-as-pending"
        | "keeps-an-oid-request" => {
            adapter.request(
                OidRequest::set(OID_GEN_CURRENT_PACKET_FILTER, &[1, 0, 0, 0]),
                Box::new(|_| ()),
            );
        }
        "writes-too-much" => {
            adapter.request(
                OidRequest::query(OID_GEN_CURRENT_PACKET_FILTER, 4),
                Box::new(|_| ()),
            );
        }
        "has-short-statistics" => {
            adapter.request(OidRequest::query(OID_GEN_STATISTICS, 152), Box::new(|_| ()));
        }
        "indicates-half-a-link-state" => {
            on_thread(|| wire::indicate_status(NDIS_STATUS_LINK_STATE, &mut [0; 20]));
        }
        // They show when the adapter is halted.
        "leaves-a-configuration" | "leaves-a-pool" => {}
        _ => {
            let mut packet = adapter.packet(60, &Default::default()).expect("memory");
            packet.fill(&[0; 60]);
            if case == "forgets-that-a-send-was-large" {
                packet.set_segmentation(Segmentation::LsoV2 {
                    mss: 1000,
                    tcp_offset: 34,
                    ip_version: 4,
                });
            }
            binding.send(vec![packet], None);
        }
    }
}
