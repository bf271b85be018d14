//! Device classes: the directories below `device` in xenstore, and those that the registry adds.

use crate::NoMemory;
use alloc::vec::Vec;
use core::fmt;

const LENGTH: usize = 31;

/// The name of a class, in upper case: VIF, VBD, …
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Class {
    name: [u8; LENGTH],
    length: u8,
}

impl Class {
    /// The class of a xenstore directory or a registry entry. `None` for what cannot be part of a device ID.
    pub fn new(name: &[u8]) -> Option<Self> {
        let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if name.is_empty() || !name.iter().all(legal) {
            return None;
        }
        let mut class = Self {
            name: [0; LENGTH],
            length: u8::try_from(name.len()).ok()?,
        };
        class.name.get_mut(..name.len())?.copy_from_slice(name);
        class.name.make_ascii_uppercase();
        Some(class)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let name = self
            .name
            .get(..usize::from(self.length))
            .unwrap_or_default();
        core::str::from_utf8(name).unwrap_or_default()
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of classes, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Classes(Vec<Class>);

impl Classes {
    /// Adds a class unless it is there.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn add(&mut self, class: Class) -> Result<(), NoMemory> {
        if !self.contains(&class) {
            self.0.try_reserve(1)?;
            self.0.push(class);
        }
        Ok(())
    }

    /// Whether a class is in the set.
    pub fn contains(&self, class: &Class) -> bool {
        self.0.contains(class)
    }

    /// The classes.
    pub fn iter(&self) -> impl Iterator<Item = &Class> {
        self.0.iter()
    }

    /// The classes that get a child device: those found in xenstore and the synthetic ones, as far as they are
    /// supported.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn wanted<'n>(
        found: impl Iterator<Item = &'n [u8]>,
        synthetic: &Classes,
        supported: &Classes,
    ) -> Result<Self, NoMemory> {
        let mut wanted = Self::default();
        for class in found
            .filter_map(Class::new)
            .chain(synthetic.iter().copied())
        {
            if supported.contains(&class) {
                wanted.add(class)?;
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Classes {
        let mut classes = Classes::default();
        for name in names {
            classes.add(Class::new(name.as_bytes()).unwrap()).unwrap();
        }
        classes
    }

    #[test]
    fn only_whole_supported_names_become_children() {
        let found = ["vbd", "vi", "vifx", "vif", "vfb", "VIF", "suspend"];
        let wanted = Classes::wanted(
            found.iter().map(|n| n.as_bytes()),
            &set(&["IFACE"]),
            &set(&["VIF", "VBD", "IFACE", "CONS"]),
        )
        .unwrap();
        let names: Vec<_> = wanted.iter().map(|c| c.as_str().to_owned()).collect();
        assert_eq!(names, ["VBD", "VIF", "IFACE"]);
    }

    #[test]
    fn what_cannot_be_in_a_device_id_is_no_class() {
        for odd in ["", "a b", "a\\b", "a&b", "\u{e4}", &"x".repeat(32)] {
            assert_eq!(Class::new(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(Class::new(&[b'x'; 31]).unwrap().as_str(), "X".repeat(31));
    }
}
