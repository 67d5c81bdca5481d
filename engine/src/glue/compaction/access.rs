//! The log and its segments, as jobs reach them.

use cortenkv_compaction::SegmentId;
use cortenkv_wal::{SegmentReader, Wal};

use crate::core::Core;
use crate::error::{ClosedReason, Error, Result};
use crate::log::LogSegment;
use crate::parts::DurableLog;
use crate::sync::lock;

/// The log of a database on disk: no other is compacted.
pub(super) fn log(core: &Core) -> Result<&DurableLog> {
    core.log.durable().ok_or_else(|| Error::closed(ClosedReason::Clean))
}

pub(super) fn wal(core: &Core) -> Result<&Wal> {
    log(core).map(|log| &log.wal)
}

/// A segment to be read from one end to the other: as it is mounted, else opened.
pub(super) fn reader(core: &Core, id: SegmentId) -> Result<SegmentReader> {
    let slot = lock(&core.slots.book).assigned.get(&id).copied();
    let cell = slot.and_then(|slot| core.slots.cell(usize::from(slot)));
    let mounted = cell.and_then(|cell| {
        cell.with(|mounted| match &mounted.segment {
            LogSegment::Durable(segment) => Some(segment.reader.clone()),
            LogSegment::Memory(_) => None,
        })
    });
    match mounted.flatten() {
        Some(reader) => Ok(reader),
        None => Ok(log(core)?.segment(id)?.reader),
    }
}

/// A record that has to be there is not.
pub(super) fn gone() -> Error {
    Error::invalid("a record of a segment that is being compacted is gone; run `corten verify`")
}
