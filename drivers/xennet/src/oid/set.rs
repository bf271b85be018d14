//! Changes: the interface is told first; what it refuses is not remembered.

use super::Oids;
use crate::adapter::Adapter;
use crate::vif::Vif;
use core::sync::atomic::Ordering;
use oid::filter::Filter;
use oid::{Failure, Set, Status, rss};
use pv_interfaces::vif::{ADDRESS_BROADCAST, ADDRESS_MULTICAST, ADDRESS_UNICAST};

impl Oids {
    pub(super) fn set(&self, set: Set, adapter: &Adapter) -> Result<(), Failure> {
        let vif = &adapter.vif;
        match set {
            Set::PacketFilter(filter) => self.set_filter(filter, vif),
            Set::Lookahead(bytes) => {
                self.state.lock().lookahead = Some(bytes);
                Ok(())
            }
            Set::Multicast(list) => vif
                .mac_set_multicast_addresses(list.addresses())
                .map_err(|_| Failure::of(Status::INVALID_DATA)),
            Set::VlanId(id) => {
                let mut state = self.state.lock();
                if !state.tagging.set_id(id) {
                    return Err(Failure::of(Status::INVALID_DATA));
                }
                self.tagging.store(state.tagging.bits(), Ordering::Relaxed);
                Ok(())
            }
            Set::Encapsulation(encapsulation) => {
                self.state.lock().offload.set_encapsulation(&encapsulation);
                self.publish(adapter);
                Ok(())
            }
            Set::OffloadParameters(parameters) => {
                self.state.lock().offload.set_parameters(&parameters)?;
                self.publish(adapter);
                Ok(())
            }
            Set::Scale(scale) => self.set_hash(vif, |hash| hash.with_scale(&scale)),
            Set::Hash(alone) => self.set_hash(vif, |hash| hash.with_hash(&alone)),
            Set::Nothing => Ok(()),
        }
    }

    fn set_filter(&self, filter: Filter, vif: &Vif) -> Result<(), Failure> {
        let before = self.state.lock().filter;
        if self.program_filter(vif, filter).is_err() {
            // What was changed before that is changed back, as far as it can be.
            let _ = self.program_filter(vif, before);
            return Err(Failure::of(Status::INVALID_DATA));
        }
        self.state.lock().filter = filter;
        Ok(())
    }

    fn set_hash(
        &self,
        vif: &Vif,
        change: impl FnOnce(&rss::State) -> Result<rss::State, Failure>,
    ) -> Result<(), Failure> {
        if self.scale.is_none() {
            return Err(Failure::of(Status::NOT_SUPPORTED));
        }
        let before = self.state.lock().hash;
        let next = change(&before)?;
        if self.program_hash(vif, &next).is_err() {
            let _ = self.program_hash(vif, &before);
            return Err(Failure::of(Status::INVALID_DATA));
        }
        self.state.lock().hash = next;
        Ok(())
    }

    pub(super) fn program_filter(&self, vif: &Vif, filter: Filter) -> nt::Result<()> {
        let levels = filter.levels();
        vif.mac_set_filter_level(ADDRESS_UNICAST, levels.unicast)?;
        vif.mac_set_filter_level(ADDRESS_MULTICAST, levels.multicast)?;
        vif.mac_set_filter_level(ADDRESS_BROADCAST, levels.broadcast)
    }

    pub(super) fn program_hash(&self, vif: &Vif, hash: &rss::State) -> nt::Result<()> {
        let queues = self.scale.map_or(1, |scale| scale.queues);
        let program = hash.program(queues);
        vif.receiver_set_hash_algorithm(program.algorithm)?;
        if let Some(types) = program.types {
            vif.receiver_update_hash_parameters(types, hash.key())?;
        }
        match program.table.entries() {
            [] => Ok(()),
            entries => vif.update_hash_mapping(entries),
        }
    }
}
