//! Commits that happen only if what they depend on still holds: compare-and-swap, preconditions, transactions.
//!
//! # How it is decided
//! 1. The gate is taken alone for a moment, and a mark is taken in the log: everything before it is in the index.
//! 2. What the commit depends on is judged by the index, under no lock.
//! 3. The log shows the records behind the mark, installed or not, the last of them under its append lock; what they say comes
//!    after what the index says. If everything holds the commit is appended under the same hold of that lock.
//!
//! So it is exact at the place in the log that the commit gets. In memory all of it is under the lock of the log, where nothing
//! is ever appended and not installed.
//!
//! # Concurrency
//! The wait for the sync comes after, under no lock: conditional commits share syncs with all others.
//!
//! # Failure
//! A refusal that a commit has caused which is not visible yet is told only once it is: else a power cut could take back what
//! somebody has acted on.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use super::range_read::RangeRead;
use crate::core::{Core, Probe};
use crate::error::Result;
use crate::log::{Attempt, Log, Mark};
use crate::options::Durability;
use crate::record::{KeyspaceId, RecordRef, SeqNo, Write};
use crate::sync;
use crate::ticket::Ticket;
use crate::ttl;

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

impl Expected<'_> {
    /// Whether it is this record that is expected to be the newest of the key.
    fn is_met_by(&self, record: &RecordRef<'_>, now_ms: u64) -> bool {
        let is_dead = record.tombstone || ttl::is_expired(record.expires_at_ms, now_ms);
        match self {
            Expected::Absent => is_dead,
            Expected::Value(value) => !is_dead && record.value == *value,
            Expected::Seq(seq) => !is_dead && record.seq == *seq,
        }
    }
}

/// Why a conditional commit did not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) by: Premise,
    pub(crate) keyspace: KeyspaceId,
    pub(crate) key: Bytes,
    /// The commit that the log shows behind the mark to be the cause.
    seq: Option<SeqNo>,
}

/// What a commit depends on, by its place among its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Premise {
    Check(usize),
    Range(usize),
}

/// Everything that a commit depends on, and how it stands.
#[derive(Debug)]
pub(crate) struct Premises<'a> {
    /// By keyspace and key, to be found by records.
    checks: Vec<Standing<'a>>,
    ranges: &'a [RangeRead],
    /// The first change of a range that was found.
    changed: Option<Refused>,
    now_ms: u64,
}

#[derive(Debug)]
struct Standing<'a> {
    check: Check<'a>,
    place: usize,
    holds: bool,
    /// The commit that has decided last, if the log showed it.
    seq: Option<SeqNo>,
}

impl<'a> Premises<'a> {
    /// Of keys and of ranges, with expiry judged as of a moment.
    pub(crate) fn new(
        checks: impl IntoIterator<Item = Check<'a>>,
        ranges: &'a [RangeRead],
        now_ms: u64,
    ) -> Self {
        let standing = |(place, check)| Standing { check, place, holds: true, seq: None };
        let mut checks: Vec<_> = checks.into_iter().enumerate().map(standing).collect();
        checks.sort_unstable_by_key(|standing| (standing.check.keyspace, standing.check.key));
        Premises { checks, ranges, changed: None, now_ms }
    }

    /// Judges by the index, anew.
    ///
    /// # Errors
    /// `Corruption` when a record in question cannot be read.
    pub(crate) fn look_up(&mut self, core: &Arc<Core>) -> Result<()> {
        for Standing { check, holds, seq, .. } in &mut self.checks {
            let met = core.look_up(check.keyspace, check.key, self.now_ms, |record| {
                check.expected.is_met_by(record, self.now_ms)
            })?;
            *holds = met.unwrap_or(matches!(check.expected, Expected::Absent));
            *seq = None;
        }
        self.changed = None;
        for (n, range) in self.ranges.iter().enumerate() {
            if let Some(key) = range.first_change(core)? {
                let by = Premise::Range(n);
                self.changed = Some(Refused { by, keyspace: range.keyspace, key, seq: None });
                break;
            }
        }
        Ok(())
    }

    /// Takes note of a record of the log; they come in log order.
    pub(crate) fn visit(&mut self, record: &RecordRef<'_>) {
        let of = (record.keyspace, record.key);
        let first = self.checks.partition_point(|standing| {
            (standing.check.keyspace, standing.check.key).cmp(&of) == Ordering::Less
        });
        let theirs = self.checks[first..].iter_mut();
        for standing in theirs.take_while(|s| (s.check.keyspace, s.check.key) == of) {
            standing.holds = standing.check.expected.is_met_by(record, self.now_ms);
            standing.seq = Some(record.seq);
        }
        if self.changed.is_none()
            && let Some(n) = self.ranges.iter().position(|range| range.is_changed_by(record))
        {
            self.changed = Some(Refused {
                by: Premise::Range(n),
                keyspace: record.keyspace,
                key: Bytes::copy_from_slice(record.key),
                seq: Some(record.seq),
            });
        }
    }

    pub(crate) fn hold(&self) -> bool {
        self.changed.is_none() && self.checks.iter().all(|standing| standing.holds)
    }

    /// The first that does not hold, by its place.
    fn refusal(&self) -> Option<Refused> {
        let failed = self.checks.iter().filter(|standing| !standing.holds);
        let failed = failed.min_by_key(|standing| standing.place).map(|standing| Refused {
            by: Premise::Check(standing.place),
            keyspace: standing.check.keyspace,
            key: Bytes::copy_from_slice(standing.check.key),
            seq: standing.seq,
        });
        failed.or_else(|| self.changed.clone())
    }
}

impl Core {
    /// Commits if every premise holds at that moment; else nothing is written. Without writes it only judges.
    pub(crate) fn commit_if(
        self: &Arc<Self>,
        writes: &[Write<'_>],
        mut premises: Premises<'_>,
        asked: Option<Durability>,
    ) -> Result<Result<SeqNo, Refused>> {
        let (durability, commit_bytes) = self.admit(writes, asked)?;
        self.compaction.delay(commit_bytes);
        let outcome = self.attempt(&mut premises, |mark, premises| {
            self.log.append_if(writes, durability, mark, premises, self)
        })?;
        if let Err(refused) = &outcome
            && let Some(seq) = self.unseen_cause(refused)?
        {
            self.log.wait_durable(seq).inspect_err(|error| self.note_failure(error))?;
        }
        Ok(outcome)
    }

    /// As [`Core::commit_if`]; the ticket resolves when that would return.
    pub(crate) fn commit_if_async(
        self: &Arc<Self>,
        writes: &[Write<'_>],
        mut premises: Premises<'_>,
        asked: Option<Durability>,
    ) -> Result<Ticket<Result<SeqNo, Refused>>> {
        let (durability, _) = self.admit(writes, asked)?;
        let outcome = self.attempt(&mut premises, |mark, premises| {
            self.log.append_if_async(writes, durability, mark, premises, self)
        })?;
        match outcome {
            Ok(ticket) => Ok(ticket.map(Ok)),
            Err(refused) => Ok(match self.unseen_cause(&refused)? {
                Some(seq) => self.log.durable_async(seq)?.map(|_| Err(refused)),
                None => Ticket::ready(Ok(Err(refused))),
            }),
        }
    }

    fn attempt<T>(
        self: &Arc<Self>,
        premises: &mut Premises<'_>,
        mut append: impl FnMut(&Mark, &mut Premises<'_>) -> Result<Attempt<T>>,
    ) -> Result<Result<T, Refused>> {
        loop {
            let mark = self.mark();
            if let Log::Durable(_) = self.log {
                premises.look_up(self)?;
            }
            let attempt = append(&mark, premises).inspect_err(|error| self.note_failure(error))?;
            match attempt {
                Attempt::Appended(appended) => return Ok(Ok(appended)),
                Attempt::Refused => {
                    if let Some(refused) = premises.refusal() {
                        self.counters.transactions.note_conflict();
                        return Ok(Err(refused));
                    }
                }
                // A job of compaction took a segment away meanwhile; the next mark is newer than that.
                Attempt::Outdated => {}
            }
        }
    }

    /// A place in the log before which everything is in the index.
    fn mark(&self) -> Mark {
        // Commits that install themselves have the gate until they did; the log knows about the others.
        let _alone = sync::write(&self.gate);
        self.log.mark()
    }

    /// The commit that caused a refusal, unless readers see it already.
    fn unseen_cause(&self, refused: &Refused) -> Result<Option<SeqNo>> {
        let Some(seq) = refused.seq else { return Ok(None) };
        // One that installs itself, and was appended before the refusal, is in the index behind this.
        drop(sync::write(&self.gate));
        let newest = self.newest_seq(refused.keyspace, &refused.key)?;
        Ok((newest < Some(seq)).then_some(seq))
    }

    /// The number of the newest record of a key in the index, a tombstone's too.
    fn newest_seq(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<SeqNo>> {
        let mut newest = None;
        let mut failure = None;
        self.index.find(keyspace, key, |address| {
            let is_it = |record: &RecordRef<'_>| record.keyspace == keyspace && record.key == key;
            match self.read_at(address, |record, _| is_it(record).then_some(record.seq)) {
                Ok(Some(seq)) => newest = newest.max(seq),
                Ok(None) => return Probe::Gone,
                Err(error) => failure = Some(error),
            }
            // Not `Same`, which would end the search: there may be several after a record could not be read.
            Probe::Other
        });
        match (newest, failure) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }
}
