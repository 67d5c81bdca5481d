//! The arms of the index: alone, by batches, and with key order beside it.
//!
//! Which kinds they are is said in `cortenkv_bench::index_kinds`. A thread of its own does the background work, as in
//! the engine.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use cortenkv_bench::counting_alloc;
use cortenkv_bench::index_kinds::{self as kinds, ORDER_NAME, Order, POINT_NAME, Point};
use cortenkv_bench::{Error, Result};
use cortenkv_index::{
    Address, Guard, Hint, KeyBatch, KeyOwner, KeyState, NewEntry, Outcome, PointIndex, Version, pin,
};
use xxhash_rust::xxh3::xxh3_64;

use super::map::{Map, MapKey, MapKind, MapSession, PointWork, ScanCheck, Size};
use super::records::{FlatRecords, SPARES, Spares};

/// Keys of one batched look-up.
const BATCH_KEYS: usize = 16;
/// Sequence numbers that a thread takes at a time.
const SEQ_BLOCK: u64 = 1024;
/// How long the background thread sleeps when it found nothing to do.
const IDLE: Duration = Duration::from_micros(200);

/// Which arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// The point index.
    Point,
    /// Look-ups of 16 keys at once.
    Batch,
    /// With key order.
    Ordered,
}

impl MapKind for Index {
    fn name(&self) -> String {
        match self {
            Index::Point => format!("index-{POINT_NAME}"),
            Index::Batch => format!("index-{POINT_NAME}-batch-{BATCH_KEYS}"),
            Index::Ordered => format!("index-{POINT_NAME}+{ORDER_NAME}"),
        }
    }

    fn settings(&self) -> String {
        let what = match self {
            Index::Point => "one key at a time",
            Index::Batch => "get_batch of 16 keys; latencies are those of a batch",
            Index::Ordered => "key order beside it; scans see its keys and do not confirm them",
        };
        format!(
            "holds no keys, each hit is verified in a record of 136 bytes; xxh3; grown from empty; {what}"
        )
    }

    fn has_order(&self) -> bool {
        *self == Index::Ordered
    }

    fn has_row(&self, work: PointWork) -> bool {
        match self {
            Index::Point => true,
            Index::Batch => work == PointWork::Get,
            Index::Ordered => matches!(work, PointWork::Insert | PointWork::Replace),
        }
    }

    fn batch_keys(&self) -> usize {
        if *self == Index::Batch { BATCH_KEYS } else { 1 }
    }

    fn open(&self, size: Size, dir: &Path) -> Result<Box<dyn Map>> {
        let before = counting_alloc::counts();
        let records = FlatRecords::new(size.keys + size.threads as u64 * SPARES);
        let bytes_beside = counting_alloc::counts().since(&before).live_bytes;
        let inner = Arc::new(Inner {
            keys: size.keys,
            records,
            point: kinds::new_point(None),
            order: (*self == Index::Ordered).then(|| kinds::new_order(dir)),
            next_seq: AtomicU64::new(size.keys + 1),
            is_closed: AtomicBool::new(false),
        });
        let worker = inner.clone();
        let background = std::thread::Builder::new()
            .name("index-maintain".into())
            .spawn(move || worker.maintain())
            .map_err(|error| Error::new(format!("cannot start a thread: {error}")))?;
        Ok(Box::new(Open { inner, bytes_beside, background: Some(background) }))
    }
}

struct Inner {
    keys: u64,
    records: FlatRecords,
    point: Point,
    order: Option<Order>,
    next_seq: AtomicU64,
    is_closed: AtomicBool,
}

impl Inner {
    /// The background thread. It stops at an error, which the work of the case then meets too.
    fn maintain(&self) -> Result<()> {
        while !self.is_closed.load(Relaxed) {
            if !kinds::maintain(&self.point, self.order.as_ref(), self)? {
                std::thread::sleep(IDLE);
            }
        }
        Ok(())
    }

    fn install(&self, key: &MapKey, address: Address, seq: u64) -> Outcome {
        let version = Version { seq, tombstone: false, segment: 0 };
        let hash = xxh3_64(&key.0);
        let new = NewEntry { hash, keyspace: 0, key: &key.0, address, version };
        self.point.install(&new, &self.records, &mut |old| {
            if let (Some(order), None) = (&self.order, old) {
                kinds::insert_order(order, &key.0);
            }
        })
    }

    /// The look-up of a key. The record of what it finds stays as it is while the caller's pin is held.
    #[inline]
    fn find(&self, key: &MapKey, guard: &Guard) -> Option<Address> {
        let verify = |at| self.records.probe_key(at, &key.0);
        kinds::find(&self.point, xxh3_64(&key.0), guard, verify)
    }
}

impl KeyOwner for Inner {
    fn states(
        &self,
        _keyspace: u32,
        keys: &KeyBatch,
        states: &mut Vec<KeyState>,
    ) -> cortenkv_index::Result<()> {
        let guard = pin();
        states.clear();
        states.extend(keys.iter().map(|key| {
            let found = key.try_into().ok().and_then(|key| self.find(&MapKey(key), &guard));
            found.map_or(KeyState::Dead, |address| {
                KeyState::Live(Some(Hint { segment: 0, address }))
            })
        }));
        Ok(())
    }
}

struct Open {
    inner: Arc<Inner>,
    bytes_beside: i64,
    background: Option<JoinHandle<Result<()>>>,
}

impl Map for Open {
    fn session(&self, thread: usize) -> Box<dyn MapSession + '_> {
        let inner = self.inner.as_ref();
        Box::new(Session {
            inner,
            spares: Spares::new(inner.keys + thread as u64 * SPARES),
            seqs: 0..0,
            keys: Vec::with_capacity(BATCH_KEYS),
            hashes: Vec::with_capacity(BATCH_KEYS),
            found: Vec::with_capacity(BATCH_KEYS),
            batch: KeyBatch::new(),
        })
    }

    fn settle(&self) -> Result<()> {
        kinds::settle(&self.inner.point, self.inner.order.as_ref(), self.inner.as_ref())
    }

    fn bytes_beside(&self) -> i64 {
        self.bytes_beside
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inner.is_closed.store(true, Relaxed);
        if let Some(background) = self.background.take() {
            // What it left undone is found by the checks of the case; here only the reason is told.
            match background.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("background work of the index stopped: {error}"),
                Err(_) => eprintln!("background work of the index panicked"),
            }
        }
    }
}

struct Session<'a> {
    inner: &'a Inner,
    spares: Spares,
    seqs: std::ops::Range<u64>,
    keys: Vec<MapKey>,
    hashes: Vec<u64>,
    found: Vec<Option<Address>>,
    batch: KeyBatch,
}

impl Session<'_> {
    fn next_seq(&mut self) -> u64 {
        if self.seqs.is_empty() {
            let start = self.inner.next_seq.fetch_add(SEQ_BLOCK, Relaxed);
            self.seqs = start..start + SEQ_BLOCK;
        }
        self.seqs.start += 1;
        self.seqs.start - 1
    }
}

impl MapSession for Session<'_> {
    fn insert(&mut self, number: u64) -> bool {
        let key = MapKey::of(number);
        // The key of a number has the record of that number first; sequence numbers from 1.
        let address = self.inner.records.write(number, number, &key, number + 1);
        self.inner.install(&key, address, number + 1) == Outcome::Inserted
    }

    fn get(&mut self, number: u64) -> bool {
        let guard = pin();
        let found = self.inner.find(&MapKey::of(number), &guard);
        found.is_some_and(|address| self.inner.records.number(address) == number)
    }

    fn get_batch(&mut self, numbers: &[u64]) -> bool {
        let Session { inner, keys, hashes, found, .. } = self;
        let _guard = pin();
        keys.clear();
        keys.extend(numbers.iter().map(|&number| MapKey::of(number)));
        hashes.clear();
        hashes.extend(keys.iter().map(|key| xxh3_64(&key.0)));
        kinds::find_batch(
            &inner.point,
            hashes,
            |_, at| inner.records.prefetch_record(at),
            |n, at| inner.records.probe_key(at, &keys[n].0),
            found,
        );
        let is_right = |(&number, found): (&u64, &Option<Address>)| {
            found.is_some_and(|address| inner.records.number(address) == number)
        };
        found.len() == numbers.len() && numbers.iter().zip(found.iter()).all(is_right)
    }

    fn replace(&mut self, number: u64) -> bool {
        let (key, seq) = (MapKey::of(number), self.next_seq());
        let place = self.spares.take();
        let address = self.inner.records.write(place, number, &key, seq);
        match self.inner.install(&key, address, seq) {
            Outcome::Replaced(old) => {
                self.spares.put(FlatRecords::place(old.address));
                true
            }
            // Another thread with a newer block of numbers was faster; this record is dead.
            Outcome::Stale(_) => {
                self.spares.put(place);
                true
            }
            Outcome::Inserted | Outcome::Present => false,
        }
    }

    fn remove(&mut self, number: u64) -> bool {
        let key = MapKey::of(number);
        let guard = pin();
        let found = self.inner.find(&key, &guard);
        found.is_some_and(|address| self.inner.point.remove(xxh3_64(&key.0), address))
    }

    fn scan(&mut self, number: u64, count: usize) -> bool {
        let Some(order) = &self.inner.order else { return false };
        let mut check = ScanCheck::new(number, count);
        let from = MapKey::of(number);
        let walked =
            kinds::scan_order(order, &from.0, count, &mut self.batch, |key| match check.see(key) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            });
        walked.is_ok() && check.is_right()
    }
}
