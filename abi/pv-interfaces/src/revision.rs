//! The revisions of a XENBUS child, and those of a XENVIF child: each names one set of interface versions.
//!
//! A child's hardware IDs end in `REV_` and a revision. A driver's INF names the revision it was built against, so a
//! change of any interface adds a row, and the removal of a version removes every row which names it.

use crate::{
    cache, console, debug, emulated, evtchn, gnttab, range_set, shared_info, store, suspend,
    unplug, vif,
};

/// The interface versions which a revision promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Revision {
    /// The number in the hardware ID.
    pub number: u32,
    pub suspend: u16,
    pub shared_info: u16,
    pub evtchn: u16,
    pub debug: u16,
    pub store: u16,
    pub range_set: u16,
    pub cache: u16,
    pub gnttab: u16,
    pub unplug: u16,
    pub console: u16,
    pub emulated: u16,
}

const fn row(number: u32, v: [u16; 11]) -> Revision {
    Revision {
        number,
        suspend: v[0],
        shared_info: v[1],
        evtchn: v[2],
        debug: v[3],
        store: v[4],
        range_set: v[5],
        cache: v[6],
        gnttab: v[7],
        unplug: v[8],
        console: v[9],
        emulated: v[10],
    }
}

/// The live revisions, oldest first.
pub const REVISIONS: [Revision; 5] = [
    //              S  SI E  D  ST R  C  G  U  CO EM
    row(0x09000008, [1, 3, 9, 1, 2, 1, 2, 4, 1, 1, 2]),
    row(0x09000009, [1, 4, 9, 1, 2, 1, 2, 4, 1, 1, 2]),
    row(0x0900000A, [1, 4, 9, 1, 2, 1, 2, 4, 2, 1, 2]),
    row(0x0900000B, [1, 4, 9, 1, 2, 1, 2, 4, 3, 1, 2]),
    row(0x0900000C, [1, 4, 9, 1, 2, 1, 2, 4, 3, 1, 3]),
];

const fn within(version: u16, min: u16, max: u16) -> bool {
    min <= version && version <= max
}

/// Every version in a row is live.
const fn is_live(r: &Revision) -> bool {
    within(r.suspend, suspend::VERSION_MIN, suspend::VERSION_MAX)
        && within(
            r.shared_info,
            shared_info::VERSION_MIN,
            shared_info::VERSION_MAX,
        )
        && within(r.evtchn, evtchn::VERSION_MIN, evtchn::VERSION_MAX)
        && within(r.debug, debug::VERSION_MIN, debug::VERSION_MAX)
        && within(r.store, store::VERSION_MIN, store::VERSION_MAX)
        && within(r.range_set, range_set::VERSION_MIN, range_set::VERSION_MAX)
        && within(r.cache, cache::VERSION_MIN, cache::VERSION_MAX)
        && within(r.gnttab, gnttab::VERSION_MIN, gnttab::VERSION_MAX)
        && within(r.unplug, unplug::VERSION_MIN, unplug::VERSION_MAX)
        && within(r.console, console::VERSION_MIN, console::VERSION_MAX)
        && within(r.emulated, emulated::VERSION_MIN, emulated::VERSION_MAX)
}

/// A row made of the newest versions alone.
const fn is_newest(r: &Revision) -> bool {
    r.suspend == suspend::VERSION_MAX
        && r.shared_info == shared_info::VERSION_MAX
        && r.evtchn == evtchn::VERSION_MAX
        && r.debug == debug::VERSION_MAX
        && r.store == store::VERSION_MAX
        && r.range_set == range_set::VERSION_MAX
        && r.cache == cache::VERSION_MAX
        && r.gnttab == gnttab::VERSION_MAX
        && r.unplug == unplug::VERSION_MAX
        && r.console == console::VERSION_MAX
        && r.emulated == emulated::VERSION_MAX
}

const _: () = {
    let mut i = 0;
    while i < REVISIONS.len() {
        assert!(is_live(&REVISIONS[i]));
        assert!(i == 0 || REVISIONS[i - 1].number < REVISIONS[i].number);
        i += 1;
    }
    assert!(is_newest(&REVISIONS[REVISIONS.len() - 1]));
};

/// The interface versions which a revision of a XENVIF child promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct VifRevision {
    /// The number in the hardware ID.
    pub number: u32,
    pub cache: u16,
    pub vif: u16,
    pub store: u16,
    pub suspend: u16,
    pub unplug: u16,
}

const fn vif_row(number: u32, v: [u16; 5]) -> VifRevision {
    VifRevision {
        number,
        cache: v[0],
        vif: v[1],
        store: v[2],
        suspend: v[3],
        unplug: v[4],
    }
}

/// The live revisions of a XENVIF child, oldest first.
pub const VIF_REVISIONS: [VifRevision; 5] = [
    //                  C   V ST  S  U
    vif_row(0x09000001, [2, 8, 2, 1, 1]),
    vif_row(0x09000002, [2, 9, 2, 1, 1]),
    vif_row(0x09000003, [2, 10, 2, 1, 1]),
    vif_row(0x09000004, [2, 10, 2, 1, 2]),
    vif_row(0x09000005, [2, 10, 2, 1, 3]),
];

const fn is_vif_live(r: &VifRevision) -> bool {
    within(r.cache, cache::VERSION_MIN, cache::VERSION_MAX)
        && within(r.vif, vif::VERSION_MIN, vif::VERSION_MAX)
        && within(r.store, store::VERSION_MIN, store::VERSION_MAX)
        && within(r.suspend, suspend::VERSION_MIN, suspend::VERSION_MAX)
        && within(r.unplug, unplug::VERSION_MIN, unplug::VERSION_MAX)
}

const fn is_vif_newest(r: &VifRevision) -> bool {
    r.cache == cache::VERSION_MAX
        && r.vif == vif::VERSION_MAX
        && r.store == store::VERSION_MAX
        && r.suspend == suspend::VERSION_MAX
        && r.unplug == unplug::VERSION_MAX
}

const _: () = {
    let mut i = 0;
    while i < VIF_REVISIONS.len() {
        assert!(is_vif_live(&VIF_REVISIONS[i]));
        assert!(i == 0 || VIF_REVISIONS[i - 1].number < VIF_REVISIONS[i].number);
        i += 1;
    }
    assert!(is_vif_newest(&VIF_REVISIONS[VIF_REVISIONS.len() - 1]));
};
