//! What the guest has given to others, or has of others, and has not ended: pages granted, event channels, foreign pages
//! mapped.
//!
//! Asked when memory is freed and when the drivers are gone. What the domain builder made (console, xenstore) does not
//! count, nor do the builder's ports.

use std::fmt;
use std::sync::Arc;

use xen_abi::grant::{GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_TYPE_MASK, GTF_WRITING};
use xen_abi::{DomId, Gref, Port};

use crate::hypercall::guard;
use crate::{P2m, PortState, Xen};

/// Says who makes the hypercall that is being carried out: return addresses, innermost first.
pub type Witness = Arc<dyn Fn() -> Vec<u64> + Send + Sync>;

/// A page that another domain may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The entry.
    pub gref: Gref,
    /// The guest's frame.
    pub gfn: u64,
    /// Who may use it.
    pub to: DomId,
    /// Reading only.
    pub read_only: bool,
    /// He uses it now.
    pub in_use: bool,
}

impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gref, to, .. } = self;
        let rights = if self.read_only { "for reading " } else { "" };
        let in_use = if self.in_use { ", which uses it" } else { "" };
        write!(f, "granted {rights}by entry {gref} to domain {to}{in_use}")
    }
}

/// An event channel that the guest made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The guest's port.
    pub port: Port,
    /// What it is bound to.
    pub state: PortState,
    /// What the [`Witness`] said when it was made.
    pub made_by: Vec<u64>,
}

/// A page of a grant that the guest mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Borrowed {
    /// Whose page.
    pub granter: DomId,
    /// The entry in his table.
    pub gref: Gref,
    /// Where in the guest.
    pub gfn: u64,
    /// What the [`Witness`] said when it was mapped.
    pub made_by: Vec<u64>,
}

impl Xen {
    /// Who makes the hypercall that is being carried out.
    pub(crate) fn witness(&self) -> Vec<u64> {
        let witness = self.config.witness.as_ref();
        witness.map(|witness| witness()).unwrap_or_default()
    }

    /// Every page that the guest's drivers have granted.
    pub fn granted(&self) -> Vec<Granted> {
        self.granted_among(&|_| true)
    }

    /// Those of them whose frames `is_wanted` picks.
    pub fn granted_among(&self, is_wanted: &dyn Fn(u64) -> bool) -> Vec<Granted> {
        let mut found = Vec::new();
        self.each_grant(|gref, word, frame| {
            let (flags, gfn) = (word as u16, u64::from(frame));
            if flags & GTF_TYPE_MASK != GTF_PERMIT_ACCESS || !is_wanted(gfn) {
                return;
            }
            let special = [self.layout.console, self.layout.store].map(P2m::Xen);
            if special.contains(&self.physmap.lookup(gfn)) {
                return;
            }
            found.push(Granted {
                gref,
                gfn,
                to: DomId((word >> 16) as u16),
                read_only: flags & GTF_READONLY != 0,
                in_use: flags & (GTF_READING | GTF_WRITING) != 0,
            });
        });
        found
    }

    /// The event channels that the guest made by hypercalls.
    pub fn bound(&self) -> Vec<Bound> {
        let mut found = Vec::new();
        self.each_port(|port, state, made_by| {
            found.push(Bound {
                port,
                state,
                made_by: made_by.to_vec(),
            });
        });
        found
    }

    /// The pages of grants that the guest has mapped.
    pub fn borrowed(&self) -> Vec<Borrowed> {
        guard(self.grants.tracks.lock())
            .iter()
            .flatten()
            .map(|track| Borrowed {
                granter: track.granter,
                gref: track.gref,
                gfn: track.gfn,
                made_by: track.made_by.clone(),
            })
            .collect()
    }
}
