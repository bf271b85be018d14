//! Names of registry keys and values: UTF-16, compared without regard to case.
//!
//! Windows folds with the system's upcase table; here each UTF-16 unit is folded on its own by
//! Unicode's simple upper-casing, which agrees with that table for every name drivers use.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

/// The name of a key or value. Equality and order ignore case; the spelling is kept for display.
#[derive(Clone, Default)]
pub struct Name(Vec<u16>);

impl Name {
    /// A name from UTF-16 units, which need not be well formed.
    pub fn new(units: &[u16]) -> Self {
        Self(units.to_vec())
    }

    /// The units as they were given.
    pub fn units(&self) -> &[u16] {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.encode_utf16().collect())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf16_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf16_lossy(&self.0))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = self.0.iter().map(|&unit| fold(unit));
        left.cmp(other.0.iter().map(|&unit| fold(unit)))
    }
}

/// The upper-case form of one UTF-16 unit; a unit whose upper case is longer stays as it is.
pub fn fold(unit: u16) -> u16 {
    if unit < 0x80 {
        return (unit as u8).to_ascii_uppercase().into();
    }
    let Some(c) = char::from_u32(unit.into()) else {
        return unit;
    };
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => u16::try_from(u32::from(one)).unwrap_or(unit),
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_only_by_more_than_case() {
        assert_eq!(Name::from("XenBus"), Name::from("XENBUS"));
        assert_eq!(Name::from("größe"), Name::from("GRÖßE"));
        assert_ne!(Name::from("XENBUS"), Name::from("XENBUS1"));
    }

    #[test]
    fn a_lone_surrogate_is_a_name_like_any_other() {
        assert_eq!(Name::new(&[0xd800]), Name::new(&[0xd800]));
        assert_ne!(Name::new(&[0xd800]), Name::new(&[0xd801]));
    }
}
