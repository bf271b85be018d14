//! What NDIS asks the adapter and tells it, by object identifiers: core/oid reads and answers, this puts into effect.
//!
//! ```text
//!   OidRequest ─▶ core/oid: Query ─▶ Facts from the interface ─▶ answer
//!                           Set ───▶ calls to the interface ─▶ the new state ─▶ indications
//!                                                               └ atomics, for each list that is sent or received
//! ```
//!
//! NDIS gives one request at a time. The lock is for those who read the state besides, and is not held while the
//! interface is called: hashes are a matter of the backend too, and take their time.

mod query;
mod set;

use crate::adapter::Adapter;
use crate::send::Rules;
use crate::vif::Vif;
use core::sync::atomic::{AtomicU32, Ordering};
use ndis::sys::{
    NDIS_OFFLOAD, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_4,
    NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_6, NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG,
    NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES,
};
use ndis::version::Version;
use ndis::{Kind, NdisStatus, OidRequest, Scale};
use nt::SpinLock;
use oid::filter::{Filter, Levels};
use oid::keyword::Settings;
use oid::offload::{Hardware, MAX_RECORD, Offload, Revision};
use oid::vlan::Tagging;
use oid::{Request, Tasks, rss};
use pv_interfaces::vif::{
    ADDRESS_BROADCAST, ADDRESS_MULTICAST, ADDRESS_UNICAST, FILTER_NONE, HASH_ALGORITHM_NONE,
    HASH_ALGORITHM_TOEPLITZ,
};

const _: () = {
    // What core/oid writes is as long as the structure that NDIS reads.
    assert!(Revision::of_ndis(30).size() == NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3 as usize);
    assert!(Revision::of_ndis(60).size() == NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_4 as usize);
    assert!(Revision::of_ndis(89).size() == NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_6 as usize);
    assert!(MAX_RECORD <= size_of::<NDIS_OFFLOAD>());
};

/// Room for an `NDIS_OFFLOAD`, aligned as one.
#[repr(C, align(8))]
struct Record([u8; MAX_RECORD]);

impl Record {
    const EMPTY: Record = Record([0; MAX_RECORD]);

    fn first(&self, length: usize) -> &[u8] {
        self.0.get(..length).unwrap_or_default()
    }
}

/// What the adapter was told, and what it found out.
#[derive(Clone, Copy, Debug)]
struct State {
    offload: Offload,
    hash: rss::State,
    tagging: Tagging,
    filter: Filter,
    /// `None`: the longest frame.
    lookahead: Option<u32>,
}

/// The objects of an adapter.
#[derive(Debug)]
pub struct Oids {
    version: Version,
    scale: Option<Scale>,
    state: SpinLock<State>,
    /// What sends may ask for, as [`Tasks`].
    transmit: AtomicU32,
    /// How tags are treated, as [`Tagging`].
    tagging: AtomicU32,
    /// Bytes of a frame with header and tag, at most.
    longest: AtomicU32,
}

impl Oids {
    /// By the adapter's settings, for this interface. PASSIVE_LEVEL.
    pub fn new(settings: &Settings, vif: &Vif) -> Oids {
        let version = Version::of(ndis::runtime_version());
        let offload = Offload::new(hardware(version, vif), settings);
        let tagging = Tagging::new(settings);
        Oids {
            version,
            scale: scale(version, settings, vif),
            state: SpinLock::new(State {
                offload,
                hash: rss::State::OFF,
                tagging,
                filter: Filter::of_levels(levels(vif)),
                lookahead: None,
            }),
            transmit: AtomicU32::new(offload.transmit().bits()),
            tagging: AtomicU32::new(tagging.bits()),
            longest: AtomicU32::new(settings.maximum_frame(vif.mac_query_maximum_frame_size())),
        }
    }

    /// What sends may ask for. Any IRQL.
    pub fn rules(&self) -> Rules {
        Rules {
            tasks: Tasks::of_bits(self.transmit.load(Ordering::Relaxed)),
            tagging: self.tagging(),
            longest: self.longest.load(Ordering::Relaxed),
        }
    }

    /// How tags are treated. Any IRQL.
    pub fn tagging(&self) -> Tagging {
        Tagging::of_bits(self.tagging.load(Ordering::Relaxed))
    }

    /// Receive-side scaling, for the general attributes.
    pub fn scale(&self) -> Option<Scale> {
        self.scale
    }

    /// The objects, for the general attributes.
    pub fn supported(&self) -> &'static [u32] {
        oid::number::supported(self.scale.is_some())
    }

    /// Sets the offload attributes. PASSIVE_LEVEL.
    pub fn describe(&self, adapter: &Adapter) -> Result<(), NdisStatus> {
        let offload = self.state.lock().offload;
        let (mut current, mut hardware) = (Record::EMPTY, Record::EMPTY);
        let first = offload.write_current(&mut current.0);
        let all = offload.write_hardware(&mut hardware.0);
        adapter
            .vif
            .receiver_set_offload_options(offload.receive_options());
        adapter
            .handle
            .set_offload(current.first(first), hardware.first(all))
    }

    /// The interface was enabled: it may have forgotten what it was told, and have another backend. PASSIVE_LEVEL.
    pub fn started(&self, adapter: &Adapter) {
        let state = *self.state.lock();
        if self.program_filter(&adapter.vif, state.filter).is_err() {
            nt::error!("the interface does not take its filter any more");
        }
        if state.hash.mode() != rss::Mode::Off
            && self.program_hash(&adapter.vif, &state.hash).is_err()
        {
            nt::error!("the interface does not hash packets any more");
        }
        adapter
            .vif
            .receiver_set_offload_options(state.offload.receive_options());
        self.refresh(adapter);
    }

    /// The interface may offer something else. PASSIVE_LEVEL.
    pub fn refresh(&self, adapter: &Adapter) {
        self.longest
            .store(adapter.longest_frame(), Ordering::Relaxed);
        let hardware = hardware(self.version, &adapter.vif);
        let mut state = self.state.lock();
        if !state.offload.set_hardware(hardware) {
            return;
        }
        let offload = state.offload;
        drop(state);
        let mut record = Record::EMPTY;
        let length = offload.write_hardware(&mut record.0);
        let code = NdisStatus(NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES);
        adapter.handle.indicate(code, record.first(length));
        self.publish(adapter);
    }

    /// Tells everybody which offloads are on.
    fn publish(&self, adapter: &Adapter) {
        let offload = self.state.lock().offload;
        self.transmit
            .store(offload.transmit().bits(), Ordering::Relaxed);
        adapter
            .vif
            .receiver_set_offload_options(offload.receive_options());
        let mut record = Record::EMPTY;
        let length = offload.write_current(&mut record.0);
        let code = NdisStatus(NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG);
        adapter.handle.indicate(code, record.first(length));
    }

    /// A request. IRQL ≤ DISPATCH_LEVEL, one at a time.
    pub fn request(&self, adapter: &Adapter, request: &mut OidRequest<'_>) -> NdisStatus {
        let kind = match request.kind() {
            Kind::Query | Kind::Statistics => oid::Kind::Query,
            Kind::Set => oid::Kind::Set,
            Kind::Method | Kind::Unknown(_) => oid::Kind::Method,
        };
        let number = request.oid();
        let done = match oid::request(number, kind, request.buffer()) {
            Ok(Request::Query(query)) => self.query(query, adapter, request),
            Ok(Request::Set(set, read)) => {
                let done = self.set(set, adapter);
                if done.is_ok() {
                    request.set_read(u32::try_from(read).unwrap_or(u32::MAX));
                }
                done
            }
            Err(failure) => Err(failure),
        };
        match done {
            Ok(()) => NdisStatus::SUCCESS,
            Err(failure) => {
                request.set_needed(failure.needed);
                NdisStatus(failure.status.0.cast_signed())
            }
        }
    }
}

/// What there is to offer.
fn hardware(version: Version, vif: &Vif) -> Hardware {
    let large = [4, 6].map(|version| vif.transmitter_query_large_packet_size(version));
    let (_, minor) = version.reported;
    let options = vif.transmitter_query_offload_options();
    // Large sends over UDP the driver cuts by itself.
    Hardware::new(options, large, true, Revision::of_ndis(minor))
}

/// What the interface lets pass.
fn levels(vif: &Vif) -> Levels {
    let level = |class| vif.mac_query_filter_level(class).unwrap_or(FILTER_NONE);
    Levels {
        unicast: level(ADDRESS_UNICAST),
        multicast: level(ADDRESS_MULTICAST),
        broadcast: level(ADDRESS_BROADCAST),
    }
}

/// Whether there are queues to spread packets over, and a backend that does it.
fn scale(version: Version, settings: &Settings, vif: &Vif) -> Option<Scale> {
    if !settings.scaling {
        return None;
    }
    vif.receiver_set_hash_algorithm(HASH_ALGORITHM_TOEPLITZ)
        .ok()?;
    let types = vif.receiver_query_hash_capabilities();
    // Nothing is hashed before somebody asks for it. An interface that does not even take this hashes for nobody.
    let _ = vif.receiver_set_hash_algorithm(HASH_ALGORITHM_NONE);
    Some(Scale {
        revision: version.scale,
        flags: rss::capabilities(types.ok()?),
        queues: vif.query_ring_count().min(settings.queues),
        entries: rss::MAX_ENTRIES as u16,
    })
}
