//! Frames from a neighbour to interface 0, and the checksums in them.

/// Destination and source.
const ADDRESSES: [u8; 12] = [0x00, 0x16, 0x3E, 0, 0, 0, 2, 0, 0, 0, 0, 1];

/// A frame of some other type than IP, with bytes that tell it from others.
pub fn plain(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = ADDRESSES.to_vec();
    bytes.extend([0x88, 0xB5]);
    bytes.extend((bytes.len()..length).map(|at| (at as u8).wrapping_mul(31) ^ seed));
    bytes.truncate(length);
    bytes
}

/// The ones' complement sum of RFC 1071.
fn sum(bytes: &[u8], start: u32) -> u32 {
    bytes.chunks(2).fold(start, |sum, pair| {
        let word = u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        let sum = sum + word;
        (sum & 0xFFFF) + (sum >> 16)
    })
}

/// The sum of the pseudo header of a frame as [`over_ipv4`] makes it.
fn pseudo(frame: &[u8], length: usize) -> u32 {
    sum(&frame[26..34], u32::from(frame[23]) + length as u32)
}

/// A packet over IPv4 with `data` bytes behind its header: TCP, or UDP. Its checksum is whole.
pub fn over_ipv4(udp: bool, data: usize) -> Vec<u8> {
    let mut frame = ADDRESSES.to_vec();
    frame.extend([0x08, 0x00]);
    let header = if udp { 8 } else { 20 };
    let [high, low] = ((20 + header + data) as u16).to_be_bytes();
    let protocol = if udp { 17 } else { 6 };
    frame.extend([0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    let checksum = !(sum(&frame[14..34], 0) as u16);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend([0x1F, 0x90, 0xC0, 0]);
    match udp {
        true => {
            frame.extend(((8 + data) as u16).to_be_bytes());
            frame.extend([0, 0]);
        }
        false => frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x18, 0xFF, 0xFF, 0, 0, 0, 0]),
    }
    frame.extend((0..data).map(|at| (at * 7 % 251) as u8));
    let length = frame.len() - 34;
    let whole = !(sum(&frame[34..], pseudo(&frame, length)) as u16);
    let at = checksum_at(udp);
    frame[at..at + 2].copy_from_slice(&whole.to_be_bytes());
    frame
}

const fn checksum_at(udp: bool) -> usize {
    if udp { 40 } else { 50 }
}

/// The same, with the sum of the pseudo header for `length` bytes in the checksum's place.
pub fn blank(mut frame: Vec<u8>, udp: bool, length: usize) -> Vec<u8> {
    let start = pseudo(&frame, length) as u16;
    let at = checksum_at(udp);
    frame[at..at + 2].copy_from_slice(&start.to_be_bytes());
    frame
}

/// Whether the checksum of a packet as [`over_ipv4`] makes it is right, or left to the receiver.
pub fn is_right(frame: &[u8], is_blank: bool) -> bool {
    let length = frame.len() - 34;
    match is_blank {
        true => {
            let at = checksum_at(frame[23] == 17);
            frame[at..at + 2] == (pseudo(frame, length) as u16).to_be_bytes()
        }
        false => sum(&frame[34..], pseudo(frame, length)) == 0xFFFF,
    }
}
