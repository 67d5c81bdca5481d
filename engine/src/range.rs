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
}
