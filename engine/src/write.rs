//! The write path, on one screen: check, gate, append; the log installs.
//!
//! # Invariants
//! - A commit is refused before a byte of it is written, or it is in the log with all its records under one number.
//! - Nothing is acknowledged after a failure, not even a commit of nothing (I7).
//! - Of several writes to one key a commit carries the last only (`batch.rs` sees to it): equal numbers on one key
//!   would make the tombstone win whatever was meant.
//!
//! # Layout
//! `conditional` has the commits that depend on something, `range_read` what a transaction saw of a range.
//!
//! # Concurrency
//! A commit that waits for its sync holds nothing while it waits: the leader of the sync installs it. One that installs itself
//! shares the gate from before its append until it has, so with the gate alone it is known what is in the log and not in
//! the index: what waits for a sync, and nothing else.

mod conditional;
mod range_read;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::install::Installing;
use crate::options::Durability;
use crate::record::{Change, SeqNo, Write};
use crate::sync;
use crate::ticket::Ticket;

pub(crate) use conditional::{Check, Expected, Premise, Premises, Refused};
pub(crate) use range_read::RangeRead;

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

impl Core {
    /// Commits; returns once the commit is visible and as durable as asked.
    pub(crate) fn commit(&self, writes: &[Write<'_>], asked: Option<Durability>) -> Result<SeqNo> {
        let (durability, commit_bytes) = self.admit(writes, asked)?;
        self.compaction.delay(commit_bytes);
        let installing = self.installing(self.prefetch(writes), durability);
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
        let installing = self.installing(self.prefetch(writes), durability);
        let appended = self.log.append_async(writes, durability, installing);
        appended.inspect_err(|error| self.note_failure(error))
    }

    /// Waits until every commit that is in the log is in the index too.
    pub(crate) fn settle(&self) -> Result<()> {
        self.log.install_pending().inspect_err(|error| self.note_failure(error))?;
        // Those that install themselves have the gate until then.
        drop(sync::write(&self.gate));
        Ok(())
    }

    /// Waits for the commits that are under way; every one up to the number that this returns is in the index, and was in
    /// the log before.
    pub(crate) fn settled_seq(&self) -> Result<SeqNo> {
        let seq = self.log.last_seq();
        self.settle()?;
        Ok(seq)
    }

    /// What a commit takes along to the log. One that installs itself takes the gate, for as long as that is not done; the
    /// others are installed by the leader of their sync.
    #[inline]
    pub(crate) fn installing(&self, hash: Option<u64>, durability: Durability) -> Installing<'_> {
        let installs_itself = !durability.is_durable() && self.log.durable().is_some();
        Installing { core: self, hash, gate: installs_itself.then(|| sync::read(&self.gate)) }
    }

    /// Asks for the places in the index that a small commit is about to change and for the records that it is about to
    /// replace: while it is encoded and appended they come closer, which halves the cost of an overwrite in memory that the
    /// caches do not hold. Returns the hash of the key of a single write.
    #[inline]
    fn prefetch(&self, writes: &[Write<'_>]) -> Option<u64> {
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
        hash
    }

    fn prefetch_several(&self, writes: &[Write<'_>]) {
        writes.iter().for_each(|write| self.index.prefetch(write.keyspace, write.key));
        let old = writes.iter().filter_map(|write| self.index.guess(write.keyspace, write.key));
        old.for_each(|address| self.prefetch_record(address));
    }

    /// Refuses what may not or cannot be written, and says how durable it is to be and how large it is.
    #[inline]
    pub(crate) fn admit(
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
        commit_bytes += check_write(write)?;
    }
    check_commit(writes.len(), commit_bytes)?;
    Ok(commit_bytes)
}

/// Refuses a write that is beyond the limits by itself, and says what it is charged.
#[inline]
pub(crate) fn check_write(write: &Write<'_>) -> Result<usize> {
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
    Ok(write.payload_bytes() + RECORD_OVERHEAD_BYTES)
}

/// Refuses a commit that is too large as a whole.
#[inline]
pub(crate) fn check_commit(records: usize, commit_bytes: usize) -> Result<()> {
    if commit_bytes > COMMIT_BYTES_MAX {
        return Err(Error::limit(format!(
            "the commit has {records} records and {commit_bytes} bytes; the limit is {COMMIT_BYTES_MAX} bytes; split it"
        )));
    }
    Ok(())
}
