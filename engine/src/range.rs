//! Bounds of a scan: ranges of byte keys, and the range that a prefix stands for.
//!
//! Keys compare byte by byte, a shorter one before its extensions; the empty key is the lowest of all.

use std::ops::{Bound, RangeBounds};

use bytes::Bytes;

/// The way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Reverse,
}

/// A walk over keys that owns what it pins.
pub(crate) trait KeySource: Send {
    /// Appends the next keys to `out`, at most `keys_max`; none at the end, and from then on.
    fn next_batch(&mut self, keys_max: usize, out: &mut Vec<Bytes>);
}

/// A range of keys. Any bounds are legal; crossed ones hold no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) start: Bound<Bytes>,
    pub(crate) end: Bound<Bytes>,
}

impl KeyRange {
    pub(crate) fn new<K: AsRef<[u8]>>(bounds: impl RangeBounds<K>) -> Self {
        let own = |bound: Bound<&K>| bound.map(|key| Bytes::copy_from_slice(key.as_ref()));
        KeyRange { start: own(bounds.start_bound()), end: own(bounds.end_bound()) }
    }

    pub(crate) fn all() -> Self {
        KeyRange { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// Every key that starts with `prefix`, itself included; the empty prefix stands for every key.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        KeyRange {
            start: Bound::Included(Bytes::copy_from_slice(prefix)),
            end: prefix_end(prefix).map_or(Bound::Unbounded, |end| Bound::Excluded(end.into())),
        }
    }

    pub(crate) fn start(&self) -> Bound<&[u8]> {
        self.start.as_ref().map(|key| &key[..])
    }

    pub(crate) fn end(&self) -> Bound<&[u8]> {
        self.end.as_ref().map(|key| &key[..])
    }

    /// True when the bounds are crossed or touch without a key between them, which sorted maps do not take.
    pub(crate) fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
                start >= end
            }
        }
    }
}

/// The lowest key above every key with this prefix; `None` for the empty prefix and for one of 0xFF bytes only.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    // U8: exact prefixes.
    #[test]
    fn a_prefix_ends_where_no_extension_of_it_can_be() {
        assert_eq!(prefix_end(b"user:"), Some(b"user;".to_vec()));
        assert_eq!(prefix_end(b"a\xFF\xFF"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xFF"), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn crossed_and_touching_bounds_are_empty() {
        let empty = |start: Bound<&str>, end: Bound<&str>| KeyRange::new((start, end)).is_empty();
        use Bound::{Excluded, Included, Unbounded};
        assert!(empty(Included("b"), Included("a")));
        assert!(empty(Included("a"), Excluded("a")));
        assert!(empty(Excluded("a"), Excluded("a")));
        assert!(empty(Excluded("a"), Included("a")));
        assert!(!empty(Included("a"), Included("a")));
        assert!(!empty(Unbounded, Excluded("")));
    }
}
