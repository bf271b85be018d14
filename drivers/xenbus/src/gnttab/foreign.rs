//! Pages that other domains granted, mapped into holes of the guest's physical space.

use super::Gnttab;
use crate::hole::Hole;
use alloc::vec::Vec;
use nt::{Irql, NtStatus, Result};
use nt_sys::{PAGE_SHIFT, PAGE_SIZE};
use xen_abi::{DomId, Gref};

/// A mapping of consecutive pages.
#[derive(Debug)]
pub struct Mapping {
    /// The guest-physical address by which the client knows it.
    address: u64,
    /// One for each page that is mapped.
    handles: Vec<u32>,
    hole: Hole,
}

impl Mapping {
    fn page(&self, index: usize) -> u64 {
        self.address
            .wrapping_add((index as u64).wrapping_mul(PAGE_SIZE as u64))
    }

    /// Takes all mappings away. A page that stays mapped keeps the hole from being filled.
    fn unmap(self) -> Result<()> {
        let mut outcome = Ok(());
        for (index, &handle) in self.handles.iter().enumerate() {
            if let Err(status) = xen_api::unmap_foreign_page(handle, self.page(index)) {
                nt::error!("unmapping a foreign page: {status}");
                outcome = Err(status);
            }
        }
        if outcome.is_err() {
            core::mem::forget(self.hole);
        }
        outcome
    }
}

impl Gnttab {
    /// Maps granted pages one behind the other, and gives the guest-physical address of the first.
    ///
    /// PASSIVE_LEVEL: making a hole takes memory from Windows, which it gives at no higher level.
    pub(super) fn map_foreign(
        &self,
        domain: DomId,
        references: &[u32],
        read_only: bool,
    ) -> Result<u64> {
        let state = self.running.need()?;
        if Irql::current() != Irql::PASSIVE {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let hole = Hole::contiguous(references.len())?;
        let pfn = hole.pfn(0).ok_or(NtStatus::INVALID_PARAMETER)?;
        let address = pfn
            .checked_shl(PAGE_SHIFT)
            .ok_or(NtStatus::INVALID_PARAMETER)?;
        let mut handles = Vec::new();
        handles.try_reserve_exact(references.len())?;
        let mut mapping = Mapping {
            address,
            handles,
            hole,
        };
        for (index, &gref) in references.iter().enumerate() {
            let page = mapping.page(index);
            // SAFETY: the page is a hole of our own.
            match unsafe { xen_api::map_foreign_page(domain, Gref(gref), page, read_only) } {
                Ok(handle) => mapping.handles.push(handle),
                Err(status) => {
                    let _ = mapping.unmap();
                    return Err(status);
                }
            }
        }
        let mut mappings = state.mappings.lock();
        if mappings.try_reserve(1).is_err() {
            drop(mappings);
            let _ = mapping.unmap();
            return Err(NtStatus::NO_MEMORY);
        }
        mappings.push(mapping);
        Ok(address)
    }

    /// Takes a whole mapping away. PASSIVE_LEVEL.
    pub(super) fn unmap_foreign(&self, address: u64) -> Result<()> {
        let mut mappings = self.running.need()?.mappings.lock();
        let index = mappings
            .iter()
            .position(|mapping| mapping.address == address);
        let index = index.filter(|index| *index < mappings.len());
        let mapping = mappings.swap_remove(index.ok_or(NtStatus::INVALID_PARAMETER)?);
        drop(mappings);
        mapping.unmap()
    }
}
