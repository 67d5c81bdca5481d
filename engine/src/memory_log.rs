//! The log of an in-memory database: records by location, gone with the process.
//!
//! # Layout
//! Locations count up as on disk, one unit of 8 bytes for each record whatever its size.
//!
//! # Invariants
//! Commits are numbered, stored and installed under one mutex: they are installed in their order.
//!
//! # Concurrency
//! Readers share a reader-writer lock over the records and never wait for an installation.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;

use crate::address::Location;
use crate::error::{ClosedReason, Error, Result};
use crate::install::Installer;
use crate::options::Durability;
use crate::record::{Change, KeyspaceId, RecordRef, SeqNo, Write};
use crate::stats::LogStats;
use crate::sync::{lock, read, write};
use crate::ticket::Ticket;

const UNIT_BYTES: u32 = 8;
/// LIMIT: 2^23 records a segment and 2^16 segments: an in-memory database takes 2^39 writes in its life.
const SEGMENT_BYTES: u32 = 64 << 20;

/// A log without a disk.
pub(crate) struct MemoryLog {
    tail: Mutex<Tail>,
    records: RwLock<HashMap<Location, Stored>>,
    last_seq: AtomicU64,
    installer: Arc<Installer>,
}

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
    key: Bytes,
    /// `None` for a tombstone.
    value: Option<Bytes>,
}

impl Stored {
    fn as_ref(&self, location: Location) -> RecordRef<'_> {
        RecordRef {
            location,
            seq: self.seq,
            keyspace: self.keyspace,
            tombstone: self.value.is_none(),
            expires_at_ms: self.expires_at_ms,
            key: &self.key,
            value: self.value.as_deref().unwrap_or_default(),
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
            records: RwLock::default(),
            last_seq: AtomicU64::new(0),
            installer,
        }
    }

    pub(crate) fn append(&self, writes: &[Write<'_>], _: Durability) -> Result<SeqNo> {
        let mut tail = lock(&self.tail);
        if tail.closed {
            return Err(Error::closed(ClosedReason::Clean));
        }
        if writes.is_empty() {
            return Ok(self.last_seq());
        }
        let seq = self.last_seq() + 1;
        let locations: Vec<Location> = writes.iter().map(|_| tail.take_location()).collect();
        tail.count(writes);
        write(&self.records)
            .extend(locations.iter().zip(writes).map(|(&at, write)| (at, store(seq, write))));
        // ORDERING: pairs with the acquire load in `last_seq`; whoever sees the number sees the records of the commit.
        self.last_seq.store(seq, Release);
        self.installer.apply(locations.iter().zip(writes).map(|(&at, write)| show(at, seq, write)));
        Ok(seq)
    }

    pub(crate) fn append_async(
        &self,
        writes: &[Write<'_>],
        durability: Durability,
    ) -> Result<Ticket<SeqNo>> {
        self.append(writes, durability).map(|seq| Ticket::ready(Ok(seq)))
    }

    pub(crate) fn sync(&self) -> Result<SeqNo> {
        // Behind an append that is still being installed.
        let _tail = lock(&self.tail);
        Ok(self.last_seq())
    }

    pub(crate) fn read_with<R>(
        &self,
        location: Location,
        show: impl FnOnce(RecordRef<'_>) -> R,
    ) -> Result<Option<R>> {
        Ok(read(&self.records).get(&location).map(|stored| show(stored.as_ref(location))))
    }

    pub(crate) fn forget(&self, location: Location) {
        // The value is dropped after the lock: freeing 32 MiB takes its time.
        let _stored = write(&self.records).remove(&location);
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
            records_held: read(&self.records).len() as u64,
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

fn store(seq: SeqNo, write: &Write<'_>) -> Stored {
    let (value, expires_at_ms) = match write.change {
        Change::Put { value, expires_at_ms } => {
            (Some(Bytes::copy_from_slice(value)), expires_at_ms)
        }
        Change::Delete => (None, None),
    };
    let key = Bytes::copy_from_slice(write.key);
    Stored { seq, keyspace: write.keyspace, expires_at_ms, key, value }
}

fn show<'a>(location: Location, seq: SeqNo, write: &Write<'a>) -> RecordRef<'a> {
    let (tombstone, value, expires_at_ms) = match write.change {
        Change::Put { value, expires_at_ms } => (false, value, expires_at_ms),
        Change::Delete => (true, &[][..], None),
    };
    let (keyspace, key) = (write.keyspace, write.key);
    RecordRef { location, seq, keyspace, tombstone, expires_at_ms, key, value }
}
