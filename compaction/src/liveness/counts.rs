//! The numbers of one segment: as counters that many threads tell, and as plain numbers that an owner can keep.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::expiry::ExpiryHistogram;
use crate::stats::{AgeClass, SegmentId, SegmentStats};

/// What the table is told about one record, at its birth and again, unchanged, at its death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordInfo {
    bytes: u64,
    tombstone: bool,
    expires_at_ms: Option<u64>,
}

impl RecordInfo {
    /// A record with a value, of this size on the disk.
    pub fn put(bytes: u64) -> Self {
        RecordInfo { bytes, tombstone: false, expires_at_ms: None }
    }

    /// A record that says that its key is deleted.
    pub fn tombstone(bytes: u64) -> Self {
        RecordInfo { bytes, tombstone: true, expires_at_ms: None }
    }

    /// The same record, dead from this millisecond of the wall clock on.
    pub fn expiring_at(self, expires_at_ms: u64) -> Self {
        RecordInfo { expires_at_ms: Some(expires_at_ms), ..self }
    }
}

/// What is known of a segment before its first record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// What its age is counted from, see [`SegmentStats::created`].
    pub created: u64,
    /// When it was begun, in milliseconds of the wall clock; 0 if not known. Expiry is counted in steps that grow with
    /// the distance from here.
    pub created_ms: u64,
    /// How often its records have survived.
    pub class: AgeClass,
    /// True if it holds large values only.
    pub large: bool,
}

impl Origin {
    /// A segment of new records.
    pub fn new(created: u64) -> Self {
        Origin { created, ..Origin::default() }
    }
}

/// Sums over records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of all of them.
    pub bytes: u64,
    /// How many they are.
    pub records: u64,
    /// How many of them are tombstones.
    pub tombstones: u64,
    /// The bytes of these.
    pub tombstone_bytes: u64,
    /// The bytes of those that expire.
    pub expiring_bytes: u64,
}

impl Counts {
    fn is_within(&self, all: &Counts) -> bool {
        self.bytes <= all.bytes
            && self.records <= all.records
            && self.tombstones <= all.tombstones
            && self.tombstone_bytes <= all.tombstone_bytes
            && self.expiring_bytes <= all.expiring_bytes
    }

    fn less(&self, dead: &Counts) -> Counts {
        Counts {
            bytes: self.bytes.saturating_sub(dead.bytes),
            records: self.records.saturating_sub(dead.records),
            tombstones: self.tombstones.saturating_sub(dead.tombstones),
            tombstone_bytes: self.tombstone_bytes.saturating_sub(dead.tombstone_bytes),
            expiring_bytes: self.expiring_bytes.saturating_sub(dead.expiring_bytes),
        }
    }
}

/// All that the table knows of a segment, as plain numbers: what an owner writes to disk and loads again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentCounts {
    /// Which segment.
    pub id: SegmentId,
    /// What was known at its beginning.
    pub origin: Origin,
    /// All records that are in it.
    pub total: Counts,
    /// Those of them that live.
    pub live: Counts,
    /// The earliest expiry of any record, `None` if none expires.
    pub earliest_expiry_ms: Option<u64>,
    /// Where the steps of expiry are counted from.
    pub expiry_base_ms: u64,
    /// Live bytes by step of expiry; trailing zeroes may be left out.
    pub expiry_bytes: Vec<u64>,
}

/// Sums of one kind of event.
#[derive(Debug, Default)]
struct Tally {
    bytes: AtomicU64,
    records: AtomicU64,
    tombstones: AtomicU64,
    tombstone_bytes: AtomicU64,
    expiring_bytes: AtomicU64,
}

impl Tally {
    fn count(&self, record: RecordInfo, order: Ordering) {
        if record.tombstone {
            self.tombstones.fetch_add(1, order);
            self.tombstone_bytes.fetch_add(record.bytes, order);
        }
        if record.expires_at_ms.is_some() {
            self.expiring_bytes.fetch_add(record.bytes, order);
        }
        self.records.fetch_add(1, order);
        self.bytes.fetch_add(record.bytes, order);
    }

    fn load(&self, order: Ordering) -> Counts {
        Counts {
            bytes: self.bytes.load(order),
            records: self.records.load(order),
            tombstones: self.tombstones.load(order),
            tombstone_bytes: self.tombstone_bytes.load(order),
            expiring_bytes: self.expiring_bytes.load(order),
        }
    }

    fn of(counts: &Counts) -> Self {
        Tally {
            bytes: counts.bytes.into(),
            records: counts.records.into(),
            tombstones: counts.tombstones.into(),
            tombstone_bytes: counts.tombstone_bytes.into(),
            expiring_bytes: counts.expiring_bytes.into(),
        }
    }
}

/// The counters of one segment.
#[derive(Debug)]
pub(super) struct Counters {
    origin: Origin,
    added: Tally,
    dead: Tally,
    /// There from the first record that expires.
    expiry: OnceLock<Box<ExpiryHistogram>>,
}

impl Counters {
    pub(super) fn new(origin: Origin) -> Self {
        Counters {
            origin,
            added: Tally::default(),
            dead: Tally::default(),
            expiry: OnceLock::new(),
        }
    }

    pub(super) fn add(&self, record: RecordInfo) {
        if let Some(expires_at_ms) = record.expires_at_ms {
            let begin = || Box::new(ExpiryHistogram::new(self.origin.created_ms, expires_at_ms));
            self.expiry.get_or_init(begin).add(expires_at_ms, record.bytes);
        }
        self.added.count(record, Ordering::Relaxed);
    }

    pub(super) fn kill(&self, record: RecordInfo) {
        if let (Some(expires_at_ms), Some(expiry)) = (record.expires_at_ms, self.expiry.get()) {
            expiry.remove(expires_at_ms, record.bytes);
        }
        // ORDERING: AcqRel pairs with the Acquire in `sums`. Acquire too, so that this write passes on the additions
        // behind earlier deaths.
        self.dead.count(record, Ordering::AcqRel);
    }

    /// (added, dead), where each death that is seen has its addition seen.
    pub(super) fn sums(&self) -> (Counts, Counts) {
        // ORDERING: Acquire pairs with the AcqRel in `kill`: whoever tells of a death knows of the addition, so the
        // addition is visible here too, and dead <= added whatever else goes on.
        let dead = self.dead.load(Ordering::Acquire);
        (self.added.load(Ordering::Relaxed), dead)
    }

    pub(super) fn stats(&self, id: SegmentId, now_ms: u64) -> SegmentStats {
        let (added, dead) = self.sums();
        let live = added.less(&dead);
        SegmentStats {
            created: self.origin.created,
            class: self.origin.class,
            large: self.origin.large,
            live_records: live.records,
            tombstones: live.tombstones,
            tombstone_bytes: live.tombstone_bytes.min(live.bytes),
            expiring_bytes: live.expiring_bytes.min(live.bytes),
            expired_bytes: self.expiry.get().map_or(0, |e| e.expired_bytes(now_ms)).min(live.bytes),
            earliest_expiry_ms: self.expiry.get().map(|expiry| expiry.earliest_ms()),
            ..SegmentStats::new(id, added.bytes, live.bytes)
        }
    }

    pub(super) fn export(&self, id: SegmentId) -> SegmentCounts {
        let (total, dead) = self.sums();
        let expiry = self.expiry.get();
        SegmentCounts {
            id,
            origin: self.origin,
            total,
            live: total.less(&dead),
            earliest_expiry_ms: expiry.map(|expiry| expiry.earliest_ms()),
            expiry_base_ms: expiry.map_or(0, |expiry| expiry.base_ms()),
            expiry_bytes: expiry.map_or_else(Vec::new, |expiry| expiry.export()),
        }
    }

    /// The counters that [`export`](Self::export) has written; `None` if the numbers contradict one another.
    pub(super) fn import(counts: &SegmentCounts) -> Option<Self> {
        let counters = Counters {
            origin: counts.origin,
            added: Tally::of(&counts.total),
            dead: Tally::of(&counts.total.less(&counts.live)),
            expiry: OnceLock::new(),
        };
        if let Some(earliest_ms) = counts.earliest_expiry_ms {
            let bytes = &counts.expiry_bytes;
            let expiry = ExpiryHistogram::import(counts.expiry_base_ms, earliest_ms, bytes)?;
            counters.expiry.set(Box::new(expiry)).ok()?;
        }
        counts.live.is_within(&counts.total).then_some(counters)
    }
}
