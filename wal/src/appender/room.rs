//! Room for what is about to be stored: in the window, in the segment, or in the next one.
//!
//! # Failure
//! On a full disk, or when the next segment cannot be made, the commit is refused, and nothing was stored.

use super::{Appender, Surroundings};
use crate::error::{Error, Result};
use crate::format::{ChainFrame, SEAL_FRAME_BYTES, encode_seal};
use crate::record::SeqNo;
use crate::segment::Position;
use crate::space::{Space, full};
use crate::sync::atomic::Ordering;

impl Appender {
    /// True if a commit of this size needs neither [`make_room`](Self::make_room) nor a look at what is to be wished for.
    #[inline]
    pub(super) fn is_easy(&self, stored: u32, logical: u32) -> bool {
        let end = self.at.stored.saturating_add(stored);
        end.max(self.at.logical.saturating_add(logical)) <= self.easy_until
    }

    /// True if something should be made ready ahead of the writers, and nobody was told a moment ago: the caller tells.
    #[inline]
    pub(crate) fn has_wishes(&mut self, space: &Space) -> bool {
        !self.is_easy(0, 0) && self.look(space)
    }

    /// The look itself, which also finds out up to where the next one is not needed.
    fn look(&mut self, space: &Space) -> bool {
        let has_wishes = self.wishes(space).any();
        self.easy_until = space.easy_until(&self.segment, self.at.stored, has_wishes);
        has_wishes
    }

    /// Sees to it that `stored` bytes and a seal fit behind `at` in reserved space.
    pub(super) fn make_room(
        &mut self,
        stored: u32,
        logical: u32,
        priority: bool,
        around: &Surroundings<'_>,
    ) -> Result<()> {
        let seal = SEAL_FRAME_BYTES as u32;
        let fits = |at: Position, capacity: u32| {
            at.stored.saturating_add(stored).saturating_add(seal) <= capacity
                && at.logical.saturating_add(logical).saturating_add(seal)
                    <= crate::segment::SEGMENT_SPAN
        };
        if !fits(self.at, self.segment.capacity) {
            self.rotate(stored.max(logical), around)?;
        }
        let needed = self.at.stored + stored + seal;
        let reserve = around.space.reserve_bytes(self.segment.capacity);
        let wanted = needed.saturating_add(reserve).min(self.segment.capacity);
        if self.segment.reserved.load(Ordering::Acquire) >= wanted
            && (needed.saturating_add(reserve) <= wanted || around.space.is_prepared())
        {
            return Ok(());
        }
        self.make_room_now(needed, wanted, priority, around)
    }

    /// The slow path: nobody was ahead of us, or the disk is full.
    #[cold]
    fn make_room_now(
        &self,
        needed: u32,
        wanted: u32,
        priority: bool,
        around: &Surroundings<'_>,
    ) -> Result<()> {
        let started = around.space.clock.monotonic();
        let mut room = around.space.reserve(around.latch, &self.segment, wanted);
        if room.is_ok() && wanted == self.segment.capacity {
            // The reserve reaches into the next segment.
            room = around.space.prepare(around.latch, 0, self.log_bytes);
        }
        let stalled = around.space.clock.monotonic().saturating_sub(started);
        around.counters.stalls.add(1);
        around.counters.stall_time_ns.add(stalled.as_nanos() as u64);
        let has_reserve = priority && needed <= self.segment.reserved.load(Ordering::Acquire);
        room.or_else(|e| {
            if e.is_storage_full() && has_reserve { Ok(()) } else { Err(refusal(e, around)) }
        })
    }

    /// The commit that a durable watermark stands for. Until the first sync the watermark is the floor, which no commit
    /// has: a frame that said so would make recovery look for commits that never were.
    fn durable_commit(&self, durable: SeqNo) -> SeqNo {
        if durable > self.floor { durable } else { self.recovered }
    }

    /// Leaves the segment for the next, which was made ready (or is made now).
    fn rotate(&mut self, content_bytes: u32, around: &Surroundings<'_>) -> Result<()> {
        let taken = around.space.take(around.latch, content_bytes, self.log_bytes);
        let next = taken.map_err(|e| refusal(e, around))?;
        let last_seq = self.last_seq();
        self.store_frame(|place| encode_seal(last_seq, next.id, place), around);
        self.unsynced.seal(self.at);
        let chain = ChainFrame {
            last_seq,
            predecessor: self.segment.id,
            predecessor_end: self.at.stored,
            predecessor_logical_end: self.at.logical,
            durable_seq: self.durable_commit(around.durable),
            oldest: self.oldest,
            wall_ms: around.space.clock.wall_ms(),
            seq_floor: last_seq,
        };
        self.log_bytes += u64::from(self.at.stored);
        self.at = next.begin(&chain);
        self.easy_until = 0;
        self.marked = self.marked.max(around.durable);
        self.unsynced.begin(&next);
        self.segment = next;
        around.counters.rotations.add(1);
        Ok(())
    }
}

/// What a writer is told when no room could be made.
fn refusal(error: Error, around: &Surroundings<'_>) -> Error {
    if !error.is_storage_full() {
        return error;
    }
    around.counters.full_refusals.add(1);
    full().caused_by(&error)
}
