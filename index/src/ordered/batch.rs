//! A reusable buffer of keys, each with the hint that came with it.

use super::hint::Hint;

/// A reusable buffer of keys, filled by [`KeyCursor::next_batch`](super::KeyCursor::next_batch): two allocations for
/// any number of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyBatch {
    bytes: Vec<u8>,
    keys: Vec<Key>,
}

/// Where a key ends in the bytes, and what came with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    end: usize,
    hint: Option<Hint>,
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
        KeyBatch { bytes: Vec::with_capacity(bytes), keys: Vec::with_capacity(keys) }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The bytes of all keys together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The key at this place, in the order of the cursor.
    #[inline]
    pub fn get(&self, n: usize) -> Option<&[u8]> {
        let end = self.keys.get(n)?.end;
        let start = if n == 0 { 0 } else { self.keys[n - 1].end };
        Some(&self.bytes[start..end])
    }

    /// Where the live record of the key at this place was some time ago, if anybody wrote it down.
    #[inline]
    pub fn hint(&self, n: usize) -> Option<Hint> {
        self.keys.get(n)?.hint
    }

    /// The keys in the order of the cursor.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        (0..self.len()).map(|n| self.get(n).unwrap_or_default())
    }

    /// Forgets the keys and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.keys.clear();
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
        hints: impl Iterator<Item = Option<Hint>>,
    ) {
        let base = self.bytes.len().wrapping_sub(from);
        self.bytes.extend_from_slice(bytes);
        let ends = ends.iter().map(|&end| base.wrapping_add(end as usize));
        self.keys.extend(ends.zip(hints).map(|(end, hint)| Key { end, hint }));
    }

    /// Appends a part of another batch.
    pub(crate) fn extend_from_batch(&mut self, other: &KeyBatch, from: usize, to: usize) {
        let Some((start, end)) = other.start(from).zip(other.start(to)) else { return };
        let base = self.bytes.len().wrapping_sub(start);
        self.bytes.extend_from_slice(&other.bytes[start..end]);
        let keys = other.keys[from..to].iter();
        self.keys.extend(keys.map(|key| Key { end: base.wrapping_add(key.end), ..*key }));
    }

    /// Where a key starts, or the one behind the last would.
    fn start(&self, n: usize) -> Option<usize> {
        n.checked_sub(1).map_or(Some(0), |before| self.keys.get(before).map(|key| key.end))
    }

    /// Makes room for so many keys and bytes.
    pub(crate) fn reserve(&mut self, keys: usize, bytes: usize) {
        self.keys.reserve(keys);
        self.bytes.reserve(bytes);
    }

    /// Appends a key; for cursors.
    #[inline]
    pub fn push_with_hint(&mut self, key: &[u8], hint: Option<Hint>) {
        self.bytes.extend_from_slice(key);
        self.keys.push(Key { end: self.bytes.len(), hint });
    }

    /// Appends the first `length` of these bytes as a key: a copy of a fixed size costs less than the call of one that
    /// may have any.
    #[inline]
    pub(crate) fn push_start_of<const N: usize>(
        &mut self,
        bytes: &[u8; N],
        length: usize,
        hint: Option<Hint>,
    ) {
        let end = self.bytes.len() + length;
        self.bytes.extend_from_slice(bytes);
        self.bytes.truncate(end);
        self.keys.push(Key { end, hint });
    }
}

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
        batch.push_start_of(b"def", 2, Some(hint));
        assert_eq!((batch.get(4), batch.hint(4), batch.bytes()), (Some(&b"de"[..]), Some(hint), 5));
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!((batch.get(0), batch.hint(0)), (None, None));
    }
}
