//! The Internet checksum (RFC 1071): a sum of 16-bit words in ones' complement.
//!
//! A sum can be taken piece by piece, of pieces of any length: behind an odd number of bytes the words of the next piece
//! straddle the border, which is the same as its bytes having changed places (RFC 1071 section 2(B)).

/// A sum of bytes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Of words whose *less* significant byte comes first; carries not yet added back.
    words: u64,
    odd: bool,
}

impl Sum {
    /// Adds the bytes that come next.
    pub fn add(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut wide = 0u128;
        for block in blocks {
            // An addition and one of its carry for four words; a carry into the upper half counts as one in the lower.
            if let ([a, b, c, d], []) = block.as_chunks::<8>() {
                for four in [a, b, c, d] {
                    wide = wide.wrapping_add(u128::from(u64::from_le_bytes(*four)));
                }
            }
        }
        let (low, high) = (wide as u64, (wide >> 64) as u64);
        let mut words = (low & 0xffff_ffff)
            .wrapping_add(low >> 32)
            .wrapping_add(high);
        let (chunks, rest) = rest.as_chunks::<8>();
        for chunk in chunks {
            // Four words at once: a carry out of the lower two counts as much as one in the upper two. Below 2³³ each,
            // so it takes a slice of 16 GiB to lose one.
            let four = u64::from_le_bytes(*chunk);
            words = words.wrapping_add((four & 0xffff_ffff) + (four >> 32));
        }
        let (pairs, last) = rest.as_chunks::<2>();
        for pair in pairs {
            words = words.wrapping_add(u64::from(u16::from_le_bytes(*pair)));
        }
        for byte in last {
            words = words.wrapping_add(u64::from(*byte));
        }
        self.join(Sum {
            words,
            odd: bytes.len() % 2 == 1,
        });
    }

    /// Adds the sum of the bytes that come next.
    pub fn join(&mut self, next: Sum) {
        let words = fold(next.words);
        let words = match self.odd {
            true => words.swap_bytes(),
            false => words,
        };
        self.words = u64::from(fold(self.words)) + u64::from(words);
        self.odd ^= next.odd;
    }

    /// The sum of the bytes that come next, if with them the sum is that of bytes with a right checksum among them. So far
    /// there must have been an even number; `odd` says of what number those are.
    pub(crate) fn rest(self, odd: bool) -> Sum {
        Sum {
            words: u64::from(!fold(self.words)),
            odd,
        }
    }

    /// The sum, in 16 bits.
    pub fn folded(self) -> u16 {
        fold(self.words).swap_bytes()
    }

    /// What goes into a checksum field that was zero while it was summed. Of bytes with a right checksum among them: 0.
    pub fn checksum(self) -> u16 {
        !self.folded()
    }
}

/// Adds the carries until none is left.
fn fold(mut words: u64) -> u16 {
    while words > 0xffff {
        words = (words & 0xffff) + (words >> 16);
    }
    words as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 4.1, word by word.
    fn by_the_book(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn sum(pieces: &[&[u8]]) -> Sum {
        let mut sum = Sum::default();
        pieces.iter().for_each(|piece| sum.add(piece));
        sum
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&[&bytes]).folded(), 0xddf2);
        assert_eq!(sum(&[&bytes]).checksum(), 0x220d);
    }

    #[test]
    fn nothing_sums_to_nothing() {
        assert_eq!(sum(&[]).folded(), 0);
        assert_eq!(sum(&[&[], &[0, 0], &[]]).folded(), 0);
    }

    #[test]
    fn a_piece_behind_an_odd_one_straddles() {
        assert_eq!(sum(&[&[0x12], &[0x34]]).folded(), 0x1234);
        assert_eq!(
            sum(&[&[0x12], &[0x34, 0x56], &[0x78]]).folded(),
            0x1234 + 0x5678
        );
        assert_eq!(
            sum(&[&[0x12], &[], &[0x34, 0x56, 0x78]]).folded(),
            0x1234 + 0x5678
        );
    }

    #[test]
    fn carries_come_around() {
        assert_eq!(sum(&[&[0xff; 64]]).folded(), 0xffff);
        assert_eq!(sum(&[&[0xff, 0xff, 0, 2]]).folded(), 2);
        assert_eq!(sum(&[&vec![0xff; 0x20_0001]]).folded(), 0xff00);
    }

    proptest! {
        /// However the bytes are cut, the sum is the one that RFC 1071 writes down.
        #[test]
        fn cuts_do_not_matter(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let expected = by_the_book(&pieces.concat());
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(sum(&slices).folded(), expected);
            let mut joined = Sum::default();
            slices.iter().for_each(|slice| joined.join(sum(&[slice])));
            prop_assert_eq!(joined.folded(), expected);
        }

        /// Of bytes with a right checksum among them, a part tells the sum of the others (there are two ways to write zero).
        #[test]
        fn a_part_tells_the_rest(
            first in proptest::collection::vec(any::<[u8; 2]>(), 1..20),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut first = first.concat();
            first[0..2].fill(0);
            let checksum = sum(&[&first, &rest]).checksum();
            first[0..2].copy_from_slice(&checksum.to_be_bytes());
            let told = sum(&[&first]).rest(rest.len() % 2 == 1);
            prop_assert_eq!(told.folded() % 0xffff, by_the_book(&rest) % 0xffff);
            prop_assert_eq!(told.odd, sum(&[&rest]).odd);
        }
    }
}
