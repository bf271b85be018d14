//! What a disk is, found out as Windows' disk class driver does when a disk arrives.
//!
//! ```text
//!   TEST UNIT READY ─▶ INQUIRY ─▶ VPD 00 ─▶ VPD 80, 83, B0, B1, B2 ─▶ READ CAPACITY 16 or 10 ─▶ MODE SENSE page 8
//! ```
//!
//! What the device says is taken with care: a page that is too short, or of another page's number, counts as absent.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    cdb::{Cdb, MODE_CACHING},
    sense::{Failure, ILLEGAL_REQUEST, NOT_READY, UNIT_ATTENTION},
};

/// How commands get to the disk. Called on an NT thread at PASSIVE_LEVEL; each call waits for the command's end.
pub trait Commands {
    /// A command that reads at most `length` bytes; returns those the device delivered.
    fn data_in(&self, cdb: Cdb, length: usize) -> Result<Vec<u8>, Failure>;
    /// A command without data.
    fn no_data(&self, cdb: Cdb) -> Result<(), Failure>;
}

/// What a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Vendor identification, without the spaces that fill it.
    pub vendor: String,
    /// Product identification.
    pub product: String,
    /// Product revision level.
    pub revision: String,
    /// Unit serial number; empty if it has none.
    pub serial: String,
    /// Designators of the device identification page, readable.
    pub designators: Vec<String>,
    /// The medium can be taken out.
    pub removable: bool,
    /// Logical blocks.
    pub sectors: u64,
    /// Bytes in a logical block.
    pub sector_size: u32,
    /// Bytes in a physical block.
    pub physical_sector_size: u32,
    /// There is a volatile write cache, and it is on.
    pub write_cache: bool,
    /// Writes are refused.
    pub read_only: bool,
    /// Most blocks in a transfer that the device allows; 0 where it does not say.
    pub max_transfer_blocks: u32,
    /// The medium turns.
    pub rotational: bool,
    /// UNMAP, where it is supported.
    pub unmap: Option<Unmap>,
}

/// Limits of UNMAP. SBC-3: "Block Limits VPD page".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmap {
    /// Most blocks in a command.
    pub max_blocks: u32,
    /// Most ranges in a command.
    pub max_ranges: u32,
    /// The ranges' best size and alignment in blocks; 0 where it does not say.
    pub granularity: u32,
    /// Unmapped blocks read as zeros.
    pub reads_zero: bool,
}

/// Why there is no disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotADisk {
    /// A command that every disk answers failed.
    Failed(&'static str, Failure),
    /// It answered something that no disk answers.
    Nonsense(&'static str),
    /// A device of another type (SPC-4: "Peripheral device type").
    Type(u8),
}

impl core::fmt::Display for NotADisk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Failed(command, failure) => write!(f, "{command} failed: {failure}"),
            Self::Nonsense(what) => write!(f, "{what}"),
            Self::Type(kind) => write!(f, "a device of type {kind:#04x}, not a disk"),
        }
    }
}

impl core::error::Error for NotADisk {}

/// How often a disk that is not ready, or has something to tell first, is asked again.
const PATIENCE: usize = 20;

const STANDARD: u16 = 36;
const PAGE: u16 = 255;

/// Vital product data pages. SPC-4 and SBC-3, by page name.
const SUPPORTED_PAGES: u8 = 0x00;
const SERIAL_NUMBER: u8 = 0x80;
const IDENTIFICATION: u8 = 0x83;
const BLOCK_LIMITS: u8 = 0xB0;
const CHARACTERISTICS: u8 = 0xB1;
const PROVISIONING: u8 = 0xB2;

/// Asks a disk for everything.
pub fn identify(device: &dyn Commands) -> Result<Info, NotADisk> {
    ready(device)?;
    let standard = device
        .data_in(Cdb::inquiry(None, STANDARD), STANDARD.into())
        .map_err(|f| NotADisk::Failed("INQUIRY", f))?;
    if standard.len() < usize::from(STANDARD) {
        return Err(NotADisk::Nonsense("INQUIRY data is too short"));
    }
    if standard[0] != 0 {
        return Err(NotADisk::Type(standard[0]));
    }

    let pages = page(device, SUPPORTED_PAGES).unwrap_or_default();
    let vital = |number: u8| {
        if pages.contains(&number) {
            page(device, number)
        } else {
            None
        }
    };
    let serial = vital(SERIAL_NUMBER)
        .map(|bytes| text(&bytes))
        .unwrap_or_default();
    let designators = vital(IDENTIFICATION)
        .map(|bytes| designators(&bytes))
        .unwrap_or_default();
    let limits = vital(BLOCK_LIMITS).unwrap_or_default();
    let rotational = vital(CHARACTERISTICS)
        .and_then(|bytes| be_u16(&bytes, 0))
        .is_none_or(|rate| rate != 1);
    // SBC-3, "Logical Block Provisioning VPD page": byte 5, LBPU is bit 7, LBPRZ bit 2. A page starts at byte 4 here.
    let provisioning = vital(PROVISIONING)
        .and_then(|bytes| bytes.get(1).copied())
        .unwrap_or(0);

    let capacity = capacity(device)?;
    let mode = mode(device);
    Ok(Info {
        vendor: text(&standard[8..16]),
        product: text(&standard[16..32]),
        revision: text(&standard[32..36]),
        serial,
        designators,
        removable: standard[1] & 0x80 != 0,
        sectors: capacity.sectors,
        sector_size: capacity.sector_size,
        physical_sector_size: capacity.sector_size << capacity.physical_exponent,
        write_cache: mode.write_cache,
        read_only: mode.read_only,
        max_transfer_blocks: be_u32(&limits, 4).unwrap_or(0),
        rotational,
        unmap: unmap(&limits, provisioning),
    })
}

fn ready(device: &dyn Commands) -> Result<(), NotADisk> {
    let mut last = Ok(());
    for _ in 0..PATIENCE {
        last = device.no_data(Cdb::test_unit_ready());
        match last {
            Err(failure) if failure.has_key(UNIT_ATTENTION) || failure.has_key(NOT_READY) => {}
            _ => break,
        }
    }
    last.map_err(|failure| NotADisk::Failed("TEST UNIT READY", failure))
}

/// A page of vital product data without its header; `None` if the device has no such page.
fn page(device: &dyn Commands, number: u8) -> Option<Vec<u8>> {
    let bytes = device
        .data_in(Cdb::inquiry(Some(number), PAGE), PAGE.into())
        .ok()?;
    let length = usize::from(be_u16(&bytes, 2)?);
    let body = bytes.get(4..)?;
    (bytes[1] == number).then(|| body[..length.min(body.len())].to_vec())
}

/// What READ CAPACITY says.
pub(crate) struct Capacity {
    /// Blocks on the disk.
    pub(crate) sectors: u64,
    sector_size: u32,
    /// Physical blocks are this power of two of logical ones.
    physical_exponent: u8,
}

/// READ CAPACITY, of 16 bytes or of 10.
pub(crate) fn capacity(device: &dyn Commands) -> Result<Capacity, NotADisk> {
    let capacity = match device.data_in(Cdb::read_capacity_16(), 32) {
        Ok(bytes) => be_u64(&bytes, 0)
            .zip(be_u32(&bytes, 8))
            .map(|(last, sector_size)| Capacity {
                sectors: last.wrapping_add(1),
                sector_size,
                physical_exponent: bytes.get(13).copied().unwrap_or(0) & 0xF,
            }),
        Err(failure) if failure.has_key(ILLEGAL_REQUEST) => {
            let bytes = device
                .data_in(Cdb::read_capacity_10(), 8)
                .map_err(|failure| NotADisk::Failed("READ CAPACITY", failure))?;
            be_u32(&bytes, 0)
                .zip(be_u32(&bytes, 4))
                .map(|(last, sector_size)| Capacity {
                    sectors: u64::from(last) + 1,
                    sector_size,
                    physical_exponent: 0,
                })
        }
        Err(failure) => return Err(NotADisk::Failed("READ CAPACITY", failure)),
    };
    let capacity = capacity.ok_or(NotADisk::Nonsense("READ CAPACITY data is too short"))?;
    let (size, exponent) = (capacity.sector_size, capacity.physical_exponent);
    // What Windows can use: 512 to 4096 bytes; and a physical block that still is a number.
    if !size.is_power_of_two() || !(512..=4096).contains(&size) || exponent > 12 {
        return Err(NotADisk::Nonsense(
            "READ CAPACITY tells an impossible sector size",
        ));
    }
    if capacity.sectors == 0 || capacity.sectors.checked_mul(size.into()).is_none() {
        return Err(NotADisk::Nonsense(
            "READ CAPACITY tells an impossible capacity",
        ));
    }
    Ok(capacity)
}

#[derive(Default)]
struct Mode {
    write_cache: bool,
    read_only: bool,
}

/// The device-specific parameter (SBC-3: bit 7 is WP) and the caching page (bit 2 of its byte 2 is WCE).
/// A device without the page has no cache.
fn mode(device: &dyn Commands) -> Mode {
    let six = device.data_in(Cdb::mode_sense_6(MODE_CACHING, 192), 192);
    let (bytes, specific, header, descriptors) = match six {
        Ok(bytes) => {
            let descriptors = bytes.get(3).copied().map_or(0, usize::from);
            (bytes, 2, 4, descriptors)
        }
        Err(_) => match device.data_in(Cdb::mode_sense_10(MODE_CACHING, 192), 192) {
            Ok(bytes) => {
                let descriptors = be_u16(&bytes, 6).map_or(0, usize::from);
                (bytes, 3, 8, descriptors)
            }
            Err(_) => return Mode::default(),
        },
    };
    let read_only = bytes.get(specific).is_some_and(|byte| byte & 0x80 != 0);
    let page = bytes.get(header + descriptors..).unwrap_or_default();
    let caching = page.first().is_some_and(|code| code & 0x3F == MODE_CACHING);
    Mode {
        read_only,
        write_cache: caching && page.get(2).is_some_and(|byte| byte & 1 << 2 != 0),
    }
}

/// Offsets are those of the page less its header of four bytes.
fn unmap(limits: &[u8], provisioning: u8) -> Option<Unmap> {
    let max_blocks = be_u32(limits, 16)?;
    let max_ranges = be_u32(limits, 20)?;
    if provisioning & 0x80 == 0 || max_blocks == 0 || max_ranges == 0 {
        return None;
    }
    Some(Unmap {
        max_blocks,
        max_ranges,
        granularity: be_u32(limits, 24).unwrap_or(0),
        reads_zero: provisioning & 0x04 != 0,
    })
}

/// SPC-4, "Device Identification VPD page": a list of designators, each with a header of four bytes.
fn designators(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let [set, kind, _, length, rest @ ..] = bytes {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else {
            break;
        };
        // Code set 1 is binary, 2 ASCII, 3 UTF-8.
        let value = match set & 0xF {
            1 => value.iter().map(|byte| format!("{byte:02x}")).collect(),
            _ => text(value),
        };
        let kind = match kind & 0xF {
            0 => "vendor specific",
            1 => "T10",
            2 => "EUI-64",
            3 => "NAA",
            8 => "name",
            _ => "other",
        };
        found.push(format!("{kind} {value}"));
        bytes = rest;
    }
    found
}

/// Printable characters, without spaces around them.
fn text(bytes: &[u8]) -> String {
    let printable = bytes.iter().map(|byte| {
        if byte.is_ascii_graphic() {
            char::from(*byte)
        } else {
            ' '
        }
    });
    printable.collect::<String>().trim().to_string()
}

fn be_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u16::from_be_bytes(*bytes))
}

fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}

fn be_u64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeMap, vec};
    use core::cell::Cell;

    use super::*;
    use crate::sense::Sense;

    /// A device that is a table of answers, by the bytes that tell its commands apart.
    #[derive(Default)]
    struct Table {
        answers: BTreeMap<(u8, u8), Vec<u8>>,
        attentions: Cell<usize>,
    }

    fn check(key: u8) -> Failure {
        Failure {
            srb_status: 4,
            scsi_status: 2,
            sense: Some(Sense {
                key,
                code: 0,
                qualifier: 0,
            }),
        }
    }

    impl Commands for Table {
        fn data_in(&self, cdb: Cdb, length: usize) -> Result<Vec<u8>, Failure> {
            let key = match cdb.bytes[0] {
                0x12 if cdb.bytes[1] & 1 == 1 => (0x12, cdb.bytes[2]),
                0x12 => (0x12, 0xFF),
                operation => (operation, 0),
            };
            let mut answer = self
                .answers
                .get(&key)
                .cloned()
                .ok_or(check(ILLEGAL_REQUEST))?;
            answer.truncate(length);
            Ok(answer)
        }

        fn no_data(&self, cdb: Cdb) -> Result<(), Failure> {
            assert_eq!(cdb, Cdb::test_unit_ready());
            match self.attentions.get() {
                0 => Ok(()),
                left => {
                    self.attentions.set(left - 1);
                    Err(check(UNIT_ATTENTION))
                }
            }
        }
    }

    fn vital(number: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, number, 0, body.len() as u8];
        bytes.extend_from_slice(body);
        bytes
    }

    fn capacity_16(last: u64, size: u32, exponent: u8) -> Vec<u8> {
        let mut bytes = last.to_be_bytes().to_vec();
        bytes.extend(size.to_be_bytes());
        bytes.extend([0, exponent]);
        bytes.resize(32, 0);
        bytes
    }

    fn disk() -> Table {
        let mut table = Table::default();
        let mut standard = vec![0; 8];
        standard.extend_from_slice(b"XENSRC  PVDISK          2.0 ");
        table.answers.insert((0x12, 0xFF), standard);
        table
            .answers
            .insert((0x12, 0), vital(0, &[0, 0x80, 0x83, 0xB0, 0xB1, 0xB2]));
        table.answers.insert((0x12, 0x80), vital(0x80, b"  1234 "));
        table.answers.insert(
            (0x12, 0x83),
            vital(0x83, b"\x02\x01\0\x04ABCD\x01\x03\0\x02\x5F\xFF"),
        );
        let mut limits = vec![0; 60];
        limits[4..8].copy_from_slice(&2048u32.to_be_bytes());
        limits[16..20].copy_from_slice(&65536u32.to_be_bytes());
        limits[20..24].copy_from_slice(&16u32.to_be_bytes());
        limits[24..28].copy_from_slice(&8u32.to_be_bytes());
        table.answers.insert((0x12, 0xB0), vital(0xB0, &limits));
        table.answers.insert((0x12, 0xB1), vital(0xB1, &[0, 1]));
        table.answers.insert((0x12, 0xB2), vital(0xB2, &[0, 0x84]));
        table
            .answers
            .insert((0x9E, 0), capacity_16(131_071, 512, 3));
        table
            .answers
            .insert((0x1A, 0), vec![23, 0, 0, 0, 0x08, 18, 0x04, 0]);
        table
    }

    #[test]
    fn a_disk_that_answers_everything_is_known_completely() {
        let table = disk();
        table.attentions.set(2);
        let info = identify(&table).unwrap();
        assert_eq!(
            (
                info.vendor.as_str(),
                info.product.as_str(),
                info.revision.as_str()
            ),
            ("XENSRC", "PVDISK", "2.0")
        );
        assert_eq!(info.serial, "1234");
        assert_eq!(info.designators, ["T10 ABCD", "NAA 5fff"]);
        assert_eq!(
            (info.sectors, info.sector_size, info.physical_sector_size),
            (131_072, 512, 4096)
        );
        assert!(info.write_cache && !info.read_only && !info.removable && !info.rotational);
        assert_eq!(info.max_transfer_blocks, 2048);
        assert_eq!(
            info.unmap,
            Some(Unmap {
                max_blocks: 65536,
                max_ranges: 16,
                granularity: 8,
                reads_zero: true
            })
        );
    }

    #[test]
    fn a_disk_that_answers_little_is_still_a_disk() {
        let mut table = disk();
        table.answers.retain(|key, _| matches!(key, (0x12, 0xFF)));
        table
            .answers
            .insert((0x25, 0), vec![0, 0, 0, 7, 0, 0, 2, 0]);
        table
            .answers
            .insert((0x5A, 0), vec![0, 26, 0, 0x80, 0, 0, 0, 0, 0x08, 18, 0]);
        let info = identify(&table).unwrap();
        assert_eq!(
            (info.sectors, info.sector_size, info.physical_sector_size),
            (8, 512, 512)
        );
        assert!(info.read_only && !info.write_cache);
        assert_eq!((info.serial.as_str(), info.unmap), ("", None));
    }

    #[test]
    fn nonsense_is_not_a_disk() {
        let with = |key, answer: Vec<u8>| {
            let mut table = disk();
            table.answers.insert(key, answer);
            identify(&table).unwrap_err()
        };
        assert_eq!(with((0x12, 0xFF), vec![5; 36]), NotADisk::Type(5));
        assert!(matches!(
            with((0x12, 0xFF), vec![0; 5]),
            NotADisk::Nonsense(_)
        ));
        for answer in [
            capacity_16(u64::MAX, 512, 0),
            capacity_16(u64::MAX / 512, 512, 0),
            capacity_16(7, 0, 0),
            capacity_16(7, 513, 0),
            capacity_16(7, 1 << 20, 0),
            capacity_16(7, 512, 15),
            vec![0; 4],
        ] {
            assert!(matches!(with((0x9E, 0), answer), NotADisk::Nonsense(_)));
        }
    }

    #[test]
    fn a_disk_that_never_gets_ready_is_given_up() {
        let table = disk();
        table.attentions.set(usize::MAX);
        assert!(matches!(
            identify(&table),
            Err(NotADisk::Failed("TEST UNIT READY", _))
        ));
    }

    #[test]
    fn pages_that_lie_about_their_length_or_number_do_no_harm() {
        let mut table = disk();
        table
            .answers
            .insert((0x12, 0x80), vec![0, 0x80, 0xFF, 0xFF, b'X']);
        table
            .answers
            .insert((0x12, 0x83), vital(0x83, b"\x02\x01\0\xFFshort"));
        table.answers.insert((0x12, 0xB0), vital(0xB1, &[0xFF; 60]));
        table.answers.insert((0x1A, 0), vec![23, 0, 0, 0xFF]);
        let info = identify(&table).unwrap();
        assert_eq!((info.serial.as_str(), info.designators.len()), ("X", 0));
        assert_eq!(
            (info.max_transfer_blocks, info.unmap, info.write_cache),
            (0, None, false)
        );
    }
}
