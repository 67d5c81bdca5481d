//! Writes to one key that depend on what it holds.
//!
//! # Concurrency
//! Each is decided at the place in the log that it gets, after everything before it, whether readers see that already or
//! not. They share syncs with all other writes.

use std::fmt;

use bytes::Bytes;

use super::Keyspace;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Lifetime;
use crate::record::{Change, SeqNo};
use crate::transaction::TransactOptions;
use crate::write::{Check, Expected, Premises, Refused};

/// LIMIT: how often [`Keyspace::fetch_and_update`] tries. Of those who meet, one comes through each time.
const ATTEMPTS_MAX: u32 = 10_000;

/// Why [`Keyspace::compare_and_swap`] did not write: the key holds something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CasConflict;

impl fmt::Display for CasConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key does not hold the expected value; read it again and decide anew")
    }
}

impl std::error::Error for CasConflict {}

impl Keyspace {
    /// Writes `new` (`None` = deletes) if the key holds `expected` (`None` = nothing), both at one moment. What it writes lives
    /// as long as the keyspace says.
    ///
    /// A conflict with a write that is not visible yet is told once that one is.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// assert!(db.compare_and_swap(b"k", None, Some(b"1"))?.is_ok());
    /// assert!(db.compare_and_swap(b"k", None, Some(b"2"))?.is_err());
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`] and [`Keyspace::get`]. A conflict is not an error: it is the inner result.
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CasConflict>> {
        let expected = expected.map_or(Expected::Absent, Expected::Value);
        let outcome = self.write_if(key.as_ref(), expected, new)?;
        Ok(outcome.map(|_| ()).map_err(|_| CasConflict))
    }

    /// Sets the value of a key that has none; false, and nothing written, if it has one.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// assert!(db.put_if_absent(b"leader", b"node 1")?);
    /// assert!(!db.put_if_absent(b"leader", b"node 2")?);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::compare_and_swap`].
    pub fn put_if_absent(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<bool> {
        self.compare_and_swap(key, None, Some(value.as_ref())).map(|outcome| outcome.is_ok())
    }

    /// Replaces the value of a key by what `f` makes of it (`None` = nothing there, or to be deleted), with no other write to
    /// the key between, and returns the value that was replaced. The new one lives as long as the keyspace says, counted from
    /// now.
    ///
    /// When another write comes between, `f` is called again with what that one has written.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// let count = |old: Option<&[u8]>| Some(vec![old.map_or(0, |count| count[0]) + 1]);
    /// assert_eq!(db.fetch_and_update(b"visits", count)?, None);
    /// assert_eq!(db.fetch_and_update(b"visits", count)?.as_deref(), Some(&[1][..]));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::compare_and_swap`], and `Conflict` when other writes came between in each of 10,000 attempts.
    pub fn fetch_and_update(
        &self,
        key: impl AsRef<[u8]>,
        mut f: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Bytes>> {
        let replaced = self.update(key.as_ref(), |old| Ok(f(old)))?;
        Ok(replaced.and_then(|(old, _)| old))
    }

    /// Replaces the value of a key by what the merge operator of the keyspace makes of it and of `operand`, with no other write
    /// to the key between, and returns the number of the commit.
    ///
    /// The operator is given to [`Db::keyspace_with`](crate::Db::keyspace_with) in every opening of the database, since it is
    /// not stored; what is logged is the full value. The result lives as long as the keyspace says, counted from now, whatever
    /// was left of the value before.
    ///
    /// ```
    /// # use cortenkv::{Db, KeyspaceOptions, merge};
    /// # let db = Db::open_in_memory()?;
    /// let options = KeyspaceOptions::new().merge_operator(merge::Counter::U64);
    /// let visits = db.keyspace_with("visits", options)?;
    /// visits.merge(b"page", 1_u64.to_le_bytes())?;
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` when the keyspace has no merge operator; that of the operator; as
    /// [`Keyspace::fetch_and_update`]. Nothing was written then.
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<SeqNo> {
        let (key, operand) = (key.as_ref(), operand.as_ref());
        let operator = self.merge_operator()?;
        let merged = self.update(key, |old| operator.merge(key, old, operand).map(Some))?;
        Ok(merged.map_or_else(|| self.handle.core.log.last_seq(), |(_, seq)| seq))
    }

    /// Replaces the value of a key by what `f` makes of it; what was replaced, and the number of the commit, unless there was
    /// nothing to do.
    fn update(
        &self,
        key: &[u8],
        mut f: impl FnMut(Option<&[u8]>) -> Result<Option<Vec<u8>>>,
    ) -> Result<Option<(Option<Bytes>, SeqNo)>> {
        let options = TransactOptions::default();
        for conflicts in 1..=ATTEMPTS_MAX {
            let old = self.get_entry(key)?;
            let new = f(old.as_ref().map(|old| old.value.as_ref()))?;
            if old.is_none() && new.is_none() {
                return Ok(None);
            }
            let expected = old.as_ref().map_or(Expected::Absent, |old| Expected::Seq(old.seq));
            if let Ok(seq) = self.write_if(key, expected, new.as_deref())? {
                return Ok(Some((old.map(|old| old.value), seq)));
            }
            self.handle.core.pause(&options, conflicts);
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "other writes to the key came between in {ATTEMPTS_MAX} attempts; try again later"
            ),
        ))
    }

    fn write_if(
        &self,
        key: &[u8],
        expected: Expected<'_>,
        new: Option<&[u8]>,
    ) -> Result<Result<SeqNo, Refused>> {
        let core = &self.handle.core;
        let change = match new {
            Some(value) => {
                Change::Put { value, expires_at_ms: self.expires_at_ms(Lifetime::Default) }
            }
            None => Change::Delete,
        };
        let check = Check { keyspace: self.id, key, expected };
        let premises = Premises::new([check], &[], core.now_ms());
        core.commit_if(&[self.write(key, change)], premises, None)
    }
}
