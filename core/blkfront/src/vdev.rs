//! Virtual device numbers (xen/docs/man/xen-vbd-interface.7): the toolstack's name of a disk, in which major and minor
//! numbers of Linux devices live on. Tools find a disk by its target number, so the mapping is a contract.

/// The number of a block device, as in `device/vbd/<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualDevice(pub u32);

impl VirtualDevice {
    /// Parses a directory's name; `None` if it is not a plain decimal number of 32 bits.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let mut number = 0u32;
        if name.is_empty() {
            return None;
        }
        for digit in name {
            let value = digit.checked_sub(b'0').filter(|v| *v <= 9)?;
            number = number.checked_mul(10)?.checked_add(u32::from(value))?;
        }
        Some(VirtualDevice(number))
    }

    /// The SCSI target number; partitions of a disk are the disk. `None` for a device that is no disk of a known kind.
    pub fn target(self) -> Option<u32> {
        const EXTENDED: u32 = 1 << 28;
        let number = self.0;
        if number & EXTENDED != 0 {
            return Some((number & 0xf_ffff) >> 8);
        }
        // An IDE major has two disks of 64 minors, an SCSI or xvd major 16 disks of 16.
        let ide = (number & 0xc0) >> 6;
        match number >> 8 {
            202 | 8 => Some((number & 0xf0) >> 4),
            3 if ide < 2 => Some(ide),
            22 if ide < 2 => Some(ide + 2),
            33 if ide < 2 => Some(ide + 4),
            34 if ide < 2 => Some(ide + 6),
            56 if ide < 2 => Some(ide + 8),
            57 if ide < 2 => Some(ide + 10),
            88 if ide < 2 => Some(ide + 12),
            89 if ide < 2 => Some(ide + 14),
            _ => None,
        }
    }

    /// The `handle` of requests.
    pub fn handle(self) -> u16 {
        self.0 as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_toolstacks_names_map_to_targets() {
        for (number, target) in [
            (51712, Some(0)),              // xvda
            (51713, Some(0)),              // xvda1
            (51728, Some(1)),              // xvdb
            (51952, Some(15)),             // xvdp
            (1 << 28 | 16 << 8, Some(16)), // xvdq
            (1 << 28 | 26 << 8, Some(26)), // xvdaa
            (768, Some(0)),                // hda
            (832, Some(1)),                // hdb
            (5632, Some(2)),               // hdc
            (5696, Some(3)),               // hdd
            (2048, Some(0)),               // sda
            (2064, Some(1)),               // sdb
            (3 << 8 | 0x80, None),         // no third disk on an IDE channel
            (2 << 8, None),                // floppy
            (0, None),
        ] {
            assert_eq!(VirtualDevice(number).target(), target, "{number}");
        }
    }

    #[test]
    fn only_plain_numbers_are_names() {
        assert_eq!(VirtualDevice::parse(b"51712"), Some(VirtualDevice(51712)));
        for bad in [&b""[..], b"51712 ", b"-1", b"0x300", b"4294967296", b"hda"] {
            assert_eq!(VirtualDevice::parse(bad), None);
        }
    }
}
