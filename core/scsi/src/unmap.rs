//! UNMAP's parameter list (SBC-3: "UNMAP parameter list"): checked against the buffer, the limits and the disk.

use crate::{Disk, Extent, Sense};

/// Block ranges one UNMAP may have; VPD page B0 tells the initiator.
pub const MAX_RANGES: usize = 8;

/// Block ranges on the disk, none of them empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    ranges: [Extent; MAX_RANGES],
    count: usize,
}

impl Ranges {
    /// The ranges in the initiator's order.
    pub fn as_slice(&self) -> &[Extent] {
        self.ranges.get(..self.count).unwrap_or(&[])
    }
}

const HEADER: usize = 8;
const DESCRIPTOR: usize = 16;

pub(crate) fn ranges(
    disk: &Disk<'_>,
    anchor: bool,
    length: usize,
    buffer: &[u8],
) -> Result<Ranges, Sense> {
    if disk.discard.is_none() {
        return Err(Sense::INVALID_OPCODE);
    }
    if anchor {
        return Err(Sense::INVALID_FIELD);
    }
    let mut found = Ranges {
        ranges: [Extent { lba: 0, blocks: 0 }; MAX_RANGES],
        count: 0,
    };
    if length == 0 {
        return Ok(found);
    }
    let list = buffer.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    let Some([_, _, high, low, ..]) = list.get(..HEADER) else {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    };
    let bytes = usize::from(u16::from_be_bytes([*high, *low]));
    let descriptors = list
        .get(HEADER..HEADER + bytes)
        .ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    if bytes / DESCRIPTOR > MAX_RANGES {
        return Err(Sense::INVALID_PARAMETER);
    }
    for descriptor in descriptors.chunks_exact(DESCRIPTOR) {
        let Some((lba, rest)) = descriptor.split_first_chunk::<8>() else {
            break;
        };
        let Some((blocks, _)) = rest.split_first_chunk::<4>() else {
            break;
        };
        let (lba, blocks) = (u64::from_be_bytes(*lba), u32::from_be_bytes(*blocks));
        match lba.checked_add(u64::from(blocks)) {
            Some(end) if end <= disk.blocks => {}
            _ => return Err(Sense::OUT_OF_RANGE),
        }
        if blocks == 0 {
            continue;
        }
        if let Some(slot) = found.ranges.get_mut(found.count) {
            *slot = Extent { lba, blocks };
            found.count += 1;
        }
    }
    Ok(found)
}
