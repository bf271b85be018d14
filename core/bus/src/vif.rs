//! The names of a network device on xenvif's bus, as Windows asks for them.

use crate::Platform;
use crate::container::Container;
use crate::names::{Name, Names, text, with_revisions};
use core::fmt;
use pv_interfaces::revision::VIF_REVISIONS;

/// The number of a virtual interface: its directory's name below `device/vif`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VifNumber(u32);

impl VifNumber {
    /// The number that a directory is named after; `None` for what is no number, or not written as one is.
    pub fn new(name: &[u8]) -> Option<Self> {
        let name = core::str::from_utf8(name).ok()?;
        let plain = name == "0" || !name.starts_with(['0', '+']);
        name.parse().ok().filter(|_| plain).map(Self)
    }
}

impl fmt::Display for VifNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VifIdentity {
    /// The platform device that it is behind.
    pub platform: Platform,
    /// Which one it is.
    pub number: VifNumber,
    /// Its permanent address.
    pub address: [u8; 6],
}

impl Names for VifIdentity {
    /// The same whatever the platform device's number and the interfaces' versions.
    fn device_id(&self) -> Name {
        text(format_args!(
            "XENVIF\\VEN_{}&DEV_NET\0",
            self.platform.prefix
        ))
    }

    fn instance_id(&self) -> Name {
        text(format_args!("{}\0", self.number))
    }

    fn hardware_ids(&self) -> Name {
        with_revisions(
            format_args!("XENVIF\\VEN_{}&DEV_NET", self.platform),
            VIF_REVISIONS.iter().map(|revision| revision.number),
            "XENDEVICE",
        )
    }

    fn container_id(&self) -> Option<Name> {
        Some(text(format_args!("{}\0", Container::of(self.address))))
    }

    fn description(&self) -> Name {
        text(format_args!("{self}\0"))
    }

    /// By this the driver of the device learns its number.
    fn location(&self) -> Name {
        text(format_args!("{}\0", self.number))
    }
}

impl fmt::Display for VifIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} XENVIF {}", self.platform, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(number: &[u8]) -> VifIdentity {
        VifIdentity {
            platform: Platform {
                prefix: "XP",
                device: 1,
            },
            number: VifNumber::new(number).unwrap(),
            address: [0, 0x16, 0x3E, 0, 0, 1],
        }
    }

    #[test]
    fn a_device_has_the_names_that_drivers_bind_to() {
        let vif = identity(b"12");
        assert_eq!(vif.device_id().unwrap(), b"XENVIF\\VEN_XP&DEV_NET\0");
        assert_eq!(vif.instance_id().unwrap(), b"12\0");
        assert_eq!(vif.description().unwrap(), b"XP0001 XENVIF 12\0");
        assert_eq!(vif.location().unwrap(), b"12\0");
        assert_eq!(vif.container_id().unwrap().unwrap().len(), 38 + 1);
        let ids = String::from_utf8(vif.hardware_ids().unwrap()).unwrap();
        let list: Vec<_> = ids.split('\0').collect();
        assert_eq!(list[0], "XENVIF\\VEN_XP0001&DEV_NET&REV_09000005");
        assert_eq!(list[4], "XENVIF\\VEN_XP0001&DEV_NET&REV_09000001");
        assert_eq!(list[5..], ["XENDEVICE", "", ""]);
        // regstr.h: REGSTR_VAL_MAX_HCID_LEN, in characters.
        assert!(ids.len() < 1024);
    }

    #[test]
    fn only_plain_numbers_are_devices() {
        for odd in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            "1 ",
            "1x",
            "0x1",
            "4294967296",
            "vif",
        ] {
            assert_eq!(VifNumber::new(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(VifNumber::new(b"\xff"), None);
        for number in ["0", "1", "10", "100", "4294967295"] {
            let parsed = VifNumber::new(number.as_bytes()).unwrap();
            assert_eq!(parsed.to_string(), number);
        }
    }
}
