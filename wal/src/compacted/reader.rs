//! Opens compacted segments, shows what is in them, lists and removes them.
//!
//! # Failure
//! A compacted segment was durable before it had its name, so whatever is not intact in one is damage and never a crash.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::salvage::records_end;
use super::{FOOTER_BYTES, check_id, file_name, parse_name, temporary_name};
use crate::compress::CODEC_NONE;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Frame, HEADER_BYTES, HeaderFault, SegmentHeader, SegmentKind, parse_frame};
use crate::record::{RecordRef, SeqNo};
use crate::segment::{Data, Position, SEGMENT_SPAN, Segment};
use crate::segment_reader::SegmentReader;
use crate::vfs::{FileKind, OpenMode, read_full_at};
use crate::wal::Wal;

/// What a replay of a compacted segment found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactedReport {
    /// The length of the file in bytes.
    pub bytes: u32,
    /// Where the records end in logical bytes.
    pub end_logical: u32,
    /// The number of records.
    pub records: u64,
    /// The largest sequence among them.
    pub last_seq: SeqNo,
}

/// A file of a compacted segment, complete or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct CompactedFile {
    /// The id in its name.
    pub id: u64,
    /// False for a temporary name: it is being built, or a crash left it.
    pub complete: bool,
}

/// What the last frame says.
struct Footer {
    last_seq: SeqNo,
    records: u64,
}

impl Wal {
    /// Opens a compacted segment for reading: its header, its last frame and, where it is compressed, all groups are
    /// verified.
    ///
    /// # Errors
    /// `Corruption` for what is not intact or not there, `Unsupported` for a file of a newer version or of another kind,
    /// `InvalidArgument` for an id of the log or a file of another owner, `Io`, `StorageFull`.
    pub fn open_compacted(&self, id: u64) -> Result<SegmentReader> {
        let core = self.core();
        check_id(id)?;
        core.check_fork()?;
        let segment = open(core, id)?;
        Ok(SegmentReader::new(Arc::new(segment), Arc::clone(&core.sentinel)))
    }

    /// Offers every record of a compacted segment to `f`, in the order in which they stand, each verified.
    ///
    /// # Errors
    /// `Corruption` with file and offset if anything is not intact or missing, after the records before it were offered;
    /// `InvalidArgument` for a segment of the log; `Io`.
    pub fn replay_compacted(
        &self,
        reader: &SegmentReader,
        f: &mut dyn FnMut(RecordRef<'_>),
    ) -> Result<CompactedReport> {
        self.core().check_fork()?;
        let segment = reader.segment();
        check_id(segment.id)?;
        let footer = footer(segment)?;
        let (mut records, mut last_seq, mut end_logical) = (0, 0, HEADER_BYTES);
        segment.for_each_frame(&mut |at, frame, stored_bytes| {
            if !matches!(frame, Frame::Record { .. } | Frame::Group { .. }) {
                return Err(segment.corruption(at.stored, "a record", "another frame"));
            }
            let mut stray = false;
            let flow = segment.records_of(at, frame, &mut |record| {
                stray |= record.in_batch;
                records += 1;
                last_seq = last_seq.max(record.seq);
                f(record);
                ControlFlow::Continue(())
            })?;
            if stray {
                return Err(segment.corruption(at.stored, "a record", "a part of a commit"));
            }
            end_logical = at.logical + frame.logical_bytes(stored_bytes);
            Ok(flow)
        })?;
        if (records, last_seq) != (footer.records, footer.last_seq) {
            let expected = format!("{records} records up to commit {last_seq}");
            let found = format!("{} up to {}", footer.records, footer.last_seq);
            return Err(segment.corruption(segment.end(), &expected, &found));
        }
        Ok(CompactedReport { bytes: segment.end() + FOOTER_BYTES, end_logical, records, last_seq })
    }

    /// The files of compacted segments in the directory of the log, temporary ones too, so that those that do not count can
    /// be removed.
    ///
    /// # Errors
    /// `Io`, `StorageFull`.
    pub fn list_compacted(&self) -> Result<Vec<CompactedFile>> {
        let space = &self.core().space;
        let listed = space.vfs.list(&space.dir);
        let cannot = |e| Error::io(format!("cannot list {}", space.dir.display()), e);
        let mut files: Vec<CompactedFile> = listed
            .map_err(cannot)?
            .iter()
            .filter(|entry| entry.kind == FileKind::File)
            .filter_map(|entry| parse_name(&entry.name))
            .map(|(id, complete)| CompactedFile { id, complete })
            .collect();
        files.sort_unstable();
        Ok(files)
    }

    /// Removes the files of compacted segments, complete or not; those that are not there are fine. Readers that hold one go
    /// on. Not synced: what is there again after a crash does not count, since its owner says so.
    ///
    /// # Errors
    /// `InvalidArgument` for an id of the log, `Closed` after a failure of the log; `Io` if a file cannot be removed, after
    /// all others were.
    pub fn remove_compacted(&self, ids: &[u64]) -> Result<()> {
        let core = self.core();
        core.check_fork()?;
        core.latch.check()?;
        ids.iter().try_for_each(|id| check_id(*id))?;
        let mut outcome = Ok(());
        for name in ids.iter().flat_map(|id| [file_name(*id), temporary_name(*id)]) {
            let path = core.space.dir.join(name);
            match core.space.vfs.remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    let text = format!("cannot remove {}", path.display());
                    outcome = outcome.and(Err(Error::io(text, e)));
                }
                _ => {}
            }
        }
        outcome
    }
}

fn open(core: &Core, id: u64) -> Result<Segment> {
    let (mut segment, header, len) = open_file(core, id)?;
    check_end(&segment.path, &header, len)?;
    map(core, &mut segment, header.built_end - FOOTER_BYTES)?;
    let footer = footer(&segment)?;
    segment.advance(header.built_end - FOOTER_BYTES, footer.last_seq);
    if header.grouped {
        note_groups(&segment)?;
    }
    Ok(segment)
}

/// A segment of which nothing but the header is verified, up to where its records end, or the file.
pub(super) fn open_body(core: &Core, id: u64) -> Result<Segment> {
    let (mut segment, header, len) = open_file(core, id)?;
    let built_end = header.built_end.clamp(HEADER_BYTES + FOOTER_BYTES, SEGMENT_SPAN);
    map(core, &mut segment, records_end(len, built_end))?;
    Ok(segment)
}

/// The file of a segment with its header and length, not mapped yet.
fn open_file(core: &Core, id: u64) -> Result<(Segment, SegmentHeader, u64)> {
    let space = &core.space;
    let path = space.dir.join(file_name(id));
    let cannot = |e| Error::io(format!("cannot read {}", path.display()), e);
    let file = match space.vfs.open(&path, OpenMode::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::corruption(&path, 0, "a compacted segment", "no such file"));
        }
        opened => opened.map_err(cannot)?,
    };
    let mut start = [0; HEADER_BYTES as usize];
    let filled = read_full_at(file.as_ref(), &mut start, 0).map_err(cannot)?;
    let len = file.len().map_err(cannot)?;
    let header = decode(&path, start.get(..filled).unwrap_or_default())?;
    check(&path, &header, id, core.space.owner)?;
    let mut segment = Segment::new(id, path.clone(), file, header.salt, Data::File);
    segment.created_ms = header.created_ms;
    Ok((segment, header, len))
}

/// Maps a segment that may be read up to `end`.
fn map(core: &Core, segment: &mut Segment, end: u32) -> Result<()> {
    let span = u64::from(end + FOOTER_BYTES);
    match core.space.vfs.map_read(&segment.file, span) {
        Ok(map) => segment.data = Data::Mapped(map),
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
        Err(e) => return Err(Error::io(format!("cannot read {}", segment.path.display()), e)),
    }
    segment.advance(end, 0);
    Ok(())
}

fn decode(path: &Path, start: &[u8]) -> Result<SegmentHeader> {
    SegmentHeader::decode(start, SegmentKind::Compacted).map_err(|fault| match fault {
        HeaderFault::Damaged => {
            Error::corruption(path, 0, "a segment header", "neither copy intact")
        }
        HeaderFault::Unsupported(what) => Error::new(
            ErrorKind::Unsupported,
            format!("{} is of a newer version or another kind: {what}", path.display()),
        ),
    })
}

fn check(path: &Path, header: &SegmentHeader, id: u64, owner: [u8; 16]) -> Result<()> {
    if header.owner != owner {
        let text = format!("{} belongs to another database; move it away", path.display());
        return Err(Error::new(ErrorKind::InvalidArgument, text));
    }
    if header.id != id {
        let found = format!("that of segment {:016x}", header.id);
        return Err(Error::corruption(path, 0, format!("the header of {id:016x}"), found));
    }
    Ok(())
}

fn check_end(path: &Path, header: &SegmentHeader, len: u64) -> Result<()> {
    let ends = HEADER_BYTES + FOOTER_BYTES..=SEGMENT_SPAN;
    if !ends.contains(&header.built_end) || !header.built_end.is_multiple_of(8) {
        let found = format!("an end at byte {}", header.built_end);
        return Err(Error::corruption(path, 104, "the end of a compacted segment", found));
    }
    if len < u64::from(header.built_end) {
        let expected = format!("a file of {} bytes", header.built_end);
        return Err(Error::corruption(path, len, expected, "its end"));
    }
    Ok(())
}

/// The frame behind the records.
fn footer(segment: &Segment) -> Result<Footer> {
    let at = segment.end();
    let bytes = segment.bytes(at, FOOTER_BYTES as usize)?;
    match parse_frame(&bytes, segment.place(at)) {
        Ok(Some((Frame::Seal { last_seq, next: records }, FOOTER_BYTES))) => {
            Ok(Footer { last_seq, records })
        }
        Ok(_) => Err(segment.corruption(at, "the footer of a compacted segment", "another frame")),
        Err(fault) => {
            Err(segment.corruption(at, "the footer of a compacted segment", &fault.to_string()))
        }
    }
}

/// Takes note of the compressed groups. Each is verified: a wrong length would lead all later addresses elsewhere.
fn note_groups(segment: &Segment) -> Result<()> {
    segment.for_each_frame(&mut |at, frame, stored_bytes| {
        if let Frame::Group { header, .. } = frame
            && header.codec != CODEC_NONE
        {
            let end = Position {
                stored: at.stored + stored_bytes,
                logical: at.logical + frame.logical_bytes(stored_bytes),
            };
            segment.note_compressed(at, end);
        }
        Ok(ControlFlow::Continue(()))
    })
}
