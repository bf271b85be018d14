//! Walks a scatter-gather list and cuts it into segments: parts of one page that hold whole blocks.
//!
//! ```text
//!   fragment     |....bbbbbbbbbbbbbb|bbbb..|          b: a block lies whole inside the page -> granted as it is
//!   page         |                  |                 .: a block begins or ends elsewhere    -> through a bounce page
//! ```

/// A run of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Guest-physical address in bytes.
    pub address: u64,
    /// Bytes.
    pub length: u32,
}

/// One segment's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Part of a page of the caller's.
    Direct {
        /// Its page frame number.
        pfn: u64,
        /// First byte in the page, a multiple of the block.
        offset: u32,
        /// Bytes, a multiple of the block.
        length: u32,
    },
    /// Bytes that have to go through a page of our own.
    Bounce {
        /// Where they are in the transfer.
        at: u32,
        /// How many, a multiple of the block and at most a page.
        length: u32,
    },
}

impl Piece {
    /// Bytes.
    pub fn length(&self) -> u32 {
        match self {
            Piece::Direct { length, .. } | Piece::Bounce { length, .. } => *length,
        }
    }
}

/// The list holds fewer bytes than the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortList;

/// What a piece must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Logical block in bytes, a power of two from 512 to 4096.
    pub block: u32,
    /// Grant nothing but whole pages, so that the backend sees nothing that is not part of the transfer.
    pub whole_pages: bool,
}

const PAGE: u32 = 4096;

/// A position in a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    fragment: u32,
    /// Within the fragment.
    offset: u32,
    /// From the start of the transfer.
    done: u32,
    total: u32,
}

impl Cursor {
    /// The start of a transfer of `total` bytes, a multiple of the block.
    pub fn new(total: u32) -> Self {
        Cursor {
            fragment: 0,
            offset: 0,
            done: 0,
            total,
        }
    }

    /// Bytes passed.
    pub fn done(&self) -> u32 {
        self.done
    }

    /// Whether the whole transfer is passed.
    pub fn at_end(&self) -> bool {
        self.done >= self.total
    }

    /// Cuts the next piece; `fragments` gives the list by index. Not to be called at the end.
    pub fn next(
        &mut self,
        fragments: impl Fn(u32) -> Option<Fragment>,
        rule: Rule,
    ) -> Result<Piece, ShortList> {
        let left = self.total - self.done;
        let current = loop {
            let fragment = fragments(self.fragment).ok_or(ShortList)?;
            if self.offset < fragment.length {
                break fragment;
            }
            self.fragment = self.fragment.checked_add(1).ok_or(ShortList)?;
            self.offset = 0;
        };
        let address = current
            .address
            .checked_add(u64::from(self.offset))
            .ok_or(ShortList)?;
        let offset = (address % u64::from(PAGE)) as u32;
        let run = (PAGE - offset).min(current.length - self.offset).min(left);
        let whole = run - run.checked_rem(rule.block).unwrap_or(run);
        let direct = match rule.whole_pages {
            true => offset == 0 && whole == PAGE,
            false => offset.is_multiple_of(rule.block) && whole > 0,
        };
        let piece = match direct {
            true => Piece::Direct {
                pfn: address / u64::from(PAGE),
                offset,
                length: whole,
            },
            false => Piece::Bounce {
                at: self.done,
                length: left.min(PAGE),
            },
        };
        self.pass(piece.length(), fragments)?;
        Ok(piece)
    }

    fn pass(
        &mut self,
        bytes: u32,
        fragments: impl Fn(u32) -> Option<Fragment>,
    ) -> Result<(), ShortList> {
        self.done += bytes;
        let mut bytes = bytes;
        loop {
            let available = fragments(self.fragment)
                .ok_or(ShortList)?
                .length
                .saturating_sub(self.offset);
            if bytes <= available {
                self.offset += bytes;
                return Ok(());
            }
            bytes -= available;
            self.fragment = self.fragment.checked_add(1).ok_or(ShortList)?;
            self.offset = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(list: &[Fragment], total: u32, rule: Rule) -> Result<Vec<Piece>, ShortList> {
        let mut cursor = Cursor::new(total);
        let mut pieces = vec![];
        while !cursor.at_end() {
            pieces.push(cursor.next(|i| list.get(i as usize).copied(), rule)?);
        }
        Ok(pieces)
    }

    const BLOCK: Rule = Rule {
        block: 512,
        whole_pages: false,
    };

    fn direct(pfn: u64, offset: u32, length: u32) -> Piece {
        Piece::Direct {
            pfn,
            offset,
            length,
        }
    }

    fn fragment(address: u64, length: u32) -> Fragment {
        Fragment { address, length }
    }

    #[test]
    fn a_run_over_pages_is_cut_at_each() {
        let list = [fragment(0x1200, 8192)];
        let pieces = cut(&list, 8192, BLOCK).unwrap();
        assert_eq!(
            pieces,
            [
                direct(1, 0x200, 0xe00),
                direct(2, 0, 4096),
                direct(3, 0, 0x200)
            ]
        );
    }

    #[test]
    fn an_unaligned_buffer_is_bounced_page_by_page() {
        let list = [fragment(0x1004, 8192)];
        let pieces = cut(&list, 8192, BLOCK).unwrap();
        assert_eq!(
            pieces,
            [
                Piece::Bounce {
                    at: 0,
                    length: 4096
                },
                Piece::Bounce {
                    at: 4096,
                    length: 4096
                }
            ]
        );
    }

    #[test]
    fn a_block_over_two_fragments_is_bounced() {
        let list = [fragment(0x1000, 700), fragment(0x5000, 4096)];
        let pieces = cut(&list, 1024, BLOCK).unwrap();
        assert_eq!(
            pieces,
            [
                direct(1, 0, 512),
                Piece::Bounce {
                    at: 512,
                    length: 512
                }
            ]
        );
    }

    #[test]
    fn with_whole_pages_only_partial_ones_are_bounced() {
        let rule = Rule {
            block: 512,
            whole_pages: true,
        };
        let pieces = cut(&[fragment(0x1000, 4096), fragment(0x2000, 512)], 4608, rule).unwrap();
        assert_eq!(
            pieces,
            [
                direct(1, 0, 4096),
                Piece::Bounce {
                    at: 4096,
                    length: 512
                }
            ]
        );
    }

    #[test]
    fn a_list_that_is_too_short_is_an_error() {
        assert_eq!(cut(&[fragment(0x1000, 512)], 1024, BLOCK), Err(ShortList));
        assert_eq!(cut(&[fragment(0x1004, 512)], 1024, BLOCK), Err(ShortList));
        assert_eq!(cut(&[], 512, BLOCK), Err(ShortList));
    }

    proptest! {
        /// The pieces cover the transfer once and in order, each within one page or bounced, each of whole blocks.
        #[test]
        fn pieces_are_the_transfer(
            list in proptest::collection::vec((0u64..1 << 40, 0u32..20000, any::<bool>()), 0..12),
            shift in 0u32..4,
            blocks in 0u32..64,
            whole_pages in any::<bool>(),
        ) {
            let block = 512u32 << shift;
            let list: Vec<Fragment> = list.iter()
                .map(|(address, length, aligned)| match aligned {
                    true => fragment(address & !4095, length & !511),
                    false => fragment(*address, *length),
                })
                .collect();
            let total = blocks * block;
            let bytes: Vec<u64> = list.iter().flat_map(|f| (0..u64::from(f.length)).map(|i| f.address + i)).collect();
            match cut(&list, total, Rule { block, whole_pages }) {
                Err(ShortList) => prop_assert!(bytes.len() < total as usize),
                Ok(pieces) => {
                    let mut at = 0usize;
                    for piece in pieces {
                        prop_assert!(piece.length() > 0 && piece.length() % block == 0);
                        match piece {
                            Piece::Direct { pfn, offset, length } => {
                                prop_assert!(offset % block == 0 && offset + length <= 4096);
                                prop_assert!(!whole_pages || length == 4096);
                                for i in 0..length {
                                    prop_assert_eq!(bytes[at + i as usize], pfn * 4096 + u64::from(offset + i));
                                }
                            }
                            Piece::Bounce { at: from, length } => prop_assert!(from as usize == at && length <= 4096),
                        }
                        at += piece.length() as usize;
                    }
                    prop_assert_eq!(at, total as usize);
                }
            }
        }
    }
}
