//! SCSI commands as a disk class driver sends them.
//!
//! Formats: SPC-4 ("INQUIRY", "MODE SENSE", "REQUEST SENSE", "TEST UNIT READY") and SBC-3 (the rest), by command name.

use alloc::vec::Vec;

/// A command descriptor block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdb {
    /// The bytes; those past `length` are zero.
    pub bytes: [u8; 16],
    /// How many count.
    pub length: u8,
}

/// Whether a command with this operation code reads or writes blocks (SBC-3): READ and WRITE of 6, 10, 12 and 16 bytes.
pub fn moves_blocks(operation: u8) -> bool {
    matches!(
        operation,
        0x08 | 0x0A | 0x28 | 0x2A | 0xA8 | 0xAA | 0x88 | 0x8A
    )
}

/// The page of MODE SENSE that tells of the write cache (SBC-3: "Caching mode page").
pub const MODE_CACHING: u8 = 0x08;

/// SBC-3: "FUA", in byte 1 of READ and WRITE from ten bytes on.
const FORCE_UNIT_ACCESS: u8 = 1 << 3;

impl Cdb {
    fn new<const N: usize>(command: [u8; N]) -> Self {
        let mut bytes = [0; 16];
        bytes[..N].copy_from_slice(&command);
        Self {
            bytes,
            length: N as u8,
        }
    }

    /// READ(10), or READ(16) where ten bytes cannot say it.
    pub fn read(block: u64, blocks: u32) -> Self {
        Self::transfer(0x28, 0x88, 0, block, blocks)
    }

    /// WRITE(10) or WRITE(16). `through`: the blocks are on the medium when it ends.
    pub fn write(block: u64, blocks: u32, through: bool) -> Self {
        Self::transfer(
            0x2A,
            0x8A,
            if through { FORCE_UNIT_ACCESS } else { 0 },
            block,
            blocks,
        )
    }

    fn transfer(ten: u8, sixteen: u8, flags: u8, block: u64, blocks: u32) -> Self {
        match (u32::try_from(block), u16::try_from(blocks)) {
            (Ok(block), Ok(blocks)) => {
                let ([a, b, c, d], [m, n]) = (block.to_be_bytes(), blocks.to_be_bytes());
                Self::new([ten, flags, a, b, c, d, 0, m, n, 0])
            }
            _ => {
                let mut cdb = Self::new([0; 16]);
                cdb.bytes[..2].copy_from_slice(&[sixteen, flags]);
                cdb.bytes[2..10].copy_from_slice(&block.to_be_bytes());
                cdb.bytes[10..14].copy_from_slice(&blocks.to_be_bytes());
                cdb
            }
        }
    }

    /// SYNCHRONIZE CACHE(10) of the whole disk.
    pub fn synchronize_cache() -> Self {
        Self::new([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// UNMAP; [`unmap_list`] makes its parameters, `length` bytes.
    pub fn unmap(length: u16) -> Self {
        let [m, n] = length.to_be_bytes();
        Self::new([0x42, 0, 0, 0, 0, 0, 0, m, n, 0])
    }

    /// INQUIRY for the standard data (`None`) or a page of vital product data.
    pub fn inquiry(page: Option<u8>, length: u16) -> Self {
        let [m, n] = length.to_be_bytes();
        Self::new([0x12, u8::from(page.is_some()), page.unwrap_or(0), m, n, 0])
    }

    /// READ CAPACITY(10): eight bytes.
    pub fn read_capacity_10() -> Self {
        Self::new([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// READ CAPACITY(16): 32 bytes. A service action (0x10) of SERVICE ACTION IN(16).
    pub fn read_capacity_16() -> Self {
        Self::new([0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0])
    }

    /// MODE SENSE(6) for the current values of a page, without block descriptors.
    pub fn mode_sense_6(page: u8, length: u8) -> Self {
        Self::new([0x1A, 1 << 3, page & 0x3F, 0, length, 0])
    }

    /// MODE SENSE(10) for the same.
    pub fn mode_sense_10(page: u8, length: u16) -> Self {
        let [m, n] = length.to_be_bytes();
        Self::new([0x5A, 1 << 3, page & 0x3F, 0, 0, 0, 0, m, n, 0])
    }

    /// TEST UNIT READY.
    pub fn test_unit_ready() -> Self {
        Self::new([0; 6])
    }

    /// REQUEST SENSE in fixed format.
    pub fn request_sense(length: u8) -> Self {
        Self::new([0x03, 0, 0, 0, length, 0])
    }

    /// REPORT LUNS, all of them; twelve bytes long.
    pub fn report_luns(length: u32) -> Self {
        let [a, b, c, d] = length.to_be_bytes();
        Self::new([0xA0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0])
    }
}

/// The parameters of UNMAP: ranges of first block and number of blocks. SBC-3: "UNMAP parameter list".
pub fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = ranges.len() * 16;
    let mut list = Vec::with_capacity(8 + descriptors);
    list.extend_from_slice(&(descriptors as u16 + 6).to_be_bytes());
    list.extend_from_slice(&(descriptors as u16).to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (block, blocks) in ranges {
        list.extend_from_slice(&block.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(cdb: &Cdb) -> &[u8] {
        &cdb.bytes[..usize::from(cdb.length)]
    }

    #[test]
    fn a_transfer_takes_ten_bytes_until_they_do_not_reach() {
        assert_eq!(
            bytes(&Cdb::read(0x0102_0304, 0x0506)),
            [0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0]
        );
        assert_eq!(
            bytes(&Cdb::write(1, 1, true)),
            [0x2A, 8, 0, 0, 0, 1, 0, 0, 1, 0]
        );
        assert_eq!(
            bytes(&Cdb::read(0x0001_0000_0002, 3)),
            [0x88, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0]
        );
        assert_eq!(
            bytes(&Cdb::write(0, 0x1_0000, false)),
            [0x8A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
        );
    }

    #[test]
    fn lengths_are_where_the_device_looks_for_them() {
        assert_eq!(
            bytes(&Cdb::inquiry(Some(0x83), 0x1234)),
            [0x12, 1, 0x83, 0x12, 0x34, 0]
        );
        assert_eq!(bytes(&Cdb::inquiry(None, 36)), [0x12, 0, 0, 0, 36, 0]);
        assert_eq!(bytes(&Cdb::mode_sense_6(8, 24)), [0x1A, 8, 8, 0, 24, 0]);
        assert_eq!(
            bytes(&Cdb::mode_sense_10(8, 28)),
            [0x5A, 8, 8, 0, 0, 0, 0, 0, 28, 0]
        );
        assert_eq!(bytes(&Cdb::unmap(24)), [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]);
        assert_eq!(Cdb::read_capacity_16().bytes[13], 32);
        assert_eq!(Cdb::report_luns(16).length, 12);
    }

    #[test]
    fn an_unmap_list_counts_its_bytes() {
        let list = unmap_list(&[(1, 2), (0x0102_0304_0506_0708, 9)]);
        assert_eq!(list.len(), 40);
        assert_eq!(list[..8], [0, 38, 0, 32, 0, 0, 0, 0]);
        assert_eq!(list[24..36], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]);
    }
}
