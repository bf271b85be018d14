//! READ CAPACITY data (SBC-3: "READ CAPACITY (10)/(16) parameter data").

use crate::Disk;

/// The 8-byte form; a disk too large for it says so with a last block of 0xFFFFFFFF.
pub(crate) fn short(disk: &Disk<'_>) -> [u8; 8] {
    let last = u32::try_from(disk.blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut data = [0; 8];
    data[..4].copy_from_slice(&last.to_be_bytes());
    data[4..].copy_from_slice(&disk.block_size.to_be_bytes());
    data
}

/// The 32-byte form, which also tells the physical block size and whether blocks can be unmapped.
pub(crate) fn long(disk: &Disk<'_>) -> [u8; 32] {
    const LBPME: u8 = 0x80;
    let mut data = [0; 32];
    data[..8].copy_from_slice(&disk.blocks.saturating_sub(1).to_be_bytes());
    data[8..12].copy_from_slice(&disk.block_size.to_be_bytes());
    data[13] = disk
        .physical_block_size
        .checked_div(disk.block_size)
        .and_then(u32::checked_ilog2)
        .unwrap_or(0)
        .min(15) as u8;
    if disk.discard.is_some() {
        data[14] = LBPME;
    }
    data
}
