//! How often the guest and domain 0 used what Xen offers: for measurements, which take differences.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers since the domain was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Hypercalls of the guest.
    pub hypercalls: u64,
    /// Of those, `EVTCHNOP_send`.
    pub sends: u64,
    /// Events that domain 0 sent to the guest.
    pub events: u64,
    /// Pages of the guest that domain 0 mapped by grants.
    pub maps: u64,
    /// Such mappings that domain 0 ended.
    pub unmaps: u64,
    /// Times that domain 0 copied from or to such pages, as far as its backends say it.
    pub copies: u64,
    /// Bytes that these were.
    pub copied: u64,
}

impl Sub for Counts {
    type Output = Self;

    /// What was counted since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            hypercalls: self.hypercalls.wrapping_sub(earlier.hypercalls),
            sends: self.sends.wrapping_sub(earlier.sends),
            events: self.events.wrapping_sub(earlier.events),
            maps: self.maps.wrapping_sub(earlier.maps),
            unmaps: self.unmaps.wrapping_sub(earlier.unmaps),
            copies: self.copies.wrapping_sub(earlier.copies),
            copied: self.copied.wrapping_sub(earlier.copied),
        }
    }
}

/// A counter on a cache line of its own: each is written mostly by one side.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.add(1);
    }

    fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters behind [`Counts`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hypercalls: Counter,
    pub(crate) sends: Counter,
    pub(crate) events: Counter,
    pub(crate) maps: Counter,
    pub(crate) unmaps: Counter,
    copies: Counter,
    copied: Counter,
}

impl crate::Xen {
    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let counters = &self.counters;
        Counts {
            hypercalls: counters.hypercalls.get(),
            sends: counters.sends.get(),
            events: counters.events.get(),
            maps: counters.maps.get(),
            unmaps: counters.unmaps.get(),
            copies: counters.copies.get(),
            copied: counters.copied.get(),
        }
    }

    /// A backend has copied so many bytes from or to a page that it mapped.
    pub fn count_copy(&self, bytes: usize) {
        self.counters.copies.count();
        self.counters.copied.add(bytes as u64);
    }
}
