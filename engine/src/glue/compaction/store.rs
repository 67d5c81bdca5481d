//! A database in the words of `cortenkv-compaction`.
//!
//! # Layout
//! Tokens of records are addresses, those of copies pack the number of the new segment and the offset: a new segment has no
//! slot before it is published.
//!
//! # Concurrency
//! One job calls at a time from one thread; several jobs may run, on different victims. A database that is gone ends its
//! jobs with `Closed`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, Weak};

use cortenkv_compaction::{
    AgeClass, Fate, LivenessTable, Origin, Placed, Record, SegmentId, SegmentStats, SegmentStore,
    Stream, Totals,
};
use cortenkv_wal::{COMPACTED_ID_MIN, CompactedBuilder, CompactedSegment, SegmentInfo, Wal};

use crate::address::{Address, Location};
use crate::catalog::SharedManifest;
use crate::core::{Core, Installed};
use crate::error::{ClosedReason, Error, Result};
use crate::log::Log;
use crate::parts::DurableLog;
use crate::parts::directory::{self, KeyDirectory};
use crate::parts::grace::Grace;
use crate::parts::inspect::LARGE;
use crate::parts::manifest::edit::{CompactedInfo, Edit};
use crate::parts::segment::{ours, theirs};
use crate::record::{RecordRef, SeqNo};
use crate::sync::lock;

/// Units of the offset in the token of a copy.
const OFFSET_BITS: u32 = 23;
const OFFSET_UNIT_BYTES: u32 = 8;
/// An idle segment with less garbage is left as it is.
const GARBAGE_BYTES_MIN: u64 = 64 << 10;

/// See [`SegmentStore`].
pub(super) struct Store {
    core: Weak<Core>,
    liveness: Arc<LivenessTable>,
    manifest: SharedManifest,
    /// Of the segments that were asked about so far.
    directories: Mutex<HashMap<SegmentId, Arc<KeyDirectory>>>,
    /// The segments as a job found them at its last look, each with the number that all its commits are above.
    sources: Mutex<Vec<Older>>,
    /// Which segment keeps a tombstone from being forgotten, by its token.
    blockers: Mutex<HashMap<u64, SegmentId>>,
    /// Emptied slots that readers may still know of.
    leaving: Mutex<VecDeque<(Grace, Vec<u16>)>>,
}

/// What is known of a segment that may hold older puts.
#[derive(Debug, Clone, Copy)]
struct Older {
    id: SegmentId,
    /// All commits in it are above.
    seq_before: SeqNo,
    is_sealed: bool,
}

/// A segment that a job writes.
pub(super) struct Output {
    id: SegmentId,
    builder: Option<CompactedBuilder>,
    sealed: Option<CompactedSegment>,
    class: u8,
    tombstones: u64,
    seq_min: SeqNo,
    seq_max: SeqNo,
    is_published: bool,
    liveness: Arc<LivenessTable>,
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.is_published {
            // What is sealed and not published is removed by the next opening at the latest.
            self.liveness.retire(self.id);
        }
    }
}

impl Store {
    /// Of a database that goes live.
    pub(super) fn open(
        core: &Arc<Core>,
        liveness: Arc<LivenessTable>,
        manifest: SharedManifest,
    ) -> Result<Self> {
        directory::remove_leftovers(core.options.platform.vfs.as_ref(), wal(core)?.dir());
        Ok(Store {
            core: Arc::downgrade(core),
            liveness,
            manifest,
            directories: Mutex::default(),
            sources: Mutex::default(),
            blockers: Mutex::default(),
            leaving: Mutex::default(),
        })
    }

    fn core(&self) -> Result<Arc<Core>> {
        let core = self.core.upgrade().ok_or_else(|| Error::closed(ClosedReason::Clean))?;
        core.check_writable()?;
        Ok(core)
    }

    pub(super) fn totals(&self) -> Totals {
        self.liveness.totals()
    }

    /// Leaves the segment that is being written if it holds garbage, and makes it a segment that can be compacted.
    pub(super) fn settle_all(&self) -> Result<()> {
        let core = self.core()?;
        let wal = wal(&core)?;
        let active = wal.segments().last().map(|segment| segment.id);
        let live = active.and_then(|id| self.liveness.get(id, 0));
        if live.is_some_and(|stats| stats.garbage_bytes() > 0) {
            wal.seal_active()?;
        }
        core.sync().map(drop)
    }

    /// Leaves the segment that is being written if much of it is garbage; true if it did.
    pub(super) fn leave_garbage(&self) -> Result<bool> {
        let core = self.core()?;
        let wal = wal(&core)?;
        let active = wal.segments().last().map(|segment| segment.id);
        let Some(stats) = active.and_then(|id| self.liveness.get(id, core.now_ms())) else {
            return Ok(false);
        };
        let live_bytes =
            stats.live_bytes.saturating_sub(stats.expired_bytes + stats.tombstone_bytes);
        let garbage_bytes = stats.total_bytes - live_bytes;
        if garbage_bytes < GARBAGE_BYTES_MIN || garbage_bytes * 4 < stats.total_bytes {
            return Ok(false);
        }
        wal.seal_active()?;
        core.sync()?;
        Ok(true)
    }

    /// Gives out again the slots of retired segments that no reader can know of any more.
    pub(super) fn reuse_slots(&self) {
        let Some(core) = self.core.upgrade() else { return };
        let mut leaving = lock(&self.leaving);
        while leaving.front().is_some_and(|(grace, _)| grace.is_over()) {
            let slots = leaving.pop_front().map(|(_, slots)| slots);
            lock(&core.slots.book).free.extend(slots.into_iter().flatten());
        }
    }

    /// Takes segments out of their slots: addresses lead to nothing from now on, and the slots are given out again after a
    /// grace period (rule 10).
    fn empty_slots(&self, core: &Core, ids: &[SegmentId]) {
        let slots: Vec<u16> = {
            let mut book = lock(&core.slots.book);
            ids.iter().filter_map(|id| book.assigned.remove(id)).collect()
        };
        for slot in &slots {
            core.slots.cell(usize::from(*slot)).into_iter().for_each(|cell| cell.set(None));
        }
        if !slots.is_empty() {
            lock(&self.leaving).push_back((Grace::begin(), slots));
        }
    }

    /// The segments that can be compacted.
    pub(super) fn settled(&self) -> Result<Vec<SegmentId>> {
        let segments = self.segments()?;
        Ok(segments.iter().filter(|segment| segment.sealed).map(|segment| segment.id).collect())
    }

    /// True if a segment that stays may hold an older put of the key of a tombstone.
    pub(super) fn hides_older(
        &self,
        core: &Core,
        record: &RecordRef<'_>,
        address: Address,
        victims: &[SegmentId],
    ) -> Result<bool> {
        let hash = core.index.hash(record.keyspace, record.key);
        let older: Vec<Older> = {
            let sources = lock(&self.sources);
            let is_older = |source: &&Older| {
                source.seq_before + 1 < record.seq && !victims.contains(&source.id)
            };
            sources.iter().filter(is_older).copied().collect()
        };
        for source in older {
            if !source.is_sealed || self.directory(core, source.id)?.may_hold(hash) {
                lock(&self.blockers).insert(u64::from(address), source.id);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The directory of a segment, which is written when it is asked for first.
    fn directory(&self, core: &Core, id: SegmentId) -> Result<Arc<KeyDirectory>> {
        if let Some(directory) = lock(&self.directories).get(&id) {
            return Ok(Arc::clone(directory));
        }
        let mut hashes = Vec::new();
        log(core)?.segment(id)?.reader.for_each_record(&mut |record| {
            hashes.push(core.index.hash(record.keyspace, record.key));
            ControlFlow::Continue(())
        })?;
        let platform = &core.options.platform;
        let directory = KeyDirectory::write(
            &platform.vfs,
            wal(core)?.dir(),
            id,
            hashes.into_iter(),
        )
        .map_err(|e| {
            cortenkv_wal::Error::io(format!("cannot write the keys of segment {id:016x}"), e)
        })?;
        let directory = Arc::new(directory);
        lock(&self.directories).insert(id, Arc::clone(&directory));
        Ok(directory)
    }

    /// Looks at what there is; for the log that is one lock of the appender.
    fn look(&self, core: &Core) -> Result<(Vec<SegmentInfo>, BTreeMap<SegmentId, CompactedInfo>)> {
        let mut log = wal(core)?.segments();
        let compacted = {
            let manifest = lock(&self.manifest);
            // Their files may be there, if removing them failed: the next opening tries again.
            log.retain(|segment| !manifest.state().retired.contains_key(&segment.id));
            manifest.state().compacted.clone()
        };
        let of_log = log.iter().map(|segment| Older {
            id: segment.id,
            seq_before: segment.seq_before,
            is_sealed: segment.sealed,
        });
        let of_jobs = compacted.values().map(|segment| Older {
            id: segment.id,
            seq_before: segment.seq_min.saturating_sub(1),
            is_sealed: true,
        });
        *lock(&self.sources) = of_log.chain(of_jobs).collect();
        Ok((log, compacted))
    }
}

/// The log of a database on disk: no other is compacted.
fn log(core: &Core) -> Result<&DurableLog> {
    match &core.log {
        Log::Durable(log) => Ok(log),
        Log::Memory(_) => Err(Error::closed(ClosedReason::Clean)),
    }
}

fn wal(core: &Core) -> Result<&Wal> {
    log(core).map(|log| &log.wal)
}

/// Installs a copy of a record, which has the number of the original in a higher segment; true if the index points at it now.
fn install_copy(core: &Core, copy: &RecordRef<'_>, address: Address) -> bool {
    core.slots.with(address, |mounted| mounted.liveness.add(copy.footprint()));
    let mut is_moved = false;
    core.index.install(&[(*copy, address)], core, false, |_, outcome| {
        is_moved = matches!(outcome, Installed::Inserted | Installed::Replaced { .. });
        core.note_installed(copy, address, outcome);
    });
    is_moved
}

impl SegmentStore for Store {
    type Error = Error;
    type Output = Output;

    fn segments(&self) -> Result<Vec<SegmentStats>> {
        let core = self.core()?;
        self.reuse_slots();
        let (log, compacted) = self.look(&core)?;
        let now_ms = core.now_ms();
        let numbers = |id| {
            let stats = self.liveness.get(id, now_ms);
            stats.unwrap_or_else(|| SegmentStats::new(id, 0, 0))
        };
        let of_log = log.iter().map(|segment| {
            let mut stats = numbers(segment.id);
            stats.created = segment.seq_before;
            stats.sealed = segment.settled;
            stats
        });
        let of_jobs = compacted.values().map(|segment| {
            let mut stats = numbers(segment.id);
            stats.created = segment.seq_max;
            stats.class = class_of(segment.age_class);
            stats.large = segment.age_class & LARGE != 0;
            stats
        });
        Ok(of_log.chain(of_jobs).collect())
    }

    fn read(
        &self,
        segment: SegmentId,
        cursor: u64,
        bytes_max: u64,
        visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<Option<u64>> {
        let core = self.core()?;
        self.look(&core)?;
        let segment = log(&core)?.segment(segment)?;
        let mut failure = None;
        let next = segment.reader.read_some(cursor, bytes_max, &mut |record| {
            let record = ours(&record);
            let address = match core.address_of(record.location) {
                Ok(address) => address,
                Err(error) => {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            };
            let RecordRef { keyspace, key, .. } = record;
            let bytes = u64::from(record.footprint().bytes);
            visit(Record { keyspace, key, token: address.into(), bytes })
        })?;
        failure.map_or(Ok(next), Err)
    }

    fn fate(&self, record: &Record<'_>, victims: &[SegmentId]) -> Result<Fate> {
        let core = self.core()?;
        let address = Address::from(record.token);
        let fate =
            core.read_at(address, |found, _| self.fate_of(&core, found, address, victims))?;
        // A victim is in its slot as long as its job runs.
        fate.unwrap_or_else(|| Err(gone()))
    }

    fn create(&self, stream: Stream, _created: u64) -> Result<Output> {
        let core = self.core()?;
        let id = lock(&self.manifest).next_compacted_id();
        let builder = CompactedBuilder::create(wal(&core)?, id)?;
        self.liveness.create(id, Origin::default());
        let class = stream.class as u8 | if stream.large { LARGE } else { 0 };
        Ok(Output {
            id,
            builder: Some(builder),
            sealed: None,
            class,
            tombstones: 0,
            seq_min: SeqNo::MAX,
            seq_max: 0,
            is_published: false,
            liveness: Arc::clone(&self.liveness),
        })
    }

    fn id(&self, output: &Output) -> SegmentId {
        output.id
    }

    fn append(&self, output: &mut Output, record: &Record<'_>, fate: Fate) -> Result<Placed> {
        let core = self.core()?;
        let placed = core.read_at(Address::from(record.token), |found, _| {
            let mut copy = theirs(found);
            if fate == Fate::Tombstone {
                copy.kind = cortenkv_wal::RecordKind::Delete;
                (copy.value, copy.expires_at_ms) = (&[], None);
            }
            copy.in_batch = false;
            let builder = output.builder.as_mut().ok_or_else(gone)?;
            let offset = builder.append(&copy)?;
            let is_tombstone = copy.kind == cortenkv_wal::RecordKind::Delete;
            output.tombstones += u64::from(is_tombstone);
            output.seq_min = output.seq_min.min(copy.seq);
            output.seq_max = output.seq_max.max(copy.seq);
            let bytes = u64::from(copy.stored_bytes());
            Ok(Placed { token: token_of(output.id, offset), bytes })
        })?;
        let placed: Placed = placed.unwrap_or_else(|| Err(gone()))?;
        if let Some(blocker) = lock(&self.blockers).remove(&record.token) {
            self.liveness.wait(output.id, blocker, placed.bytes);
        }
        Ok(placed)
    }

    fn seal(&self, output: &mut Output) -> Result<()> {
        if let Some(builder) = output.builder.take() {
            output.sealed = Some(builder.finish()?);
        }
        Ok(())
    }

    fn publish(&self, outputs: &mut [Output], victims: &[SegmentId]) -> Result<()> {
        let core = self.core()?;
        // DURABILITY: whatever made a record of a victim dead, before the victim does not count any more (rule 3).
        core.sync()?;
        let log = wal(&core)?.segments();
        let mut manifest = lock(&self.manifest);
        let is_new = |id: &SegmentId| {
            let state = manifest.state();
            !state.retired.contains_key(id)
                && (*id < COMPACTED_ID_MIN || state.compacted.contains_key(id))
        };
        // Called again after it was done, there is nothing left to do.
        if victims.iter().any(is_new) {
            let retired = log.iter().filter(|segment| victims.contains(&segment.id));
            let retired = retired.map(SegmentInfo::retired).collect();
            let removed = victims.iter().filter(|id| **id >= COMPACTED_ID_MIN).copied().collect();
            let added = outputs.iter().filter_map(Output::info).collect();
            manifest.commit(Edit::JobDone { added, retired, removed })?;
        }
        outputs.iter_mut().for_each(|output| output.is_published = true);
        Ok(())
    }

    fn relocate(&self, record: &Record<'_>, to: Placed) -> Result<bool> {
        let core = self.core()?;
        let address = core.address_of(location_of(to.token))?;
        let moved = core.read_at(address, |copy, _| {
            let is_it = copy.keyspace == record.keyspace && copy.key == record.key;
            is_it.then(|| install_copy(&core, copy, address))
        })?;
        moved.flatten().ok_or_else(gone)
    }

    fn forget(&self, record: &Record<'_>) -> Result<()> {
        let core = self.core()?;
        let address = Address::from(record.token);
        let was = core.read_at(address, |found, _| found.tombstone)?;
        if core.index.remove(record.keyspace, record.key, address) {
            let counters = &core.counters;
            let count = if was == Some(true) { &counters.tombstones } else { &counters.keys };
            count.fetch_sub(1, Relaxed);
        }
        Ok(())
    }

    fn retire(&self, victims: &[SegmentId]) -> Result<()> {
        let core = self.core()?;
        let wal = wal(&core)?;
        self.empty_slots(&core, victims);
        let in_log = wal.segments();
        let in_log: Vec<u64> =
            in_log.iter().map(|segment| segment.id).filter(|id| victims.contains(id)).collect();
        wal.retire(&in_log)?;
        let compacted: Vec<u64> =
            victims.iter().filter(|id| **id >= COMPACTED_ID_MIN).copied().collect();
        wal.remove_compacted(&compacted)?;
        let mut directories = lock(&self.directories);
        for id in victims {
            directories.remove(id);
            self.liveness.retire(*id);
        }
        Ok(())
    }
}

impl Output {
    fn info(&self) -> Option<CompactedInfo> {
        let sealed = self.sealed.as_ref()?;
        Some(CompactedInfo {
            id: self.id,
            bytes_stored: u64::from(sealed.bytes),
            bytes_logical: u64::from(sealed.end_logical),
            records: sealed.records,
            tombstones: self.tombstones,
            seq_min: self.seq_min.min(self.seq_max),
            seq_max: self.seq_max,
            age_class: self.class,
        })
    }
}

fn class_of(noted: u8) -> AgeClass {
    match noted & !LARGE {
        0 => AgeClass::New,
        1 => AgeClass::SurvivedOnce,
        _ => AgeClass::SurvivedTwice,
    }
}

fn token_of(id: SegmentId, offset: u32) -> u64 {
    // LIMIT: 2^41 compacted segments, each of which took a file.
    (id - COMPACTED_ID_MIN) << OFFSET_BITS | u64::from(offset / OFFSET_UNIT_BYTES)
}

fn location_of(token: u64) -> Location {
    let offset = (token & ((1 << OFFSET_BITS) - 1)) as u32 * OFFSET_UNIT_BYTES;
    Location { segment: COMPACTED_ID_MIN + (token >> OFFSET_BITS), offset }
}

fn gone() -> Error {
    Error::invalid("a record of a segment that is being compacted is gone; run `corten verify`")
}
