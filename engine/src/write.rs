//! The write path, on one screen: check, gate, append; the log installs.
//!
//! # Invariants
//! - A commit is refused before a byte of it is written, or it is in the log with all its records under one number.
//! - Nothing is acknowledged after a failure, not even a commit of nothing (I7).
//! - Of several writes to one key a commit carries the last only (`batch.rs` sees to it): equal numbers on one key
//!   would make the tombstone win whatever was meant.
//!
//! # Concurrency
//! Commits share the gate, and leave it once they are installed; tickets leave it early and raise `unsettled`. A
//! conditional commit takes the gate alone and settles what tickets left, so its checks see every write that is in
//! the log before it, installed or not. Its cost: one conditional commit at a time, each waiting out its own sync, and
//! plain commits wait meanwhile.

use std::sync::atomic::Ordering::{Acquire, Release};

use crate::core::Core;
use crate::error::{Error, Result};
use crate::install::Installing;
use crate::options::Durability;
use crate::record::{Change, KeyspaceId, SeqNo, Write};
use crate::sync;
use crate::ticket::Ticket;

/// LIMIT: the longest key in bytes.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// LIMIT: the longest value in bytes.
pub const VALUE_BYTES_MAX: usize = (32 << 20) - (128 << 10);
/// LIMIT: the largest commit in bytes, with [`RECORD_OVERHEAD_BYTES`] for each record.
pub const COMMIT_BYTES_MAX: usize = 32 << 20;
/// What a commit is charged for a record beside its key and value; at least what the log really needs.
pub const RECORD_OVERHEAD_BYTES: usize = 64;

/// Installation looks after larger commits by itself, 16 records at a time.
const PREFETCHED_WRITES_MAX: usize = 4;

/// What must hold of a key for a conditional commit to happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check<'a> {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) key: &'a [u8],
    pub(crate) expected: Expected<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected<'a> {
    Absent,
    Value(&'a [u8]),
    Seq(SeqNo),
}

/// The place of the first check that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailedCheck(pub(crate) usize);

impl Core {
    /// Commits; returns once the commit is visible and as durable as asked.
    pub(crate) fn commit(&self, writes: &[Write<'_>], asked: Option<Durability>) -> Result<SeqNo> {
        let (durability, commit_bytes) = self.admit(writes, asked)?;
        self.compaction.delay(commit_bytes);
        let installing = self.prefetch(writes);
        let _shared = sync::read(&self.gate);
        let appended = self.log.append(writes, durability, installing);
        appended.inspect_err(|error| self.note_failure(error))
    }

    /// Commits; the ticket resolves when [`Core::commit`] would return.
    pub(crate) fn commit_async(
        &self,
        writes: &[Write<'_>],
        asked: Option<Durability>,
    ) -> Result<Ticket<SeqNo>> {
        // Not delayed: whoever asks for a ticket must not sleep.
        let (durability, _) = self.admit(writes, asked)?;
        let _shared = sync::read(&self.gate);
        // ORDERING: under the gate, which orders it before the swap of any conditional commit.
        self.unsettled.store(true, Release);
        self.log.append_async(writes, durability).inspect_err(|error| self.note_failure(error))
    }

    /// Commits if every check holds at that moment; else nothing is written.
    pub(crate) fn commit_if(
        &self,
        writes: &[Write<'_>],
        checks: &[Check<'_>],
        asked: Option<Durability>,
    ) -> Result<Result<SeqNo, FailedCheck>> {
        let (durability, commit_bytes) = self.admit(writes, asked)?;
        self.compaction.delay(commit_bytes);
        let _alone = sync::write(&self.gate);
        self.settle()?;
        for (n, check) in checks.iter().enumerate() {
            if !self.holds(check)? {
                return Ok(Err(FailedCheck(n)));
            }
        }
        let installing = Installing { core: self, hash: None };
        let appended = self.log.append(writes, durability, installing);
        appended.inspect_err(|error| self.note_failure(error)).map(Ok)
    }

    /// Waits until every commit that a ticket stands for is installed. The caller has the gate alone.
    pub(crate) fn settle(&self) -> Result<()> {
        // ORDERING: pairs with the store in `commit_async`, through the gate.
        if self.unsettled.load(Acquire) {
            // DURABILITY: not for durability; a sync returns only after its leader has installed what it covers.
            self.log.sync().inspect_err(|error| self.note_failure(error))?;
            self.unsettled.store(false, Release);
        }
        Ok(())
    }

    /// Waits for the commits that are under way; every one up to the number that this returns is in the index, and was in
    /// the log before. Other writers wait meanwhile.
    pub(crate) fn settled_seq(&self) -> Result<SeqNo> {
        let _alone = sync::write(&self.gate);
        self.settle()?;
        Ok(self.log.last_seq())
    }

    fn holds(&self, check: &Check<'_>) -> Result<bool> {
        let now_ms = self.now_ms();
        let held =
            self.look_up(check.keyspace, check.key, now_ms, |record| match check.expected {
                Expected::Absent => false,
                Expected::Value(value) => record.value == value,
                Expected::Seq(seq) => record.seq == seq,
            })?;
        Ok(held.unwrap_or(matches!(check.expected, Expected::Absent)))
    }

    /// Asks for the places in the index that a small commit is about to change and for the records that it is about to
    /// replace: while it is encoded and appended they come closer, which halves the cost of an overwrite in memory that the
    /// caches do not hold. Returns what the installation will need to know.
    #[inline]
    fn prefetch(&self, writes: &[Write<'_>]) -> Installing<'_> {
        let mut hash = None;
        match writes {
            [write] => {
                let hash = *hash.insert(self.index.hash(write.keyspace, write.key));
                if let Some(address) = self.index.guess_hashed(hash) {
                    self.prefetch_record(address);
                }
            }
            _ if writes.len() <= PREFETCHED_WRITES_MAX => self.prefetch_several(writes),
            _ => {}
        }
        Installing { core: self, hash }
    }

    fn prefetch_several(&self, writes: &[Write<'_>]) {
        writes.iter().for_each(|write| self.index.prefetch(write.keyspace, write.key));
        let old = writes.iter().filter_map(|write| self.index.guess(write.keyspace, write.key));
        old.for_each(|address| self.prefetch_record(address));
    }

    /// Refuses what may not or cannot be written, and says how durable it is to be and how large it is.
    #[inline]
    fn admit(
        &self,
        writes: &[Write<'_>],
        asked: Option<Durability>,
    ) -> Result<(Durability, usize)> {
        self.check_writable()?;
        let commit_bytes = check_limits(writes)?;
        Ok((self.options.durability_of(asked)?, commit_bytes))
    }
}

#[inline]
fn check_limits(writes: &[Write<'_>]) -> Result<usize> {
    let mut commit_bytes = 0;
    for write in writes {
        if write.key.len() > KEY_BYTES_MAX {
            return Err(Error::limit(format!(
                "the key has {} bytes; the limit is {KEY_BYTES_MAX}; store a hash of it and keep the key in the value",
                write.key.len()
            )));
        }
        if let Change::Put { value, .. } = write.change
            && value.len() > VALUE_BYTES_MAX
        {
            return Err(Error::limit(format!(
                "the value has {} bytes; the limit is {VALUE_BYTES_MAX}; split it over several keys",
                value.len()
            )));
        }
        commit_bytes += write.payload_bytes() + RECORD_OVERHEAD_BYTES;
    }
    if commit_bytes > COMMIT_BYTES_MAX {
        return Err(Error::limit(format!(
            "the commit has {} records and {commit_bytes} bytes; the limit is {COMMIT_BYTES_MAX} bytes; split it",
            writes.len()
        )));
    }
    Ok(commit_bytes)
}
