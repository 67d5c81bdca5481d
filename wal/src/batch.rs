//! A commit in the making: records that become visible and durable together or not at all.

use crate::error::{Error, Result};
use crate::format::{
    EXPIRY_MS_MAX, RECORD_OVERHEAD_BYTES_MAX, RecordFields, encode_record, set_in_group,
};

/// LIMIT: the longest key.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// LIMIT: the longest value.
pub const VALUE_BYTES_MAX: usize = (32 << 20) - (128 << 10);
/// LIMIT: the largest commit, encoded.
pub const COMMIT_BYTES_MAX: usize = 32 << 20;

/// A reusable buffer of encoded records. One append of it is one commit, with one sequence number.
///
/// Several operations on one key are kept in order; the last of them decides only if the handler says so, so an owner
/// of an index removes duplicates first.
///
/// ```
/// let mut batch = cortenkv_wal::Batch::new();
/// batch.put(0, b"key", b"value")?;
/// batch.delete(0, b"old")?;
/// assert_eq!(batch.len(), 2);
/// # Ok::<(), cortenkv_wal::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
    priority: bool,
    first: First,
}

/// What the first record says, so that nobody has to read it back.
#[derive(Debug, Clone, Copy, Default)]
struct First {
    keyspace: u32,
    delete: bool,
    expires_at_ms: Option<u64>,
    key_at: usize,
    key_bytes: usize,
    value_bytes: usize,
}

impl Batch {
    /// An empty batch; allocates nothing.
    pub fn new() -> Self {
        Batch::default()
    }

    /// Adds a put.
    ///
    /// # Errors
    /// `LimitExceeded` for a key, value or batch beyond the limits; the batch is as before.
    pub fn put(&mut self, keyspace: u32, key: &[u8], value: &[u8]) -> Result<()> {
        self.add(keyspace, false, None, key, value)
    }

    /// Adds a put that ends at a wall-clock time in milliseconds; times beyond 2^48 - 1 are taken as that.
    ///
    /// # Errors
    /// As [`Batch::put`].
    pub fn put_expiring(
        &mut self,
        keyspace: u32,
        key: &[u8],
        value: &[u8],
        expires_at_ms: u64,
    ) -> Result<()> {
        self.add(keyspace, false, Some(expires_at_ms), key, value)
    }

    /// Adds a delete.
    ///
    /// # Errors
    /// As [`Batch::put`].
    pub fn delete(&mut self, keyspace: u32, key: &[u8]) -> Result<()> {
        self.add(keyspace, true, None, key, &[])
    }

    /// Lets the commit draw on the reserve that a full disk leaves, so that deletes still work then.
    pub fn draw_on_reserve(&mut self) {
        self.priority = true;
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// True when there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Empties the batch and keeps its buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.priority = false;
    }

    /// The records, unfinished: sequence and place are still missing.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    /// The fields of the first record; those of all, where there is one.
    #[inline]
    pub(crate) fn first(&self) -> RecordFields<'_> {
        let First { keyspace, delete, expires_at_ms, key_at, key_bytes, value_bytes } = self.first;
        let (key, rest) = self.bytes[key_at..].split_at(key_bytes);
        let (value, in_group) = (&rest[..value_bytes], self.count > 1);
        RecordFields { keyspace, delete, in_group, expires_at_ms, key, value }
    }

    pub(crate) fn record_count(&self) -> u32 {
        self.count
    }

    pub(crate) fn is_priority(&self) -> bool {
        self.priority
    }

    fn add(
        &mut self,
        keyspace: u32,
        delete: bool,
        expires_at_ms: Option<u64>,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let bytes = self.bytes.len() + RECORD_OVERHEAD_BYTES_MAX + key.len() + value.len();
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX || bytes > COMMIT_BYTES_MAX {
            return Err(beyond_limits(key, value, bytes));
        }
        if self.count == 1 {
            set_in_group(&mut self.bytes, 0, true);
        }
        let in_group = self.count > 0;
        let expires_at_ms = expires_at_ms.map(|at_ms| at_ms.min(EXPIRY_MS_MAX));
        let fields = RecordFields { keyspace, delete, in_group, expires_at_ms, key, value };
        let key_at = encode_record(&mut self.bytes, &fields);
        if !in_group {
            let (key_bytes, value_bytes) = (key.len(), value.len());
            self.first = First { keyspace, delete, expires_at_ms, key_at, key_bytes, value_bytes };
        }
        self.count += 1;
        Ok(())
    }
}

/// The error of a record that is too long, or that makes the commit so.
#[cold]
fn beyond_limits(key: &[u8], value: &[u8], commit_bytes: usize) -> Error {
    if key.len() > KEY_BYTES_MAX {
        let bytes = key.len();
        return Error::limit(format!("the key has {bytes} bytes; the limit is {KEY_BYTES_MAX}"));
    }
    if value.len() > VALUE_BYTES_MAX {
        return Error::limit(format!(
            "the value has {} bytes; the limit is {VALUE_BYTES_MAX}; split it over several keys",
            value.len()
        ));
    }
    Error::limit(format!(
        "the commit would have {commit_bytes} bytes; the limit is {COMMIT_BYTES_MAX}; commit what is there first"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn limits_are_refused_and_leave_the_batch_as_it_was() {
        let mut batch = Batch::new();
        batch.put(0, b"k", b"v").unwrap();
        let before = batch.bytes.clone();
        let long_key = vec![0; KEY_BYTES_MAX + 1];
        let long_value = vec![0; VALUE_BYTES_MAX + 1];
        for result in [
            batch.put(0, &long_key, b""),
            batch.put(0, b"k", &long_value),
            batch.delete(0, &long_key),
        ] {
            assert_eq!(*result.unwrap_err().kind(), ErrorKind::LimitExceeded);
        }
        let value = vec![0; VALUE_BYTES_MAX];
        batch.put(0, &[0; KEY_BYTES_MAX], &value[..VALUE_BYTES_MAX - 64]).unwrap();
        assert!(
            batch.put(0, b"k", &long_value[..128 << 10]).is_err(),
            "the commit as a whole is bounded"
        );
        batch.bytes.truncate(before.len());
        assert_eq!(before.len(), batch.bytes.len());
    }

    #[test]
    fn the_largest_key_and_value_fit_one_commit() {
        let mut batch = Batch::new();
        batch.put(u32::MAX, &[0; KEY_BYTES_MAX], &vec![0; VALUE_BYTES_MAX]).unwrap();
        assert!(batch.bytes() <= COMMIT_BYTES_MAX);
    }
}
