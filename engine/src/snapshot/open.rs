//! How a snapshot begins and ends.
//!
//! # How one begins
//! 1. It is announced: "pending" in the word that writers look at, and its place in the list, so that every version that
//!    is replaced from then on is kept.
//! 2. [`choose_seq`] goes through a moment at which nothing is being installed.
//! 3. The number is published.
//!
//! Whoever installs waits for that moment, which has no sync in it, and nobody waits for a snapshot that is open.
//!
//! # How one ends
//! It takes no more versions; those that the next older snapshot needs go to that one; then it leaves the list, and what
//! is left is released: versions, records and tombstones of a database in memory, and the segments that were kept.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::registry::View;
use crate::address::Address;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::parts::bugs::{Bug, planted};
use crate::record::{Footprint, KeyspaceId, SeqNo};
use crate::sync::{lock, write};

/// A snapshot that is open until this is dropped, or until it is given up.
pub(crate) struct OpenSnapshot {
    pub(super) core: Arc<Core>,
    pub(super) view: Arc<View>,
    seq: SeqNo,
}

impl Core {
    /// Opens a snapshot: it shows every commit that was acknowledged before the call, and none that begins after it.
    ///
    /// # Errors
    /// `Closed` after `close`; what keeps commits that are under way from being installed.
    pub(crate) fn snapshot(self: &Arc<Core>) -> Result<Arc<OpenSnapshot>> {
        self.check_open()?;
        self.give_up_snapshots();
        let _one = lock(&self.snapshots.opening);
        let early = match planted(Bug::SnapshotRegisteredLate) {
            true => Some(choose_seq(self)?),
            false => None,
        };
        let view = self.snapshots.announce(self.clock());
        let chosen = early.map_or_else(|| choose_seq(self), Ok);
        let seq = chosen.inspect_err(|_| self.end_snapshot(&view))?;
        self.snapshots.fix(&view, seq);
        // Somebody has to look at its age.
        self.background.wake();
        Ok(Arc::new(OpenSnapshot { core: Arc::clone(self), view, seq }))
    }

    /// Ends a snapshot; nothing if it has ended.
    pub(super) fn end_snapshot(&self, view: &View) {
        let _one = lock(&self.snapshots.leaving);
        if let Some(heir) = self.snapshots.begin_to_leave(view) {
            if !planted(Bug::SnapshotVersionsFreedEarly) {
                self.hand_over(view, &heir);
            }
            self.snapshots.end_to_leave(view);
        }
        let (records, tombstones) = view.versions.take_owned();
        records.into_iter().for_each(|record| self.release_record(record));
        tombstones.into_iter().for_each(|tombstone| self.release_tombstone(tombstone));
        self.compaction.release_segments();
    }

    /// A record of a database in memory was replaced: it goes, unless a snapshot may show it.
    #[inline(never)]
    pub(crate) fn forget_replaced(&self, old: Address, was: Footprint) {
        if !self.snapshots.keep_record(old, u64::from(was.bytes)) {
            self.log.forget(|| self.slots.location(old));
        }
    }

    /// A record is about to be replaced, or came too late, and a snapshot may have to show it.
    #[cold]
    pub(crate) fn keep_version(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        seq: SeqNo,
        address: Address,
    ) {
        self.snapshots.keep(self.index.hash(keyspace, key), seq, address);
    }

    /// Gives an older snapshot what it needs of another one that goes.
    fn hand_over(&self, view: &View, heir: &View) {
        let seq_max = heir.seq();
        view.versions.for_each(|number, address| {
            let read = self.read_at(address, |record, _| {
                (record.seq <= seq_max).then(|| self.index.hash(record.keyspace, record.key))
            });
            match read {
                Ok(Some(Some(hash))) => heir.versions.keep(hash, address),
                Ok(Some(None) | None) => {}
                // Whoever asks for it is to get the error. In all but rare cases the number is the hash.
                Err(_) => heir.versions.keep(number, address),
            }
        });
        let (records, tombstones) = view.versions.take_owned();
        for address in records {
            match self.seq_at(address) {
                Some(seq) if seq <= seq_max => heir.versions.keep_record(address),
                _ => self.release_record(address),
            }
        }
        // They are newer than the older snapshot.
        tombstones.into_iter().for_each(|address| heir.versions.keep_tombstone(address));
    }

    fn seq_at(&self, address: Address) -> Option<SeqNo> {
        self.read_at(address, |record, _| record.seq).ok().flatten()
    }

    /// A record of a database in memory, which was replaced, is of no use any more.
    fn release_record(&self, address: Address) {
        let bytes = self.read_at(address, |record, _| u64::from(record.footprint().bytes));
        self.log.forget(|| self.slots.location(address));
        self.snapshots.release(bytes.ok().flatten().unwrap_or_default());
    }

    /// A tombstone of a database in memory has nothing to hide any more.
    fn release_tombstone(&self, address: Address) {
        let removed = self
            .read_at(address, |record, _| self.index.remove(record.keyspace, record.key, address));
        // Else something was put since, and it went with what was replaced.
        if let Ok(Some(true)) = removed {
            self.counters.tombstones.fetch_sub(1, Relaxed);
            self.log.forget(|| self.slots.location(address));
        }
    }
}

/// The number of a snapshot that is announced: every commit up to it is installed in full, and no other one but by who saw
/// the announcement.
///
/// The gate is taken alone for a moment: who installed before it is done, who does so later sees the announcement. Commits
/// that wait for their sync are not acknowledged, so the snapshot need not show them, and they are installed in the order
/// of their numbers. Only when a relaxed commit stands behind one that waits there is no such number, and the sync is
/// waited for.
fn choose_seq(core: &Core) -> Result<SeqNo> {
    let settled = {
        let _alone = write(&core.gate);
        // ORDERING: it is changed under the gate.
        core.log.settled_seq(core.led_seq.load(Relaxed))
    };
    settled.map_or_else(|| core.settled_seq(), Ok)
}

impl OpenSnapshot {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The newest commit that it shows.
    pub(crate) fn seq(&self) -> SeqNo {
        self.seq
    }

    /// The moment at which lives are judged.
    pub(crate) fn now_ms(&self) -> u64 {
        self.view.now_ms
    }

    /// Refuses to go on once it was given up.
    pub(crate) fn check(&self) -> Result<()> {
        match self.view.is_given_up() {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::SnapshotTooOld,
                "the snapshot was given up: it was older than `snapshot_age_max`, or kept more than \
                 `snapshot_retained_bytes_max`; open another one",
            )),
        }
    }

    /// As [`check`](Self::check), and gives it up if it has become too old.
    pub(crate) fn check_age(&self) -> Result<()> {
        if self.core.is_too_old(&self.view) {
            self.core.give_up(&self.view);
        }
        self.check()
    }
}

impl Drop for OpenSnapshot {
    fn drop(&mut self) {
        if !self.view.is_given_up() {
            self.core.end_snapshot(&self.view);
        }
    }
}
