//! What writes leave on a disk: each 64-bit word, little-endian, is a function of a seed and of its place, so that any
//! part of any size can be checked alone, here and in domain 0.

/// The word at byte `8 * index` of the disk: the numbers and the mixing of SplitMix64 (Steele, Lea, Flood: "Fast
/// splittable pseudorandom number generators").
pub fn word(seed: u64, index: u64) -> u64 {
    mix(seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// SplitMix64's finaliser.
pub fn mix(mut value: u64) -> u64 {
    value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

/// Fills `bytes`, which lie at byte `place` of the disk; both are multiples of 8.
pub fn fill(seed: u64, place: u64, bytes: &mut [u8]) {
    let (words, _) = bytes.as_chunks_mut::<8>();
    for (index, out) in (place / 8..).zip(words) {
        *out = word(seed, index).to_le_bytes();
    }
}

/// The first byte of the disk at which `bytes` differ from what [`fill`] leaves.
pub fn first_difference(seed: u64, place: u64, bytes: &[u8]) -> Option<u64> {
    let (words, _) = bytes.as_chunks::<8>();
    (place / 8..)
        .zip(words)
        .find(|(index, found)| word(seed, *index).to_le_bytes() != **found)
        .map(|(index, _)| index * 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_are_those_of_splitmix64() {
        // The published generator's first outputs for seed 1234567.
        assert_eq!(word(1_234_567, 0), 6_457_827_717_110_365_317);
        assert_eq!(word(1_234_567, 1), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_part_is_what_the_whole_has_there() {
        let (mut whole, mut part) = ([0; 128], [0; 32]);
        fill(7, 4096, &mut whole);
        fill(7, 4096 + 64, &mut part);
        assert_eq!(whole[64..96], part);
        assert_eq!(first_difference(7, 4096, &whole), None);
        whole[17] ^= 1;
        assert_eq!(first_difference(7, 4096, &whole), Some(4096 + 16));
    }
}
