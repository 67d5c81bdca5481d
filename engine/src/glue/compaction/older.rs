//! Which segments may hold an older put of a key: what keeps a tombstone from being forgotten.
//!
//! # Concurrency
//! The list of segments is as a job found it at its last look. What came since holds newer commits, or copies of records that
//! live; what went since is asked about in vain, and the tombstone stays for now.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use cortenkv_compaction::SegmentId;
use cortenkv_wal::bugs::{Bug, planted};

use super::access::{reader, wal};
use crate::address::Address;
use crate::core::Core;
use crate::error::Result;
use crate::parts::directory::{self, KeyDirectory};
use crate::record::{RecordRef, SeqNo};
use crate::sync::lock;

/// Among the segments that tombstones wait for it stands for the snapshots: no segment has this number.
pub(super) const SNAPSHOTS: SegmentId = SegmentId::MAX;

/// What is known of a segment that may hold older puts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) id: SegmentId,
    /// All commits in it are above.
    pub(super) seq_before: SeqNo,
    pub(super) is_sealed: bool,
}

/// See above.
#[derive(Default)]
pub(super) struct OlderPuts {
    sources: Mutex<Vec<Source>>,
    /// Of the segments that were asked about so far; nothing for one that could not be written since the last look.
    directories: Mutex<HashMap<SegmentId, Option<Arc<KeyDirectory>>>>,
    /// Held while one is written: several jobs may ask for it.
    writing: Mutex<()>,
    /// Which segment keeps a tombstone from being forgotten, by its address.
    blockers: Mutex<HashMap<Address, SegmentId>>,
    /// The highest number of a tombstone that stays because of a snapshot; 0 if there is none.
    kept_seq: AtomicU64,
}

impl OlderPuts {
    /// Removes the directories that an earlier process left.
    pub(super) fn open(core: &Core, dir: &Path) -> Self {
        directory::remove_leftovers(core.options.platform.vfs.as_ref(), dir);
        OlderPuts::default()
    }

    /// Takes note of the segments that there are.
    pub(super) fn look(&self, sources: impl Iterator<Item = Source>) {
        lock(&self.directories).retain(|_, directory| directory.is_some());
        *lock(&self.sources) = sources.collect();
    }

    /// Segments are gone.
    pub(super) fn retire(&self, ids: &[SegmentId]) {
        let mut directories = lock(&self.directories);
        ids.iter().for_each(|id| drop(directories.remove(id)));
    }

    /// The tombstone at an address stays because of a snapshot.
    pub(super) fn keep_for_snapshots(&self, address: Address) {
        lock(&self.blockers).insert(address, SNAPSHOTS);
    }

    /// A tombstone that stays because of a snapshot has a place to wait in.
    pub(super) fn note_kept(&self, seq: SeqNo) {
        self.kept_seq.fetch_max(seq, Relaxed);
    }

    /// True once there were tombstones that stayed because of snapshots, and none of them does any more.
    pub(super) fn may_retry(&self, horizon_seq: SeqNo) -> bool {
        let kept_seq = self.kept_seq.load(Relaxed);
        kept_seq != 0
            && kept_seq <= horizon_seq
            && self.kept_seq.compare_exchange(kept_seq, 0, Relaxed, Relaxed).is_ok()
    }

    /// The segment that keeps the tombstone at an address, if that was found.
    pub(super) fn take_blocker(&self, address: Address) -> Option<SegmentId> {
        lock(&self.blockers).remove(&address)
    }

    /// True if a segment that stays may hold an older put of the key of a tombstone.
    pub(super) fn hides_older(
        &self,
        core: &Core,
        record: &RecordRef<'_>,
        address: Address,
        victims: &[SegmentId],
    ) -> Result<bool> {
        let planted_here = match record.tombstone {
            true => Bug::TombstoneForgottenEarly,
            false => Bug::ExpiredForgottenEarly,
        };
        if planted(planted_here) {
            return Ok(false);
        }
        let hash = core.index.hash(record.keyspace, record.key);
        let older: Vec<Source> = {
            let sources = lock(&self.sources);
            let is_older = |source: &&Source| {
                source.seq_before + 1 < record.seq && !victims.contains(&source.id)
            };
            sources.iter().filter(is_older).copied().collect()
        };
        for source in older {
            let may_hold = !source.is_sealed
                || self.directory(core, source.id)?.is_none_or(|keys| keys.may_hold(hash));
            if may_hold {
                lock(&self.blockers).insert(address, source.id);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The directory of a segment, which is written when it is asked for first; nothing if that fails, so that a full disk or
    /// a damaged segment keeps tombstones, not jobs.
    fn directory(&self, core: &Core, id: SegmentId) -> Result<Option<Arc<KeyDirectory>>> {
        if let Some(directory) = lock(&self.directories).get(&id) {
            return Ok(directory.clone());
        }
        let _writing = lock(&self.writing);
        if let Some(directory) = lock(&self.directories).get(&id) {
            return Ok(directory.clone());
        }
        // Another job may have taken it away since the look: what it held is elsewhere, and nobody knows where.
        let Ok(reader) = reader(core, id) else { return Ok(None) };
        let mut hashes = Vec::new();
        let read = reader.for_each_record(&mut |record| {
            hashes.push(core.index.hash(record.keyspace, record.key));
            ControlFlow::Continue(())
        });
        let (vfs, dir) = (&core.options.platform.vfs, wal(core)?.dir());
        let written = read.map(|_| KeyDirectory::write(vfs, dir, id, hashes.into_iter()));
        let directory = written.ok().and_then(|written| written.ok()).map(Arc::new);
        lock(&self.directories).insert(id, directory.clone());
        Ok(directory)
    }
}
