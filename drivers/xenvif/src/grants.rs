//! Pages granted to a backend, for the rings.

use alloc::sync::Arc;
use core::sync::atomic::AtomicU32;
use netfront::Grants;
use nt::{NtStatus, Pages, Result};
use pv_client::gnttab::{Grant, GrantCache};
use xen_abi::{DomId, Gref};

/// The pages of a ring.
#[derive(Debug)]
pub struct RingPages(pub Pages);

impl AsRef<[AtomicU32]> for RingPages {
    fn as_ref(&self) -> &[AtomicU32] {
        self.0.words()
    }
}

/// Whom to grant pages, and from where.
#[derive(Clone, Debug)]
pub struct Link {
    pub cache: Arc<GrantCache>,
    pub backend: DomId,
}

impl Link {
    /// Grants a page, which must stay as long as the grant. IRQL ≤ DISPATCH_LEVEL.
    pub fn permit(&self, pfn: u64, read_only: bool) -> Result<Lent> {
        let grant = self.cache.permit(self.backend, pfn, read_only)?;
        Ok(Lent {
            grant,
            cache: Arc::clone(&self.cache),
        })
    }
}

/// A grant, and the cache it must go back to: an old connection's may outlive it.
#[derive(Debug)]
pub struct Lent {
    grant: Grant,
    cache: Arc<GrantCache>,
}

impl Lent {
    /// The reference to tell the backend.
    pub fn reference(&self) -> Gref {
        self.cache.reference(&self.grant)
    }

    /// Ends the grant; it comes back if the backend still uses the page.
    pub fn revoke(self) -> core::result::Result<(), Self> {
        let Self { grant, cache } = self;
        cache.revoke(grant).map_err(|grant| Self { grant, cache })
    }
}

/// Grants pages while there is a connection.
#[derive(Debug, Default)]
pub struct Lender {
    pub link: Option<Link>,
}

impl Lender {
    /// Grants a page, which must stay as long as the grant.
    pub fn permit(&self, pfn: Option<u64>, read_only: bool) -> Result<Lent> {
        match (&self.link, pfn) {
            (Some(link), Some(pfn)) => link.permit(pfn, read_only),
            _ => Err(NtStatus::DEVICE_NOT_READY),
        }
    }
}

impl Grants for Lender {
    type Grant = Lent;

    fn gref(&self, lent: &Lent) -> Gref {
        lent.reference()
    }

    fn revoke(&mut self, lent: Lent) -> core::result::Result<(), Lent> {
        lent.revoke()
    }
}
