//! Offers commits that have become durable to the handler, in log order, in runs of about 16 records.

use std::sync::Arc;

use crate::appender::Snapshot;
use crate::error::Result;
use crate::format::Frame;
use crate::record::{RecordRef, ReplayHandler};
use crate::segment::{GroupFault, Position, Segment, record_ref};

/// A call of the handler gets about so many records, so that an index can prefetch.
const RUN_RECORDS: usize = 16;

/// Installs everything between the place where installing starts and the end of the snapshot.
pub(crate) fn install_range(snapshot: &Snapshot, handler: &dyn ReplayHandler) -> Result<()> {
    let Some((first, from)) = &snapshot.install_from else { return Ok(()) };
    let mut started = false;
    for (segment, end) in &snapshot.segments {
        let position = if segment.id == first.id {
            started = true;
            *from
        } else if started {
            let header = crate::format::HEADER_BYTES;
            Position { stored: header, logical: header }
        } else {
            continue;
        };
        install_segment(segment, position, *end, handler)?;
    }
    Ok(())
}

/// Installs the commits of one segment, which recovery verified or this process appended, from a frame boundary up to a stored offset; returns the number of records.
pub(crate) fn install_segment(
    segment: &Arc<Segment>,
    from: Position,
    end: u32,
    handler: &dyn ReplayHandler,
) -> Result<u64> {
    let bytes = segment.bytes(from.stored, (end - from.stored) as usize)?;
    let mut installer =
        Installer { segment, handler, run: Vec::with_capacity(RUN_RECORDS), records: 0 };
    let mut at = from;
    while at.stored < end {
        let rest = bytes.get((at.stored - from.stored) as usize..).unwrap_or_default();
        let (frame, stored_bytes) = segment.trusted_frame(at.stored, rest)?;
        installer.frame(at, &frame)?;
        at.logical += frame.logical_bytes(stored_bytes);
        at.stored += stored_bytes;
    }
    installer.finish();
    Ok(installer.records)
}

struct Installer<'a, 'h> {
    segment: &'a Segment,
    handler: &'h dyn ReplayHandler,
    run: Vec<RecordRef<'a>>,
    records: u64,
}

impl<'a> Installer<'a, '_> {
    fn frame<'f: 'a>(&mut self, at: Position, frame: &Frame<'f>) -> Result<()> {
        match frame {
            Frame::Record { seq, fields } => {
                let location =
                    crate::record::Location { segment: self.segment.id, offset: at.logical };
                self.run.push(record_ref(location, *seq, fields));
                self.records += 1;
                if self.run.len() >= RUN_RECORDS {
                    self.finish();
                }
            }
            Frame::Group { header, payload } => {
                self.finish();
                let mut scratch = Vec::new();
                let mut records = Vec::with_capacity(header.record_count.min(4096) as usize);
                let read =
                    self.segment.group_records(at, header, payload, &mut scratch, &mut |record| {
                        records.push(record)
                    });
                read.map_err(|fault| self.group_corruption(at, fault))?;
                self.records += records.len() as u64;
                self.handler.apply(&records);
            }
            Frame::Mark(_)
            | Frame::Seal { .. }
            | Frame::Chain(_)
            | Frame::Purge { .. }
            | Frame::Unknown => {}
        }
        Ok(())
    }

    fn finish(&mut self) {
        if !self.run.is_empty() {
            self.handler.apply(&self.run);
            self.run.clear();
        }
    }

    fn group_corruption(&self, at: Position, fault: GroupFault) -> crate::error::Error {
        self.segment.corruption(at.stored, "a commit", &fault.to_string())
    }
}
