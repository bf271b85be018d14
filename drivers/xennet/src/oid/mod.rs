//! Requests of NDIS: what is asked and set, and the offloads that follow from it.

use crate::adapter::Adapter;
use crate::send::Rules;
use crate::vif::Vif;
use ndis::{NdisStatus, OidRequest, Scale};
use nt::SpinLock;
use oid::keyword::Settings;
use oid::offload::{Hardware, MAX_RECORD, Offload, Revision};
use oid::vlan::Tagging;
use oid::{Kind, Request, Set};
use pv_interfaces::vif::{ADDRESS_BROADCAST, ADDRESS_MULTICAST, ADDRESS_UNICAST};

/// What requests have set.
#[derive(Debug)]
pub struct Oids {
    state: SpinLock<State>,
}

#[derive(Debug)]
struct State {
    offload: Offload,
    tagging: Tagging,
    longest: u32,
}

impl Oids {
    /// By the adapter's settings, for this interface. PASSIVE_LEVEL.
    pub fn new(settings: &Settings, vif: &Vif) -> Oids {
        let (_, minor) = ndis::version::Version::of(ndis::runtime_version()).reported;
        let hardware = Hardware::new(
            vif.transmitter_query_offload_options(),
            [4, 6].map(|version| vif.transmitter_query_large_packet_size(version)),
            false,
            Revision::of_ndis(minor),
        );
        Oids {
            state: SpinLock::new(State {
                offload: Offload::new(hardware, settings),
                tagging: Tagging::new(settings),
                longest: settings.maximum_frame(vif.mac_query_maximum_frame_size()),
            }),
        }
    }

    /// What sends may ask for. IRQL ≤ DISPATCH_LEVEL.
    pub fn rules(&self) -> Rules {
        let state = self.state.lock();
        Rules {
            tasks: state.offload.transmit(),
            tagging: state.tagging,
            longest: state.longest,
        }
    }

    /// How tags are treated. IRQL ≤ DISPATCH_LEVEL.
    pub fn tagging(&self) -> Tagging {
        self.state.lock().tagging
    }

    /// Receive-side scaling, for the general attributes.
    pub fn scale(&self) -> Option<Scale> {
        None
    }

    /// The objects, for the general attributes.
    pub fn supported(&self) -> &'static [u32] {
        oid::number::supported(false)
    }

    /// Sets the offload attributes. PASSIVE_LEVEL.
    pub fn describe(&self, adapter: &Adapter) -> Result<(), NdisStatus> {
        let offload = self.state.lock().offload;
        let (mut current, mut hardware) = ([0; MAX_RECORD], [0; MAX_RECORD]);
        let first = offload.write_current(&mut current);
        let all = offload.write_hardware(&mut hardware);
        adapter
            .vif
            .receiver_set_offload_options(offload.receive_options());
        adapter.handle.set_offload(
            current.get(..first).unwrap_or_default(),
            hardware.get(..all).unwrap_or_default(),
        )
    }

    /// The interface was enabled. PASSIVE_LEVEL.
    pub fn started(&self, _adapter: &Adapter) {}

    /// The interface may offer something else. PASSIVE_LEVEL.
    pub fn refresh(&self, _adapter: &Adapter) {}

    /// A request. IRQL ≤ DISPATCH_LEVEL.
    pub fn request(&self, adapter: &Adapter, request: &mut OidRequest<'_>) -> NdisStatus {
        let kind = match request.kind() {
            ndis::Kind::Set => Kind::Set,
            _ => return NdisStatus::NOT_SUPPORTED,
        };
        let number = request.oid();
        match oid::request(number, kind, request.buffer()) {
            Ok(Request::Set(Set::PacketFilter(filter), read)) => {
                let levels = filter.levels();
                for (class, level) in [
                    (ADDRESS_UNICAST, levels.unicast),
                    (ADDRESS_MULTICAST, levels.multicast),
                    (ADDRESS_BROADCAST, levels.broadcast),
                ] {
                    if adapter.vif.mac_set_filter_level(class, level).is_err() {
                        return NdisStatus::FAILURE;
                    }
                }
                request.set_read(read as u32);
                NdisStatus::SUCCESS
            }
            _ => NdisStatus::NOT_SUPPORTED,
        }
    }
}
