//! Segments that leave the log from anywhere in its chain, and what an owner needs to know of segments to decide it.
//!
//! # Failure
//! The owner writes down which segments are retired before it calls [`Wal::retire`]: from then on recovery takes them for
//! empty, so at which moment of the call a crash comes makes no difference. After a failure that closed the log nothing is
//! removed any more.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use crate::appender::Appender;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::format::HEADER_BYTES;
use crate::record::SeqNo;
use crate::segment::{Position, SEGMENT_SPAN, Segment};
use crate::sync::atomic::Ordering;
use crate::sync::lock;
use crate::wal::Wal;
use crate::words;

/// LIMIT: ids of the log are below 2^63.
pub(crate) const ID_MAX: u64 = (1 << 63) - 1;

/// A segment of the log, as [`Wal::segments`] found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its id.
    pub id: u64,
    /// Bytes of the disk that are reserved for it.
    pub stored_bytes: u64,
    /// Where it ends in bytes of its file; what is not sealed grows on.
    pub end_stored: u32,
    /// The same place in logical bytes.
    pub end_logical: u32,
    /// Its last commit; where it has none, the last before it.
    pub last_seq: SeqNo,
    /// Every commit in it is above this one, the last before it.
    pub seq_before: SeqNo,
    /// Nothing is appended to it any more.
    pub sealed: bool,
    /// It is sealed, and every commit in it is durable and was offered to the handler.
    pub settled: bool,
    /// Its first frame says that every commit up to here was durable.
    pub durable_before: SeqNo,
    /// Wall clock when it was made, in ms since 1970.
    pub created_ms: u64,
    /// The segment before it, 0 for none, and its end.
    predecessor: (u64, Position),
    /// The oldest segment of the log.
    pub(crate) oldest: u64,
}

impl SegmentInfo {
    /// What an owner writes down to retire it; makes sense of a settled segment only.
    pub fn retired(&self) -> RetiredSegment {
        let (predecessor, end) = self.predecessor;
        RetiredSegment {
            id: self.id,
            end_stored: self.end_stored,
            end_logical: self.end_logical,
            last_seq: self.last_seq,
            predecessor,
            predecessor_end_stored: end.stored,
            predecessor_end_logical: end.logical,
            oldest: self.oldest,
        }
    }
}

/// What recovery must know of a retired segment, since its file is gone.
///
/// The first frame of a successor tells the end of its predecessor only, and a recovery may leave ids out; so what came
/// before a segment that is gone is kept here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct RetiredSegment {
    /// Its id.
    pub id: u64,
    /// Where it ended, in bytes of its file.
    pub end_stored: u32,
    /// The same place in logical bytes.
    pub end_logical: u32,
    /// The last commit up to its end, which was durable.
    pub last_seq: SeqNo,
    /// The segment before it, 0 for none.
    pub predecessor: u64,
    /// Where that one ended, in bytes of its file.
    pub predecessor_end_stored: u32,
    /// The same place in logical bytes.
    pub predecessor_end_logical: u32,
    /// The oldest segment of the log at that time.
    pub oldest: u64,
}

impl RetiredSegment {
    /// The length of [`RetiredSegment::to_bytes`].
    pub const BYTES: usize = 48;

    /// The form in which an owner stores it: the fields in their order, little-endian.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let ends = words::halves(self.end_stored, self.end_logical);
        let before = words::halves(self.predecessor_end_stored, self.predecessor_end_logical);
        words::to_bytes(&[self.id, ends, self.last_seq, self.predecessor, before, self.oldest])
    }

    /// Reads [`RetiredSegment::to_bytes`]; an open refuses one that cannot be.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [id, ends, last_seq, predecessor, before, oldest] = words::from_bytes(bytes);
        let (end_stored, end_logical) = words::split(ends);
        let (predecessor_end_stored, predecessor_end_logical) = words::split(before);
        RetiredSegment {
            id,
            end_stored,
            end_logical,
            last_seq,
            predecessor,
            predecessor_end_stored,
            predecessor_end_logical,
            oldest,
        }
    }

    pub(crate) fn end(&self) -> Position {
        Position { stored: self.end_stored, logical: self.end_logical }
    }

    pub(crate) fn predecessor_end(&self) -> Position {
        let (stored, logical) = (self.predecessor_end_stored, self.predecessor_end_logical);
        Position { stored, logical }
    }

    fn is_possible(&self) -> bool {
        let ends = HEADER_BYTES..=SEGMENT_SPAN;
        (1..=ID_MAX).contains(&self.id)
            && self.predecessor < self.id
            && self.oldest <= self.id
            && self.last_seq <= crate::format::SEQ_MAX
            && ends.contains(&self.end_stored)
            && ends.contains(&self.end_logical)
    }
}

/// Refuses a list that no log can have.
pub(crate) fn validate_retired(retired: &[RetiredSegment]) -> Result<()> {
    let mut ids = BTreeSet::new();
    for segment in retired {
        if !segment.is_possible() || !ids.insert(segment.id) {
            let text = format!("no log can have the retired segment {segment:?}");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
    }
    Ok(())
}

impl Wal {
    /// Every segment of the log, the oldest first; the last is the one being written.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let core = self.core();
        let moment = Moment::of(&lock(&core.appender), core);
        let segments = core.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.values().map(|segment| moment.info(segment, core)).collect()
    }

    /// Leaves the segment that is being written for the next, so that it can settle; nothing if no commit is in it.
    ///
    /// # Errors
    /// `StorageFull` while there is no room for the next segment, `Closed`.
    pub fn seal_active(&self) -> Result<()> {
        let core = self.core();
        core.check_fork()?;
        {
            let mut appender = lock(&core.appender);
            core.check_open()?;
            let before = appender.segment().id;
            let sealed = appender.seal(&core.surroundings());
            if appender.segment().id == before {
                return sealed;
            }
            core.note_segment(appender.segment());
        }
        core.space_signals.notify();
        core.sync_signals.notify();
        Ok(())
    }

    /// Takes settled segments out of the log, wherever they stand in it, and removes their files. A
    /// [`SegmentReader`](crate::SegmentReader) that holds one goes on.
    ///
    /// The caller has written down durably that they are retired ([`SegmentInfo::retired`]), and passes that to
    /// [`WalOptions::retired`](crate::WalOptions::retired) at every open until
    /// [`RecoveryReport::retired_forgotten`](crate::RecoveryReport::retired_forgotten) names them: without it, the next open
    /// takes the log for damaged. The removal is not synced. What is there again after a crash is removed by the next open.
    ///
    /// # Errors
    /// `InvalidArgument` if one of them is not there or not settled: nothing happened. `Closed` after a failure of the log.
    /// `Io` if a file cannot be removed: all of them are out of the log, and the next open removes the file.
    pub fn retire(&self, ids: &[u64]) -> Result<()> {
        self.retire_holding(ids, SeqNo::MAX)
    }

    /// As [`Wal::retire`], but the files of segments with commits above `seq` stay, under a name that no opening takes for a
    /// part of the log: [`Wal::list_held`].
    ///
    /// # Errors
    /// As [`Wal::retire`].
    pub fn retire_holding(&self, ids: &[u64], seq: SeqNo) -> Result<()> {
        let core = self.core();
        core.check_fork()?;
        core.latch.check()?;
        let _purge = lock(&core.purge);
        let doomed: BTreeSet<u64> = ids.iter().copied().collect();
        let settled: BTreeSet<u64> =
            self.segments().iter().filter(|info| info.settled).map(|info| info.id).collect();
        if let Some(id) = doomed.difference(&settled).next() {
            let text = format!("there is no segment {id:016x} that is settled");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let removed: Vec<_> = {
            let mut segments = core.segments.write().unwrap_or_else(PoisonError::into_inner);
            doomed.iter().filter_map(|id| segments.remove(id)).collect()
        };
        let oldest = {
            let segments = core.segments.read().unwrap_or_else(PoisonError::into_inner);
            segments.keys().next().copied()
        };
        lock(&core.appender).note_oldest(oldest.unwrap_or(0));
        let mut outcome = Ok(());
        for segment in removed {
            let vfs = core.space.vfs.as_ref();
            let gone = match segment.last_seq() > seq {
                true => crate::held::hold(vfs, &segment.path, segment.id, segment.last_seq()),
                false => vfs.remove_file(&segment.path),
            };
            let place = || format!("cannot remove {}", segment.path.display());
            outcome = outcome.and(gone.map_err(|e| Error::io(place(), e)));
        }
        outcome
    }
}

/// What holds for all segments at one moment under the append lock.
struct Moment {
    /// The segment being written, and where it ends.
    active: (u64, Position),
    /// The segments before this one have no commit that is still being copied.
    published: u64,
    oldest: u64,
    durable: SeqNo,
}

impl Moment {
    fn of(appender: &Appender, core: &Core) -> Moment {
        Moment {
            active: (appender.segment().id, appender.at()),
            published: appender.published_segment(),
            oldest: appender.oldest(),
            durable: core.train.durable(),
        }
    }

    fn info(&self, segment: &Segment, core: &Core) -> SegmentInfo {
        // One that was begun since is as good as empty.
        let start = Position { stored: HEADER_BYTES, logical: HEADER_BYTES };
        let is_active = segment.id == self.active.0;
        let sealed = segment.sealed().filter(|_| segment.id < self.active.0);
        let end = sealed.unwrap_or(if is_active { self.active.1 } else { start });
        let last_seq = segment.last_seq();
        let settled = segment.is_settled(|| {
            sealed.is_some()
                && segment.id < self.published
                && last_seq <= self.durable
                && core.uninstalled.is_idle(segment.id)
        });
        let reserved = segment.reserved.load(Ordering::Relaxed);
        let (predecessor, seq_before) = match segment.chain() {
            Some(chain) => {
                let (stored, logical) = (chain.predecessor_end, chain.predecessor_logical_end);
                ((chain.predecessor, Position { stored, logical }), chain.last_seq)
            }
            None => ((0, start), 0),
        };
        SegmentInfo {
            id: segment.id,
            stored_bytes: u64::from(reserved.max(end.stored)),
            end_stored: end.stored,
            end_logical: end.logical,
            last_seq,
            seq_before,
            sealed: sealed.is_some(),
            settled,
            durable_before: segment.chain().map_or(0, |chain| chain.durable_seq),
            created_ms: segment.created_ms,
            predecessor,
            oldest: self.oldest,
        }
    }
}
