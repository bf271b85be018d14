//! Queries: what there is to know, put together for core/oid.

use super::Oids;
use crate::adapter::Adapter;
use ndis::OidRequest;
use oid::query::{Facts, Version};
use oid::statistics::Coalescing;
use oid::{Failure, Query};

/// What OID_GEN_VENDOR_DESCRIPTION says.
const VENDOR: &str = "Xen Project";

impl Oids {
    pub(super) fn query(
        &self,
        query: Query,
        adapter: &Adapter,
        request: &mut OidRequest<'_>,
    ) -> Result<(), Failure> {
        let state = *self.state.lock();
        let vif = &adapter.vif;
        let maximum_frame = self.rules().longest;
        let (major, minor) = self.version.reported;
        let [own_major, own_minor, ..] = nt::VERSION.map(|part| part as u8);
        let groups = vif.mac_query_multicast_addresses();
        let multicast = match &groups {
            Ok((addresses, count)) => addresses.get(..*count).unwrap_or_default(),
            Err(_) => &[],
        };
        let (packets, octets, events) = adapter.receiver.coalesced();
        let facts = Facts {
            maximum_frame,
            transmit_ring: vif.transmitter_query_ring_size(),
            receive_ring: vif.receiver_query_ring_size(),
            connected: vif.mac_query_state().connected,
            ndis: Version { major, minor },
            driver: Version {
                major: own_major,
                minor: own_minor,
            },
            vendor: VENDOR,
            permanent_address: vif.mac_query_permanent_address(),
            current_address: vif.mac_query_current_address(),
            lookahead: state.lookahead.unwrap_or(maximum_frame),
            filter: state.filter,
            multicast,
            tagging: state.tagging,
            hash: self.scale.map(|_| &state.hash),
            // What could not be coalesced is the backend's to know.
            coalescing: Coalescing {
                packets,
                octets,
                events,
                aborts: 0,
            },
            counter: &|statistic| vif.query_statistic(statistic),
        };
        let answer = query.answer(&facts, request.buffer())?;
        // An answer is shorter than the buffer it is in, whose length is such a number.
        request.set_written(answer.written as u32);
        request.set_needed(answer.needed as u32);
        Ok(())
    }
}
