//! The end of the log under its lock: order, sequence numbers, marks, rotation, and what is not synced yet.
//!
//! # Layout
//! `room` is what happens before a commit is stored: the next window, the next segment.
//!
//! # Invariants
//! - The lock gives the sequence and the place together, so log order is sequence order.
//! - `published` is the last sequence below which nothing is missing: a large commit that is still being copied holds
//!   it back, and no relaxed commit above is acknowledged.
//! - Every segment has room for a seal frame behind whatever is in it.

mod reclaim;
mod room;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bugs::{Bug, planted};
use crate::commit::{COPY_UNDER_LOCK_BYTES_MAX, Commit};
use crate::conditional::LogMark;
use crate::error::Result;
use crate::format::{HEADER_BYTES, MARK_FRAME_BYTES, Mark, encode_mark};
use crate::latch::Latch;
use crate::leader::Scope;
use crate::metrics::Counters;
use crate::record::SeqNo;
use crate::segment::{Position, Segment};
use crate::space::{Space, Wishes};
use crate::unsynced::Unsynced;

/// What the appender needs of the log around it.
pub(crate) struct Surroundings<'a> {
    pub(crate) space: &'a Space,
    pub(crate) latch: &'a Latch,
    pub(crate) counters: &'a Counters,
    /// The durable watermark at the moment of the call.
    pub(crate) durable: SeqNo,
}

/// Where a commit was put.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) segment: u64,
    pub(crate) start: Position,
    pub(crate) seq: SeqNo,
    /// The caller stores the commit there and then calls [`Appender::complete`].
    pub(crate) copy_to: Option<Arc<Segment>>,
    /// Its bytes wait in memory for a flush.
    pub(crate) is_staged: bool,
    /// Something at or below it may not be published yet.
    pub(crate) behind: bool,
}

#[derive(Debug)]
pub(crate) struct Appender {
    segment: Arc<Segment>,
    at: Position,
    /// Commits that end up to here find room and leave nothing to wish for, as [`Space::easy_until`] says.
    easy_until: u32,
    next_seq: SeqNo,
    /// The largest sequence that a mark or chain frame says to be durable.
    marked: SeqNo,
    /// The last commit that recovery found, and made durable.
    recovered: SeqNo,
    /// The numbers that this opening gives out are greater.
    floor: SeqNo,
    /// Commits whose bytes are not published yet, or that wait behind one, in log order.
    in_flight: VecDeque<InFlight>,
    /// Segments with bytes that no sync has covered, in log order; the last is the one being written.
    unsynced: Unsynced,
    /// From here on, commits wait for a leader to install them.
    uninstalled: Option<(Arc<Segment>, Position)>,
    /// From here on a leader is making durable, or installing, what waited for one.
    installing: Option<(Arc<Segment>, Position)>,
    /// The last commit that does not wait for a leader.
    last_relaxed: SeqNo,
    /// Conditional commits that wait until everything is published: meanwhile nothing is copied outside the lock.
    waiting_checks: u32,
    /// The oldest segment of the log.
    oldest: u64,
    /// Stored bytes of the log, to choose the size of the next segment.
    log_bytes: u64,
}

#[derive(Debug)]
struct InFlight {
    seq: SeqNo,
    segment: Arc<Segment>,
    start: Position,
    end: Position,
    done: bool,
}

/// What a leader makes durable.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Everything up to here is published.
    pub(crate) seq: SeqNo,
    /// The segments to sync, in order, each up to a stored offset.
    pub(crate) segments: Vec<(Arc<Segment>, u32)>,
    /// Where installing starts, if any commit waits for it; it ends with the last segment above.
    pub(crate) install_from: Option<(Arc<Segment>, Position)>,
}

impl Appender {
    /// Starts in a segment whose content reaches to `at` and is durable.
    pub(crate) fn new(
        segment: Arc<Segment>,
        at: Position,
        recovered: SeqNo,
        floor: SeqNo,
        oldest: u64,
        log_bytes: u64,
    ) -> Self {
        let unsynced = Unsynced::new(&segment, at.stored);
        Appender {
            segment,
            at,
            easy_until: 0,
            next_seq: floor + 1,
            marked: floor,
            recovered,
            floor,
            in_flight: VecDeque::new(),
            unsynced,
            uninstalled: None,
            installing: None,
            last_relaxed: 0,
            waiting_checks: 0,
            oldest,
            log_bytes,
        }
    }

    /// The last sequence below which nothing is missing.
    pub(crate) fn published(&self) -> SeqNo {
        self.in_flight.front().map_or(self.next_seq, |first| first.seq) - 1
    }

    /// The last sequence given out.
    pub(crate) fn last_seq(&self) -> SeqNo {
        self.next_seq - 1
    }

    /// The segment being written.
    #[inline]
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// What should be made ready ahead of the writers.
    pub(crate) fn wishes(&self, space: &Space) -> Wishes {
        space.wishes(&self.segment, self.at.stored)
    }

    /// Gives a commit its place and sequence, and stores it when it is small.
    #[inline]
    pub(crate) fn append(
        &mut self,
        commit: &Commit<'_>,
        waits_for_install: bool,
        around: &Surroundings<'_>,
    ) -> Result<Placed> {
        let mark_bytes = if around.durable > self.marked { MARK_FRAME_BYTES as u32 } else { 0 };
        let (stored, logical) = (commit.stored_bytes(), commit.logical_bytes());
        let (stored_all, logical_all) = (stored + mark_bytes, logical + mark_bytes);
        if !self.is_easy(stored_all, logical_all) {
            self.make_room(stored_all, logical_all, commit.is_priority(), around)?;
        } else if !cfg!(loom) {
            debug_assert!(self.has_room(stored_all, logical_all, around.space));
        }
        if around.durable > self.marked {
            let durable = if planted(Bug::MarkTooEarly) { self.last_seq() } else { around.durable };
            self.store_mark(durable, around);
        }
        let (start, seq) = (self.at, self.next_seq);
        self.at = Position { stored: start.stored + stored, logical: start.logical + logical };
        self.next_seq += 1;
        if commit.is_compressed() {
            self.segment.note_compressed(start, self.at);
        }
        if !waits_for_install {
            self.last_relaxed = seq;
        } else if self.uninstalled.is_none() {
            self.uninstalled = Some((Arc::clone(&self.segment), start));
        }
        let copy_outside = stored > COPY_UNDER_LOCK_BYTES_MAX && self.waiting_checks == 0;
        if !copy_outside {
            commit.store(self.segment.tail(), seq, self.segment.place(start.stored));
        }
        let behind = copy_outside || !self.in_flight.is_empty();
        if behind {
            self.queue(start, seq, !copy_outside);
        } else {
            self.segment.advance(self.at.stored, seq);
        }
        around.counters.commits.add_exclusive(1);
        around.counters.records.add_exclusive(u64::from(commit.record_count()));
        around.counters.bytes_stored.add_exclusive(u64::from(stored));
        around.counters.bytes_raw.add_exclusive(u64::from(logical));
        Ok(Placed {
            segment: self.segment.id,
            start,
            seq,
            copy_to: copy_outside.then(|| Arc::clone(&self.segment)),
            is_staged: self.segment.tail().is_staged(),
            behind,
        })
    }

    /// Notes a commit that ends here and is not published yet, or not to be told of before another one.
    #[cold]
    fn queue(&mut self, start: Position, seq: SeqNo, done: bool) {
        let (segment, end) = (Arc::clone(&self.segment), self.at);
        self.in_flight.push_back(InFlight { seq, segment, start, end, done });
    }

    /// A commit that was copied outside the lock is published; returns true when `published` moved.
    pub(crate) fn complete(&mut self, seq: SeqNo) -> bool {
        if let Some(entry) = self.in_flight.iter_mut().find(|entry| entry.seq == seq) {
            entry.done = true;
        }
        let mut moved = false;
        while self.in_flight.front().is_some_and(|first| first.done) {
            if let Some(first) = self.in_flight.pop_front() {
                first.segment.advance(first.end.stored, first.seq);
                moved = true;
            }
        }
        moved
    }

    /// What is published but not synced.
    pub(crate) fn snapshot(&mut self, scope: Scope) -> Snapshot {
        let (mut limit, mut seq) = (self.limit(), self.published());
        // Where the next leader goes on installing: commits that are being copied, or not in the scope, wait for it.
        let mut rest =
            self.in_flight.front().map(|first| (Arc::clone(&first.segment), first.start));
        if let (Scope::Sealed, Some((segment, end))) = (scope, self.unsynced.last_sealed())
            && limit.0 > segment.id
        {
            (limit, seq) = ((segment.id, end), segment.last_seq());
            let start = Position { stored: HEADER_BYTES, logical: HEADER_BYTES };
            rest = Some((Arc::clone(&self.segment), start));
        }
        let install_from = self
            .uninstalled
            .take_if(|(segment, at)| (segment.id, at.stored) < (limit.0, limit.1.stored));
        if install_from.is_some() {
            self.uninstalled = rest;
            self.installing.clone_from(&install_from);
        }
        Snapshot { seq, segments: self.unsynced.up_to(limit), install_from }
    }

    /// A leader has installed what it took.
    pub(crate) fn note_installed(&mut self) {
        self.installing = None;
    }

    /// True when commits wait for a leader to install them, or for the one that does.
    pub(crate) fn has_pending(&self) -> bool {
        self.installing.is_some() || self.uninstalled.is_some()
    }

    /// The last commit that did not wait for a leader to install it.
    pub(crate) fn last_relaxed(&self) -> SeqNo {
        self.last_relaxed
    }

    /// Where the commits begin that wait for a leader to install them; the end, where there are none.
    pub(crate) fn pending_from(&self) -> LogMark {
        let pending = self.installing.as_ref().or(self.uninstalled.as_ref());
        let (segment, at) =
            pending.map_or((&self.segment, self.at), |(segment, at)| (segment, *at));
        LogMark { segment: Arc::clone(segment), at }
    }

    /// The end of the log.
    pub(crate) fn end(&self) -> LogMark {
        LogMark { segment: Arc::clone(&self.segment), at: self.at }
    }

    /// A conditional commit begins or ends to wait until everything is published.
    pub(crate) fn note_waiting_check(&mut self, waits: bool) {
        self.waiting_checks =
            if waits { self.waiting_checks + 1 } else { self.waiting_checks.saturating_sub(1) };
    }

    /// Every segment that may have published bytes waiting in memory, in order, each up to a stored offset.
    pub(crate) fn unflushed(&self) -> Vec<(Arc<Segment>, u32)> {
        self.unsynced.ends(self.limit())
    }

    /// Where the published bytes end: the segment, and the place in it.
    fn limit(&self) -> (u64, Position) {
        self.in_flight
            .front()
            .map_or((self.segment.id, self.at), |first| (first.segment.id, first.start))
    }

    /// The id of the segment in which the published bytes end.
    pub(crate) fn published_segment(&self) -> u64 {
        self.limit().0
    }

    /// The segments that no sync has covered, for whoever syncs them.
    pub(crate) fn unsynced(&mut self) -> &mut Unsynced {
        &mut self.unsynced
    }

    /// Bytes that a power cut would take.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.unsynced.bytes(self.at)
    }

    /// Writes down what is durable: the next open has nothing to copy, and can tell damage from a torn tail.
    pub(crate) fn mark_durable(&mut self, around: &Surroundings<'_>) -> Result<()> {
        if around.durable > self.marked {
            self.make_room(MARK_FRAME_BYTES as u32, MARK_FRAME_BYTES as u32, true, around)?;
        }
        // A segment that had to be begun for it says so in its first frame.
        if around.durable > self.marked {
            self.store_mark(around.durable, around);
        }
        Ok(())
    }

    #[cold]
    fn store_mark(&mut self, durable_seq: SeqNo, around: &Surroundings<'_>) {
        let mark = Mark { durable_seq, wall_ms: around.space.clock.wall_ms() };
        self.store_frame(|place| encode_mark(mark, place), around);
        self.marked = around.durable;
    }

    /// Stores a frame of the log's own; `at` moves behind it.
    fn store_frame(
        &mut self,
        encode: impl FnOnce(crate::format::Place) -> Vec<u8>,
        around: &Surroundings<'_>,
    ) {
        let frame = encode(self.segment.place(self.at.stored));
        self.segment.store_frame(self.at.stored, &frame);
        self.at.stored += frame.len() as u32;
        self.at.logical += frame.len() as u32;
        if self.in_flight.is_empty() {
            self.segment.advance(self.at.stored, self.last_seq());
        }
        around.counters.bytes_stored.add_exclusive(frame.len() as u64);
        around.counters.bytes_raw.add_exclusive(frame.len() as u64);
    }
}
