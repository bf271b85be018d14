//! Grant tables, version 1: entries, mappings, copies. xen/common/grant_table.c.
//!
//! ```text
//!   granter's entry (shared)      active entry (Xen)                 map track (Xen)
//!   flags | domid | frame   ───►  domid, frame, readers, writers ◄── handle → granter, gref, rights
//! ```
//! While an active entry has users, `GTF_reading` and `GTF_writing` stand in the shared entry. A granter that changes
//! such an entry has taken memory back which another domain still uses; a real Xen cannot tell, the model records it as a
//! [`Violation`].

mod op;

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use trace::{Class, Event};
use xen_abi::grant::*;
use xen_abi::{DomId, Gref, PAGE_SIZE};

use crate::frames::{self, Layout, Page};
use crate::hypercall::guard;
use crate::{GUEST, P2m, Source, Xen};

/// What a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// Why a grant could not be used: `GNTST_*`, never okay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantError(pub i16);

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            GNTST_BAD_DOMAIN => "bad domain",
            GNTST_BAD_GNTREF => "bad grant reference",
            GNTST_BAD_HANDLE => "bad handle",
            GNTST_BAD_VIRT_ADDR => "bad address",
            GNTST_NO_DEVICE_SPACE => "no room for another mapping",
            GNTST_PERMISSION_DENIED => "permission denied",
            GNTST_BAD_PAGE => "bad page",
            GNTST_BAD_COPY_ARG => "copy crosses a page",
            GNTST_EAGAIN => "try again",
            _ => "general error",
        };
        write!(f, "{text} ({})", self.0)
    }
}

impl std::error::Error for GrantError {}

/// A granter's breach: it changed an entry which was in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The entry.
    pub gref: Gref,
    /// The frame whose use by the other domain goes on.
    pub gfn: u64,
    /// What it should have held: flags in the low half, domain in the high half.
    pub expected: u32,
    /// What it held.
    pub found: u32,
}

#[derive(Clone, Copy, Debug)]
struct Active {
    readers: u32,
    writers: u32,
    domid: DomId,
    gfn: u32,
    frame: P2m,
}

const IDLE: Active = Active {
    readers: 0,
    writers: 0,
    domid: DomId::INVALID,
    gfn: 0,
    frame: P2m::Hole,
};

struct Table {
    first_frame: u64,
    frames: AtomicU32,
    max_frames: u32,
    active: Box<[Mutex<Active>]>,
}

impl Table {
    fn new(first_frame: u64, max_frames: u32) -> Self {
        let entries = max_frames * ENTRIES_PER_FRAME;
        Self {
            first_frame,
            frames: AtomicU32::new(1),
            max_frames,
            active: (0..entries).map(|_| Mutex::new(IDLE)).collect(),
        }
    }
}

/// A mapping of the guest's: what unmapping needs.
#[derive(Clone)]
pub(crate) struct Track {
    pub(crate) granter: DomId,
    pub(crate) gref: Gref,
    access: Access,
    pub(crate) gfn: u64,
    pub(crate) made_by: Vec<u64>,
}

/// Both domains' tables.
pub(crate) struct Grants {
    tables: [Table; 2],
    pub(crate) tracks: Mutex<Vec<Option<Track>>>,
    violations: Mutex<Vec<Violation>>,
}

impl Grants {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            tables: [
                Table::new(layout.dom0_grants, 1),
                Table::new(layout.guest_grants, layout.max_grant_frames),
            ],
            tracks: Mutex::default(),
            violations: Mutex::default(),
        }
    }

    fn table(&self, dom: DomId) -> Result<&Table, GrantError> {
        match dom {
            DomId::DOM0 => Ok(&self.tables[0]),
            GUEST => Ok(&self.tables[1]),
            _ => Err(GrantError(GNTST_BAD_DOMAIN)),
        }
    }
}

/// A page granted by the guest, mapped by domain 0 until dropped. `X` is how it holds on to Xen: by reference for the
/// time of a request, counted for longer.
pub struct Mapping<X: Deref<Target = Xen>> {
    xen: X,
    gref: Gref,
    access: Access,
    page: Page,
}

impl<X: Deref<Target = Xen>> fmt::Debug for Mapping<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("gref", &self.gref)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl<X: Deref<Target = Xen>> Mapping<X> {
    /// The page: 4096 bytes, which the guest may change at any time. Valid until the mapping is dropped; not to be
    /// written through unless the access is [`Access::Write`].
    pub fn as_ptr(&self) -> *mut u8 {
        self.page.as_ptr()
    }

    /// The page as words that the guest may change at any time.
    pub fn words(&self) -> &[AtomicU32] {
        self.page.words()
    }
}

impl<X: Deref<Target = Xen>> Drop for Mapping<X> {
    fn drop(&mut self) {
        trace::emit(Class::Xen, || Event::GrantUnmap {
            reference: self.gref.0.into(),
        });
        self.xen.counters.unmaps.count();
        self.xen.release(GUEST, self.gref, self.access);
    }
}

impl Xen {
    /// Maps a page the guest granted to domain 0.
    pub fn map(&self, gref: Gref, access: Access) -> Result<Mapping<&Self>, GrantError> {
        let page = self.acquire_page(gref, access)?;
        Ok(Mapping {
            xen: self,
            gref,
            access,
            page,
        })
    }

    /// As [`Self::map`], for a mapping that is kept.
    pub fn map_kept(
        self: &Arc<Self>,
        gref: Gref,
        access: Access,
    ) -> Result<Mapping<Arc<Self>>, GrantError> {
        let page = self.acquire_page(gref, access)?;
        Ok(Mapping {
            xen: self.clone(),
            gref,
            access,
            page,
        })
    }

    fn acquire_page(&self, gref: Gref, access: Access) -> Result<Page, GrantError> {
        let frame = self.acquire(GUEST, DomId::DOM0, gref, access)?;
        trace::emit(Class::Xen, || Event::GrantMap {
            reference: gref.0.into(),
            page: match frame {
                P2m::Ram(page) | P2m::Xen(page) => page,
                P2m::Hole => 0,
            },
            write: u64::from(access == Access::Write),
        });
        self.counters.maps.count();
        self.physmap
            .resolve(frame)
            .ok_or(GrantError(GNTST_BAD_PAGE))
    }

    /// What the guest did to entries in use, since the last call.
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut *guard(self.grants.violations.lock()))
    }

    /// Entries of the guest's table that another domain uses at present.
    pub fn grants_in_use(&self) -> usize {
        let in_use = |active: &&Mutex<Active>| {
            let active = guard(active.lock());
            active.readers + active.writers > 0
        };
        self.grants.tables[1].active.iter().filter(in_use).count()
    }

    /// Frame `idx` of the guest's table, growing the table to hold it. `gnttab_map_frame`.
    pub(crate) fn grant_frame(&self, idx: u64) -> Result<u64, i64> {
        let table = &self.grants.tables[1];
        if idx >= u64::from(table.max_frames) {
            return Err(xen_abi::errno::EINVAL);
        }
        table.frames.fetch_max(idx as u32 + 1, Ordering::AcqRel);
        Ok(idx)
    }

    /// (frames, limit) of a domain's table.
    pub(crate) fn grant_table_size(&self, dom: DomId) -> Result<(u32, u32), GrantError> {
        let table = self.grants.table(dom)?;
        Ok((table.frames.load(Ordering::Acquire), table.max_frames))
    }

    /// Takes a use of an entry for `user`; the frame stays the same until the last use is released.
    pub(crate) fn acquire(
        &self,
        granter: DomId,
        user: DomId,
        gref: Gref,
        access: Access,
    ) -> Result<P2m, GrantError> {
        let table = self.grants.table(granter)?;
        if gref.0 / ENTRIES_PER_FRAME >= table.frames.load(Ordering::Acquire) {
            return Err(GrantError(GNTST_BAD_GNTREF));
        }
        let entry = frames::grant_entry(&*self.machine, table.first_frame, gref.0);
        let mut active = guard(table.active[gref.0 as usize].lock());
        let unused = active.readers + active.writers == 0;
        if !unused && active.domid != user {
            return Err(GrantError(GNTST_GENERAL_ERROR));
        }
        if unused || (access == Access::Write && active.writers == 0) {
            claim(&entry.flags_domid, user, access)?;
        }
        if unused {
            let gfn = entry.frame.load(Ordering::Acquire);
            let frame = match granter {
                GUEST => self.physmap.lookup(u64::from(gfn)),
                _ => P2m::Xen(u64::from(gfn)),
            };
            let allowed = match (granter, frame) {
                (_, P2m::Hole) => false,
                (GUEST, P2m::Xen(i)) => i == self.layout.console || i == self.layout.store,
                (GUEST, P2m::Ram(_)) => true,
                (_, P2m::Xen(i)) => (self.layout.dom0_pages..self.layout.total).contains(&i),
                (_, P2m::Ram(_)) => false,
            };
            if !allowed {
                entry
                    .flags_domid
                    .fetch_and(!u32::from(GTF_READING | GTF_WRITING), Ordering::AcqRel);
                return Err(GrantError(GNTST_GENERAL_ERROR));
            }
            *active = Active {
                domid: user,
                gfn,
                frame,
                ..IDLE
            };
        }
        match access {
            Access::Read => active.readers += 1,
            Access::Write => active.writers += 1,
        }
        Ok(active.frame)
    }

    /// Gives back a use taken by [`Self::acquire`].
    pub(crate) fn release(&self, granter: DomId, gref: Gref, access: Access) {
        let Ok(table) = self.grants.table(granter) else {
            return;
        };
        let entry = frames::grant_entry(&*self.machine, table.first_frame, gref.0);
        let mut active = guard(table.active[gref.0 as usize].lock());
        let count = match access {
            Access::Read => &mut active.readers,
            Access::Write => &mut active.writers,
        };
        let Some(left) = count.checked_sub(1) else {
            return;
        };
        *count = left;
        let mut clear = 0;
        if active.writers == 0 && access == Access::Write {
            clear |= GTF_WRITING;
        }
        if active.readers + active.writers == 0 {
            clear |= GTF_READING;
        }
        if clear != 0 {
            let found = entry
                .flags_domid
                .fetch_and(!u32::from(clear), Ordering::AcqRel);
            if granter == GUEST {
                self.check_unchanged(
                    gref,
                    &active,
                    found,
                    clear,
                    entry.frame.load(Ordering::Acquire),
                );
            }
        }
    }

    fn check_unchanged(&self, gref: Gref, active: &Active, found: u32, in_use: u16, gfn: u32) {
        let expected = u32::from(GTF_PERMIT_ACCESS | in_use) | u32::from(active.domid.0) << 16;
        let compared = 0xFFFF_0000 | u32::from(GTF_TYPE_MASK | in_use);
        if found & compared == expected && gfn == active.gfn {
            return;
        }
        self.log(
            Source::Xen,
            &format!("d{GUEST}: grant {gref} changed while in use: flags {found:#x}, was {expected:#x}, gfn {gfn:#x}, was {:#x}", active.gfn),
        );
        guard(self.grants.violations.lock()).push(Violation {
            gref,
            gfn: u64::from(active.gfn),
            expected,
            found,
        });
    }

    /// Every entry of the guest's table: its flags and domain, and its frame.
    pub(crate) fn each_grant(&self, mut each: impl FnMut(Gref, u32, u32)) {
        let table = &self.grants.tables[1];
        for index in 0..table.frames.load(Ordering::Acquire) {
            let page = Page::xen(&*self.machine, table.first_frame + u64::from(index));
            let entries = page.words().chunks_exact(2);
            for (number, entry) in (index * ENTRIES_PER_FRAME..).zip(entries) {
                let word = entry[0].load(Ordering::Acquire);
                if word != 0 {
                    each(Gref(number), word, entry[1].load(Ordering::Acquire));
                }
            }
        }
    }

    /// A fresh table, as a new domain has; mappings by other domains must have ended.
    pub(crate) fn reset_grants(&self) {
        let table = &self.grants.tables[1];
        table.frames.store(1, Ordering::Release);
        for active in &table.active {
            *guard(active.lock()) = IDLE;
        }
        for i in 0..u64::from(table.max_frames) {
            Page::xen(&*self.machine, table.first_frame + i).scrub();
        }
        guard(self.grants.tracks.lock()).clear();
    }

    /// Writes an entry on behalf of the domain builder.
    pub(crate) fn write_grant(&self, granter: DomId, gref: Gref, user: DomId, frame: u32) {
        let Ok(table) = self.grants.table(granter) else {
            return;
        };
        let entry = frames::grant_entry(&*self.machine, table.first_frame, gref.0);
        entry.frame.store(frame, Ordering::Release);
        entry.flags_domid.store(
            u32::from(GTF_PERMIT_ACCESS) | u32::from(user.0) << 16,
            Ordering::Release,
        );
    }

    /// Maps a grant into the guest. Returns the handle.
    pub(crate) fn map_into_guest(&self, op: &MapGrantRef) -> Result<u32, GrantError> {
        if op.flags & GNTMAP_HOST_MAP == 0
            || op.flags & (GNTMAP_APPLICATION_MAP | GNTMAP_CONTAINS_PTE) != 0
        {
            return Err(GrantError(GNTST_BAD_GNTREF));
        }
        let granter = if op.dom == DomId::SELF { GUEST } else { op.dom };
        let access = if op.flags & GNTMAP_READONLY != 0 {
            Access::Read
        } else {
            Access::Write
        };
        let frame = self.acquire(granter, GUEST, op.gref, access)?;
        let gfn = op.host_addr / PAGE_SIZE as u64;
        if !self.physmap.map_foreign(gfn, frame) {
            self.release(granter, op.gref, access);
            return Err(GrantError(GNTST_BAD_VIRT_ADDR));
        }
        let mut tracks = guard(self.grants.tracks.lock());
        let handle = tracks
            .iter()
            .position(Option::is_none)
            .unwrap_or(tracks.len());
        if handle == tracks.len() {
            tracks.push(None);
        }
        tracks[handle] = Some(Track {
            granter,
            gref: op.gref,
            access,
            gfn,
            made_by: self.witness(),
        });
        Ok(handle as u32)
    }

    /// Takes a mapping out of the guest.
    pub(crate) fn unmap_from_guest(&self, op: &UnmapGrantRef) -> Result<(), GrantError> {
        let mut tracks = guard(self.grants.tracks.lock());
        let slot = tracks
            .get_mut(op.handle as usize)
            .ok_or(GrantError(GNTST_BAD_HANDLE))?;
        let track = slot.clone().ok_or(GrantError(GNTST_BAD_HANDLE))?;
        if op.host_addr != 0 && op.host_addr / PAGE_SIZE as u64 != track.gfn {
            return Err(GrantError(GNTST_GENERAL_ERROR));
        }
        *slot = None;
        drop(tracks);
        if self.physmap.clear(track.gfn).is_err() {
            self.log(
                Source::Xen,
                &format!(
                    "d{GUEST}: mapped grant at gfn {:#x} was gone before its unmap",
                    track.gfn
                ),
            );
        }
        self.release(track.granter, track.gref, track.access);
        Ok(())
    }
}

/// Marks a shared entry as in use. xen/common/grant_table.c: `_set_status_v1`.
fn claim(word: &AtomicU32, user: DomId, access: Access) -> Result<(), GrantError> {
    let mut now = word.load(Ordering::Acquire);
    // The granter may race; Xen gives up after a few rounds, too.
    for _ in 0..5 {
        let (flags, domid) = (now as u16, DomId((now >> 16) as u16));
        if flags & GTF_TYPE_MASK != GTF_PERMIT_ACCESS || domid != user {
            return Err(GrantError(GNTST_GENERAL_ERROR));
        }
        let mut new = flags | GTF_READING;
        if access == Access::Write {
            if flags & GTF_READONLY != 0 {
                return Err(GrantError(GNTST_GENERAL_ERROR));
            }
            new |= GTF_WRITING;
        }
        let new = (now & 0xFFFF_0000) | u32::from(new);
        match word.compare_exchange(now, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(()),
            Err(changed) => now = changed,
        }
    }
    Err(GrantError(GNTST_GENERAL_ERROR))
}
