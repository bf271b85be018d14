//! The container ID of a network device: a GUID made of its address, so that Windows tells the same adapter again.
//!
//! RFC 4122, version 5: SHA-1 (FIPS 180-4) over a name space and a name. As in the published drivers the name space is
//! hashed as it lies in memory, its first three groups little-endian, and the hash is taken as a GUID in memory.

use core::fmt;

/// The name space of network devices, {2A597D5E-8864-4428-A110-F568F316D4E4}, as it lies in memory.
const NAME_SPACE: [u8; 16] = [
    0x5E, 0x7D, 0x59, 0x2A, 0x64, 0x88, 0x28, 0x44, 0xA1, 0x10, 0xF5, 0x68, 0xF3, 0x16, 0xD4, 0xE4,
];

/// A container ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container([u8; 16]);

impl Container {
    /// The ID of the device with this permanent address.
    pub fn of(address: [u8; 6]) -> Self {
        // One block: the message, a bit that ends it, its length in bits.
        const LENGTH: u8 = (16 + 6) * 8;
        let mut block = [0; 64];
        let message = NAME_SPACE.iter().chain(&address).chain(&[0x80]);
        for (to, from) in block.iter_mut().zip(message) {
            *to = *from;
        }
        block[63] = LENGTH;
        let hash = sha1(&block);
        let mut id = [0; 16];
        for (to, from) in id
            .iter_mut()
            .zip(hash.iter().flat_map(|word| word.to_be_bytes()))
        {
            *to = from;
        }
        // The version is the first digit of the third group, the variant the first of the fourth.
        id[7] = (id[7] & 0x0F) | 0x50;
        id[8] = (id[8] & 0x3F) | 0x80;
        Self(id)
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i, rest @ ..] = self.0;
        let first = u32::from_le_bytes([a, b, c, d]);
        let second = u16::from_le_bytes([e, g]);
        let third = u16::from_le_bytes([h, i]);
        let [j, k, last @ ..] = rest;
        write!(f, "{{{first:08X}-{second:04X}-{third:04X}-{j:02X}{k:02X}-")?;
        for byte in last {
            write!(f, "{byte:02X}")?;
        }
        f.write_str("}")
    }
}

/// SHA-1 of a message that is one padded block.
fn sha1(block: &[u8; 64]) -> [u32; 5] {
    let mut schedule = [0u32; 80];
    for (word, bytes) in schedule.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for t in 16..80 {
        let word = schedule[t - 3] ^ schedule[t - 8] ^ schedule[t - 14] ^ schedule[t - 16];
        schedule[t] = word.rotate_left(1);
    }
    const START: [u32; 5] = [
        0x6745_2301,
        0xEFCD_AB89,
        0x98BA_DCFE,
        0x1032_5476,
        0xC3D2_E1F0,
    ];
    let [mut a, mut b, mut c, mut d, mut e] = START;
    for (t, word) in schedule.into_iter().enumerate() {
        let (f, k) = match t {
            0..20 => ((b & c) | (!b & d), 0x5A82_7999),
            20..40 => (b ^ c ^ d, 0x6ED9_EBA1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
            _ => (b ^ c ^ d, 0xCA62_C1D6),
        };
        let next = a
            .rotate_left(5)
            .wrapping_add(f)
            .wrapping_add(e)
            .wrapping_add(k)
            .wrapping_add(word);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    let [h0, h1, h2, h3, h4] = START;
    [
        h0.wrapping_add(a),
        h1.wrapping_add(b),
        h2.wrapping_add(c),
        h3.wrapping_add(d),
        h4.wrapping_add(e),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_standard() {
        // FIPS 180-4's example, "abc".
        let mut block = [0; 64];
        block[..4].copy_from_slice(b"abc\x80");
        block[63] = 24;
        let hash = [
            0xA999_3E36,
            0x4706_816A,
            0xBA3E_2571,
            0x7850_C26C,
            0x9CD0_D89D,
        ];
        assert_eq!(sha1(&block), hash);
    }

    #[test]
    fn an_address_has_one_id_of_version_5() {
        let id = |last| Container::of([0, 0x16, 0x3E, 0, 0, last]).to_string();
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
        let text = id(1);
        assert_eq!((text.len(), &text[15..16]), (38, "5"));
        assert!(matches!(&text[20..21], "8" | "9" | "A" | "B"), "{text}");
    }
}
