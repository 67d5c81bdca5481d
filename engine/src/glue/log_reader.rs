//! Reads the log from a sequence number on: the durable commits, in their order, each once, from the segments of the log and
//! from those that left it and are held.
//!
//! # Invariants
//! - What comes is without a hole: a segment is entered only if the last commit before it was read. A hole answers `Lagged`.
//! - Copies that compaction made are in no segment that is read here.
//!
//! # Concurrency
//! Beside writers, compactions and other readers. A segment that is open stays readable when its file goes.

use std::ops::ControlFlow;

use cortenkv_wal::{LogItem, SegmentReader, Wal};

use super::segment::ours;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::parts::hold;
use crate::record::{RecordRef, SeqNo};

/// A record of the log with its place in its commit.
pub(crate) struct Logged<'a> {
    pub(crate) record: RecordRef<'a>,
    pub(crate) index: u32,
    /// When its commit was appended at the earliest, in ms since 1970: what the last sync-mark before it says.
    pub(crate) wall_ms: u64,
}

/// A place in the log.
#[derive(Debug)]
pub(crate) struct LogReader {
    /// Commits up to here were shown, or not asked for.
    position: SeqNo,
    current: Option<Current>,
    wall_ms: u64,
}

#[derive(Debug)]
struct Current {
    reader: SegmentReader,
    cursor: u64,
    /// The last commit of a held segment.
    last_seq: SeqNo,
}

/// Why a reader stopped in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// It was enough for now.
    Full,
    /// What follows is not asked for, or not durable yet.
    Limit,
    /// Nothing follows in this segment.
    End,
}

impl LogReader {
    /// A reader of what comes behind a commit.
    pub(crate) fn behind(position: SeqNo) -> Self {
        LogReader { position, current: None, wall_ms: 0 }
    }

    /// Commits up to here were shown, or not asked for.
    pub(crate) fn position(&self) -> SeqNo {
        self.position
    }

    /// Shows the records of some more commits, at least one, about `bytes_max` bytes of them and none above `seq_max`; false
    /// if there is none that is durable.
    ///
    /// # Errors
    /// `Lagged` if a part of the log is gone, `Corruption`, `Io`.
    pub(crate) fn read(
        &mut self,
        core: &Core,
        bytes_max: u64,
        seq_max: SeqNo,
        show: &mut dyn FnMut(Logged<'_>),
    ) -> Result<bool> {
        let wal = &hold::parts(core)?.0.wal;
        let before = self.position;
        loop {
            // Whatever is durable was published before, so all of it is found behind this line.
            let limit = wal.durable_seq().min(seq_max);
            if self.position >= limit {
                return Ok(self.position > before);
            }
            if self.current.is_none() && !self.enter(core, wal, limit)? {
                return Ok(false);
            }
            let stop = self.read_current(bytes_max, limit, show)?;
            if self.position > before {
                return Ok(true);
            }
            let goes_on = match stop {
                Stop::Full => true,
                Stop::Limit => false,
                Stop::End => self.enter(core, wal, limit)?,
            };
            if !goes_on {
                return Ok(false);
            }
        }
    }

    /// Reads on in the segment.
    fn read_current(
        &mut self,
        bytes_max: u64,
        limit: SeqNo,
        show: &mut dyn FnMut(Logged<'_>),
    ) -> Result<Stop> {
        let Some(current) = &mut self.current else { return Ok(Stop::End) };
        let (start, wall_ms) = (self.position, &mut self.wall_ms);
        let (mut commit, mut index, mut stop) = (start, 0, Stop::Full);
        let last_seq = current.last_seq;
        current.cursor = current.reader.read_on(current.cursor, bytes_max, &mut |item| {
            match item {
                LogItem::Clock { wall_ms: at_ms } => *wall_ms = at_ms.max(*wall_ms),
                LogItem::Record(record) if record.seq > limit.min(last_seq) => {
                    stop = if record.seq > last_seq { Stop::End } else { Stop::Limit };
                    return ControlFlow::Break(());
                }
                LogItem::Record(record) if record.seq > start && record.seq >= commit => {
                    index = if record.seq == commit { index + 1 } else { 0 };
                    commit = record.seq;
                    show(Logged { record: ours(&record), index, wall_ms: *wall_ms });
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        self.position = commit;
        Ok(if current.reader.is_at_end(current.cursor) { Stop::End } else { stop })
    }

    /// Goes to the next segment; false if there is none yet.
    fn enter(&mut self, core: &Core, wal: &Wal, limit: SeqNo) -> Result<bool> {
        let behind = self.current.as_ref().map_or(0, |current| current.reader.id());
        let opened = {
            // A segment is in the log or held, and not between.
            let _removing = core.holds.removing();
            let live = wal.segments();
            let held = wal.list_held()?;
            let wanted = |id: u64, last_seq: SeqNo| id > behind && last_seq > self.position;
            let held = held.iter().find(|file| wanted(file.id, file.last_seq));
            let live = live.iter().find(|known| wanted(known.id, known.last_seq));
            match (held, live) {
                (Some(held), live) if live.is_none_or(|live| held.id < live.id) => {
                    Some((wal.open_held(held)?, held.last_seq))
                }
                (_, Some(live)) => wal.segment(live.id).map(|reader| (reader, SeqNo::MAX)),
                (_, None) => None,
            }
        };
        let Some((reader, last_seq)) = opened else { return Ok(false) };
        let oldest = reader.seq_before();
        if oldest > self.position {
            // What comes before it may be on its way still.
            return if oldest <= limit {
                Err(Error::lagged(self.position, oldest))
            } else {
                Ok(false)
            };
        }
        self.current = Some(Current { reader, cursor: 0, last_seq });
        Ok(true)
    }
}
