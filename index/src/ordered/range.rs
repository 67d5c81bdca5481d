//! Bounds of a scan: ranges of byte keys, and the range that a prefix stands for.
//!
//! Keys compare byte by byte, a shorter one before its extensions; the empty key is the lowest of all.

use std::cmp::Ordering;
use std::ops::{Bound, RangeBounds};

use super::Direction;

/// A range of keys that owns its bounds. Any bounds are legal; crossed ones hold no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    start: Bound<Box<[u8]>>,
    end: Bound<Box<[u8]>>,
}

impl KeyRange {
    /// The range with these bounds: `KeyRange::new("a".."b")`, `KeyRange::new(from..)`.
    pub fn new<K: AsRef<[u8]>>(bounds: impl RangeBounds<K>) -> Self {
        KeyRange {
            start: bounds.start_bound().map(|key| key.as_ref().into()),
            end: bounds.end_bound().map(|key| key.as_ref().into()),
        }
    }

    /// Every key.
    pub fn all() -> Self {
        KeyRange { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// Every key that starts with `prefix`, `prefix` itself included; the empty prefix stands for every key.
    pub fn prefix(prefix: &[u8]) -> Self {
        KeyRange {
            start: Bound::Included(prefix.into()),
            end: prefix_end(prefix).map_or(Bound::Unbounded, |end| Bound::Excluded(end.into())),
        }
    }

    /// The lower bound.
    pub fn start(&self) -> Bound<&[u8]> {
        self.start.as_ref().map(|key| &**key)
    }

    /// The upper bound.
    pub fn end(&self) -> Bound<&[u8]> {
        self.end.as_ref().map(|key| &**key)
    }

    /// True if the key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        (self.start(), self.end()).contains(key)
    }

    /// True if no key at all can lie in the range.
    pub fn is_empty(&self) -> bool {
        // The lowest key that the lower bound admits: the key itself, or the key with a zero byte after it.
        let (lowest, is_past) = match &self.start {
            Bound::Included(key) => (&**key, false),
            Bound::Excluded(key) => (&**key, true),
            Bound::Unbounded => (&[][..], false),
        };
        match (&self.end, is_past) {
            (Bound::Unbounded, _) => false,
            (Bound::Included(end), false) => &**end < lowest,
            (Bound::Excluded(end), false) => &**end <= lowest,
            (Bound::Included(end), true) => &**end <= lowest,
            (Bound::Excluded(end), true) => {
                &**end <= lowest || end.strip_prefix(lowest) == Some(&[0][..])
            }
        }
    }

    /// Leaves only the keys after `key`.
    pub(crate) fn start_after(&mut self, key: &[u8]) {
        self.start = Bound::Excluded(key.into());
    }

    /// Leaves only the keys before `key`.
    pub(crate) fn end_before(&mut self, key: &[u8]) {
        self.end = Bound::Excluded(key.into());
    }

    /// True if a walk that comes to the key has left the range.
    #[inline]
    pub(crate) fn is_past(&self, key: &[u8], direction: Direction) -> bool {
        match (direction, self.end(), self.start()) {
            (Direction::Forward, Bound::Unbounded, _)
            | (Direction::Reverse, _, Bound::Unbounded) => false,
            (Direction::Forward, Bound::Included(end), _) => key > end,
            (Direction::Forward, Bound::Excluded(end), _) => key >= end,
            (Direction::Reverse, _, Bound::Included(start)) => key < start,
            (Direction::Reverse, _, Bound::Excluded(start)) => key <= start,
        }
    }
}

/// A key with its first 16 bytes as a number, zeros behind its end: a lower number means a lower key, equal ones
/// decide nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headed<'a> {
    pub(crate) head: u128,
    pub(crate) key: &'a [u8],
}

impl<'a> Headed<'a> {
    #[inline]
    pub(crate) fn new(key: &'a [u8]) -> Self {
        Headed { head: head_of(key), key }
    }

    /// The head in the sense of a direction: of two that differ the lower is that of the key that a walk meets first.
    #[inline]
    pub(crate) fn head_towards(self, direction: Direction) -> u128 {
        match direction {
            Direction::Forward => self.head,
            Direction::Reverse => !self.head,
        }
    }

    /// Compares in the sense of a direction: the key that a walk meets first is less.
    #[inline]
    pub(crate) fn compare(self, other: Headed<'_>, direction: Direction) -> Ordering {
        let order = match self.head.cmp(&other.head) {
            Ordering::Equal => self.key.cmp(other.key),
            decided => decided,
        };
        match direction {
            Direction::Forward => order,
            Direction::Reverse => order.reverse(),
        }
    }
}

/// The first 16 bytes of a key, see [`Headed`].
#[inline]
pub(crate) fn head_of(key: &[u8]) -> u128 {
    if let Some(first) = key.first_chunk() {
        return u128::from_be_bytes(*first);
    }
    let mut bytes = [0; 16];
    bytes[..key.len()].copy_from_slice(key);
    u128::from_be_bytes(bytes)
}

/// The lowest key that is above every key with this prefix; `None` if there is none, that is for the empty prefix and
/// for one of 0xFF bytes only.
///
/// ```
/// use cortenkv_index::prefix_end;
/// assert_eq!(prefix_end(b"user:"), Some(b"user;".to_vec()));
/// assert_eq!(prefix_end(b"a\xFF\xFF"), Some(b"b".to_vec()));
/// assert_eq!(prefix_end(b"\xFF"), None);
/// assert_eq!(prefix_end(b""), None);
/// ```
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
