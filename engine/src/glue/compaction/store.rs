//! A database in the words of `cortenkv-compaction`.
//!
//! # Layout
//! Tokens of records are addresses, those of copies pack the number of the new segment and the offset: a new segment has no
//! slot before it is published.
//!
//! # Concurrency
//! One job calls at a time from one thread; several jobs may run, on different victims. A database that is gone ends its
//! jobs with `Closed`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};

use cortenkv_compaction::{
    Fate, LivenessTable, Origin, Placed, Record, SegmentId, SegmentStats, SegmentStore, Stream,
    Totals, Verdict,
};
use cortenkv_wal::bugs::{Bug, planted};
use cortenkv_wal::{COMPACTED_ID_MIN, SegmentInfo};

use super::access::{gone, log, reader, wal};
use super::fate;
use super::faults::Faults;
use super::leaving::Leaving;
use super::limits;
use super::older::{OlderPuts, SNAPSHOTS, Source};
use super::output::{Output, class_of, location_of};
use crate::address::Address;
use crate::catalog::SharedManifest;
use crate::core::{Core, Installed};
use crate::error::{ClosedReason, Error, ErrorKind, Result};
use crate::parts::DurableLog;
use crate::parts::manifest::edit::{CompactedInfo, Edit};
use crate::parts::segment::{ours, theirs};
use crate::record::{RecordRef, SeqNo};
use crate::sync::lock;

/// An idle segment with less garbage is left as it is.
const GARBAGE_BYTES_MIN: u64 = 64 << 10;

/// See [`SegmentStore`].
pub(super) struct Store {
    core: Weak<Core>,
    liveness: Arc<LivenessTable>,
    manifest: SharedManifest,
    pub(super) older: OlderPuts,
    leaving: Leaving,
    pub(super) faults: Faults,
}

impl Store {
    /// Of a database that goes live.
    pub(super) fn open(
        core: &Arc<Core>,
        liveness: Arc<LivenessTable>,
        manifest: SharedManifest,
    ) -> Result<Self> {
        let older = OlderPuts::open(core, wal(core)?.dir());
        let leaving = Leaving::default();
        let faults = Faults::default();
        Ok(Store { core: Arc::downgrade(core), liveness, manifest, older, leaving, faults })
    }

    /// Gives out again the slots of retired segments that no reader can know of any more.
    pub(super) fn reuse_slots(&self) {
        // While shards are copied for an image, a slot means one segment.
        if let Some(core) = self.core.upgrade().filter(|core| !core.images.is_copying()) {
            self.leaving.reuse(&core.slots, &core.snapshots);
            if self.older.may_retry(core.snapshots.horizon(core.clock()).seq) {
                self.liveness.retire(SNAPSHOTS);
            }
        }
    }

    pub(super) fn core(&self) -> Result<Arc<Core>> {
        let core = self.core.upgrade().ok_or_else(|| Error::closed(ClosedReason::Clean))?;
        // Not whether it is closed: a close waits for the job that is published.
        core.latch.get().map_or(Ok(()), |cause| Err(cause.clone()))?;
        Ok(core)
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = self.liveness.totals();
        totals.segments -=
            usize::from(self.liveness.get(SNAPSHOTS, 0).is_some()).min(totals.segments);
        totals
    }

    /// Leaves the segment that is being written if it holds garbage, and makes it a segment that can be compacted.
    pub(super) fn settle_all(&self) -> Result<()> {
        let core = self.core()?;
        let wal = wal(&core)?;
        let active = wal.segments().last().map(|segment| segment.id);
        let live = active.and_then(|id| self.liveness.get(id, 0));
        if live.is_some_and(|stats| stats.garbage_bytes() > 0) {
            seal_active(&core)?;
        }
        core.sync().map(drop)
    }

    /// Makes sealed segments durable, so that they settle; false if all of them are.
    pub(super) fn sync_sealed(&self) -> Result<bool> {
        let core = self.core()?;
        let has_unsettled = wal(&core)?.segments().iter().any(|it| it.sealed && !it.settled);
        if has_unsettled {
            core.sync()?;
        }
        Ok(has_unsettled)
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
        seal_active(&core)?;
        core.sync()?;
        Ok(true)
    }

    /// The segments that can be compacted.
    pub(super) fn settled(&self) -> Result<Vec<SegmentId>> {
        let segments = self.segments()?;
        Ok(segments.iter().filter(|segment| segment.sealed).map(|segment| segment.id).collect())
    }

    /// Takes victims out of the log and removes their files.
    ///
    /// # Errors
    /// `Io` if a file is still there, after all others are gone.
    fn remove(&self, core: &Core, victims: &[SegmentId]) -> Result<()> {
        let wal = wal(core)?;
        let in_log = wal.segments();
        let in_log: Vec<u64> =
            in_log.iter().map(|segment| segment.id).filter(|id| victims.contains(id)).collect();
        let compacted: Vec<u64> =
            victims.iter().filter(|id| **id >= COMPACTED_ID_MIN).copied().collect();
        core.holds.remove(wal, &self.manifest, &in_log, &compacted)
    }

    /// Keeps the reserve as large as it should be.
    fn follow_reserve(&self, core: &Core, is_freed: bool) -> Result<()> {
        let live_bytes = self.liveness.totals().live_bytes;
        log(core)?.follow_reserve(live_bytes, limits(core).segment_bytes, is_freed);
        Ok(())
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
        let of_log = log.iter().map(|segment| Source {
            id: segment.id,
            seq_before: segment.seq_before,
            is_sealed: segment.sealed,
        });
        let of_jobs = compacted.values().map(|segment| Source {
            id: segment.id,
            seq_before: segment.seq_min.saturating_sub(1),
            is_sealed: true,
        });
        self.older.look(of_log.chain(of_jobs));
        Ok((log, compacted))
    }
}

/// Leaves the segment that is being written; on a full disk only if there is room for another one.
fn seal_active(core: &Core) -> Result<()> {
    let log = log(core)?;
    match log.draw_on_reserve(|| Ok(log.wal.seal_active()?)) {
        // The others can be compacted all the same.
        Err(error) if *error.kind() == ErrorKind::StorageFull => Ok(()),
        sealed => sealed,
    }
}

/// Installs a copy of a record, which has the number of the original in a higher segment.
fn install_copy(core: &Core, copy: &RecordRef<'_>, address: Address) -> Installed {
    core.slots.with(address, |mounted| mounted.liveness.add(copy.footprint()));
    let mut installed = Installed::Stale;
    let mut offered = *copy;
    if planted(Bug::PutLostToRelocation) {
        offered.seq = SeqNo::MAX;
    }
    core.index.install(&[(offered, address)], core, false, |_, outcome| {
        installed = outcome;
        core.note_installed(copy, address, outcome);
    });
    installed
}

impl SegmentStore for Store {
    type Error = Error;
    type Output = Output;

    fn segments(&self) -> Result<Vec<SegmentStats>> {
        let core = self.core()?;
        self.reuse_slots();
        self.follow_reserve(&core, false)?;
        let (log, compacted) = self.look(&core)?;
        // What has ended for some snapshots only is not worth a rewrite.
        let now_ms = core.snapshots.horizon(core.clock()).now_ms;
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
            (stats.class, stats.large) = class_of(segment);
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
        let segment = reader(&core, segment)?;
        let mut failure = None;
        let next = segment.read_some(cursor, bytes_max, &mut |record| {
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
        self.fate_of(&core, record, victims)
    }

    fn create(&self, stream: Stream, _created: u64) -> Result<Output> {
        let core = self.core()?;
        let id = lock(&self.manifest).next_compacted_id();
        let create = || Output::create(&core, id, stream, &self.liveness);
        let created = log(&core)?.draw_on_reserve(create);
        created.inspect_err(|error| core.note_failure(error))
    }

    fn id(&self, output: &Output) -> SegmentId {
        output.id
    }

    fn append(&self, output: &mut Output, record: &Record<'_>, fate: Fate) -> Result<Placed> {
        let core = self.core()?;
        let mut seq = 0;
        let placed = core.read_at(Address::from(record.token), |found, _| {
            let mut copy = theirs(found);
            seq = found.seq;
            if fate == Fate::Tombstone {
                copy.kind = cortenkv_wal::RecordKind::Delete;
                (copy.value, copy.expires_at_ms) = (&[], None);
            }
            copy.in_batch = false;
            let appended = output.append(&copy);
            let token = appended.inspect_err(|error| core.note_failure(error))?;
            Ok(Placed { token, bytes: u64::from(copy.stored_bytes()) })
        })?;
        let placed: Placed = placed.unwrap_or_else(|| Err(gone()))?;
        if let Some(blocker) = self.older.take_blocker(Address::from(record.token)) {
            if blocker == SNAPSHOTS {
                self.liveness.segment(SNAPSHOTS, Origin::default());
            }
            self.liveness.wait(output.id, blocker, placed.bytes);
            if blocker == SNAPSHOTS {
                self.older.note_kept(seq);
            }
        }
        Ok(placed)
    }

    fn seal(&self, output: &mut Output) -> Result<()> {
        let core = self.core()?;
        output.seal().inspect_err(|error| core.note_failure(error))
    }

    fn publish(&self, outputs: &mut [Output], victims: &[SegmentId]) -> Result<()> {
        let core = self.core()?;
        if !planted(Bug::RetiredBeforeLogSync) {
            // DURABILITY: whatever made a record of a victim dead, before the victim does not count any more (rule 3).
            core.sync()?;
        }
        let segments = wal(&core)?.segments();
        if planted(Bug::UnlinkedBeforeEdit) {
            self.remove(&core, victims)?;
        }
        let mut manifest = lock(&self.manifest);
        let is_new = |id: &SegmentId| {
            let state = manifest.state();
            !state.retired.contains_key(id)
                && (*id < COMPACTED_ID_MIN || state.compacted.contains_key(id))
        };
        // Called again after it was done, there is nothing left to do.
        if victims.iter().any(is_new) {
            let retired = segments.iter().filter(|segment| victims.contains(&segment.id));
            let retired = retired.map(SegmentInfo::retired).collect();
            let removed = victims.iter().filter(|id| **id >= COMPACTED_ID_MIN).copied().collect();
            let added: Vec<_> = outputs.iter().filter_map(Output::info).collect();
            // Until the index points at them, no image may say that it has what is in them.
            core.images.begin_moving(victims, added.iter().map(|segment| segment.id));
            let edit = Edit::JobDone { added, retired, removed };
            outputs.iter_mut().for_each(|output| output.may_be_published = true);
            // Whether a failed edit is there is open, and the next one is refused: nothing can be reclaimed any more.
            let commit = || manifest.commit(edit.clone());
            let committed = log(&core)?.draw_on_reserve(commit);
            committed.inspect_err(|error| core.note_failure(error))?;
        }
        Ok(())
    }

    fn relocate(&self, record: &Record<'_>, to: Placed) -> Result<bool> {
        let core = self.core()?;
        let address = core.address_of(location_of(to.token))?;
        let moved = core.read_at(address, |copy, _| {
            let is_it = copy.keyspace == record.keyspace && copy.key == record.key;
            // An image begins when no record is on its way.
            let _shared = crate::sync::read(&core.gate);
            is_it.then(|| install_copy(&core, copy, address))
        })?;
        let outcome: Installed = moved.flatten().ok_or_else(gone)?;
        let original = Address::from(record.token);
        let is_replaced = matches!(outcome, Installed::Replaced { old, .. } if old == original);
        if !is_replaced && core.met_unreadable() {
            // It may stand beside the one that was found, and its slot is about to be given out again.
            fate::take_out(&core, record)?;
        }
        Ok(matches!(outcome, Installed::Inserted | Installed::Replaced { .. }))
    }

    fn forget(&self, record: &Record<'_>) -> Result<()> {
        let core = self.core()?;
        fate::take_out(&core, record)
    }

    fn retire(&self, victims: &[SegmentId]) -> Result<()> {
        let core = self.core()?;
        let bytes = |id: &SegmentId| self.liveness.get(*id, 0).map_or(0, |it| it.total_bytes);
        self.leaving.empty(&core.slots, &core.snapshots, victims, bytes);
        match self.remove(&core, victims) {
            // They do not count any more: the next opening removes them.
            Err(error) if *error.kind() == ErrorKind::Io => self.faults.note_not_removed(&error),
            removed => removed?,
        }
        self.older.retire(victims);
        for id in victims {
            self.liveness.retire(*id);
        }
        core.images.end_moving(victims);
        core.give_up_snapshots();
        self.follow_reserve(&core, true)
    }

    fn room_bytes(&self) -> u64 {
        let room = |core: Arc<Core>| log(&core).map(DurableLog::room_bytes);
        self.core.upgrade().and_then(|core| room(core).ok()).unwrap_or(u64::MAX)
    }

    fn judge(&self, error: &Error, victims: &[SegmentId]) -> Verdict {
        let core = self.core.upgrade();
        core.map_or(Verdict::Later, |core| self.faults.judge(&core, error, victims))
    }
}
