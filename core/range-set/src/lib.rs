//! A set of 64-bit integers, kept as disjoint ranges in ascending order.
//!
//! Holds what is numbered and handed out in runs: page frames, grant references. Neighbouring ranges are merged, so
//! the set is always as short as it can be. Nothing but memory exhaustion makes a legal call fail, and a failed call
//! leaves the set as it was.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// An empty range, or one that passes the greatest 64-bit integer.
    Malformed,
    /// Put: some of the range is in the set already.
    Overlap,
    /// Get: some of the range is not in the set.
    Absent,
    /// Pop: no run is long enough.
    Exhausted,
    /// No memory for another range.
    NoMemory,
}

/// `start..=end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: i64,
    end: i64,
}

impl Range {
    fn new(start: i64, count: u64) -> Result<Self, Error> {
        let last = count.checked_sub(1).ok_or(Error::Malformed)?;
        let end = start.checked_add_unsigned(last).ok_or(Error::Malformed)?;
        Ok(Self { start, end })
    }

    /// Whether the range has at least `last + 1` items.
    fn reaches(&self, last: u64) -> bool {
        self.end.abs_diff(self.start) >= last
    }
}

/// The set.
#[derive(Debug, Default)]
pub struct RangeSet {
    /// Ascending; between any two lies at least one missing integer.
    ranges: Vec<Range>,
}

impl RangeSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges in ascending order, each as its first and last item.
    pub fn ranges(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.ranges.iter().map(|r| (r.start, r.end))
    }

    /// Adds `count` items from `start` on. None of them may be in the set.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Overlap`], [`Error::NoMemory`].
    pub fn put(&mut self, start: i64, count: u64) -> Result<(), Error> {
        let new = Range::new(start, count)?;
        let at = self.ranges.partition_point(|r| r.end < new.start);
        if self
            .ranges
            .get(at)
            .is_some_and(|next| next.start <= new.end)
        {
            return Err(Error::Overlap);
        }
        let before = at.checked_sub(1).filter(|&i| {
            self.ranges
                .get(i)
                .is_some_and(|r| r.end.checked_add(1) == Some(new.start))
        });
        let after = self
            .ranges
            .get(at)
            .filter(|r| new.end.checked_add(1) == Some(r.start))
            .copied();

        match (before.and_then(|i| self.ranges.get_mut(i)), after) {
            (Some(left), Some(right)) => {
                left.end = right.end;
                remove(&mut self.ranges, at);
            }
            (Some(left), None) => left.end = new.end,
            (None, Some(_)) => {
                if let Some(right) = self.ranges.get_mut(at) {
                    right.start = new.start;
                }
            }
            (None, None) => {
                self.ranges.try_reserve(1).map_err(|_| Error::NoMemory)?;
                insert(&mut self.ranges, at, new);
            }
        }
        Ok(())
    }

    /// Removes the lowest run of `count` consecutive items and returns its first one.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a count of 0, [`Error::Exhausted`] if there is no such run.
    pub fn pop(&mut self, count: u64) -> Result<i64, Error> {
        let last = count.checked_sub(1).ok_or(Error::Malformed)?;
        let at = self
            .ranges
            .iter()
            .position(|r| r.reaches(last))
            .ok_or(Error::Exhausted)?;
        let range = self.ranges.get_mut(at).ok_or(Error::Exhausted)?;
        let start = range.start;
        match start.checked_add_unsigned(count) {
            Some(rest) if rest <= range.end => range.start = rest,
            _ => remove(&mut self.ranges, at),
        }
        Ok(start)
    }

    /// Removes `count` items from `start` on. All of them must be in the set.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Absent`], [`Error::NoMemory`] if a range would be split.
    pub fn get(&mut self, start: i64, count: u64) -> Result<(), Error> {
        let old = Range::new(start, count)?;
        let at = self.ranges.partition_point(|r| r.end < old.start);
        let range = *self
            .ranges
            .get(at)
            .filter(|r| r.start <= old.start && old.end <= r.end)
            .ok_or(Error::Absent)?;
        let left = old.start.checked_sub(1).filter(|&end| range.start <= end);
        let right = old.end.checked_add(1).filter(|&start| start <= range.end);
        if left.is_some() && right.is_some() {
            self.ranges.try_reserve(1).map_err(|_| Error::NoMemory)?;
        }
        match (left, right, self.ranges.get_mut(at)) {
            (Some(end), Some(start), Some(range)) => {
                let tail = Range {
                    start,
                    end: range.end,
                };
                range.end = end;
                insert(&mut self.ranges, at.saturating_add(1), tail);
            }
            (Some(end), None, Some(range)) => range.end = end,
            (None, Some(start), Some(range)) => range.start = start,
            _ => remove(&mut self.ranges, at),
        }
        Ok(())
    }
}

/// `Vec::insert` where the compiler does not see that the index is within, which it is.
fn insert(ranges: &mut Vec<Range>, at: usize, range: Range) {
    if at <= ranges.len() {
        ranges.insert(at, range);
    }
}

/// `Vec::remove` likewise.
fn remove(ranges: &mut Vec<Range>, at: usize) {
    if at < ranges.len() {
        ranges.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn neighbours_merge_into_one_range() {
        let mut set = RangeSet::new();
        set.put(0, 2).unwrap();
        set.put(4, 2).unwrap();
        set.put(2, 2).unwrap();
        assert_eq!(set.ranges().collect::<Vec<_>>(), [(0, 5)]);
    }

    #[test]
    fn a_range_may_end_at_the_greatest_integer_but_not_pass_it() {
        let mut set = RangeSet::new();
        set.put(i64::MAX - 1, 2).unwrap();
        assert_eq!(set.put(i64::MAX, 2), Err(Error::Malformed));
        assert_eq!(set.pop(2), Ok(i64::MAX - 1));
        assert!(set.is_empty());
        set.put(i64::MIN, u64::MAX).unwrap();
        set.put(i64::MAX, 1).unwrap();
        assert_eq!(set.ranges().collect::<Vec<_>>(), [(i64::MIN, i64::MAX)]);
        assert_eq!(set.pop(u64::MAX), Ok(i64::MIN));
        assert_eq!(set.get(i64::MAX, 1), Ok(()));
        assert!(set.is_empty());
    }

    #[test]
    fn nothing_is_no_range() {
        let mut set = RangeSet::new();
        assert_eq!(set.put(0, 0), Err(Error::Malformed));
        assert_eq!(set.get(0, 0), Err(Error::Malformed));
        assert_eq!(set.pop(0), Err(Error::Malformed));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Put(i64, u64),
        Pop(u64),
        Get(i64, u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0i64..64, 1u64..8).prop_map(|(s, n)| Op::Put(s, n)),
            (1u64..8).prop_map(Op::Pop),
            (0i64..64, 1u64..8).prop_map(|(s, n)| Op::Get(s, n)),
        ]
    }

    fn lowest_run(model: &BTreeSet<i64>, n: u64) -> Option<i64> {
        model
            .iter()
            .copied()
            .find(|&s| (s..s + n as i64).all(|i| model.contains(&i)))
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_integers(ops in prop::collection::vec(op(), 0..200)) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for op in ops {
                match op {
                    Op::Put(s, n) => {
                        let items = s..s + n as i64;
                        let free = items.clone().all(|i| !model.contains(&i));
                        prop_assert_eq!(set.put(s, n), if free { Ok(()) } else { Err(Error::Overlap) });
                        if free { model.extend(items); }
                    }
                    Op::Pop(n) => {
                        let run = lowest_run(&model, n);
                        prop_assert_eq!(set.pop(n).ok(), run);
                        if let Some(s) = run { for i in s..s + n as i64 { model.remove(&i); } }
                    }
                    Op::Get(s, n) => {
                        let items = s..s + n as i64;
                        let there = items.clone().all(|i| model.contains(&i));
                        prop_assert_eq!(set.get(s, n), if there { Ok(()) } else { Err(Error::Absent) });
                        if there { for i in items { model.remove(&i); } }
                    }
                }
                let flat: Vec<i64> = set.ranges().flat_map(|(s, e)| s..=e).collect();
                prop_assert_eq!(flat, model.iter().copied().collect::<Vec<_>>());
                let ranges: Vec<_> = set.ranges().collect();
                prop_assert!(ranges.windows(2).all(|w| w[0].1 + 1 < w[1].0), "unmerged: {ranges:?}");
            }
        }
    }
}
