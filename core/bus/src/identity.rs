//! The names of the platform device and of its children, as Windows asks for them.

use crate::Class;
use crate::names::{Name, Names, text, with_revisions};
use core::fmt;
use pv_interfaces::revision::REVISIONS;

/// Longest device ID in characters, NUL not included. cfgmgr32.h: `MAX_DEVICE_ID_LEN`, less the bus name's backslash.
pub const MAX_DEVICE_ID: usize = 198;

/// The platform device, by the vendor's prefix and its PCI device ID: XP0001.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Two characters that tell vendors of PV drivers apart.
    pub prefix: &'static str,
    /// PCI device ID.
    pub device: u16,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:04X}", self.prefix, self.device)
    }
}

/// A child of the platform device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The parent.
    pub platform: Platform,
    /// What the child is.
    pub class: Class,
}

impl Names for Identity {
    /// It does not name the PCI device, so that a child stays the same device when the platform device is replaced by its
    /// other variant.
    fn device_id(&self) -> Name {
        text(format_args!(
            "XENBUS\\VEN_{}&DEV_{}\0",
            self.platform.prefix, self.class
        ))
    }

    /// There is one child of each class.
    fn instance_id(&self) -> Name {
        text(format_args!("_\0"))
    }

    fn hardware_ids(&self) -> Name {
        with_revisions(
            format_args!("XENBUS\\VEN_{}&DEV_{}", self.platform, self.class),
            REVISIONS.iter().map(|revision| revision.number),
            "XENCLASS",
        )
    }

    /// The parent's name and the class.
    fn description(&self) -> Name {
        text(format_args!("{self}\0"))
    }

    fn location(&self) -> Name {
        text(format_args!("{}\0", self.class))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} XENBUS {}", self.platform, self.class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(class: &str) -> Identity {
        Identity {
            platform: Platform {
                prefix: "XP",
                device: 1,
            },
            class: Class::new(class.as_bytes()).unwrap(),
        }
    }

    #[test]
    fn a_child_has_the_names_that_drivers_bind_to() {
        let vif = identity("vif");
        assert_eq!(vif.device_id().unwrap(), b"XENBUS\\VEN_XP&DEV_VIF\0");
        assert_eq!(vif.instance_id().unwrap(), b"_\0");
        assert_eq!(vif.description().unwrap(), b"XP0001 XENBUS VIF\0");
        assert_eq!(vif.location().unwrap(), b"VIF\0");
        let ids = String::from_utf8(vif.hardware_ids().unwrap()).unwrap();
        let list: Vec<_> = ids.split('\0').collect();
        assert_eq!(list[0], "XENBUS\\VEN_XP0001&DEV_VIF&REV_0900000C");
        assert_eq!(list[4], "XENBUS\\VEN_XP0001&DEV_VIF&REV_09000008");
        assert_eq!(list[5..], ["XENCLASS", "", ""]);
    }

    #[test]
    fn the_longest_class_fits_the_limits_of_windows() {
        let long = identity(&"X".repeat(31));
        assert!(long.device_id().unwrap().len() <= MAX_DEVICE_ID);
        let ids = long.hardware_ids().unwrap();
        assert!(ids.split(|&b| b == 0).all(|id| id.len() <= MAX_DEVICE_ID));
        // regstr.h: REGSTR_VAL_MAX_HCID_LEN, in characters.
        assert!(ids.len() < 1024);
    }
}
