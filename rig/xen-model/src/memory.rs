//! The guest's physical memory map, and `memory_op`.
//!
//! Simplification: RAM frame n can only ever lie at gfn n. A frame given back and populated again is the same frame,
//! scrubbed; on a real Xen it would be another one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use xen_abi::DomId;
use xen_abi::errno::*;
use xen_abi::memory::*;

use crate::frames::Page;
use crate::hypercall::{HypercallResult, guard};
use crate::{GUEST, Machine, P2m, Xen};

const HOLE: u64 = 0;
const XEN: u64 = 1 << 62;
const RAM: u64 = 1 << 63;

fn encode(p2m: P2m) -> u64 {
    match p2m {
        P2m::Hole => HOLE,
        P2m::Xen(i) => XEN | i,
        P2m::Ram(n) => RAM | n,
    }
}

fn decode(word: u64) -> P2m {
    match word {
        HOLE => P2m::Hole,
        w if w & RAM != 0 => P2m::Ram(w & !RAM),
        w => P2m::Xen(w & !XEN),
    }
}

/// gfn → frame.
pub(crate) struct Physmap {
    machine: Arc<dyn Machine>,
    ram: Box<[AtomicU64]>,
    outside: RwLock<BTreeMap<u64, P2m>>,
    owned: Mutex<Owned>,
}

struct Owned {
    /// RAM frames the guest has now.
    pages: u64,
    /// Where each of Xen's frames is shown: one place at a time.
    shown: BTreeMap<u64, u64>,
}

impl Physmap {
    pub(crate) fn new(machine: Arc<dyn Machine>) -> Self {
        let frames = machine.ram_frames();
        Self {
            ram: (0..frames)
                .map(|n| AtomicU64::new(encode(P2m::Ram(n))))
                .collect(),
            outside: RwLock::default(),
            owned: Mutex::new(Owned {
                pages: frames,
                shown: BTreeMap::new(),
            }),
            machine,
        }
    }

    pub(crate) fn lookup(&self, gfn: u64) -> P2m {
        match usize::try_from(gfn).ok().and_then(|i| self.ram.get(i)) {
            Some(word) => decode(word.load(Ordering::Acquire)),
            None => guard(self.outside.read())
                .get(&gfn)
                .copied()
                .unwrap_or(P2m::Hole),
        }
    }

    /// The memory behind a frame.
    pub(crate) fn resolve(&self, frame: P2m) -> Option<Page> {
        match frame {
            P2m::Ram(n) => Some(Page::ram(&*self.machine, n)),
            P2m::Xen(i) => Some(Page::xen(&*self.machine, i)),
            P2m::Hole => None,
        }
    }

    /// Changes one entry; `false` if the machine has no such gfn.
    fn set(&self, gfn: u64, to: P2m) -> bool {
        if !self.machine.set_p2m(gfn, to) {
            return false;
        }
        match usize::try_from(gfn).ok().and_then(|i| self.ram.get(i)) {
            Some(word) => word.store(encode(to), Ordering::Release),
            None => {
                let mut outside = guard(self.outside.write());
                match to {
                    P2m::Hole => outside.remove(&gfn),
                    to => outside.insert(gfn, to),
                };
            }
        }
        true
    }

    /// Shows a frame of Xen's at `gfn`: nowhere else from now on, and what was there is gone.
    pub(crate) fn show(&self, frame: u64, gfn: u64) -> Result<(), i64> {
        let mut owned = guard(self.owned.lock());
        let before = self.lookup(gfn);
        if before == P2m::Xen(frame) {
            return Ok(());
        }
        if !self.set(gfn, P2m::Xen(frame)) {
            return Err(EINVAL);
        }
        match before {
            P2m::Ram(_) => owned.pages -= 1,
            P2m::Xen(other) => drop(owned.shown.remove(&other)),
            P2m::Hole => {}
        }
        if let Some(old) = owned.shown.insert(frame, gfn) {
            self.set(old, P2m::Hole);
        }
        Ok(())
    }

    /// Maps a foreign frame (of a grant) at `gfn`.
    pub(crate) fn map_foreign(&self, gfn: u64, frame: P2m) -> bool {
        let mut owned = guard(self.owned.lock());
        let before = self.lookup(gfn);
        if !self.set(gfn, frame) {
            return false;
        }
        if matches!(before, P2m::Ram(_)) {
            owned.pages -= 1;
        }
        true
    }

    /// Makes `gfn` a hole.
    pub(crate) fn clear(&self, gfn: u64) -> Result<P2m, i64> {
        let mut owned = guard(self.owned.lock());
        let before = self.lookup(gfn);
        match before {
            P2m::Hole => return Err(ENOENT),
            P2m::Xen(i) => drop(owned.shown.remove(&i)),
            P2m::Ram(_) => owned.pages -= 1,
        }
        self.set(gfn, P2m::Hole);
        Ok(before)
    }

    fn populate(&self, gfn: u64) -> bool {
        let mut owned = guard(self.owned.lock());
        if gfn >= self.machine.ram_frames() || owned.pages == self.machine.ram_frames() {
            return false;
        }
        match self.lookup(gfn) {
            P2m::Ram(_) => return true,
            P2m::Xen(i) => drop(owned.shown.remove(&i)),
            P2m::Hole => {}
        }
        Page::ram(&*self.machine, gfn).scrub();
        owned.pages += 1;
        self.set(gfn, P2m::Ram(gfn))
    }

    /// After a migration Xen's frames are shown nowhere until the guest asks again, but for `keep`.
    pub(crate) fn forget_xen_frames(&self, keep: &[u64]) {
        let mut owned = guard(self.owned.lock());
        let gone: Vec<_> = owned
            .shown
            .iter()
            .filter(|(i, _)| !keep.contains(i))
            .map(|(i, gfn)| (*i, *gfn))
            .collect();
        for (frame, gfn) in gone {
            owned.shown.remove(&frame);
            self.set(gfn, P2m::Hole);
        }
    }

    /// RAM frames the guest has now.
    pub(crate) fn pages(&self) -> u64 {
        guard(self.owned.lock()).pages
    }
}

impl Xen {
    /// RAM frames the guest has now, of 4096 bytes.
    pub fn guest_pages(&self) -> u64 {
        self.physmap.pages()
    }

    pub(crate) fn memory_op(&self, cmd: u64, arg: u64) -> HypercallResult {
        let done = (cmd >> EXTENT_SHIFT) << EXTENT_SHIFT >> EXTENT_SHIFT;
        match (cmd & ((1 << EXTENT_SHIFT) - 1)) as u32 {
            op @ (DECREASE_RESERVATION | POPULATE_PHYSMAP) => self.reservation(op, done, arg),
            ADD_TO_PHYSMAP => self.add_to_physmap(&self.argument(arg)?),
            REMOVE_FROM_PHYSMAP => {
                let a: RemoveFromPhysmap = self.argument(arg)?;
                own_domain(a.domid)?;
                self.physmap.clear(a.gpfn)?;
                Ok(0)
            }
            _ => Err(ENOSYS),
        }
    }

    /// Returns how many extents were done; an extent that fails ends the work.
    fn reservation(&self, op: u32, done: u64, arg: u64) -> HypercallResult {
        let r: MemoryReservation = self.argument(arg)?;
        let extents = i64::try_from(r.nr_extents).unwrap_or(i64::MAX);
        // Xen's `memory_op` reports trouble with the structure as no extent done.
        let start = i64::try_from(done).unwrap_or(i64::MAX);
        if own_domain(r.domid).is_err() || r.extent_order > 9 || start >= extents {
            return Ok(start.min(extents));
        }
        for i in start..extents {
            let mut gfn = [0; 8];
            let address = r.extent_start.wrapping_add((i as u64).wrapping_mul(8));
            if self.machine.read(address, &mut gfn).is_err() {
                return Ok(i);
            }
            let gfn = u64::from_le_bytes(gfn);
            let pages = gfn..gfn.saturating_add(1 << r.extent_order);
            let ok = match op {
                POPULATE_PHYSMAP => pages.clone().all(|gfn| self.physmap.populate(gfn)),
                _ => pages.clone().all(|gfn| {
                    matches!(self.physmap.lookup(gfn), P2m::Ram(_))
                        && self.physmap.clear(gfn).is_ok()
                }),
            };
            if !ok {
                return Ok(i);
            }
        }
        Ok(extents)
    }

    fn add_to_physmap(&self, a: &AddToPhysmap) -> HypercallResult {
        own_domain(a.domid)?;
        let frame = match a.space {
            SPACE_SHARED_INFO if a.idx == 0 => self.layout.shared_info,
            SPACE_GRANT_TABLE => self.layout.guest_grants + self.grant_frame(a.idx)?,
            SPACE_SHARED_INFO => return Err(EINVAL),
            _ => return Err(ENOSYS),
        };
        self.physmap.show(frame, a.gpfn)?;
        Ok(0)
    }
}

/// `ESRCH` or `EPERM` unless a domain id in an argument names the caller.
pub(crate) fn own_domain(dom: DomId) -> Result<(), i64> {
    match dom {
        DomId::SELF | GUEST => Ok(()),
        DomId::DOM0 => Err(EPERM),
        _ => Err(ESRCH),
    }
}
