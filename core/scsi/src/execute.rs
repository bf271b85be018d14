//! What a command comes to: an answer, a refusal, or block I/O.

use crate::unmap::Ranges;
use crate::{Command, Disk, Sense, capacity, inquiry, mode, reply, unmap};

/// Blocks on the disk, checked: `lba + blocks` does not exceed its size and the transfer fits the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First block.
    pub lba: u64,
    /// Number of blocks; may be 0, and then there is nothing to do.
    pub blocks: u32,
}

/// How a command continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// GOOD; this many bytes of the buffer are the answer.
    Good(usize),
    /// CHECK CONDITION.
    Check(Sense),
    /// Read blocks.
    Read(Extent),
    /// Write blocks.
    Write(Extent),
    /// Make everything written so far durable.
    Flush,
    /// Unmap blocks.
    Discard(Ranges),
}

/// Carries a command out as far as that is possible without the backend.
///
/// `buffer` is the command's data buffer for everything but READ and WRITE, whose data is not touched here; `transfer`
/// is the length of the data buffer in bytes in either case.
pub fn execute(
    command: Option<Command>,
    disk: &Disk<'_>,
    buffer: &mut [u8],
    transfer: u32,
) -> Outcome {
    let Some(command) = command else {
        return Outcome::Check(Sense::INVALID_OPCODE);
    };
    match command {
        Command::Inquiry {
            vital,
            page,
            allocation,
        } => inquiry::inquiry(disk, vital, page, allocation, buffer),
        Command::ReportLuns { select, allocation } => report_luns(select, allocation, buffer),
        Command::RequestSense {
            descriptors: true, ..
        } => Outcome::Check(Sense::INVALID_FIELD),
        Command::RequestSense { allocation, .. } => {
            Outcome::Good(reply(&Sense::NONE.fixed(), allocation, buffer))
        }
        _ if !disk.ready => Outcome::Check(Sense::NOT_READY),
        Command::TestUnitReady | Command::Nothing => Outcome::Good(0),
        Command::ModeSense {
            long,
            no_descriptors,
            control,
            page,
            subpage,
            allocation,
        } => {
            let wanted = mode::Wanted {
                long,
                no_descriptors,
                control,
                page,
                subpage,
            };
            mode::sense(disk, wanted, allocation, buffer)
        }
        Command::ReadCapacity10 { partial: true }
        | Command::ReadCapacity16 { partial: true, .. } => Outcome::Check(Sense::INVALID_FIELD),
        Command::ReadCapacity10 { .. } => {
            Outcome::Good(reply(&capacity::short(disk), usize::MAX, buffer))
        }
        Command::ReadCapacity16 { allocation, .. } => {
            Outcome::Good(reply(&capacity::long(disk), allocation, buffer))
        }
        Command::Read { lba, blocks } => match extent(disk, lba, blocks, Some(transfer)) {
            Ok(extent) => Outcome::Read(extent),
            Err(sense) => Outcome::Check(sense),
        },
        Command::Write { .. } | Command::Unmap { .. } if disk.read_only => {
            Outcome::Check(Sense::WRITE_PROTECTED)
        }
        Command::Write { lba, blocks } => match extent(disk, lba, blocks, Some(transfer)) {
            Ok(extent) => Outcome::Write(extent),
            Err(sense) => Outcome::Check(sense),
        },
        Command::Verify { compare: true, .. } => Outcome::Check(Sense::INVALID_FIELD),
        // The backend has no such operation; what can be promised is that the blocks exist.
        Command::Verify { lba, blocks, .. } => match extent(disk, lba, blocks, None) {
            Ok(_) => Outcome::Good(0),
            Err(sense) => Outcome::Check(sense),
        },
        // A disk that cannot be written has nothing in its cache.
        Command::SynchronizeCache if disk.read_only => Outcome::Good(0),
        Command::SynchronizeCache => Outcome::Flush,
        Command::Unmap { anchor, length } => match unmap::ranges(disk, anchor, length, buffer) {
            Ok(ranges) => Outcome::Discard(ranges),
            Err(sense) => Outcome::Check(sense),
        },
    }
}

/// Checks a block range against the disk and, for a transfer, against the buffer's length in bytes.
fn extent(disk: &Disk<'_>, lba: u64, blocks: u32, transfer: Option<u32>) -> Result<Extent, Sense> {
    // A range of no blocks may begin right behind the last one (SBC-3: "Block ranges").
    match lba.checked_add(u64::from(blocks)) {
        Some(end) if end <= disk.blocks => {}
        _ => return Err(Sense::OUT_OF_RANGE),
    }
    let bytes = u64::from(blocks) * u64::from(disk.block_size);
    match transfer {
        Some(transfer) if bytes > u64::from(transfer) => Err(Sense::INVALID_FIELD),
        _ => Ok(Extent { lba, blocks }),
    }
}

/// REPORT LUNS: this target has LUN 0 and no well-known units (SPC-4: "REPORT LUNS parameter data format").
fn report_luns(select: u8, allocation: usize, buffer: &mut [u8]) -> Outcome {
    let mut list = [0u8; 16];
    let length = match select {
        0x00 | 0x02 => 16,
        0x01 => 8,
        _ => return Outcome::Check(Sense::INVALID_FIELD),
    };
    list[3] = length as u8 - 8;
    Outcome::Good(reply(list.get(..length).unwrap_or(&[]), allocation, buffer))
}
