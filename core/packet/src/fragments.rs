//! Bytes that lie in several pieces, as those of a frame do in a chain of MDLs or of ring slots.
//!
//! A driver gives an iterator over slices. It must be cheap to clone (a pointer and a few numbers), because a frame is
//! walked more than once: for its headers, its checksum, each of its segments. Fragments of no bytes are passed over.

/// A place in fragments.
#[derive(Clone, Debug)]
pub struct Cursor<'a, I> {
    current: &'a [u8],
    rest: I,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Cursor<'a, I> {
    /// The first byte.
    pub fn new(fragments: impl IntoIterator<IntoIter = I>) -> Self {
        Cursor {
            current: &[],
            rest: fragments.into_iter(),
        }
    }

    /// The next bytes that lie together, `limit` of them at most; `None` at the end.
    fn run(&mut self, limit: usize) -> Option<&'a [u8]> {
        while self.current.is_empty() {
            self.current = self.rest.next()?;
        }
        let (run, rest) = self
            .current
            .split_at_checked(limit)
            .unwrap_or((self.current, &[]));
        self.current = rest;
        Some(run)
    }

    /// Copies the next bytes, as many as there is room for; says how many there were.
    pub fn copy(&mut self, to: &mut [u8]) -> usize {
        let mut copied = 0;
        while let Some(room) = to.get_mut(copied..).filter(|room| !room.is_empty()) {
            let Some(run) = self.run(room.len()) else {
                break;
            };
            for (to, from) in room.iter_mut().zip(run) {
                *to = *from;
            }
            copied += run.len();
        }
        copied
    }

    /// Passes over the next bytes.
    pub fn skip(&mut self, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            let Some(run) = self.run(left) else {
                break;
            };
            left -= run.len();
        }
    }

    /// The next bytes where they lie, fewer if the fragments end before.
    pub fn take(self, bytes: usize) -> Pieces<'a, I> {
        Pieces {
            cursor: self,
            left: bytes,
        }
    }
}

/// Part of the bytes of some fragments, itself in fragments.
#[derive(Clone, Debug)]
pub struct Pieces<'a, I> {
    cursor: Cursor<'a, I>,
    left: usize,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Iterator for Pieces<'a, I> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let run = self.cursor.run(self.left)?;
        self.left -= run.len();
        Some(run)
    }
}

/// Bytes of all fragments together.
pub fn length<'a>(fragments: impl Iterator<Item = &'a [u8]>) -> usize {
    fragments.fold(0, |sum, fragment| sum.saturating_add(fragment.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn empty_fragments_are_passed_over() {
        let fragments: [&[u8]; 5] = [b"", b"ab", b"", b"", b"c"];
        let mut cursor = Cursor::new(fragments);
        let mut to = [0; 2];
        assert_eq!(cursor.copy(&mut to), 2);
        assert_eq!(&to, b"ab");
        assert_eq!(cursor.clone().take(9).collect::<Vec<_>>(), [b"c"]);
        assert_eq!(cursor.copy(&mut to), 1);
        assert_eq!(cursor.copy(&mut to), 0);
    }

    proptest! {
        /// Any part of scattered bytes is that part of the bytes in one piece.
        #[test]
        fn a_part_is_a_part(
            list in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9),
            from in 0usize..40,
            bytes in 0usize..40,
        ) {
            let whole = list.concat();
            let fragments = list.iter().map(Vec::as_slice);
            prop_assert_eq!(length(fragments.clone()), whole.len());
            let mut cursor = Cursor::new(fragments);
            cursor.skip(from);
            let start = from.min(whole.len());
            let expected = &whole[start..(from + bytes).clamp(start, whole.len())];
            prop_assert_eq!(cursor.clone().take(bytes).collect::<Vec<_>>().concat(), expected);
            let mut copy = vec![0; bytes];
            let copied = cursor.copy(&mut copy);
            prop_assert_eq!(&copy[..copied], expected);
        }
    }
}
