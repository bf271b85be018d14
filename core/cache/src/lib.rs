//! Bookkeeping of an object cache: a depot shared by all CPUs and a small magazine in front of it on each.
//!
//! ```text
//!   get ─▶ magazine (6, this CPU) ◀─ filled ── depot (free objects) ─▶ a new object, if the cap allows
//!   put ─▶ magazine, if it has room ── half ─▶ depot
//! ```
//!
//! The core counts and orders; what an object is, and who makes it, is the caller's affair: `T` is an *owned* object, so
//! that handing one out twice or putting one back twice cannot be written down. Every object that exists has a place
//! in the depot reserved, so putting back never needs memory.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

/// Objects that a magazine holds.
pub const MAGAZINE_SIZE: usize = 6;

/// The free objects kept for one CPU. Its owner serialises access (one CPU at DISPATCH_LEVEL).
#[derive(Debug)]
pub struct Magazine<T> {
    slots: [Option<T>; MAGAZINE_SIZE],
    loaded: usize,
}

impl<T> Default for Magazine<T> {
    fn default() -> Self {
        Self {
            slots: [const { None }; MAGAZINE_SIZE],
            loaded: 0,
        }
    }
}

impl<T> Magazine<T> {
    /// Takes the object put in last.
    pub fn pop(&mut self) -> Option<T> {
        let top = self.loaded.checked_sub(1)?;
        let object = self.slots.get_mut(top)?.take();
        self.loaded = top;
        object
    }

    /// Keeps an object, or hands it back when the magazine is full.
    ///
    /// # Errors
    /// The object.
    pub fn push(&mut self, object: T) -> Result<(), T> {
        match self.slots.get_mut(self.loaded) {
            Some(slot) => {
                *slot = Some(object);
                self.loaded = self.loaded.saturating_add(1);
                Ok(())
            }
            None => Err(object),
        }
    }

    /// Fills an empty magazine, so that the next objects need no depot: free objects for which `good` is true, up to the
    /// first that is not.
    pub fn fill(&mut self, depot: &mut Depot<T>, mut good: impl FnMut(&mut T) -> bool) {
        while self.loaded < MAGAZINE_SIZE
            && let Some(object) = depot.free.pop_if(&mut good)
        {
            // There is room.
            let _ = self.push(object);
        }
    }

    /// Gives the depot half of a full magazine, so that the next objects find room.
    pub fn spill(&mut self, depot: &mut Depot<T>) {
        while self.loaded > MAGAZINE_SIZE / 2
            && let Some(object) = self.pop()
        {
            depot.give(object);
        }
    }
}

/// Why no object can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The cap is reached.
    Capped,
    /// No memory.
    NoMemory,
    /// A reservation greater than the cap.
    Malformed,
}

/// Leave to make one more object. Give it back through [`Depot::adopt`] or [`Depot::withdraw`].
#[derive(Debug)]
#[must_use]
pub struct Permit(());

/// The free objects of a cache, and the count of all.
#[derive(Debug)]
pub struct Depot<T> {
    free: Vec<T>,
    total: usize,
    reservation: usize,
    cap: usize,
}

impl<T> Depot<T> {
    /// A depot that keeps at least `reservation` objects alive, and lets at most `cap` exist (0: as many as you like).
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn new(reservation: u32, cap: u32) -> Result<Self, Error> {
        if cap != 0 && reservation > cap {
            return Err(Error::Malformed);
        }
        let cap = if cap == 0 { usize::MAX } else { cap as usize };
        Ok(Self {
            free: Vec::new(),
            total: 0,
            reservation: reservation as usize,
            cap,
        })
    }

    /// Objects that exist: in the depot, in magazines and with clients.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Takes a free object.
    pub fn take(&mut self) -> Option<T> {
        self.free.pop()
    }

    /// Takes back an object that [`Self::take`] or a magazine handed out.
    pub fn give(&mut self, object: T) {
        // Within the capacity: `permit` reserved a place for every object that exists.
        self.free.push(object);
    }

    /// Asks for leave to make one more object, and reserves its place.
    ///
    /// # Errors
    /// [`Error::Capped`], [`Error::NoMemory`].
    pub fn permit(&mut self) -> Result<Permit, Error> {
        if self.total >= self.cap {
            return Err(Error::Capped);
        }
        let total = self.total.checked_add(1).ok_or(Error::Capped)?;
        self.free
            .try_reserve(total.saturating_sub(self.free.len()))
            .map_err(|_| Error::NoMemory)?;
        self.total = total;
        Ok(Permit(()))
    }

    /// The permitted object was made and goes straight to a client; it comes back through [`Self::give`].
    pub fn adopt(&mut self, permit: Permit) {
        let Permit(()) = permit;
    }

    /// The permitted object could not be made.
    pub fn withdraw(&mut self, permit: Permit) {
        let Permit(()) = permit;
        self.total = self.total.saturating_sub(1);
    }

    /// How many objects have to be made until the reservation is met.
    pub fn shortage(&self) -> usize {
        self.reservation.saturating_sub(self.total)
    }

    /// How many free objects to give up now: half of what exists at most, and nothing of the reservation.
    pub fn surplus(&self) -> usize {
        let keep = self.reservation.max(self.total.div_ceil(2));
        self.total.saturating_sub(keep).min(self.free.len())
    }

    /// Takes a free object out for good.
    pub fn retire(&mut self) -> Option<T> {
        let object = self.free.pop()?;
        self.total = self.total.saturating_sub(1);
        Some(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reservation_above_the_cap_is_refused() {
        assert!(matches!(Depot::<u32>::new(5, 4), Err(Error::Malformed)));
        assert!(Depot::<u32>::new(5, 0).is_ok());
    }

    #[test]
    fn a_full_magazine_hands_the_object_back() {
        let mut magazine = Magazine::default();
        for i in 0..MAGAZINE_SIZE {
            assert_eq!(magazine.push(i), Ok(()));
        }
        assert_eq!(magazine.push(99), Err(99));
        assert_eq!(magazine.pop(), Some(MAGAZINE_SIZE - 1));
    }

    #[test]
    fn a_magazine_takes_from_the_depot_what_is_good_and_gives_half_back() {
        let mut depot = Depot::new(0, 0).unwrap();
        for object in 0..10 {
            let permit = depot.permit().unwrap();
            depot.adopt(permit);
            depot.give(object);
        }
        let mut magazine = Magazine::default();
        magazine.fill(&mut depot, |object| *object > 7);
        assert_eq!((magazine.loaded, magazine.pop()), (2, Some(8)));
        magazine.fill(&mut depot, |_| true);
        assert_eq!((magazine.loaded, depot.free.len()), (MAGAZINE_SIZE, 3));
        magazine.spill(&mut depot);
        assert_eq!((magazine.loaded, depot.free.len()), (MAGAZINE_SIZE / 2, 6));
    }

    #[test]
    fn an_object_that_could_not_be_made_does_not_count_against_the_cap() {
        let mut depot = Depot::<u32>::new(0, 1).unwrap();
        let permit = depot.permit().unwrap();
        assert_eq!(depot.permit().err(), Some(Error::Capped));
        depot.withdraw(permit);
        assert!(depot.permit().is_ok());
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Get { fails: bool },
        Put(usize),
        Trim,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => prop::bool::weighted(0.2).prop_map(|fails| Op::Get { fails }),
            3 => any::<usize>().prop_map(Op::Put),
            1 => Just(Op::Trim),
        ]
    }

    proptest! {
        #[test]
        fn every_object_is_in_exactly_one_place(
            reservation in 0u32..8, extra in 0u32..8, ops in prop::collection::vec(op(), 0..300),
        ) {
            let cap = reservation + extra + 1;
            let mut depot = Depot::new(reservation, cap).unwrap();
            let mut magazine = Magazine::default();
            let mut held: Vec<u32> = Vec::new();
            let mut made = 0u32;
            let mut retired = 0usize;
            for op in ops {
                match op {
                    Op::Get { fails } => {
                        if magazine.loaded == 0 {
                            magazine.fill(&mut depot, |object| *object % 4 != 3);
                        }
                        if let Some(object) = magazine.pop().or_else(|| depot.take()) {
                            prop_assert!(!held.contains(&object));
                            held.push(object);
                        } else if let Ok(permit) = depot.permit() {
                            if fails {
                                depot.withdraw(permit);
                            } else {
                                depot.adopt(permit);
                                held.push(made);
                                made += 1;
                            }
                        } else {
                            prop_assert_eq!(depot.total(), cap as usize);
                        }
                    }
                    Op::Put(i) if !held.is_empty() => {
                        let object = held.swap_remove(i % held.len());
                        let capacity = depot.free.capacity();
                        if let Err(object) = magazine.push(object) {
                            depot.give(object);
                            magazine.spill(&mut depot);
                        }
                        prop_assert_eq!(depot.free.capacity(), capacity, "putting back allocated");
                    }
                    Op::Put(_) => {}
                    Op::Trim => {
                        for _ in 0..depot.surplus() {
                            prop_assert!(depot.retire().is_some());
                            retired += 1;
                        }
                        prop_assert!(depot.total() <= cap as usize);
                    }
                }
                prop_assert_eq!(depot.total(), made as usize - retired);
                prop_assert_eq!(depot.total(), held.len() + magazine.loaded + depot.free.len());
            }
        }
    }
}
