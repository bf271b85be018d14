//! The multicast addresses of an interface, and telling the backend of them.
//!
//! ```text
//!   set ──▶ wanted ──next──▶ Tx::push_multicast ──told──▶ told        one request a change, additions first
//! ```
//!
//! The backend may not take an address, since its list is bounded. Then it must not filter: the key
//! `request-multicast-control` says so ([`List::wants_control`]), and the guest's own filter does all of the work.

use crate::MacAddress;
use crate::filter::Level;
use crate::tx::Multicast;
use alloc::vec::Vec;
use packet::Kind;

/// Why a list is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadList {
    /// An address in it is not one of a group.
    NotMulticast(MacAddress),
    /// There is no memory for it.
    NoMemory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    address: MacAddress,
    wanted: bool,
    told: bool,
}

/// The list, and what the backend knows of it.
#[derive(Debug, Default)]
pub struct List {
    wanted: Vec<MacAddress>,
    entries: Vec<Entry>,
    /// The backend filters, as far as it can be told to.
    controlled: bool,
    refused: bool,
}

impl List {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            wanted: Vec::new(),
            entries: Vec::new(),
            controlled: false,
            refused: false,
        }
    }

    /// The addresses, each once.
    pub fn addresses(&self) -> &[MacAddress] {
        &self.wanted
    }

    /// Replaces the list. With an error nothing changes.
    pub fn set(&mut self, addresses: &[MacAddress]) -> Result<(), BadList> {
        if let Some(address) = addresses
            .iter()
            .find(|address| address.kind() == Kind::Unicast)
        {
            return Err(BadList::NotMulticast(*address));
        }
        let mut wanted = Vec::new();
        wanted
            .try_reserve_exact(addresses.len())
            .and_then(|()| self.entries.try_reserve(addresses.len()))
            .map_err(|_| BadList::NoMemory)?;
        for address in addresses {
            if !wanted.contains(address) {
                wanted.push(*address);
            }
        }
        for entry in &mut self.entries {
            entry.wanted = wanted.contains(&entry.address);
        }
        for address in &wanted {
            if !self.entries.iter().any(|entry| entry.address == *address) {
                self.entries.push(Entry {
                    address: *address,
                    wanted: true,
                    told: false,
                });
            }
        }
        self.wanted = wanted;
        self.forget();
        Ok(())
    }

    /// A backend was connected, which knows nothing; `controlled`: it filters, and can be told what to pass.
    pub fn connected(&mut self, controlled: bool) {
        self.controlled = controlled;
        self.refused = false;
        for entry in &mut self.entries {
            entry.told = false;
        }
        self.forget();
    }

    /// What the key `request-multicast-control` should say, where the backend has the feature.
    pub fn wants_control(&self, level: Level) -> bool {
        self.controlled && !self.refused && level != Level::All
    }

    /// What to tell the backend next, additions before removals; [`List::told`] when it is in the ring.
    pub fn next(&self) -> Option<Multicast> {
        if !self.controlled {
            return None;
        }
        let added = self.entries.iter().find(|it| it.wanted && !it.told);
        let removed = self.entries.iter().find(|it| !it.wanted && it.told);
        match (added, removed) {
            (Some(entry), _) => Some(Multicast::Add(entry.address)),
            (None, Some(entry)) => Some(Multicast::Remove(entry.address)),
            (None, None) => None,
        }
    }

    /// The backend has been told this.
    pub fn told(&mut self, multicast: Multicast) {
        let (address, told) = match multicast {
            Multicast::Add(address) => (address, true),
            Multicast::Remove(address) => (address, false),
        };
        for entry in &mut self.entries {
            if entry.address == address {
                entry.told = told;
            }
        }
        self.forget();
    }

    /// The backend did not do this ([`Tx::refused_multicast`](crate::tx::Tx::refused_multicast)). It must not filter any
    /// more if it does not know an address; that it still passes one is no harm.
    pub fn refused(&mut self, multicast: Multicast) {
        if let Multicast::Add(_) = multicast {
            self.refused = true;
        }
    }

    /// What to tell a backend that shall forget all of it, before it is left: once for each address that it knows.
    pub fn next_farewell(&self) -> Option<Multicast> {
        let entry = self.entries.iter().find(|entry| entry.told)?;
        Some(Multicast::Remove(entry.address))
    }

    /// Drops what is neither wanted nor known to the backend.
    fn forget(&mut self) {
        self.entries.retain(|entry| entry.wanted || entry.told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn group(last: u8) -> MacAddress {
        MacAddress([0x33, 0x33, 0, 0, 0, last])
    }

    fn groups(last: &[u8]) -> Vec<MacAddress> {
        last.iter().map(|last| group(*last)).collect()
    }

    /// Tells a backend all there is to tell.
    fn tell(list: &mut List) -> Vec<Multicast> {
        let mut all = vec![];
        while let Some(multicast) = list.next() {
            list.told(multicast);
            all.push(multicast);
        }
        all
    }

    #[test]
    fn only_the_difference_is_told_and_additions_first() {
        let mut list = List::new();
        list.connected(true);
        list.set(&groups(&[1, 2, 2])).unwrap();
        assert_eq!(list.addresses(), groups(&[1, 2]));
        assert_eq!(
            tell(&mut list),
            [Multicast::Add(group(1)), Multicast::Add(group(2))]
        );
        list.set(&groups(&[2, 3])).unwrap();
        assert_eq!(
            tell(&mut list),
            [Multicast::Add(group(3)), Multicast::Remove(group(1))]
        );
        assert_eq!(tell(&mut list), []);
    }

    #[test]
    fn a_new_backend_is_told_everything() {
        let mut list = List::new();
        list.set(&groups(&[1, 2])).unwrap();
        assert_eq!(list.next(), None, "nobody is there");
        list.connected(true);
        assert_eq!(tell(&mut list).len(), 2);
        list.set(&groups(&[2])).unwrap();
        list.connected(true);
        assert_eq!(tell(&mut list), [Multicast::Add(group(2))]);
        list.connected(false);
        assert_eq!(tell(&mut list), []);
        assert!(!list.wants_control(Level::Matching));
    }

    #[test]
    fn a_list_with_another_address_changes_nothing() {
        let mut list = List::new();
        list.set(&groups(&[1])).unwrap();
        let unicast = MacAddress([2; 6]);
        assert_eq!(
            list.set(&[group(7), unicast]),
            Err(BadList::NotMulticast(unicast))
        );
        assert_eq!(list.addresses(), groups(&[1]));
    }

    #[test]
    fn a_backend_that_lacks_an_address_must_not_filter() {
        let mut list = List::new();
        list.connected(true);
        assert!(list.wants_control(Level::Matching) && list.wants_control(Level::None));
        assert!(!list.wants_control(Level::All));
        list.refused(Multicast::Remove(group(1)));
        assert!(list.wants_control(Level::Matching));
        list.refused(Multicast::Add(group(1)));
        assert!(!list.wants_control(Level::Matching));
        list.connected(true);
        assert!(
            list.wants_control(Level::Matching),
            "another backend may have room"
        );
    }

    #[test]
    fn a_backend_that_is_left_forgets_what_it_knew() {
        let mut list = List::new();
        list.connected(true);
        list.set(&groups(&[1, 2])).unwrap();
        let first = list.next().unwrap();
        list.told(first);
        assert_eq!(list.next_farewell(), Some(Multicast::Remove(group(1))));
        list.told(Multicast::Remove(group(1)));
        assert_eq!(list.next_farewell(), None);
        assert_eq!(list.addresses(), groups(&[1, 2]), "the list itself stays");
    }

    proptest! {
        /// Whatever lists come one after the other, and however much of each is told: a backend that does as it is told
        /// ends with the last list.
        #[test]
        fn the_backend_ends_with_the_last_list(steps in proptest::collection::vec((proptest::collection::vec(0u8..12, 0..8), 0usize..6), 1..20)) {
            let mut list = List::new();
            list.connected(true);
            let mut backend = BTreeSet::new();
            for (last, told) in &steps {
                list.set(&groups(last)).unwrap();
                for _ in 0..*told {
                    let Some(multicast) = list.next() else { break };
                    match multicast {
                        Multicast::Add(address) => prop_assert!(backend.insert(address)),
                        Multicast::Remove(address) => prop_assert!(backend.remove(&address)),
                    }
                    list.told(multicast);
                }
            }
            while let Some(multicast) = list.next() {
                match multicast {
                    Multicast::Add(address) => prop_assert!(backend.insert(address)),
                    Multicast::Remove(address) => prop_assert!(backend.remove(&address)),
                }
                list.told(multicast);
            }
            let wanted: BTreeSet<MacAddress> = groups(&steps.last().unwrap().0).into_iter().collect();
            prop_assert_eq!(backend, wanted);
        }
    }
}
