//! The Toeplitz hash (Microsoft, "RSS Hashing Functions"; xen/public/io/netif.h, "Hash computation").
//!
//! For each bit of the input that is 1, counted from the most significant one of the first byte, the 32 bits of the key that
//! begin at the same place are added without carry. Behind the key's end there is nothing but zeros.

/// Bytes of a key.
pub const KEY: usize = 40;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub [u8; KEY]);

impl Key {
    /// The hash of bytes.
    pub fn hash<'a>(&self, input: impl IntoIterator<Item = &'a u8>) -> u32 {
        let mut key = self.0.iter().copied().chain(core::iter::repeat(0));
        // The 32 bits of the key for the bit at hand and, below, those of the next eight bits.
        let mut window = key
            .by_ref()
            .take(4)
            .fold(0u64, |window, byte| window << 8 | u64::from(byte));
        let mut hash = 0u32;
        for byte in input {
            window = window << 8 | key.next().map_or(0, u64::from);
            for bit in 0..8 {
                // All ones if the bit is set: no branch on what cannot be foretold.
                let chosen = 0u32.wrapping_sub(u32::from(byte >> (7 - bit) & 1));
                hash ^= (window >> (8 - bit)) as u32 & chosen;
            }
        }
        hash
    }
}
