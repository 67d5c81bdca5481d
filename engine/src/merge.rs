//! Merge operators: what a keyspace makes of the value of a key and an operand.
//!
//! A merge is a read, a call of the operator and a write at one place in the log: the full result is stored, so nothing of an
//! operator is needed to read it, to compact it or to open the database.

use crate::error::{Error, ErrorKind, Result};

/// Makes the new value of a key; given to a keyspace by
/// [`KeyspaceOptions::merge_operator`](crate::KeyspaceOptions::merge_operator).
///
/// It is called again with the newer value when another write to the key comes between, so it should have no effect beside its
/// result. Closures of this form are operators:
///
/// ```
/// # use cortenkv::{Db, KeyspaceOptions};
/// let longest = |_key: &[u8], old: Option<&[u8]>, new: &[u8]| {
///     Ok(old.filter(|old| old.len() >= new.len()).unwrap_or(new).to_vec())
/// };
/// let db = Db::open_in_memory()?;
/// let words = db.keyspace_with("words", KeyspaceOptions::new().merge_operator(longest))?;
/// words.merge(b"w", b"long")?;
/// words.merge(b"w", b"hm")?;
/// assert_eq!(words.get(b"w")?.as_deref(), Some(&b"long"[..]));
/// # Ok::<(), cortenkv::Error>(())
/// ```
pub trait MergeOperator: Send + Sync + 'static {
    /// The new value of a key that has `old`, `None` if it has none.
    ///
    /// # Errors
    /// Whatever makes the merge impossible: it is the answer of the call, and nothing is written.
    fn merge(&self, key: &[u8], old: Option<&[u8]>, operand: &[u8]) -> Result<Vec<u8>>;
}

impl<F> MergeOperator for F
where
    F: Fn(&[u8], Option<&[u8]>, &[u8]) -> Result<Vec<u8>> + Send + Sync + 'static,
{
    fn merge(&self, key: &[u8], old: Option<&[u8]>, operand: &[u8]) -> Result<Vec<u8>> {
        self(key, old, operand)
    }
}

/// A sum: value and operand are numbers of 8 bytes, least significant byte first. A key without a value counts as 0.
///
/// The sum is checked: one that does not fit answers `LimitExceeded` and leaves the value as it was, since a count that
/// sticks or wraps would be a wrong one. What is not 8 bytes long answers `InvalidArgument`.
///
/// ```
/// # use cortenkv::{Db, KeyspaceOptions, merge::Counter};
/// let db = Db::open_in_memory()?;
/// let visits = db.keyspace_with("visits", KeyspaceOptions::new().merge_operator(Counter::I64))?;
/// visits.merge(b"page", 2_i64.to_le_bytes())?;
/// visits.merge(b"page", (-1_i64).to_le_bytes())?;
/// assert_eq!(visits.get(b"page")?.as_deref(), Some(&1_i64.to_le_bytes()[..]));
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Signed numbers.
    I64,
    /// Numbers from 0 up; it never goes down.
    U64,
}

impl MergeOperator for Counter {
    fn merge(&self, _: &[u8], old: Option<&[u8]>, operand: &[u8]) -> Result<Vec<u8>> {
        let old = old.map_or(Ok([0; 8]), |old| number("value", old))?;
        let operand = number("operand", operand)?;
        let sum = match self {
            Counter::I64 => {
                let sum = i64::from_le_bytes(old).checked_add(i64::from_le_bytes(operand));
                sum.map(i64::to_le_bytes)
            }
            Counter::U64 => {
                let sum = u64::from_le_bytes(old).checked_add(u64::from_le_bytes(operand));
                sum.map(u64::to_le_bytes)
            }
        };
        sum.map(Vec::from).ok_or_else(|| {
            Error::limit("the sum does not fit into 64 bits; the counter is as it was; reset it")
        })
    }
}

fn number(what: &str, bytes: &[u8]) -> Result<[u8; 8]> {
    bytes.try_into().map_err(|_| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("the {what} of a counter has {} bytes; it must have 8", bytes.len()),
        )
    })
}

/// Appends the operand to the value. The limit of a value holds for the result: beyond it the merge answers
/// `LimitExceeded`. As the full value is written each time, it is for short ones.
///
/// ```
/// # use cortenkv::{Db, KeyspaceOptions, merge::Append};
/// let db = Db::open_in_memory()?;
/// let notes = db.keyspace_with("notes", KeyspaceOptions::new().merge_operator(Append))?;
/// notes.merge(b"n", b"one,")?;
/// notes.merge(b"n", b"two")?;
/// assert_eq!(notes.get(b"n")?.as_deref(), Some(&b"one,two"[..]));
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append;

impl MergeOperator for Append {
    fn merge(&self, _: &[u8], old: Option<&[u8]>, operand: &[u8]) -> Result<Vec<u8>> {
        Ok([old.unwrap_or_default(), operand].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_refuses_what_does_not_fit_and_what_is_no_number() {
        let merge = |counter: Counter, old: Option<&[u8]>, operand: &[u8]| {
            counter.merge(b"k", old, operand).map_err(|error| error.kind().clone())
        };
        let one = 1_u64.to_le_bytes();
        assert_eq!(merge(Counter::U64, None, &one), Ok(one.to_vec()));
        let limit = Err(ErrorKind::LimitExceeded);
        assert_eq!(merge(Counter::U64, Some(&u64::MAX.to_le_bytes()), &one), limit);
        assert_eq!(merge(Counter::I64, Some(&i64::MAX.to_le_bytes()), &one), limit);
        let down = (-1_i64).to_le_bytes();
        assert_eq!(merge(Counter::I64, Some(&i64::MIN.to_le_bytes()), &down), limit);
        assert_eq!(merge(Counter::I64, None, &down), Ok(down.to_vec()));
        assert_eq!(merge(Counter::I64, None, b"1"), Err(ErrorKind::InvalidArgument));
        assert_eq!(merge(Counter::I64, Some(b""), &one), Err(ErrorKind::InvalidArgument));
    }
}
