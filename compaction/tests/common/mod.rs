//! A store of segments in memory that can fail at any call, crash, and recover from its segments alone.
#![allow(dead_code, unused_imports, reason = "each test target uses a part of it")]

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cortenkv_compaction::{
    AgeClass, Clock, Fate, LivenessTable, Origin, Placed, Record, RecordInfo, SegmentId,
    SegmentStats, SegmentStore, Stream, Verdict,
};

mod model;

pub use model::Model;

pub const SEGMENT_RECORDS: usize = 8;

#[derive(Debug, PartialEq)]
pub struct Injected(pub u64);

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} was told to fail", self.0)
    }
}

impl std::error::Error for Injected {}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as u64, SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.load(SeqCst))
    }
}

/// A record as it is on the disk.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    key: Vec<u8>,
    seq: u64,
    /// `None` is a tombstone.
    value: Option<Vec<u8>>,
    expires_at_ms: Option<u64>,
}

impl Stored {
    fn bytes(&self) -> u64 {
        (8 + self.key.len() + self.value.as_ref().map_or(0, Vec::len)) as u64
    }

    fn info(&self) -> RecordInfo {
        match (&self.value, self.expires_at_ms) {
            (None, _) => RecordInfo::tombstone(self.bytes()),
            (Some(_), None) => RecordInfo::put(self.bytes()),
            (Some(_), Some(at)) => RecordInfo::put(self.bytes()).expiring_at(at),
        }
    }

    fn is_live(&self, now_ms: u64) -> bool {
        self.value.is_some() && self.expires_at_ms.is_none_or(|at| at > now_ms)
    }
}

#[derive(Debug)]
struct Segment {
    records: Vec<Stored>,
    origin: Origin,
    retired: bool,
}

#[derive(Default)]
struct Inner {
    segments: BTreeMap<SegmentId, Segment>,
    index: BTreeMap<Vec<u8>, u64>,
    table: LivenessTable,
    active: SegmentId,
    newest: SegmentId,
    seq: u64,
    now_ms: u64,
}

#[derive(Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
    calls: AtomicU64,
    fail_at: AtomicU64,
    /// A segment that cannot be read, and what is to be done about that.
    spoiled: Mutex<Option<(SegmentId, Verdict)>>,
    room_bytes: Mutex<Option<u64>>,
    /// The call that fails has had its effect.
    pub fail_late: AtomicBool,
    /// Outputs that were dropped without being published.
    pub outputs_dropped: Arc<AtomicU64>,
    pub records_read: AtomicU64,
}

fn token(segment: SegmentId, place: usize) -> u64 {
    segment << 20 | place as u64
}

impl Inner {
    fn at(&self, token: u64) -> &Stored {
        &self.segments[&(token >> 20)].records[token as usize & 0xF_FFFF]
    }

    fn begin(&mut self, class: AgeClass, large: bool, created: Option<u64>) -> (SegmentId, Origin) {
        self.newest += 1;
        let mut origin = Origin::new(created.unwrap_or(self.newest));
        (origin.class, origin.large, origin.created_ms) = (class, large, self.now_ms);
        (self.newest, origin)
    }

    fn kill(&self, token: u64) {
        self.table.dead(token >> 20, self.at(token).info());
    }

    fn write(&mut self, key: &[u8], value: Option<&[u8]>, ttl_ms: Option<u64>) {
        let is_full = |segment: &Segment| segment.records.len() >= SEGMENT_RECORDS;
        if self.segments.get(&self.active).is_none_or(is_full) {
            let (id, origin) = self.begin(AgeClass::New, false, None);
            self.active = id;
            self.table.create(id, origin);
            self.segments.insert(id, Segment { records: Vec::new(), origin, retired: false });
        }
        self.seq += 1;
        let (seq, expires_at_ms) = (self.seq, ttl_ms.map(|ttl_ms| self.now_ms + ttl_ms));
        let stored = Stored {
            key: key.to_vec(),
            seq,
            value: value.map(<[u8]>::to_vec),
            expires_at_ms: value.and(expires_at_ms),
        };
        self.table.add(self.active, stored.info());
        let segment = self.segments.get_mut(&self.active).expect("it was begun");
        segment.records.push(stored);
        let new = token(self.active, segment.records.len() - 1);
        if let Some(old) = self.index.insert(key.to_vec(), new) {
            self.kill(old);
        }
    }

    /// A segment that may hold an older put of the key, other than those that go.
    fn blocker(&self, key: &[u8], seq: u64, victims: &[SegmentId]) -> Option<SegmentId> {
        let older =
            |stored: &Stored| stored.key == key && stored.seq < seq && stored.value.is_some();
        let others = self.segments.iter().filter(|(id, s)| !s.retired && !victims.contains(id));
        others.filter(|(_, s)| s.records.iter().any(older)).map(|(&id, _)| id).next()
    }
}

impl MemoryStore {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no call of the store panics")
    }

    pub fn put(&self, key: &[u8], value: &[u8]) {
        self.inner().write(key, Some(value), None);
    }

    pub fn put_with_ttl(&self, key: &[u8], value: &[u8], ttl_ms: u64) {
        self.inner().write(key, Some(value), Some(ttl_ms));
    }

    pub fn delete(&self, key: &[u8]) {
        self.inner().write(key, None, None);
    }

    pub fn pass_ms(&self, ms: u64) {
        self.inner().now_ms += ms;
    }

    /// Closes the active segment.
    pub fn seal_active(&self) {
        self.inner().active = 0;
    }

    /// What a reader sees.
    pub fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let inner = self.inner();
        let read = |(key, &at): (&Vec<u8>, &u64)| {
            let stored = inner.at(at);
            assert_eq!(&stored.key, key);
            stored.is_live(inner.now_ms).then(|| (key.clone(), stored.value.clone().unwrap()))
        };
        inner.index.iter().filter_map(read).collect()
    }

    /// What a reader would see after a crash now: the newest record of each key in the segments that are not retired.
    pub fn contents_after_crash(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let inner = self.inner();
        let mut newest: BTreeMap<&[u8], &Stored> = BTreeMap::new();
        for segment in inner.segments.values().filter(|segment| !segment.retired) {
            for stored in &segment.records {
                let known = newest.entry(&stored.key).or_insert(stored);
                if (stored.seq, stored.value.is_none()) > (known.seq, known.value.is_none()) {
                    *known = stored;
                }
            }
        }
        let live = newest.into_iter().filter(|(_, stored)| stored.is_live(inner.now_ms));
        live.map(|(key, stored)| (key.to_vec(), stored.value.clone().unwrap())).collect()
    }

    /// Forgets all but the segments, and builds the index and the table anew.
    pub fn crash(&self) {
        let mut inner = self.inner();
        inner.segments.retain(|_, segment| !segment.retired);
        let mut newest: BTreeMap<Vec<u8>, (u64, bool, u64)> = BTreeMap::new();
        let table = LivenessTable::new();
        for (&id, segment) in &inner.segments {
            table.create(id, segment.origin);
            for (place, stored) in segment.records.iter().enumerate() {
                table.add(id, stored.info());
                let this = (stored.seq, stored.value.is_none(), token(id, place));
                let known = newest.entry(stored.key.clone()).or_insert(this);
                let loser = if this > *known { std::mem::replace(known, this) } else { this };
                if loser.2 != known.2 {
                    table.dead(loser.2 >> 20, inner.at(loser.2).info());
                }
            }
        }
        inner.index = newest.into_iter().map(|(key, (.., token))| (key, token)).collect();
        inner.table = table;
        inner.active = 0;
    }

    pub fn segment_ids(&self) -> Vec<SegmentId> {
        let inner = self.inner();
        inner.segments.iter().filter(|(_, s)| !s.retired).map(|(&id, _)| id).collect()
    }

    pub fn keys_of(&self, segment: SegmentId) -> Vec<Vec<u8>> {
        self.inner().segments[&segment].records.iter().map(|s| s.key.clone()).collect()
    }

    pub fn origin_of(&self, segment: SegmentId) -> Origin {
        self.inner().segments[&segment].origin
    }

    pub fn stats(&self) -> Vec<SegmentStats> {
        let inner = self.inner();
        inner.table.stats(inner.now_ms, |id| id != inner.active)
    }

    pub fn space_amplification(&self) -> f64 {
        self.inner().table.space_amplification()
    }

    pub fn records_on_disk(&self) -> usize {
        self.inner().segments.values().map(|segment| segment.records.len()).sum()
    }

    /// False while a published job is not finished: its records are counted in both places then.
    pub fn is_at_rest(&self) -> bool {
        self.inner().segments.values().all(|segment| !segment.retired)
    }

    /// Counts the live bytes of every segment again, by the index alone.
    pub fn check_liveness(&self) {
        let inner = self.inner();
        let mut live: BTreeMap<SegmentId, (u64, u64, u64, u64)> =
            inner.segments.keys().map(|&id| (id, (0, 0, 0, 0))).collect();
        for &at in inner.index.values() {
            let stored = inner.at(at);
            let sums = live.get_mut(&(at >> 20)).expect("an entry points at a segment");
            sums.0 += stored.bytes();
            sums.1 += 1;
            sums.2 += u64::from(stored.value.is_none());
            sums.3 += stored.expires_at_ms.map_or(0, |_| stored.bytes());
        }
        let stats = inner.table.stats(0, |_| true);
        let of = |s: &SegmentStats| (s.live_bytes, s.live_records, s.tombstones, s.expiring_bytes);
        let counted: BTreeMap<_, _> = stats.iter().map(|stats| (stats.id, of(stats))).collect();
        assert_eq!(counted, live);
        assert_eq!(inner.table.totals().overcounted_bytes, 0);
    }

    /// Lets the call after so many others fail, once.
    pub fn fail_after(&self, calls: u64) {
        self.fail_at.store(self.calls.load(SeqCst) + calls + 1, SeqCst);
    }

    pub fn fail_never(&self) {
        self.fail_at.store(0, SeqCst);
    }

    /// Lets every read of a segment fail, and be judged so.
    pub fn spoil(&self, segment: SegmentId, verdict: Verdict) {
        *self.spoiled.lock().unwrap() = Some((segment, verdict));
    }

    pub fn mend(&self) {
        *self.spoiled.lock().unwrap() = None;
    }

    /// So many bytes may be written by a job.
    pub fn set_room(&self, bytes: u64) {
        *self.room_bytes.lock().unwrap() = Some(bytes);
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    /// Runs a call, or lets it fail before or after its effect.
    fn call<R>(&self, may_be_late: bool, effect: impl FnOnce() -> R) -> Result<R, Injected> {
        let n = self.calls.fetch_add(1, SeqCst) + 1;
        if self.fail_at.load(SeqCst) != n {
            return Ok(effect());
        }
        if may_be_late && self.fail_late.load(SeqCst) {
            effect();
        }
        Err(Injected(n))
    }
}

/// A segment that is being written.
pub struct Output {
    id: SegmentId,
    origin: Origin,
    records: Vec<Stored>,
    sealed: bool,
    /// A write or a sync has failed: nobody knows what is on the disk.
    spoiled: bool,
    published: bool,
    dropped: Arc<AtomicU64>,
}

impl Drop for Output {
    fn drop(&mut self) {
        self.dropped.fetch_add(u64::from(!self.published), SeqCst);
    }
}

impl SegmentStore for MemoryStore {
    type Error = Injected;
    type Output = Output;

    fn segments(&self) -> Result<Vec<SegmentStats>, Injected> {
        self.call(false, || {
            let inner = self.inner();
            let stats = inner.table.stats(inner.now_ms, |id| id != inner.active);
            stats.into_iter().filter(|stats| !inner.segments[&stats.id].retired).collect()
        })
    }

    fn read(
        &self,
        segment: SegmentId,
        cursor: u64,
        bytes_max: u64,
        visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<Option<u64>, Injected> {
        // A piece is three records, so that a segment takes several; the failure comes in the middle of it.
        assert!(bytes_max > 0);
        if self.spoiled.lock().unwrap().is_some_and(|(id, _)| id == segment) {
            return Err(Injected(0));
        }
        let records = self.inner().segments[&segment].records.clone();
        let from = cursor as usize;
        let piece = records.iter().enumerate().skip(from).take(3);
        for (place, stored) in piece {
            let (key, bytes) = (stored.key.as_slice(), stored.bytes());
            self.records_read.fetch_add(1, SeqCst);
            let record = Record { keyspace: 0, key, token: token(segment, place), bytes };
            if visit(record).is_break() {
                return Ok(None);
            }
        }
        self.call(false, || ())?;
        Ok((from + 3 < records.len()).then_some(cursor + 3))
    }

    fn fate(&self, record: &Record<'_>, victims: &[SegmentId]) -> Result<Fate, Injected> {
        self.call(false, || {
            let inner = self.inner();
            if inner.index.get(record.key) != Some(&record.token) {
                return Fate::Drop;
            }
            let stored = inner.at(record.token);
            if stored.is_live(inner.now_ms) {
                Fate::Keep
            } else if inner.blocker(record.key, stored.seq, victims).is_some() {
                Fate::Tombstone
            } else {
                Fate::Forget
            }
        })
    }

    fn create(&self, stream: Stream, created: u64) -> Result<Output, Injected> {
        self.call(false, || {
            let (id, origin) = self.inner().begin(stream.class, stream.large, Some(created));
            let (records, dropped) = (Vec::new(), Arc::clone(&self.outputs_dropped));
            Output { id, origin, records, sealed: false, spoiled: false, published: false, dropped }
        })
    }

    fn id(&self, output: &Output) -> SegmentId {
        output.id
    }

    fn append(
        &self,
        output: &mut Output,
        record: &Record<'_>,
        fate: Fate,
    ) -> Result<Placed, Injected> {
        assert!(!output.sealed && !output.spoiled);
        let place = output.records.len();
        let stored = self.call(true, || {
            let mut stored = self.inner().at(record.token).clone();
            if fate == Fate::Tombstone {
                (stored.value, stored.expires_at_ms) = (None, None);
            }
            output.records.push(stored.clone());
            stored
        });
        output.spoiled = stored.is_err();
        let stored = stored?;
        Ok(Placed { token: token(output.id, place), bytes: stored.bytes() })
    }

    fn seal(&self, output: &mut Output) -> Result<(), Injected> {
        assert!(!output.spoiled, "a failed sync proves nothing when it is repeated");
        let sealed = self.call(true, || output.sealed = true);
        output.spoiled = sealed.is_err();
        sealed
    }

    fn publish(&self, outputs: &mut [Output], victims: &[SegmentId]) -> Result<(), Injected> {
        self.call(true, || {
            let mut inner = self.inner();
            for output in outputs.iter_mut().filter(|output| !output.published) {
                assert!(
                    output.sealed && !output.spoiled,
                    "an output is published before it is durable"
                );
                output.published = true;
                inner.table.create(output.id, output.origin);
                for stored in &output.records {
                    inner.table.add(output.id, stored.info());
                    if stored.value.is_none()
                        && let Some(blocker) = inner.blocker(&stored.key, stored.seq, victims)
                    {
                        inner.table.wait(output.id, blocker, stored.bytes());
                    }
                }
                let records = output.records.clone();
                let segment = Segment { records, origin: output.origin, retired: false };
                inner.segments.insert(output.id, segment);
            }
            for victim in victims {
                inner.segments.get_mut(victim).expect("a victim stays until retired").retired =
                    true;
            }
        })
    }

    fn relocate(&self, record: &Record<'_>, to: Placed) -> Result<bool, Injected> {
        self.call(false, || {
            let mut inner = self.inner();
            let moves = inner.index.get(record.key) == Some(&record.token);
            if moves {
                inner.index.insert(record.key.to_vec(), to.token);
            }
            inner.kill(if moves { record.token } else { to.token });
            moves
        })
    }

    fn forget(&self, record: &Record<'_>) -> Result<(), Injected> {
        self.call(true, || {
            let mut inner = self.inner();
            if inner.index.get(record.key) == Some(&record.token) {
                inner.index.remove(record.key);
                inner.kill(record.token);
            }
        })
    }

    fn retire(&self, victims: &[SegmentId]) -> Result<(), Injected> {
        self.call(true, || {
            let mut inner = self.inner();
            for victim in victims {
                if let Some(stats) = inner.table.retire(*victim) {
                    assert_eq!(stats.live_bytes, 0, "segment {victim} still has live records");
                    inner.segments.remove(victim).expect("in both or in none");
                }
            }
        })
    }

    fn judge(&self, _error: &Injected, victims: &[SegmentId]) -> Verdict {
        let spoiled = *self.spoiled.lock().unwrap();
        spoiled
            .filter(|(id, _)| victims.contains(id))
            .map_or(Verdict::Later, |(_, verdict)| verdict)
    }

    fn room_bytes(&self) -> u64 {
        self.room_bytes.lock().unwrap().unwrap_or(u64::MAX)
    }
}
