//! Copies what was never known to be durable into new segments, so that it is, before anybody sees it.
//!
//! After a failed sync the page cache shows bytes that are not on the disk, and says nothing of it; so bytes behind the
//! last mark are not trusted but written again. The new segments are built under temporary names and appear together:
//! the first of them last, since it is the one that connects the others to the log.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::sync::Arc;

use super::scan::Island;
use crate::bugs::{Bug, planted};
use crate::commit::finish_records;
use crate::compress::CODEC_NONE;
use crate::error::{Error, Result};
use crate::format::{
    CHAIN_FRAME_BYTES, ChainFrame, FRAME_HEADER_BYTES, Frame, HEADER_BYTES, HeadWord, PREFIX_BYTES,
    Place, SEAL_FRAME_BYTES, crc32c, finish_head, parse_frame,
};
use crate::segment::{Position, SEGMENT_SPAN, Segment};
use crate::space::Space;

/// Commits to copy: whole frames of one segment, without a gap.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) segment: Arc<Segment>,
    pub(super) range: Island,
}

/// What the first new segment says about the log before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) predecessor: u64,
    pub(super) end: Position,
    /// The last commit that stays where it is.
    pub(super) last_seq: u64,
    pub(super) durable: u64,
    /// The oldest segment of the log; 0 while none is known.
    pub(super) oldest: u64,
    pub(super) seq_floor: u64,
}

/// The new end of the log.
#[derive(Debug)]
pub(super) struct Rebuilt {
    /// From the oldest on; never empty.
    pub(super) segments: Vec<Arc<Segment>>,
    /// Where the last one ends.
    pub(super) at: Position,
    pub(super) last_seq: u64,
    pub(super) bytes_copied: u64,
}

/// Writes new segments behind `before` that hold the commits of `sources`, and makes them durable under their names.
pub(super) fn rebuild(
    space: &Space,
    before: Before,
    sources: &[Source],
    log_bytes: u64,
) -> Result<Rebuilt> {
    let last_copied = last_commit(sources)?.unwrap_or(0).max(before.last_seq);
    let mut builder = Builder {
        space,
        before,
        last_copied,
        log_bytes,
        newest: before.last_seq,
        done: Vec::new(),
        current: None,
        copied: 0,
    };
    let mut left: u64 =
        sources.iter().map(|source| u64::from(source.range.end - source.range.start)).sum();
    builder.begin(left)?;
    for source in sources {
        let Island { start, end } = source.range;
        let bytes = source.segment.bytes(start, (end - start) as usize)?;
        let mut at = start;
        while at < end {
            let rest = bytes.get((at - start) as usize..).unwrap_or_default();
            let parsed = parse_frame(rest, source.segment.place(at));
            let Ok(Some((frame, stored_bytes))) = parsed else {
                return Err(source.segment.corruption(
                    at,
                    "the frame that was there a moment ago",
                    "something else",
                ));
            };
            let is_delete = matches!(frame, Frame::Record { fields, .. } if fields.delete);
            let forgotten = is_delete && planted(Bug::TombstoneNotCopied);
            if frame.commit_seq().is_some() && !forgotten {
                let raw = rest.get(..stored_bytes as usize).unwrap_or_default();
                builder.copy(&frame, raw, left)?;
            }
            at += stored_bytes;
            left -= u64::from(stored_bytes);
        }
    }
    builder.finish()
}

/// The smallest commit of a source.
pub(super) fn first_commit(source: &Source) -> Result<Option<u64>> {
    let Source { segment, range } = source;
    let bytes = segment.bytes(range.start, (range.end - range.start) as usize)?;
    let mut at = range.start;
    while at < range.end {
        let rest = bytes.get((at - range.start) as usize..).unwrap_or_default();
        match parse_frame(rest, segment.place(at)) {
            Ok(Some((frame, stored_bytes))) => {
                if frame.commit_seq().is_some() {
                    return Ok(frame.commit_seq());
                }
                at += stored_bytes;
            }
            _ => break,
        }
    }
    Ok(None)
}

/// The largest commit in the sources.
fn last_commit(sources: &[Source]) -> Result<Option<u64>> {
    let mut last = None;
    for Source { segment, range } in sources {
        let bytes = segment.bytes(range.start, (range.end - range.start) as usize)?;
        let mut at = range.start;
        while at < range.end {
            let rest = bytes.get((at - range.start) as usize..).unwrap_or_default();
            let Ok(Some((frame, stored_bytes))) = parse_frame(rest, segment.place(at)) else {
                break;
            };
            last = last.max(frame.commit_seq());
            at += stored_bytes;
        }
    }
    Ok(last)
}

struct Builder<'a> {
    space: &'a Space,
    before: Before,
    last_copied: u64,
    log_bytes: u64,
    /// The last commit that the new log has so far.
    newest: u64,
    done: Vec<(Arc<Segment>, Position)>,
    current: Option<(Arc<Segment>, Position)>,
    copied: u64,
}

impl Builder<'_> {
    /// Starts the next segment, with room for `left` bytes of frames as far as one segment can hold them.
    fn begin(&mut self, left: u64) -> Result<()> {
        const FIXED: u32 = HEADER_BYTES + (CHAIN_FRAME_BYTES + SEAL_FRAME_BYTES) as u32;
        let content = left.min(u64::from(SEGMENT_SPAN - FIXED)) as u32;
        let segment = self.space.create(content, self.log_bytes)?;
        let first = self.current.is_none();
        if let Some(finished) = self.current.take() {
            // Staged bytes would else fill the memory, segment by segment.
            flush(&finished)?;
            finished.0.note_sealed(finished.1);
            self.done.push(finished);
        }
        let (predecessor, end, last_seq) = match self.done.last() {
            None => (self.before.predecessor, self.before.end, self.before.last_seq),
            Some((segment, end)) => (segment.id, *end, segment.last_seq()),
        };
        if self.before.oldest == 0 {
            // All new segments name the first: a later one with its own id would say that the first was purged.
            self.before.oldest = segment.id;
        }
        let chain = ChainFrame {
            last_seq,
            predecessor,
            predecessor_end: end.stored,
            predecessor_logical_end: end.logical,
            // The first appears last: once it is there, everything that was copied is durable.
            durable_seq: if first {
                self.last_copied.max(self.before.durable)
            } else {
                self.before.durable
            },
            oldest: self.before.oldest,
            wall_ms: self.space.clock.wall_ms(),
            seq_floor: self.before.seq_floor,
        };
        let at = segment.begin(&chain);
        self.current = Some((segment, at));
        Ok(())
    }

    fn copy(&mut self, frame: &Frame<'_>, raw: &[u8], left: u64) -> Result<()> {
        let seq = frame.commit_seq().unwrap_or(0);
        if seq <= self.newest {
            // Salvage finds commits in a file and in the copy that an interrupted recovery made of it.
            return Ok(());
        }
        let stored_bytes = raw.len() as u32;
        let logical_bytes = frame.logical_bytes(stored_bytes);
        let seal = SEAL_FRAME_BYTES as u32;
        let fits = self.current.as_ref().is_some_and(|(segment, at)| {
            at.stored + stored_bytes + seal <= segment.capacity
                && at.logical + logical_bytes + seal <= SEGMENT_SPAN
        });
        if !fits {
            self.begin(left)?;
        }
        let Some((segment, at)) = &mut self.current else { return Ok(()) };
        self.newest = seq;
        store_copy(segment, at.stored, frame, raw);
        let start = *at;
        at.stored += stored_bytes;
        at.logical += logical_bytes;
        if matches!(frame, Frame::Group { header, .. } if header.codec != CODEC_NONE) {
            segment.note_compressed(start, *at);
        }
        segment.advance(at.stored, seq);
        self.copied += u64::from(stored_bytes);
        Ok(())
    }

    fn finish(mut self) -> Result<Rebuilt> {
        self.done.extend(self.current.take());
        for finished in &self.done {
            flush(finished)?;
            self.space.sync_built(&finished.0, finished.1.stored)?;
        }
        // Newest first, and the one that connects them to the log after the others are durable.
        let (first, others) = self
            .done
            .split_first()
            .map_or((None, &[][..]), |(first, others)| (Some(first), others));
        for (segment, _) in others.iter().rev() {
            self.space.name(segment)?;
        }
        if !others.is_empty() {
            self.space.sync_names()?;
        }
        if let Some((first, _)) = first {
            self.space.name(first)?;
            self.space.sync_names()?;
        }
        let at = self.done.last().map_or(Position { stored: 0, logical: 0 }, |(_, at)| *at);
        let segments = self.done.into_iter().map(|(segment, _)| segment).collect();
        Ok(Rebuilt { segments, at, last_seq: self.last_copied, bytes_copied: self.copied })
    }
}

/// Hands the content of a new segment to the kernel.
fn flush((segment, at): &(Arc<Segment>, Position)) -> Result<()> {
    let place = || format!("cannot write {}", segment.path.display());
    segment.tail().flush(u64::from(at.stored)).map_err(|e| Error::io(place(), e))
}

/// Stores a commit at a new place, with its old sequence number.
fn store_copy(segment: &Segment, at: u32, frame: &Frame<'_>, raw: &[u8]) {
    let place = segment.place(at);
    let mut copy = raw.to_vec();
    if let Frame::Group { header, .. } = frame
        && header.codec == CODEC_NONE
        && let Some(records) = copy.get_mut(FRAME_HEADER_BYTES..)
    {
        unfinish_records(records);
        finish_records(records, header.seq, place);
    }
    refinish(&mut copy, frame.commit_seq().unwrap_or(0), place);
    segment.store_frame(at, &copy);
}

/// Puts the checksum of its body into each record, as in a batch.
fn unfinish_records(records: &mut [u8]) {
    let mut at = 0;
    while let Some(head) = records.get(at..).and_then(HeadWord::read) {
        let end = at + head.stored_bytes as usize;
        let Some(record) = records.get_mut(at..end) else { return };
        unfinish(record);
        at = end;
    }
}

fn unfinish(frame: &mut [u8]) {
    let Some(head) = HeadWord::read(frame) else { return };
    let crc = crc32c(frame.get(PREFIX_BYTES..).unwrap_or_default());
    if let Some(first) = frame.first_chunk_mut() {
        *first = HeadWord { crc, ..head }.encode().to_le_bytes();
    }
}

/// The checksum of a frame at a new place.
fn refinish(frame: &mut [u8], seq: u64, place: Place) {
    unfinish(frame);
    let Some(head) = HeadWord::read(frame) else { return };
    if let Some(first) = frame.first_chunk_mut() {
        *first = finish_head(head, seq, place).encode().to_le_bytes();
    }
}
