//! A reusable buffer of keys, each with the hint that came with it.

use super::hint::Hint;

/// A reusable buffer of keys, filled by [`KeyCursor::next_batch`](super::KeyCursor::next_batch): three allocations for
/// any number of keys.
#[derive(Debug, Clone, Default)]
pub struct KeyBatch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// One for each key, at least as far as the last key that has one.
    hints: Vec<Option<Hint>>,
}

impl KeyBatch {
    /// A cursor ends a batch early once it holds this many bytes of keys.
    pub const BYTES_MAX: usize = 1 << 20; // LIMIT: memory of one step of a scan over keys of 64 KiB.

    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for some keys and their bytes.
    pub(crate) fn with_capacity(keys: usize, bytes: usize) -> Self {
        let (bytes, ends) = (Vec::with_capacity(bytes), Vec::with_capacity(keys));
        KeyBatch { bytes, ends, hints: Vec::new() }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all keys together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The key at this place, in the order of the cursor.
    pub fn get(&self, n: usize) -> Option<&[u8]> {
        let end = *self.ends.get(n)?;
        let start = if n == 0 { 0 } else { self.ends[n - 1] };
        Some(&self.bytes[start..end])
    }

    /// Where the live record of the key at this place was some time ago, if anybody wrote it down.
    pub fn hint(&self, n: usize) -> Option<Hint> {
        *self.hints.get(n)?
    }

    /// The keys in the order of the cursor.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        (0..self.len()).map(|n| self.get(n).unwrap_or_default())
    }

    /// Forgets the keys and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.hints.clear();
    }

    /// Appends a key without a hint; for cursors.
    pub fn push(&mut self, key: &[u8]) {
        self.push_with_hint(key, None);
    }

    /// Appends keys that stand one behind the other in `bytes`, with a hint for each. `ends` counts from `from`, where
    /// the first key starts.
    #[inline]
    pub(crate) fn extend(
        &mut self,
        bytes: &[u8],
        ends: &[u32],
        from: usize,
        hints: impl ExactSizeIterator<Item = Option<Hint>>,
    ) {
        let base = self.bytes.len().wrapping_sub(from);
        self.extend_hints(hints);
        self.bytes.extend_from_slice(bytes);
        self.ends.extend(ends.iter().map(|&end| base.wrapping_add(end as usize)));
    }

    /// Appends a part of another batch, whose keys have no hints.
    pub(crate) fn extend_from_batch(&mut self, other: &KeyBatch, from: usize, to: usize) {
        let Some((start, end)) = other.start(from).zip(other.start(to)) else { return };
        let base = self.bytes.len().wrapping_sub(start);
        self.bytes.extend_from_slice(&other.bytes[start..end]);
        self.ends.extend(other.ends[from..to].iter().map(|&end| base.wrapping_add(end)));
    }

    /// Where a key starts, or the one behind the last would.
    fn start(&self, n: usize) -> Option<usize> {
        n.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())
    }

    fn extend_hints(&mut self, hints: impl ExactSizeIterator<Item = Option<Hint>>) {
        if self.hints.len() < self.ends.len() {
            self.hints.resize(self.ends.len(), None);
        }
        self.hints.extend(hints);
    }

    /// Makes room for so many keys and bytes.
    pub(crate) fn reserve(&mut self, keys: usize, bytes: usize) {
        self.ends.reserve(keys);
        self.hints.reserve(keys);
        self.bytes.reserve(bytes);
    }

    /// Appends a key; for cursors.
    #[inline]
    pub fn push_with_hint(&mut self, key: &[u8], hint: Option<Hint>) {
        self.bytes.extend_from_slice(key);
        if hint.is_some() {
            if self.hints.len() < self.ends.len() {
                self.hints.resize(self.ends.len(), None);
            }
            self.hints.push(hint);
        }
        self.ends.push(self.bytes.len());
    }
}

impl PartialEq for KeyBatch {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |n| self.hint(n) == other.hint(n);
        self.bytes == other.bytes && self.ends == other.ends && (0..self.len()).all(is_same)
    }
}

impl Eq for KeyBatch {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;

    #[test]
    fn a_batch_keeps_empty_keys_and_hints_apart() {
        let hint = Hint { segment: 7, address: Address::MIN };
        let mut batch = KeyBatch::new();
        for (key, hint) in [(&b""[..], None), (b"a", Some(hint)), (b"", None), (b"bc", None)] {
            batch.push_with_hint(key, hint);
        }
        assert_eq!(batch.iter().collect::<Vec<_>>(), [&b""[..], b"a", b"", b"bc"]);
        assert_eq!((batch.len(), batch.bytes(), batch.get(4)), (4, 3, None));
        assert_eq!((batch.hint(0), batch.hint(1), batch.hint(4)), (None, Some(hint), None));
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!((batch.get(0), batch.hint(0)), (None, None));
    }
}
