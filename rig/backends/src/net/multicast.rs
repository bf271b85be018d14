//! The multicast filter: groups that the guest asks for by extras of transmit requests, while it wants a filter at all.
//! public/io/netif.h, "feature-multicast-control", "feature-dynamic-multicast-control".

use std::collections::BTreeSet;

use xen_abi::netif::{Extra, RSP_ERROR, RSP_OKAY};

/// Groups that are kept (Linux: `XEN_NETBK_MCAST_MAX`).
const MAX_GROUPS: usize = 64;

/// The filter.
#[derive(Default)]
pub(super) struct Multicast {
    /// `request-multicast-control`.
    pub(super) on: bool,
    pub(super) groups: BTreeSet<[u8; 6]>,
}

impl Multicast {
    /// Whether a frame is to be given to the guest.
    pub(super) fn passes(&self, frame: &[u8]) -> bool {
        let Some(to) = frame.first_chunk::<6>() else {
            return true;
        };
        let is_group = to[0] & 1 != 0 && *to != [0xFF; 6];
        !self.on || !is_group || self.groups.contains(to)
    }

    /// Does what an extra says: the status to answer with, if it is about this filter.
    pub(super) fn apply(&mut self, extra: &Extra) -> Option<i16> {
        match *extra {
            Extra::McastAdd(group) => {
                if self.groups.len() >= MAX_GROUPS && !self.groups.contains(&group) {
                    return Some(RSP_ERROR);
                }
                self.groups.insert(group);
                Some(RSP_OKAY)
            }
            Extra::McastDel(group) => {
                self.groups.remove(&group);
                Some(RSP_OKAY)
            }
            _ => None,
        }
    }
}
