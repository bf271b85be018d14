//! INQUIRY: standard data and vital product data (SPC-4 "INQUIRY command", SBC-3 "Vital product data").

use crate::{Disk, MAX_RANGES, Outcome, Sense, reply};

const VENDOR: &[u8; 8] = b"XENSRC  ";
const PRODUCT: &[u8; 16] = b"PVDISK          ";
const REVISION: &[u8; 4] = b"2.0 ";

const SUPPORTED_PAGES: u8 = 0x00;
const SERIAL_NUMBER: u8 = 0x80;
const IDENTIFICATION: u8 = 0x83;
const BLOCK_LIMITS: u8 = 0xb0;
const CHARACTERISTICS: u8 = 0xb1;
const PROVISIONING: u8 = 0xb2;

pub(crate) fn inquiry(
    disk: &Disk<'_>,
    vital: bool,
    page: u8,
    allocation: usize,
    buffer: &mut [u8],
) -> Outcome {
    let length = match (vital, page) {
        (false, 0) => reply(&standard(disk), allocation, buffer),
        (true, SUPPORTED_PAGES) => reply(&supported_pages(), allocation, buffer),
        (true, SERIAL_NUMBER) => match disk.serial_number {
            Some(page) => reply(page.as_slice(), allocation, buffer),
            None => reply(&serial_number(disk), allocation, buffer),
        },
        (true, IDENTIFICATION) => match disk.identification {
            Some(page) => reply(page.as_slice(), allocation, buffer),
            None => reply(&identification(disk), allocation, buffer),
        },
        (true, BLOCK_LIMITS) => reply(&block_limits(disk), allocation, buffer),
        (true, CHARACTERISTICS) => reply(&characteristics(), allocation, buffer),
        (true, PROVISIONING) => reply(&provisioning(disk), allocation, buffer),
        _ => return Outcome::Check(Sense::INVALID_FIELD),
    };
    Outcome::Good(length)
}

fn standard(disk: &Disk<'_>) -> [u8; 36] {
    const REMOVABLE: u8 = 0x80;
    const SPC_2: u8 = 4;
    const RESPONSE_FORMAT: u8 = 2;
    const COMMAND_QUEUE: u8 = 0x02;
    let mut data = [0; 36];
    data[1] = if disk.removable_medium { REMOVABLE } else { 0 };
    data[2] = SPC_2;
    data[3] = RESPONSE_FORMAT;
    data[4] = 36 - 5;
    data[7] = COMMAND_QUEUE;
    data[8..16].copy_from_slice(VENDOR);
    data[16..32].copy_from_slice(PRODUCT);
    data[32..36].copy_from_slice(REVISION);
    data
}

fn supported_pages() -> [u8; 10] {
    [
        0,
        SUPPORTED_PAGES,
        0,
        6,
        SUPPORTED_PAGES,
        SERIAL_NUMBER,
        IDENTIFICATION,
        BLOCK_LIMITS,
        CHARACTERISTICS,
        PROVISIONING,
    ]
}

/// The target number in `width` decimal digits.
fn decimal<const WIDTH: usize>(mut number: u32) -> [u8; WIDTH] {
    let mut digits = [b'0'; WIDTH];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

fn serial_number(disk: &Disk<'_>) -> [u8; 8] {
    let mut page = [0, SERIAL_NUMBER, 0, 4, 0, 0, 0, 0];
    page[4..].copy_from_slice(&decimal::<4>(disk.target));
    page
}

/// One designator: T10 vendor identification, ASCII, of the logical unit; without a trailing NUL.
fn identification(disk: &Disk<'_>) -> [u8; 24] {
    const ASCII: u8 = 2;
    const T10_VENDOR: u8 = 1;
    let mut page = [0; 24];
    page[1] = IDENTIFICATION;
    page[3] = 4 + 16;
    page[4] = ASCII;
    page[5] = T10_VENDOR;
    page[7] = 16;
    page[8..16].copy_from_slice(VENDOR);
    page[16..24].copy_from_slice(&decimal::<8>(disk.target));
    page
}

fn block_limits(disk: &Disk<'_>) -> [u8; 64] {
    const ALIGNMENT_VALID: u32 = 1 << 31;
    let mut page = [0; 64];
    page[1] = BLOCK_LIMITS;
    page[3] = 60;
    if let Some(discard) = disk.discard {
        let blocks = |bytes: u32| bytes.checked_div(disk.block_size).unwrap_or(0);
        page[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
        page[24..28].copy_from_slice(&(MAX_RANGES as u32).to_be_bytes());
        let granularity = blocks(discard.granularity);
        if granularity != 0 {
            page[28..32].copy_from_slice(&granularity.to_be_bytes());
            page[32..36]
                .copy_from_slice(&(blocks(discard.alignment) | ALIGNMENT_VALID).to_be_bytes());
        }
    }
    page
}

fn characteristics() -> [u8; 64] {
    const NON_ROTATING: u8 = 1;
    let mut page = [0; 64];
    page[1] = CHARACTERISTICS;
    page[3] = 60;
    page[5] = NON_ROTATING;
    page
}

fn provisioning(disk: &Disk<'_>) -> [u8; 8] {
    const LBPU: u8 = 0x80;
    const THIN: u8 = 2;
    let mut page = [0, PROVISIONING, 0, 4, 0, 0, 0, 0];
    if let Some(discard) = disk.discard {
        page[5] = LBPU;
        page[6] = if discard.granularity != 0 { THIN } else { 0 };
    }
    page
}
