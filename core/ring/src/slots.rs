//! Request ids: the number of a slot and how often that slot was used, so that every id is valid exactly once.
//!
//! The peer echoes ids. Whatever it sends, `take` gives the value of an outstanding request at most once, in O(1),
//! and an id says nothing about our memory.

use alloc::vec::Vec;

/// No outstanding request has this id: it was never given out, or it was answered already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownId(pub u64);

/// A fixed number of slots for outstanding requests. Allocates once, in [`Slots::try_new`].
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// Head of the list of free slots.
    free: Option<u32>,
    used: u32,
}

struct Slot<T> {
    /// Counts the uses of this slot; the upper half of the id.
    generation: u32,
    state: State<T>,
}

enum State<T> {
    Free { next: Option<u32> },
    Used(T),
}

impl<T> Slots<T> {
    /// A table of `capacity` free slots; `None` if there is no memory for it.
    pub fn try_new(capacity: u32) -> Option<Self> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(capacity as usize).ok()?;
        for index in 0..capacity {
            let next = if index + 1 < capacity {
                Some(index + 1)
            } else {
                None
            };
            slots.push(Slot {
                generation: 0,
                state: State::Free { next },
            });
        }
        Some(Slots {
            slots,
            free: if capacity > 0 { Some(0) } else { None },
            used: 0,
        })
    }

    /// Slots in use.
    pub fn len(&self) -> u32 {
        self.used
    }

    /// Whether no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether every slot is in use.
    pub fn is_full(&self) -> bool {
        self.free.is_none()
    }

    /// Takes a slot for `value` and gives its id; the value comes back if there is no free slot.
    pub fn insert(&mut self, value: T) -> Result<u64, T> {
        let Some(index) = self.free else {
            return Err(value);
        };
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(value);
        };
        let State::Free { next } = slot.state else {
            return Err(value);
        };
        self.free = next;
        slot.generation = slot.generation.wrapping_add(1);
        slot.state = State::Used(value);
        self.used += 1;
        Ok(u64::from(slot.generation) << 32 | u64::from(index))
    }

    /// The outstanding value with this id.
    pub fn get(&self, id: u64) -> Option<&T> {
        match self.slots.get(id as u32 as usize)? {
            Slot {
                generation,
                state: State::Used(value),
            } if *generation == (id >> 32) as u32 => Some(value),
            _ => None,
        }
    }

    /// The outstanding value with this id.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        match self.slots.get_mut(id as u32 as usize)? {
            Slot {
                generation,
                state: State::Used(value),
            } if *generation == (id >> 32) as u32 => Some(value),
            _ => None,
        }
    }

    /// Frees the slot with this id and gives its value.
    pub fn take(&mut self, id: u64) -> Result<T, UnknownId> {
        let index = id as u32;
        match self.slots.get_mut(index as usize) {
            Some(slot) if slot.generation == (id >> 32) as u32 => {
                match core::mem::replace(&mut slot.state, State::Free { next: self.free }) {
                    State::Used(value) => {
                        self.free = Some(index);
                        self.used -= 1;
                        Ok(value)
                    }
                    free => {
                        slot.state = free;
                        Err(UnknownId(id))
                    }
                }
            }
            _ => Err(UnknownId(id)),
        }
    }

    /// Frees the slot with this id, if it is in use, and drops its value where it is.
    pub fn discard(&mut self, id: u64) {
        if self.get(id).is_some()
            && let Some(slot) = self.slots.get_mut(id as u32 as usize)
        {
            slot.state = State::Free { next: self.free };
            self.free = Some(id as u32);
            self.used -= 1;
        }
    }

    /// The id of some slot in use at or after slot number `from`, for walking over all that is outstanding.
    pub fn next_used(&self, from: u32) -> Option<u64> {
        self.slots
            .iter()
            .enumerate()
            .skip(from as usize)
            .find_map(|(index, slot)| match slot.state {
                State::Used(_) => Some(u64::from(slot.generation) << 32 | index as u64),
                State::Free { .. } => None,
            })
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_discarded_value_is_dropped_once_and_its_slot_is_free() {
        use std::rc::Rc;
        let value = Rc::new(());
        let mut slots = Slots::try_new(1).unwrap();
        let id = slots.insert(value.clone()).unwrap();
        slots.discard(id ^ 1 << 32);
        assert_eq!((slots.len(), Rc::strong_count(&value)), (1, 2));
        slots.discard(id);
        slots.discard(id);
        assert_eq!((slots.len(), Rc::strong_count(&value)), (0, 1));
        assert_eq!(slots.take(id), Err(UnknownId(id)));
        assert!(slots.insert(value).is_ok());
    }

    #[test]
    fn an_id_is_good_exactly_once() {
        let mut slots = Slots::try_new(2).unwrap();
        let a = slots.insert('a').unwrap();
        assert_eq!(slots.take(a), Ok('a'));
        assert_eq!(slots.take(a), Err(UnknownId(a)));
    }

    #[test]
    fn an_old_id_of_a_reused_slot_is_unknown() {
        let mut slots = Slots::try_new(1).unwrap();
        let old = slots.insert('a').unwrap();
        slots.take(old).unwrap();
        let new = slots.insert('b').unwrap();
        assert_eq!(slots.take(old), Err(UnknownId(old)));
        assert_eq!(slots.take(new), Ok('b'));
    }

    #[test]
    fn a_full_table_gives_the_value_back() {
        let mut slots = Slots::try_new(1).unwrap();
        slots.insert('a').unwrap();
        assert_eq!(slots.insert('b'), Err('b'));
        assert!(slots.is_full());
    }

    #[test]
    fn a_table_without_slots_holds_nothing() {
        let mut slots = Slots::try_new(0).unwrap();
        assert_eq!(slots.insert(1), Err(1));
        assert_eq!(slots.take(0), Err(UnknownId(0)));
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_for_any_ids(capacity in 1u32..9, steps in proptest::collection::vec(any::<(bool, u64, u8)>(), 0..200)) {
            let mut slots = Slots::try_new(capacity).unwrap();
            let mut model = BTreeMap::new();
            let mut given = Vec::new();
            for (insert, id, pick) in steps {
                if insert {
                    match slots.insert(pick) {
                        Ok(id) => { prop_assert!(model.insert(id, pick).is_none()); given.push(id); }
                        Err(_) => prop_assert_eq!(model.len() as u32, capacity),
                    }
                } else {
                    // Half of the ids are real ones, old or outstanding; the other half is anything.
                    let id = if pick & 1 == 0 && !given.is_empty() { given[id as usize % given.len()] } else { id };
                    prop_assert_eq!(slots.get(id).copied(), model.get(&id).copied());
                    prop_assert_eq!(slots.take(id).ok(), model.remove(&id));
                }
                prop_assert_eq!(slots.len() as usize, model.len());
                let mut walked = 0;
                let mut from = 0;
                while let Some(id) = slots.next_used(from) { walked += 1; from = id as u32 + 1; }
                prop_assert_eq!(walked, model.len());
            }
        }
    }
}
