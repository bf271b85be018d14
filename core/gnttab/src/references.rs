//! Which references are free: allocation, growth by frames, quarantine.

use crate::{Grant, RESERVED, Reference};
use alloc::vec::Vec;
use xen_abi::Gref;
use xen_abi::grant::{ENTRIES_PER_FRAME, GrantEntryV1};

/// Why the table could not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Xen allows no more frames.
    Full,
    /// A frame that has not exactly [`ENTRIES_PER_FRAME`] entries.
    Malformed,
    /// No memory.
    NoMemory,
}

/// The frames of the table, and the references that nobody owns.
#[derive(Debug)]
pub struct References<'t> {
    frames: Vec<&'t [GrantEntryV1]>,
    free: Vec<u32>,
    max_frames: u32,
    quarantined: u32,
}

impl<'t> References<'t> {
    /// A table without frames that may grow to `max_frames`.
    pub fn new(max_frames: u32) -> Self {
        Self {
            frames: Vec::new(),
            free: Vec::new(),
            max_frames,
            quarantined: 0,
        }
    }

    /// Frames in use.
    pub fn frames(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(u32::MAX)
    }

    /// The index of the frame that [`Self::grow`] takes next, unless the table is full.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn next_frame(&self) -> Result<u32, Error> {
        if self.frames() < self.max_frames {
            Ok(self.frames())
        } else {
            Err(Error::Full)
        }
    }

    /// Adds a frame that Xen has added to the guest's memory, with all its references but the reserved ones.
    ///
    /// # Errors
    /// [`Error`]; the table is as it was.
    pub fn grow(&mut self, entries: &'t [GrantEntryV1]) -> Result<(), Error> {
        let index = self.next_frame()?;
        if entries.len() != ENTRIES_PER_FRAME as usize {
            return Err(Error::Malformed);
        }
        let first = index.checked_mul(ENTRIES_PER_FRAME).ok_or(Error::Full)?;
        let end = first.checked_add(ENTRIES_PER_FRAME).ok_or(Error::Full)?;
        // A place for every reference of the table, so that freeing one never needs memory.
        let places = (end as usize).saturating_sub(self.free.len());
        self.free.try_reserve(places).map_err(|_| Error::NoMemory)?;
        self.frames.try_reserve(1).map_err(|_| Error::NoMemory)?;
        self.frames.push(entries);
        self.free.extend((first.max(RESERVED)..end).rev());
        Ok(())
    }

    /// Takes a free reference; `None` asks for [`Self::grow`].
    pub fn allocate(&mut self) -> Option<Reference<'t>> {
        let gref = *self.free.last()?;
        let reference = Reference::new(Gref(gref), self.entry(Gref(gref))?);
        self.free.pop();
        Some(reference)
    }

    /// Takes a reference back.
    pub fn free(&mut self, reference: Reference<'t>) {
        // Within the capacity: `grow` reserved a place for every reference.
        self.free.push(reference.gref().0);
    }

    /// Gives up a grant whose peer does not let go. Its reference is never used again, and the page must not be either.
    pub fn quarantine(&mut self, grant: Grant<'t>) {
        let _ = grant;
        self.quarantined = self.quarantined.saturating_add(1);
    }

    /// Grants given up so far.
    pub fn quarantined(&self) -> u32 {
        self.quarantined
    }

    /// The entry of any reference of the table, reserved ones included.
    pub fn entry(&self, gref: Gref) -> Option<&'t GrantEntryV1> {
        let frame = self.frames.get((gref.0 / ENTRIES_PER_FRAME) as usize)?;
        frame.get((gref.0 % ENTRIES_PER_FRAME) as usize)
    }

    /// Whether every reference that was allocated has come back or is in quarantine.
    pub fn is_idle(&self) -> bool {
        let reserved = if self.frames.is_empty() { 0 } else { RESERVED };
        let all = self
            .frames()
            .saturating_mul(ENTRIES_PER_FRAME)
            .saturating_sub(reserved);
        self.free.len() == all.saturating_sub(self.quarantined) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, StillInUse};
    use core::sync::atomic::{AtomicU32, Ordering};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use xen_abi::DomId;
    use xen_abi::grant::GTF_READING;

    fn frame() -> Vec<GrantEntryV1> {
        (0..ENTRIES_PER_FRAME)
            .map(|_| GrantEntryV1 {
                flags_domid: AtomicU32::new(0),
                frame: AtomicU32::new(0),
            })
            .collect()
    }

    #[test]
    fn the_first_references_are_never_handed_out() {
        let frame = frame();
        let mut references = References::new(1);
        assert!(references.allocate().is_none());
        references.grow(&frame).unwrap();
        let mut seen = BTreeSet::new();
        while let Some(reference) = references.allocate() {
            assert!(seen.insert(reference.gref().0));
        }
        assert_eq!(seen, (RESERVED..ENTRIES_PER_FRAME).collect());
        assert!(references.entry(Gref(0)).is_some());
        assert!(references.entry(Gref(512)).is_none());
        assert_eq!(references.grow(&frame).err(), Some(Error::Full));
    }

    #[test]
    fn a_frame_of_the_wrong_size_is_refused() {
        let frame = frame();
        let mut references = References::new(4);
        assert_eq!(references.grow(&frame[1..]).err(), Some(Error::Malformed));
        assert_eq!(references.next_frame(), Ok(0));
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Permit,
        Use(usize),
        LetGo(usize),
        Revoke(usize),
        Quarantine(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => Just(Op::Permit),
            1 => any::<usize>().prop_map(Op::Use),
            1 => any::<usize>().prop_map(Op::LetGo),
            3 => any::<usize>().prop_map(Op::Revoke),
            1 => any::<usize>().prop_map(Op::Quarantine),
        ]
    }

    proptest! {
        #[test]
        fn no_reference_in_use_is_ever_handed_out_again(ops in prop::collection::vec(op(), 0..400)) {
            let frames = [frame(), frame()];
            let mut references = References::new(2);
            let mut live: Vec<Grant<'_>> = Vec::new();
            let mut lost = BTreeSet::new();
            for op in ops {
                match op {
                    Op::Permit => {
                        if references.allocate().map(|r| references.free(r)).is_none()
                            && let Ok(next) = references.next_frame()
                        {
                            references.grow(&frames[next as usize]).unwrap();
                        }
                        if let Some(reference) = references.allocate() {
                            let gref = reference.gref();
                            prop_assert!(gref.0 >= RESERVED);
                            prop_assert!(!lost.contains(&gref));
                            prop_assert!(live.iter().all(|g| g.gref() != gref));
                            live.push(reference.permit(DomId(1), gref.0, Access::ReadWrite));
                        }
                    }
                    Op::Use(i) if !live.is_empty() => {
                        let gref = live[i % live.len()].gref();
                        let entry = references.entry(gref).unwrap();
                        entry.flags_domid.fetch_or(u32::from(GTF_READING), Ordering::Relaxed);
                    }
                    Op::LetGo(i) if !live.is_empty() => {
                        let gref = live[i % live.len()].gref();
                        let entry = references.entry(gref).unwrap();
                        entry.flags_domid.fetch_and(!u32::from(GTF_READING), Ordering::Relaxed);
                    }
                    Op::Revoke(i) if !live.is_empty() => {
                        let grant = live.swap_remove(i % live.len());
                        match grant.revoke() {
                            Ok(reference) => references.free(reference),
                            Err(StillInUse(grant)) => live.push(grant),
                        }
                    }
                    Op::Quarantine(i) if !live.is_empty() => {
                        let grant = live.swap_remove(i % live.len());
                        lost.insert(grant.gref());
                        references.quarantine(grant);
                    }
                    _ => {}
                }
                prop_assert_eq!(references.quarantined() as usize, lost.len());
                prop_assert_eq!(references.is_idle(), live.is_empty());
            }
        }
    }
}
