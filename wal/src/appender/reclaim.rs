//! What reclaiming space asks of the end of the log: where it begins and ends, a note of a purge, the next segment now.

use super::{Appender, Surroundings};
use crate::error::Result;
use crate::format::{PURGE_FRAME_BYTES, encode_purge};
use crate::record::SeqNo;
use crate::segment::Position;

impl Appender {
    /// Notes that segments below `oldest` are about to be removed.
    pub(crate) fn note_purge(
        &mut self,
        below: SeqNo,
        oldest: u64,
        around: &Surroundings<'_>,
    ) -> Result<()> {
        self.make_room(PURGE_FRAME_BYTES as u32, PURGE_FRAME_BYTES as u32, true, around)?;
        self.store_frame(|place| encode_purge(below, oldest, place), around);
        self.oldest = oldest;
        Ok(())
    }

    /// The segments below `oldest` are no part of the log any more; later first frames say so.
    pub(crate) fn note_oldest(&mut self, oldest: u64) {
        self.oldest = self.oldest.max(oldest);
    }

    /// Leaves the segment for the next, unless no commit is in it.
    pub(crate) fn seal(&mut self, around: &Surroundings<'_>) -> Result<()> {
        let before = self.segment.chain().map_or(0, |chain| chain.last_seq).max(self.floor);
        // The first segment of an opening may hold commits that recovery copied, below all numbers of this opening.
        let copied = self.segment.chain().is_some_and(|chain| self.recovered > chain.last_seq);
        if self.last_seq() > before || copied {
            self.rotate(0, around)?;
        }
        Ok(())
    }

    /// Where the log ends.
    pub(crate) fn at(&self) -> Position {
        self.at
    }

    /// The oldest segment of the log.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }
}
