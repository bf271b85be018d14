//! MODE SENSE: the header, a block descriptor and two pages (SPC-4 "Mode parameters", SBC-3 "Caching mode page").

use crate::{Disk, Outcome, Sense, reply};

/// What a MODE SENSE asks for.
pub(crate) struct Wanted {
    pub(crate) long: bool,
    pub(crate) no_descriptors: bool,
    pub(crate) control: u8,
    pub(crate) page: u8,
    pub(crate) subpage: u8,
}

const CACHING: u8 = 0x08;
const INFORMATIONAL_EXCEPTIONS: u8 = 0x1c;
const ALL: u8 = 0x3f;

/// Bytes of either page, of which the first two are not counted in its own length field.
const PAGE: usize = 12;

pub(crate) fn sense(
    disk: &Disk<'_>,
    wanted: Wanted,
    allocation: usize,
    buffer: &mut [u8],
) -> Outcome {
    const CHANGEABLE: u8 = 1;
    const SAVED: u8 = 3;
    let known = matches!(wanted.page, CACHING | INFORMATIONAL_EXCEPTIONS | ALL);
    let subpage = wanted.subpage == 0 || wanted.subpage == 0xff;
    if !known || !subpage {
        return Outcome::Check(Sense::INVALID_FIELD);
    }
    if wanted.control == SAVED {
        return Outcome::Check(Sense::NO_SAVED_PARAMETERS);
    }

    // Longest answer: header 8, descriptor 8, two pages.
    let mut data = [0u8; 16 + 2 * PAGE];
    let header = if wanted.long { 8 } else { 4 };
    let descriptor = if wanted.no_descriptors { 0 } else { 8 };
    let mut end = header;
    if descriptor != 0 {
        if let Some(bytes) = data.get_mut(end..end + 8) {
            bytes.copy_from_slice(&block_descriptor(disk));
        }
        end += 8;
    }
    for page in [CACHING, INFORMATIONAL_EXCEPTIONS] {
        if wanted.page == page || wanted.page == ALL {
            if let Some(bytes) = data.get_mut(end..end + PAGE) {
                bytes.copy_from_slice(&mode_page(disk, page, wanted.control == CHANGEABLE));
            }
            end += PAGE;
        }
    }

    const WRITE_PROTECT: u8 = 0x80;
    let specific = if disk.read_only { WRITE_PROTECT } else { 0 };
    if wanted.long {
        data[1] = (end - 2) as u8;
        data[3] = specific;
        data[7] = descriptor;
    } else {
        data[0] = (end - 1) as u8;
        data[2] = specific;
        data[3] = descriptor;
    }
    Outcome::Good(reply(data.get(..end).unwrap_or(&[]), allocation, buffer))
}

/// Number of blocks (all ones if it does not fit) and their length.
fn block_descriptor(disk: &Disk<'_>) -> [u8; 8] {
    let blocks = u32::try_from(disk.blocks).unwrap_or(u32::MAX).to_be_bytes();
    let size = disk.block_size.to_be_bytes();
    [
        blocks[0], blocks[1], blocks[2], blocks[3], 0, size[1], size[2], size[3],
    ]
}

/// A page with its current values, or with the mask of those that MODE SELECT could change: none.
fn mode_page(disk: &Disk<'_>, page: u8, mask: bool) -> [u8; PAGE] {
    const WRITE_CACHE_ENABLE: u8 = 0x04;
    const DISABLE_EXCEPTIONS: u8 = 0x08;
    let mut bytes = [0; PAGE];
    bytes[0] = page;
    bytes[1] = PAGE as u8 - 2;
    if !mask {
        bytes[2] = match page {
            CACHING if disk.write_cache => WRITE_CACHE_ENABLE,
            INFORMATIONAL_EXCEPTIONS => DISABLE_EXCEPTIONS,
            _ => 0,
        };
    }
    bytes
}
