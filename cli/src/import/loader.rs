//! Records into atomic batches, each with the progress of the import in it.

use std::collections::HashMap;
use std::time::Duration;

use cortenkv::{
    Batch, Clock, Db, ErrorKind, KEY_BYTES_MAX, Keyspace, RECORD_OVERHEAD_BYTES, SystemClock,
    VALUE_BYTES_MAX,
};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::import::OWN_KEYSPACES;
use crate::import::checkpoint::{Checkpoint, Progress};
use crate::import::source::{Position, Record, Source};

/// LIMIT: what a batch gathers. Large enough that a sync for each costs little, small enough that little is done again.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// LIMIT: records of a batch.
const BATCH_RECORDS_MAX: usize = 4096;

/// What came of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Records that were put.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Lines and files that are no record, or over a limit.
    pub skipped: u64,
    /// Records that had expired before.
    pub expired: u64,
}

/// The writing half of an import.
pub struct Loader<'a> {
    db: &'a Db,
    target: Keyspace,
    /// Keyspaces that records name.
    named: HashMap<String, Keyspace>,
    checkpoint: Checkpoint,
    batch: Batch,
    batch_bytes: usize,
    totals: Totals,
}

impl<'a> Loader<'a> {
    pub fn new(db: &'a Db, target: Keyspace, checkpoint: Checkpoint, start: &Progress) -> Self {
        let (named, batch, totals) = (HashMap::new(), db.batch(), start.totals);
        Loader { db, target, named, checkpoint, batch, batch_bytes: 0, totals }
    }

    /// The totals with those of earlier runs.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Adds what the source gave last; says why when it can never be written.
    ///
    /// # Errors
    /// When the batch before it cannot be committed.
    pub fn add(&mut self, record: Record, source: &dyn Source) -> Result<Option<String>> {
        if let Some(reason) = over_limit(&record) {
            return Ok(Some(reason));
        }
        let keyspace = match &record.keyspace {
            None => self.target.clone(),
            Some(name) => match self.named_keyspace(name)? {
                Ok(keyspace) => keyspace,
                Err(reason) => return Ok(Some(reason)),
            },
        };
        let Record { key, value, expires_at_ms, .. } = record;
        let payload_bytes = key.len() + value.len();
        let charge = payload_bytes + RECORD_OVERHEAD_BYTES;
        let is_full =
            self.batch_bytes + charge > BATCH_BYTES_MAX || self.batch.len() >= BATCH_RECORDS_MAX;
        if is_full && !self.batch.is_empty() {
            self.commit(source.position()?)?;
        }
        match expires_at_ms {
            None => self.batch.put(&keyspace, key, value),
            Some(at_ms) => {
                // As late as can be: the database counts the time that is left from this call.
                let Some(left_ms @ 1..) = at_ms.checked_sub(SystemClock.wall_ms()) else {
                    self.totals.expired += 1;
                    return Ok(None);
                };
                self.batch.put_with_ttl(&keyspace, key, value, Duration::from_millis(left_ms))
            }
        };
        self.batch_bytes += charge;
        self.totals.records += 1;
        self.totals.bytes += payload_bytes as u64;
        Ok(None)
    }

    /// Counts something that was not imported.
    pub fn skip(&mut self) {
        self.totals.skipped += 1;
    }

    /// Commits what was gathered, together with where to go on.
    ///
    /// # Errors
    /// As the database says; nothing of the batch is in it then.
    pub fn commit(&mut self, position: Option<Position>) -> Result<()> {
        if position.is_some() {
            let progress = Progress { position, totals: self.totals };
            self.checkpoint.save(self.db, &mut self.batch, &progress)?;
        }
        self.commit_batch()
    }

    /// Commits the rest together with the end of the import.
    ///
    /// # Errors
    /// As [`Loader::commit`].
    pub fn complete(&mut self) -> Result<()> {
        self.checkpoint.remove(&mut self.batch);
        self.commit_batch()
    }

    fn commit_batch(&mut self) -> Result<()> {
        let batch = std::mem::replace(&mut self.batch, self.db.batch());
        self.batch_bytes = 0;
        batch.commit()?;
        Ok(())
    }

    /// A keyspace by the name that a record gives; the inner error says why there can be none.
    fn named_keyspace(&mut self, name: &str) -> Result<Result<Keyspace, String>> {
        if let Some(keyspace) = self.named.get(name) {
            return Ok(Ok(keyspace.clone()));
        }
        if name.starts_with(OWN_KEYSPACES) {
            return Ok(Err(own(name)));
        }
        match self.db.keyspace(name) {
            Ok(keyspace) => {
                self.named.insert(name.to_owned(), keyspace.clone());
                Ok(Ok(keyspace))
            }
            Err(error) => match error.kind() {
                ErrorKind::InvalidArgument | ErrorKind::LimitExceeded => Ok(Err(error.to_string())),
                _ => Err(Failure::from(error)),
            },
        }
    }
}

/// Why nothing is imported into a keyspace of the tool.
pub fn own(name: &str) -> String {
    format!(
        "the keyspace name {name:?} starts with {OWN_KEYSPACES:?}, which this tool keeps for itself"
    )
}

fn over_limit(record: &Record) -> Option<String> {
    let (key, value) = (record.key.len(), record.value.len());
    if key > KEY_BYTES_MAX {
        return Some(format!("the key has {key} bytes; the limit is {KEY_BYTES_MAX}"));
    }
    (value > VALUE_BYTES_MAX)
        .then(|| format!("the value has {value} bytes; the limit is {VALUE_BYTES_MAX}"))
}
