//! Command descriptor blocks: bytes to a typed [`Command`] (SPC-4 "CDB formats", SBC-3 "Commands").

/// A well-formed command this disk knows. Block addresses are not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// TEST UNIT READY.
    TestUnitReady,
    /// REQUEST SENSE.
    RequestSense {
        /// Descriptor format is wanted.
        descriptors: bool,
        /// Allocation length in bytes.
        allocation: usize,
    },
    /// READ (6), (10), (12), (16).
    Read {
        /// First block.
        lba: u64,
        /// Number of blocks; may be 0.
        blocks: u32,
    },
    /// WRITE (6), (10), (12), (16).
    Write {
        /// First block.
        lba: u64,
        /// Number of blocks; may be 0.
        blocks: u32,
    },
    /// VERIFY (10), (16).
    Verify {
        /// First block.
        lba: u64,
        /// Number of blocks; may be 0.
        blocks: u32,
        /// The initiator sends data to compare with.
        compare: bool,
    },
    /// SYNCHRONIZE CACHE (10), (16). The range is a hint only; the whole cache is synchronised.
    SynchronizeCache,
    /// UNMAP.
    Unmap {
        /// Anchored blocks are wanted.
        anchor: bool,
        /// Parameter list length in bytes.
        length: usize,
    },
    /// INQUIRY.
    Inquiry {
        /// Vital product data instead of standard data.
        vital: bool,
        /// Page code.
        page: u8,
        /// Allocation length in bytes.
        allocation: usize,
    },
    /// MODE SENSE (6), (10).
    ModeSense {
        /// The form with 8 bytes of header.
        long: bool,
        /// No block descriptors.
        no_descriptors: bool,
        /// Current (0), changeable (1), default (2) or saved (3) values.
        control: u8,
        /// Page code.
        page: u8,
        /// Subpage code.
        subpage: u8,
        /// Allocation length in bytes.
        allocation: usize,
    },
    /// READ CAPACITY (10).
    ReadCapacity10 {
        /// PMI bit or LBA set; both are obsolete and must be zero.
        partial: bool,
    },
    /// READ CAPACITY (16).
    ReadCapacity16 {
        /// PMI bit or LBA set; both are obsolete and must be zero.
        partial: bool,
        /// Allocation length in bytes.
        allocation: usize,
    },
    /// REPORT LUNS.
    ReportLuns {
        /// SELECT REPORT field.
        select: u8,
        /// Allocation length in bytes.
        allocation: usize,
    },
    /// Commands that a disk of this kind accepts and has nothing to do for: START STOP UNIT, PREVENT ALLOW MEDIUM
    /// REMOVAL, RESERVE and RELEASE (6), (10).
    Nothing,
}

/// Length of a CDB by its opcode's group (SPC-4: "Operation code"); groups 3, 6 and 7 are unknown here.
const fn length(opcode: u8) -> Option<usize> {
    match opcode >> 5 {
        0 => Some(6),
        1 | 2 => Some(10),
        4 => Some(16),
        5 => Some(12),
        _ => None,
    }
}

fn be16(cdb: &[u8; 16], at: usize) -> u16 {
    byte(cdb, at) << 8 | byte(cdb, at + 1)
}

fn be32(cdb: &[u8; 16], at: usize) -> u32 {
    u32::from(be16(cdb, at)) << 16 | u32::from(be16(cdb, at + 2))
}

fn be64(cdb: &[u8; 16], at: usize) -> u64 {
    u64::from(be32(cdb, at)) << 32 | u64::from(be32(cdb, at + 4))
}

fn byte(cdb: &[u8; 16], at: usize) -> u16 {
    cdb.get(at).map_or(0, |b| u16::from(*b))
}

/// Parses a CDB; `None` if the opcode is unknown here or the bytes are too few for it.
pub fn parse(bytes: &[u8]) -> Option<Command> {
    let opcode = *bytes.first()?;
    let length = length(opcode)?;
    if bytes.len() < length {
        return None;
    }
    // Exactly the bytes of this form; what a longer buffer holds behind them means nothing.
    let mut cdb = [0; 16];
    for (to, from) in cdb.iter_mut().zip(bytes.iter().take(length)) {
        *to = *from;
    }
    let c = &cdb;
    let flags = cdb[1];
    let block6 = (
        be32(c, 0) & 0x1f_ffff,
        if cdb[4] == 0 { 256 } else { u32::from(cdb[4]) },
    );
    Some(match opcode {
        0x00 => Command::TestUnitReady,
        0x03 => Command::RequestSense {
            descriptors: flags & 1 != 0,
            allocation: usize::from(cdb[4]),
        },
        0x08 => Command::Read {
            lba: block6.0.into(),
            blocks: block6.1,
        },
        0x28 => Command::Read {
            lba: be32(c, 2).into(),
            blocks: be16(c, 7).into(),
        },
        0xa8 => Command::Read {
            lba: be32(c, 2).into(),
            blocks: be32(c, 6),
        },
        0x88 => Command::Read {
            lba: be64(c, 2),
            blocks: be32(c, 10),
        },
        0x0a => Command::Write {
            lba: block6.0.into(),
            blocks: block6.1,
        },
        0x2a => Command::Write {
            lba: be32(c, 2).into(),
            blocks: be16(c, 7).into(),
        },
        0xaa => Command::Write {
            lba: be32(c, 2).into(),
            blocks: be32(c, 6),
        },
        0x8a => Command::Write {
            lba: be64(c, 2),
            blocks: be32(c, 10),
        },
        0x2f => Command::Verify {
            lba: be32(c, 2).into(),
            blocks: be16(c, 7).into(),
            compare: flags & 0x06 != 0,
        },
        0x8f => Command::Verify {
            lba: be64(c, 2),
            blocks: be32(c, 10),
            compare: flags & 0x06 != 0,
        },
        0x35 | 0x91 => Command::SynchronizeCache,
        0x42 => Command::Unmap {
            anchor: flags & 1 != 0,
            length: be16(c, 7).into(),
        },
        // Bit 1 is the obsolete CMDDT; page 0xff with it set does not exist, so it fails as an unknown page would.
        0x12 if flags & 2 != 0 => Command::Inquiry {
            vital: true,
            page: 0xff,
            allocation: be16(c, 3).into(),
        },
        0x12 => Command::Inquiry {
            vital: flags & 1 != 0,
            page: cdb[2],
            allocation: be16(c, 3).into(),
        },
        0x1a | 0x5a => {
            let long = opcode == 0x5a;
            Command::ModeSense {
                long,
                no_descriptors: flags & 0x08 != 0,
                control: cdb[2] >> 6,
                page: cdb[2] & 0x3f,
                subpage: cdb[3],
                allocation: if long {
                    be16(c, 7).into()
                } else {
                    cdb[4].into()
                },
            }
        }
        0x25 => Command::ReadCapacity10 {
            partial: cdb[8] & 1 != 0 || be32(c, 2) != 0,
        },
        0x9e if flags & 0x1f == 0x10 => Command::ReadCapacity16 {
            partial: cdb[14] & 1 != 0 || be64(c, 2) != 0,
            allocation: be32(c, 10) as usize,
        },
        0xa0 => Command::ReportLuns {
            select: cdb[2],
            allocation: be32(c, 6) as usize,
        },
        0x16 | 0x17 | 0x1b | 0x1e | 0x56 | 0x57 => Command::Nothing,
        _ => return None,
    })
}
