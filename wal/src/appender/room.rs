//! Room for what is about to be stored: in the window, in the segment, or in the next one.
//!
//! # Failure
//! On a full disk, or when the next segment cannot be made, the commit is refused, and nothing was stored.

use super::{Appender, Surroundings};
use crate::error::{Error, Result};
use crate::format::{ChainFrame, SEAL_FRAME_BYTES, encode_seal};
use crate::record::SeqNo;
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

    /// See [`Wal::set_frugal`](crate::Wal::set_frugal).
    pub(crate) fn set_frugal(&mut self, frugal: bool, space: &Space) {
        space.set_frugal(frugal);
        self.easy_until = 0;
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
        if !self.fits(stored, logical) {
            self.rotate(stored.max(logical), around)?;
        }
        let (needed, wanted) = self.extent(stored, around.space);
        if self.is_reserved(wanted, around.space) {
            return Ok(());
        }
        self.make_room_now(needed, wanted.min(self.segment.capacity), priority, around)
    }

    /// True if [`make_room`](Self::make_room) has nothing to do.
    pub(super) fn has_room(&self, stored: u32, logical: u32, space: &Space) -> bool {
        let (_, wanted) = self.extent(stored, space);
        self.fits(stored, logical) && self.is_reserved(wanted, space)
    }

    /// True if the segment can take so much and a seal.
    fn fits(&self, stored: u32, logical: u32) -> bool {
        let behind =
            |at: u32, bytes: u32| at.saturating_add(bytes).saturating_add(SEAL_FRAME_BYTES as u32);
        behind(self.at.stored, stored) <= self.segment.capacity
            && behind(self.at.logical, logical) <= crate::segment::SEGMENT_SPAN
    }

    /// Where the content and a seal will end, and where the reserve behind them, which may reach into the next segment.
    fn extent(&self, stored: u32, space: &Space) -> (u32, u32) {
        let needed = self.at.stored + stored + SEAL_FRAME_BYTES as u32;
        let reserve = space.reserve_bytes(self.segment.capacity);
        (needed, needed.saturating_add(reserve))
    }

    fn is_reserved(&self, wanted: u32, space: &Space) -> bool {
        let capacity = self.segment.capacity;
        self.segment.reserved.load(Ordering::Acquire) >= wanted.min(capacity)
            && (wanted <= capacity || space.is_prepared())
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
    pub(super) fn rotate(&mut self, content_bytes: u32, around: &Surroundings<'_>) -> Result<()> {
        let taken = around.space.take(around.latch, content_bytes, self.log_bytes);
        let next = taken.map_err(|e| refusal(e, around))?;
        let last_seq = self.last_seq();
        self.store_frame(|place| encode_seal(last_seq, next.id, place), around);
        self.unsynced.seal(self.at);
        self.segment.note_sealed(self.at);
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
