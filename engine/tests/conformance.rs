//! Every engine runs the conformance suite: the database in memory, the database on disk, and a plain
//! sorted map, which shows that the trait asks for nothing that only Cortenkv has.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use cortenkv::storage_engine::{
    AtomicScope, Capabilities, Cursor, Expectation, KeyspaceId, Operation, Precondition, ScanRange,
    StorageEngine, Versioned, WriteBatch, WriteOutcome,
};
use cortenkv::{
    ClosedReason, Db, Durability, Error, ErrorKind, KEY_BYTES_MAX, Result, SeqNo, Ticket,
    VALUE_BYTES_MAX, conformance,
};

#[test]
fn the_database_in_memory_conforms() {
    conformance::run(&|| Arc::new(Db::open_in_memory().unwrap()));
}

#[test]
fn the_database_on_disk_conforms_in_every_mode() {
    if !Db::open_in_memory().unwrap().stats().build.wal {
        return;
    }
    let modes = [
        Durability::group(),
        Durability::Always,
        Durability::EveryN(3),
        Durability::Interval(Duration::from_millis(1)),
        Durability::Checkpoint,
        Durability::None,
    ];
    for durability in modes {
        println!("durability {durability}");
        let root = tempfile::tempdir().unwrap();
        let databases = AtomicU32::new(0);
        conformance::run(&|| {
            let name = databases.fetch_add(1, Relaxed).to_string();
            let builder = Db::builder(root.path().join(name)).durability(durability);
            Arc::new(builder.build().unwrap())
        });
    }
}

#[test]
fn a_sorted_map_conforms() {
    conformance::run(&|| Arc::new(MapEngine::default()));
}

/// A sorted map behind one mutex.
#[derive(Default)]
struct MapEngine(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: Vec<String>,
    entries: BTreeMap<(KeyspaceId, Bytes), Versioned>,
    seq: SeqNo,
    closed: bool,
}

impl MapEngine {
    fn open(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.0.lock().unwrap();
        if state.closed {
            let kind = ErrorKind::Closed(ClosedReason::Clean);
            return Err(Error::new(kind, "the map was closed"));
        }
        if state.names.is_empty() {
            state.names.push("default".into());
        }
        Ok(state)
    }
}

impl State {
    fn holds(&self, precondition: &Precondition) -> bool {
        let found = self.entries.get(&(precondition.keyspace, precondition.key.clone()));
        match &precondition.expected {
            Expectation::Absent => found.is_none(),
            Expectation::Value(value) => found.is_some_and(|found| found.value == *value),
            Expectation::Seq(seq) => found.is_some_and(|found| found.seq == *seq),
        }
    }

    fn write(&mut self, batch: WriteBatch) -> Result<WriteOutcome> {
        let mut bytes = 0;
        for operation in &batch.operations {
            let (key, value_bytes) = match operation {
                Operation::Put { key, value, .. } => (key, value.len()),
                Operation::Delete { key, .. } => (key, 0),
            };
            bytes += key.len() + value_bytes;
            if key.len() > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX || bytes > 32 << 20 {
                return Err(Error::new(ErrorKind::LimitExceeded, "too long"));
            }
        }
        if let Some(n) = batch.preconditions.iter().position(|check| !self.holds(check)) {
            return Ok(WriteOutcome::Conflict(n));
        }
        self.seq += 1;
        for operation in batch.operations {
            match operation {
                Operation::Put { keyspace, key, value, .. } => {
                    self.entries.insert((keyspace, key), Versioned { value, seq: self.seq });
                }
                Operation::Delete { keyspace, key } => {
                    self.entries.remove(&(keyspace, key));
                }
            }
        }
        Ok(WriteOutcome::Committed(self.seq))
    }
}

impl StorageEngine for MapEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ordered: true,
            atomic_batch: AtomicScope::Global,
            snapshot: false,
            transaction: false,
            ttl: false,
            cas: true,
            durable_ack: false,
            value_bytes_max: VALUE_BYTES_MAX as u64,
        }
    }

    fn keyspace(&self, name: &str) -> Ticket<KeyspaceId> {
        Ticket::ready(self.open().and_then(|mut state| {
            if name.is_empty() || name.len() > 255 || name.contains(['\0', '/']) {
                return Err(Error::new(ErrorKind::InvalidArgument, "a bad name"));
            }
            let at = state.names.iter().position(|known| known == name).unwrap_or_else(|| {
                state.names.push(name.into());
                state.names.len() - 1
            });
            Ok(KeyspaceId(at as u32))
        }))
    }

    fn keyspaces(&self) -> Ticket<Vec<String>> {
        Ticket::ready(self.open().map(|state| {
            let mut names = state.names.clone();
            names.sort();
            names
        }))
    }

    fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Ticket<Option<Versioned>> {
        let key = (keyspace, Bytes::copy_from_slice(key));
        Ticket::ready(self.open().map(|state| state.entries.get(&key).cloned()))
    }

    fn multi_get(&self, keyspace: KeyspaceId, keys: &[&[u8]]) -> Ticket<Vec<Option<Versioned>>> {
        Ticket::ready(keys.iter().map(|key| self.get(keyspace, key).wait()).collect())
    }

    fn write(&self, batch: WriteBatch) -> Ticket<WriteOutcome> {
        Ticket::ready(self.open().and_then(|mut state| state.write(batch)))
    }

    fn scan(&self, keyspace: KeyspaceId, range: ScanRange) -> Ticket<Box<dyn Cursor>> {
        Ticket::ready(self.open().map(|_| {
            let state = Arc::clone(&self.0);
            Box::new(MapCursor { state, keyspace, range }) as Box<dyn Cursor>
        }))
    }

    fn sync(&self) -> Ticket<SeqNo> {
        Ticket::ready(self.open().map(|state| state.seq))
    }

    fn close(&self) -> Ticket<()> {
        self.0.lock().unwrap().closed = true;
        Ticket::ready(Ok(()))
    }
}

struct MapCursor {
    state: Arc<Mutex<State>>,
    keyspace: KeyspaceId,
    range: ScanRange,
}

impl Cursor for MapCursor {
    fn next_batch(&mut self, bytes_max: usize) -> Ticket<Vec<(Bytes, Bytes)>> {
        let state = self.state.lock().unwrap();
        let bounds = (self.range.start.clone(), self.range.end.clone());
        let mut found: Vec<(Bytes, Bytes)> = state
            .entries
            .iter()
            .filter(|((keyspace, key), _)| *keyspace == self.keyspace && bounds.contains(key))
            .map(|((_, key), found)| (key.clone(), found.value.clone()))
            .collect();
        if self.range.reverse {
            found.reverse();
        }
        let mut bytes = 0;
        let fitting = found.iter().take_while(|(key, value)| {
            let fits = bytes < bytes_max.max(1);
            bytes += (key.len() + value.len()).max(1);
            fits
        });
        let count = fitting.count();
        found.truncate(count);
        if let Some((key, _)) = found.last() {
            match self.range.reverse {
                false => self.range.start = Bound::Excluded(key.clone()),
                true => self.range.end = Bound::Excluded(key.clone()),
            }
        }
        Ticket::ready(Ok(found))
    }
}
