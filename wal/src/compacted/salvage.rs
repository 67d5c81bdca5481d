//! What is intact of a damaged compacted segment.
//!
//! # Failure
//! A frame that is not intact is passed over in steps of 8 bytes, up to the next one that is. A file whose header is gone has
//! nothing left that could be verified.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::io;
use std::ops::ControlFlow;

use super::reader::open_body;
use super::{FOOTER_BYTES, check_id, file_name};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Frame, HEADER_BYTES, parse_frame};
use crate::record::RecordRef;
use crate::recovery::plausible_cost;
use crate::segment::{Position, Segment};
use crate::wal::Wal;

/// LIMIT: bytes that are verified in search of intact frames, by those of the file.
const SEARCH_PASSES_MAX: usize = 64;

/// The suffix of a file that was set aside.
const DAMAGED_SUFFIX: &str = ".damaged";

/// What stands at the next place of a damaged compacted segment.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Salvaged<'a> {
    /// An intact record.
    Record(RecordRef<'a>),
    /// Bytes of the file that are lost.
    Lost {
        /// Where they start.
        offset: u32,
        /// How many.
        bytes: u32,
    },
}

impl Wal {
    /// Shows what there is in a compacted segment that [`Wal::replay_compacted`] refuses, in the order in which it stands: every
    /// intact record, and the places between them that are lost. Where the records stood is not told: their places make no
    /// sense any more.
    ///
    /// # Errors
    /// `Unsupported` for a file of a newer version or of another kind, `InvalidArgument` for an id of the log or a file of
    /// another owner, `Io`, `StorageFull`. That the file is not there, or its header is gone, is no error: all of it is lost.
    pub fn salvage_compacted(&self, id: u64, f: &mut dyn FnMut(Salvaged<'_>)) -> Result<()> {
        let core = self.core();
        check_id(id)?;
        core.check_fork()?;
        let segment = match open_body(core, id) {
            Err(error) if matches!(error.kind(), ErrorKind::Corruption { .. }) => {
                f(Salvaged::Lost { offset: 0, bytes: 0 });
                return Ok(());
            }
            opened => opened?,
        };
        let end = segment.end();
        let bytes = segment.bytes(HEADER_BYTES, end.saturating_sub(HEADER_BYTES) as usize)?;
        let (mut at, mut lost_from) = (HEADER_BYTES, None);
        let mut budget = bytes.len().saturating_mul(SEARCH_PASSES_MAX);
        while at < end {
            let rest = bytes.get((at - HEADER_BYTES) as usize..).unwrap_or_default();
            let Some(frame_bytes) = show(&segment, at, rest, &mut lost_from, &mut budget, f)?
            else {
                lost_from.get_or_insert(at);
                at = at.saturating_add(8);
                continue;
            };
            at += frame_bytes;
        }
        tell_lost(lost_from, end, f);
        Ok(())
    }

    /// Gives a compacted segment a name that no opening looks at, so that it does not count and is not removed; one that is not
    /// there is fine. Not synced.
    ///
    /// # Errors
    /// `InvalidArgument` for an id of the log, `Io`.
    pub fn set_aside_compacted(&self, id: u64) -> Result<()> {
        check_id(id)?;
        let space = &self.core().space;
        let name = file_name(id);
        let path = space.dir.join(&name);
        match space.vfs.rename(&path, &space.dir.join(name + DAMAGED_SUFFIX)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("cannot rename {}", path.display()), e))
            }
            _ => Ok(()),
        }
    }
}

/// Shows the records of the frame at the start of `rest`; its length, or `None` if none is intact there.
fn show(
    segment: &Segment,
    at: u32,
    rest: &[u8],
    lost_from: &mut Option<u32>,
    budget: &mut usize,
    f: &mut dyn FnMut(Salvaged<'_>),
) -> Result<Option<u32>> {
    // Values are arbitrary bytes: only what has the form of a frame is worth a checksum.
    if lost_from.is_some() {
        match plausible_cost(rest).filter(|cost| cost <= budget) {
            Some(cost) => *budget -= cost,
            None => return Ok(None),
        }
    }
    let Ok(Some((frame, frame_bytes))) = parse_frame(rest, segment.place(at)) else {
        return Ok(None);
    };
    let can_be = match &frame {
        Frame::Record { fields, .. } => !fields.in_group,
        frame => matches!(frame, Frame::Group { .. }),
    };
    if !can_be {
        return Ok(None);
    }
    // Of a group all records or none, so they are read twice.
    let place = Position { stored: at, logical: at };
    let is_whole = segment.records_of(place, &frame, &mut |_| ControlFlow::Continue(()));
    let _ = match is_whole {
        Err(error) if matches!(error.kind(), ErrorKind::Corruption { .. }) => return Ok(None),
        read => read?,
    };
    tell_lost(lost_from.take(), at, f);
    let _ = segment.records_of(place, &frame, &mut |record| {
        f(Salvaged::Record(record));
        ControlFlow::Continue(())
    })?;
    Ok(Some(frame_bytes))
}

fn tell_lost(from: Option<u32>, end: u32, f: &mut dyn FnMut(Salvaged<'_>)) {
    if let Some(offset) = from {
        f(Salvaged::Lost { offset, bytes: end.saturating_sub(offset) });
    }
}

/// The end of the records in a file of so many bytes that should end at `built_end`.
pub(super) fn records_end(file_bytes: u64, built_end: u32) -> u32 {
    let whole = built_end.saturating_sub(FOOTER_BYTES);
    // What is missing at its end is lost; frames start on 8 bytes.
    u32::try_from(file_bytes).map_or(whole, |bytes| whole.min(bytes & !7))
}
