//! The names of the platform device and of its children, as Windows asks for them.

use crate::{Class, NoMemory, Text};
use alloc::vec::Vec;
use core::fmt::{self, Write};
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

impl Identity {
    /// `BusQueryDeviceID`. It does not name the PCI device, so that a child stays the same device when the platform device
    /// is replaced by its other variant.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn device_id(&self) -> Result<Vec<u8>, NoMemory> {
        text(format_args!(
            "XENBUS\\VEN_{}&DEV_{}\0",
            self.platform.prefix, self.class
        ))
    }

    /// `BusQueryInstanceID`: there is one child of each class.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn instance_id(&self) -> Result<Vec<u8>, NoMemory> {
        text(format_args!("_\0"))
    }

    /// `BusQueryHardwareIDs` and `BusQueryCompatibleIDs`: one for each live revision, the newest first, then a generic
    /// one; each NUL-terminated, and a NUL at the end.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn hardware_ids(&self) -> Result<Vec<u8>, NoMemory> {
        let mut ids = Vec::new();
        for revision in REVISIONS.iter().rev() {
            write!(
                Text(&mut ids),
                "XENBUS\\VEN_{}&DEV_{}&REV_{:08X}\0",
                self.platform,
                self.class,
                revision.number
            )
            .map_err(|fmt::Error| NoMemory)?;
        }
        Text(&mut ids)
            .write_str("XENCLASS\0\0")
            .map_err(|fmt::Error| NoMemory)?;
        Ok(ids)
    }

    /// `DeviceTextDescription`: the parent's name and the class.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn description(&self) -> Result<Vec<u8>, NoMemory> {
        text(format_args!("{} XENBUS {}\0", self.platform, self.class))
    }

    /// `DeviceTextLocationInformation`.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn location(&self) -> Result<Vec<u8>, NoMemory> {
        text(format_args!("{}\0", self.class))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} XENBUS {}", self.platform, self.class)
    }
}

pub(crate) fn text(arguments: fmt::Arguments<'_>) -> Result<Vec<u8>, NoMemory> {
    let mut bytes = Vec::new();
    Text(&mut bytes)
        .write_fmt(arguments)
        .map_err(|fmt::Error| NoMemory)?;
    Ok(bytes)
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
