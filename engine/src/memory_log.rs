//! The log of an in-memory database: records by location, gone with the process.
//!
//! # Layout
//! Locations count up as on disk, one unit of 8 bytes for each record whatever its size.
//!
//! # Invariants
//! Commits are numbered, stored and installed under one mutex: they are installed in their order.
//!
//! # Concurrency
//! The records are in shards, each under a reader-writer lock. A reader holds the lock of one while it takes hold of the
//! record, and shows it afterwards; it never waits for an installation.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use bytes::Bytes;

use crate::address::Location;
use crate::error::{ClosedReason, Error, Result};
use crate::install::{Installer, Installing};
use crate::log::Attempt;
use crate::pinned::Source;
use crate::record::{Change, KeyspaceId, RecordRef, SeqNo, Write};
use crate::stats::LogStats;
use crate::sync::{self, lock};
use crate::ticket::Ticket;

const UNIT_BYTES: u32 = 8;
/// LIMIT: 2^23 records a segment and 2^16 segments: an in-memory database takes 2^39 writes in its life.
const SEGMENT_BYTES: u32 = 64 << 20;
/// A power of two: neighbours in the log are in different shards.
const SHARDS: usize = 64;

/// A log without a disk.
pub(crate) struct MemoryLog {
    tail: Mutex<Tail>,
    shards: Box<[RwLock<Shard>]>,
    last_seq: AtomicU64,
    installer: Arc<Installer>,
}

type Shard = HashMap<Location, Arc<Stored>>;

struct Tail {
    next: Location,
    closed: bool,
    commits: u64,
    records: u64,
    bytes: u64,
}

struct Stored {
    seq: SeqNo,
    keyspace: KeyspaceId,
    expires_at_ms: Option<u64>,
    in_batch: bool,
    tombstone: bool,
    key: Bytes,
    value: Bytes,
}

impl Stored {
    fn show(&self, location: Location) -> RecordRef<'_> {
        RecordRef {
            location,
            seq: self.seq,
            keyspace: self.keyspace,
            tombstone: self.tombstone,
            expires_at_ms: self.expires_at_ms,
            in_batch: self.in_batch,
            key: &self.key,
            value: &self.value,
        }
    }
}

impl MemoryLog {
    pub(crate) fn new(installer: Arc<Installer>) -> Self {
        let tail = Tail {
            next: Location { segment: 1, offset: 0 },
            closed: false,
            commits: 0,
            records: 0,
            bytes: 0,
        };
        MemoryLog {
            tail: Mutex::new(tail),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            last_seq: AtomicU64::new(0),
            installer,
        }
    }

    pub(crate) fn append(&self, writes: &[Write<'_>], installing: Installing<'_>) -> Result<SeqNo> {
        self.commit(lock(&self.tail), writes, Some(installing))
    }

    pub(crate) fn append_async(&self, writes: &[Write<'_>]) -> Result<Ticket<SeqNo>> {
        self.commit(lock(&self.tail), writes, None).map(|seq| Ticket::ready(Ok(seq)))
    }

    /// Appends if `holds` says so; no other commit comes between.
    pub(crate) fn append_if(
        &self,
        writes: &[Write<'_>],
        installing: Installing<'_>,
        holds: impl FnOnce() -> Result<bool>,
    ) -> Result<Attempt<SeqNo>> {
        let tail = lock(&self.tail);
        match holds()? {
            true => self.commit(tail, writes, Some(installing)).map(Attempt::Appended),
            false => Ok(Attempt::Refused),
        }
    }

    fn commit(
        &self,
        mut tail: MutexGuard<'_, Tail>,
        writes: &[Write<'_>],
        installing: Option<Installing<'_>>,
    ) -> Result<SeqNo> {
        if tail.closed {
            return Err(Error::closed(ClosedReason::Clean));
        }
        if writes.is_empty() {
            return Ok(self.last_seq());
        }
        let seq = self.last_seq() + 1;
        let locations: Vec<Location> = writes.iter().map(|_| tail.take_location()).collect();
        tail.count(writes);
        let in_batch = writes.len() > 1;
        for (&at, write) in locations.iter().zip(writes) {
            let stored = Arc::new(store(seq, in_batch, write));
            sync::write(self.shard(at)).insert(at, stored);
        }
        // ORDERING: pairs with the acquire load in `last_seq`; whoever sees the number sees the records of the commit.
        self.last_seq.store(seq, Release);
        let shown = |(&at, write)| show(at, seq, in_batch, write);
        let records = locations.iter().zip(writes).map(shown);
        match installing {
            Some(installing) => installing.apply(records),
            None => self.installer.apply(records),
        }
        Ok(seq)
    }

    pub(crate) fn sync(&self) -> Result<SeqNo> {
        // Behind an append that is still being installed.
        let _tail = lock(&self.tail);
        Ok(self.last_seq())
    }

    /// Shows a record, under no lock; `None` when it was forgotten.
    pub(crate) fn read_with<R>(
        &self,
        location: Location,
        show: impl FnOnce(&RecordRef<'_>, Source<'_>) -> R,
    ) -> Option<R> {
        let stored = sync::read(self.shard(location)).get(&location).map(Arc::clone)?;
        Some(show(&stored.show(location), Source::Memory(&stored.value)))
    }

    /// Shows every record that is there, under no lock; of those that come or go meanwhile, some.
    pub(crate) fn for_each_record(&self, show: &mut dyn FnMut(&RecordRef<'_>)) {
        for shard in &self.shards {
            let records: Vec<(Location, Arc<Stored>)> = {
                let shard = sync::read(shard);
                shard.iter().map(|(at, stored)| (*at, Arc::clone(stored))).collect()
            };
            records.iter().for_each(|(at, stored)| show(&stored.show(*at)));
        }
    }

    pub(crate) fn forget(&self, location: Location) {
        // The value is dropped after the lock: freeing 32 MiB takes its time.
        let _stored = sync::write(self.shard(location)).remove(&location);
    }

    fn shard(&self, location: Location) -> &RwLock<Shard> {
        &self.shards[(location.offset / UNIT_BYTES) as usize % SHARDS]
    }

    pub(crate) fn last_seq(&self) -> SeqNo {
        // ORDERING: pairs with the release store in `append`.
        self.last_seq.load(Acquire)
    }

    pub(crate) fn durable_seq(&self) -> SeqNo {
        0
    }

    pub(crate) fn stats(&self) -> LogStats {
        let tail = lock(&self.tail);
        LogStats {
            commits: tail.commits,
            records: tail.records,
            records_held: self.shards.iter().map(|shard| sync::read(shard).len() as u64).sum(),
            bytes: tail.bytes,
            bytes_raw: tail.bytes,
            segments: tail.next.segment,
            ..LogStats::default()
        }
    }

    pub(crate) fn reset_stats(&self) {
        let mut tail = lock(&self.tail);
        (tail.commits, tail.records, tail.bytes) = (0, 0, 0);
    }

    pub(crate) fn step(&self) -> Result<bool> {
        Ok(false)
    }

    pub(crate) fn close(&self) -> Result<()> {
        lock(&self.tail).closed = true;
        Ok(())
    }
}

impl Tail {
    fn take_location(&mut self) -> Location {
        let taken = self.next;
        self.next.offset += UNIT_BYTES;
        if self.next.offset == SEGMENT_BYTES {
            self.next = Location { segment: taken.segment + 1, offset: 0 };
        }
        taken
    }

    fn count(&mut self, writes: &[Write<'_>]) {
        self.commits += 1;
        self.records += writes.len() as u64;
        self.bytes += writes.iter().map(|write| write.payload_bytes() as u64).sum::<u64>();
    }
}

fn store(seq: SeqNo, in_batch: bool, write: &Write<'_>) -> Stored {
    let (tombstone, value, expires_at_ms) = content(write);
    let (key, value) = (Bytes::copy_from_slice(write.key), Bytes::copy_from_slice(value));
    Stored { seq, keyspace: write.keyspace, expires_at_ms, in_batch, tombstone, key, value }
}

fn show<'a>(location: Location, seq: SeqNo, in_batch: bool, write: &Write<'a>) -> RecordRef<'a> {
    let (tombstone, value, expires_at_ms) = content(write);
    let (keyspace, key) = (write.keyspace, write.key);
    RecordRef { location, seq, keyspace, tombstone, expires_at_ms, in_batch, key, value }
}

/// Whether it deletes, the value, the expiry.
fn content<'a>(write: &Write<'a>) -> (bool, &'a [u8], Option<u64>) {
    match write.change {
        Change::Put { value, expires_at_ms } => (false, value, expires_at_ms),
        Change::Delete => (true, &[], None),
    }
}
