//! What any store must do to stand behind Cortenkv's tools: one object-safe trait that also fits engines behind a
//! network.
//!
//! # Layout
//! Every call returns a [`Ticket`]; the native engine's are ready at once, except those of writes and syncs in durable
//! modes. Keyspaces are arguments, scans are cursors that bring a bounded number of bytes, batches carry
//! preconditions. `conformance` (feature `test-util`) is the suite that every engine runs.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::core::Core;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::options::Durability;
use crate::range::KeyRange;
use crate::record::{Change, SeqNo, Write};
use crate::scan::Scan;
use crate::ticket::Ticket;
use crate::write::{Check, Expected, Premise, Premises, VALUE_BYTES_MAX};

/// A keyspace of an engine, from [`StorageEngine::keyspace`]. Means nothing to another engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyspaceId(pub u32);

/// What an engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Scans come in key order.
    pub ordered: bool,
    /// How far the atomicity of a batch reaches.
    pub atomic_batch: AtomicScope,
    /// Reads at a fixed moment.
    pub snapshot: bool,
    /// Transactions over several calls.
    pub transaction: bool,
    /// Entries that end by themselves.
    pub ttl: bool,
    /// Preconditions in batches.
    pub cas: bool,
    /// A write may be acknowledged when it survives a power cut.
    pub durable_ack: bool,
    /// The longest value in bytes.
    pub value_bytes_max: u64,
}

/// How far the atomicity of a batch reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomicScope {
    /// The whole store.
    Global,
    /// The keys of one shard.
    Shard,
    /// A single key.
    Key,
}

/// A value and the number of the commit that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// The number of the commit.
    pub seq: SeqNo,
}

/// Writes with preconditions; all happen, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// What is written; of several operations on one key the last counts.
    pub operations: Vec<Operation>,
    /// What must hold at the moment of the commit.
    pub preconditions: Vec<Precondition>,
    /// The durability; `None` is that of the engine.
    pub durability: Option<Durability>,
}

/// One write of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets a value.
    Put {
        /// Where.
        keyspace: KeyspaceId,
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// Life from the moment of the call.
        ttl: Option<Duration>,
    },
    /// Removes a key.
    Delete {
        /// Where.
        keyspace: KeyspaceId,
        /// The key.
        key: Bytes,
    },
}

/// What must hold of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// Where.
    pub keyspace: KeyspaceId,
    /// The key.
    pub key: Bytes,
    /// What it must hold.
    pub expected: Expectation,
}

/// What a key is expected to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing, or an expired entry.
    Absent,
    /// This value.
    Value(Bytes),
    /// The value that this commit wrote.
    Seq(SeqNo),
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It is in the store, under this number.
    Committed(SeqNo),
    /// Nothing was written: the precondition at this place does not hold.
    Conflict(usize),
}

/// The entries that a scan is to bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRange {
    /// Lower bound.
    pub start: Bound<Bytes>,
    /// Upper bound.
    pub end: Bound<Bytes>,
    /// From the highest key down.
    pub reverse: bool,
}

impl ScanRange {
    /// Every entry, from the lowest key up.
    pub fn all() -> Self {
        ScanRange { start: Bound::Unbounded, end: Bound::Unbounded, reverse: false }
    }

    /// The entries whose keys start with a prefix.
    pub fn prefix(prefix: &[u8]) -> Self {
        let KeyRange { start, end } = KeyRange::prefix(prefix);
        ScanRange { start, end, reverse: false }
    }

    /// The same entries the other way round.
    #[must_use]
    pub fn rev(mut self) -> Self {
        self.reverse = !self.reverse;
        self
    }
}

/// A scan under way.
pub trait Cursor: Send {
    /// The next entries: at least one, and no more than come to about `bytes_max` bytes of keys and values; none at the
    /// end.
    fn next_batch(&mut self, bytes_max: usize) -> Ticket<Vec<(Bytes, Bytes)>>;
}

/// A key-value store.
pub trait StorageEngine: Send + Sync {
    /// What the engine can do; calls beyond it answer `Unsupported`.
    fn capabilities(&self) -> Capabilities;

    /// The keyspace of this name, created where it does not exist.
    fn keyspace(&self, name: &str) -> Ticket<KeyspaceId>;

    /// The names of the keyspaces, in order.
    fn keyspaces(&self) -> Ticket<Vec<String>>;

    /// The value of a key.
    fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Ticket<Option<Versioned>>;

    /// The values of many keys, in their order.
    fn multi_get(&self, keyspace: KeyspaceId, keys: &[&[u8]]) -> Ticket<Vec<Option<Versioned>>>;

    /// Writes a batch, if its preconditions hold.
    fn write(&self, batch: WriteBatch) -> Ticket<WriteOutcome>;

    /// A cursor over a range of a keyspace.
    fn scan(&self, keyspace: KeyspaceId, range: ScanRange) -> Ticket<Box<dyn Cursor>>;

    /// Makes everything acknowledged durable.
    fn sync(&self) -> Ticket<SeqNo>;

    /// Ends the engine for all its users.
    fn close(&self) -> Ticket<()>;
}

impl StorageEngine for Db {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ordered: self.core().options.is_ordered(),
            atomic_batch: AtomicScope::Global,
            snapshot: true,
            transaction: true,
            ttl: true,
            cas: true,
            durable_ack: matches!(self.core().log, Log::Durable(_)),
            value_bytes_max: VALUE_BYTES_MAX as u64,
        }
    }

    fn keyspace(&self, name: &str) -> Ticket<KeyspaceId> {
        Ticket::ready(Db::keyspace(self, name).map(|keyspace| KeyspaceId(keyspace.id())))
    }

    fn keyspaces(&self) -> Ticket<Vec<String>> {
        Ticket::ready(Db::keyspaces(self))
    }

    fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Ticket<Option<Versioned>> {
        Ticket::ready(versioned(self.core(), keyspace, key))
    }

    fn multi_get(&self, keyspace: KeyspaceId, keys: &[&[u8]]) -> Ticket<Vec<Option<Versioned>>> {
        let core = self.core();
        Ticket::ready(keys.iter().map(|key| versioned(core, keyspace, key)).collect())
    }

    fn write(&self, batch: WriteBatch) -> Ticket<WriteOutcome> {
        match write(self.core(), &batch) {
            Ok(ticket) => ticket,
            Err(error) => Ticket::ready(Err(error)),
        }
    }

    fn scan(&self, keyspace: KeyspaceId, range: ScanRange) -> Ticket<Box<dyn Cursor>> {
        let core = self.core();
        let opened = core.check_open().and_then(|()| match core.options.is_ordered() {
            true => Ok(()),
            false => Err(Error::unsupported(
                "there is no key order: enable the feature `ordered`, and open with `ordered(true)`",
            )),
        });
        Ticket::ready(opened.map(|()| {
            let ScanRange { start, end, reverse } = range;
            let scan = Scan::new(Arc::clone(core), keyspace.0, KeyRange { start, end });
            Box::new(ScanCursor { scan, reverse }) as Box<dyn Cursor>
        }))
    }

    fn sync(&self) -> Ticket<SeqNo> {
        self.sync_async().unwrap_or_else(|error| Ticket::ready(Err(error)))
    }

    fn close(&self) -> Ticket<()> {
        Ticket::ready(Db::close(self))
    }
}

fn versioned(core: &Core, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Versioned>> {
    let entry = core.get_entry(keyspace.0, key)?;
    Ok(entry.map(|entry| Versioned { value: entry.value, seq: entry.seq }))
}

fn write(core: &Arc<Core>, batch: &WriteBatch) -> Result<Ticket<WriteOutcome>> {
    let now_ms = core.now_ms();
    let writes = batch.operations.iter().map(|operation| match operation {
        Operation::Put { keyspace, key, value, ttl } => {
            let settings = core.catalog.settings(keyspace.0);
            let expires_at_ms = settings.expires_at_ms((*ttl).into(), || now_ms);
            Write { keyspace: keyspace.0, key, change: Change::Put { value, expires_at_ms } }
        }
        Operation::Delete { keyspace, key } => {
            Write { keyspace: keyspace.0, key, change: Change::Delete }
        }
    });
    let writes = crate::batch::keep_last(writes);
    if let Some(write) = writes.iter().find(|write| !core.catalog.contains(write.keyspace)) {
        return Err(Error::invalid(format!(
            "keyspace {} does not exist; ask the engine for it by name first",
            write.keyspace
        )));
    }
    if batch.preconditions.is_empty() {
        let ticket = core.commit_async(&writes, batch.durability)?;
        return Ok(ticket.map(WriteOutcome::Committed));
    }
    let premises = Premises::new(batch.preconditions.iter().map(check), &[], now_ms);
    let ticket = core.commit_if_async(&writes, premises, batch.durability)?;
    Ok(ticket.map(|outcome| match outcome.map_err(|refused| refused.by) {
        Ok(seq) => WriteOutcome::Committed(seq),
        Err(Premise::Check(n) | Premise::Range(n)) => WriteOutcome::Conflict(n),
    }))
}

fn check(precondition: &Precondition) -> Check<'_> {
    let expected = match &precondition.expected {
        Expectation::Absent => Expected::Absent,
        Expectation::Value(value) => Expected::Value(value),
        Expectation::Seq(seq) => Expected::Seq(*seq),
    };
    Check { keyspace: precondition.keyspace.0, key: &precondition.key, expected }
}

/// A scan of the native engine, cut into batches.
struct ScanCursor {
    scan: Scan,
    reverse: bool,
}

impl Cursor for ScanCursor {
    fn next_batch(&mut self, bytes_max: usize) -> Ticket<Vec<(Bytes, Bytes)>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max.max(1) {
            let next = if self.reverse { self.scan.next_back() } else { self.scan.next() };
            match next {
                Some(Ok((key, value))) => {
                    // An empty key with an empty value counts too, so that a batch ends.
                    bytes += (key.len() + value.len()).max(1);
                    entries.push((key, value));
                }
                Some(Err(error)) => return Ticket::ready(Err(error)),
                None => break,
            }
        }
        Ticket::ready(Ok(entries))
    }
}
