//! One file on the simulated disk: what is durable, and what may or may not have got there.
//!
//! # Layout
//! Unsynced stores are kept as pieces of at most one 512-byte sector, in the order in which they were made, so that
//! every sector can be at any stage. Changes of the length are kept apart from the bytes.
//!
//! # Invariants
//! - `pieces` and `lengths` are in the order of their operations.
//! - The durable content is never longer than the durable length.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::SECTOR_BYTES;
use super::content::Content;
use super::trace::{Data, Trace};

/// Part of an unsynced store that lies in one sector.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// The operation that stored it.
    pub(super) at: usize,
    pub(super) offset: u64,
    pub(super) len: u64,
    /// Where the bytes start in the trace; zeroes when there are none.
    pub(super) source: Option<usize>,
    pub(super) tie: Tie,
    /// A sync failed on it: the page counts as clean, so no later sync writes it.
    pub(super) lost: bool,
}

/// What a piece has to do with the change of length that the same operation made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    /// Nothing.
    Free,
    /// A write made the file longer, and this piece reaches beyond the old end.
    Extends,
    /// These bytes were cut off.
    Truncates,
}

/// An unsynced change of the length.
#[derive(Debug, Clone)]
pub(super) struct LengthChange {
    pub(super) at: usize,
    pub(super) len: u64,
    /// Made by `set_len` or `allocate`, which a journalling file system orders with its other metadata; the length
    /// that a write makes follows later, when the bytes are written back.
    pub(super) journalled: bool,
}

/// A file on the simulated disk.
#[derive(Debug, Clone)]
pub(super) struct DiskFile {
    pub(super) durable: Arc<Content>,
    pub(super) pieces: Vec<Piece>,
    pub(super) lengths: Vec<LengthChange>,
    /// The operation that created it; none for a file of the first image.
    pub(super) created_at: Option<usize>,
    /// The length that live code sees.
    len: u64,
    /// Beyond this, live code sees zeroes only.
    stored_end: u64,
}

impl DiskFile {
    pub(super) fn durable(content: Arc<Content>) -> Self {
        let (len, stored_end) = (content.len(), content.stored().len() as u64);
        DiskFile {
            durable: content,
            pieces: Vec::new(),
            lengths: Vec::new(),
            created_at: None,
            len,
            stored_end,
        }
    }

    pub(super) fn created(at: usize) -> Self {
        DiskFile { created_at: Some(at), ..DiskFile::durable(Arc::default()) }
    }

    pub(super) fn is_synced(&self) -> bool {
        self.pieces.is_empty() && self.lengths.is_empty()
    }

    /// The oldest operation that is not durable.
    pub(super) fn first_pending(&self) -> Option<usize> {
        let piece = self.pieces.first().map(|piece| piece.at);
        let length = self.lengths.first().map(|change| change.at);
        piece.into_iter().chain(length).min()
    }

    pub(super) fn write(&mut self, at: usize, offset: u64, data: &Data) {
        let end = offset + data.len();
        let old_len = self.len;
        if end > old_len {
            self.len = end;
            self.lengths.push(LengthChange { at, len: end, journalled: false });
        }
        let source = match data {
            // Zeroes over zeroes: every stage of these sectors is the same.
            Data::Zeroes(_) if offset >= self.stored_end => return,
            Data::Zeroes(_) => None,
            Data::Bytes(range) => Some(range.start),
        };
        self.stored_end = self.stored_end.max(end);
        self.split(at, offset, end, source, |piece_end| {
            if piece_end > old_len { Tie::Extends } else { Tie::Free }
        });
    }

    pub(super) fn set_len(&mut self, at: usize, len: u64) {
        let cut_end = self.stored_end.min(self.len);
        if len < cut_end {
            self.split(at, len, cut_end, None, |_| Tie::Truncates);
            self.stored_end = len;
        }
        if len != self.len {
            self.len = len;
            self.lengths.push(LengthChange { at, len, journalled: true });
        }
    }

    pub(super) fn allocate(&mut self, at: usize, end: u64) {
        if end > self.len {
            self.len = end;
            self.lengths.push(LengthChange { at, len: end, journalled: true });
        }
    }

    /// A sync that started with operation `begin` returned `Ok`.
    pub(super) fn sync_ended(&mut self, begin: usize, trace: &Trace) {
        let covered = self.pieces.partition_point(|piece| piece.at < begin);
        let lengths = self.lengths.partition_point(|change| change.at < begin);
        if covered == 0 && lengths == 0 {
            return;
        }
        let len = self.lengths[..lengths].last().map_or(self.durable.len(), |change| change.len);
        self.lengths.drain(..lengths);
        let content = Arc::make_mut(&mut self.durable);
        if self.pieces[..covered].iter().any(|piece| piece.lost) {
            // A sector is written whole: it takes with it what a failed sync had left behind in the same sector.
            let dirty: BTreeSet<u64> = self.pieces[..covered]
                .iter()
                .filter(|piece| !piece.lost)
                .map(|piece| piece.offset / SECTOR_BYTES)
                .collect();
            self.pieces.retain(|piece| {
                let written = piece.at < begin && dirty.contains(&(piece.offset / SECTOR_BYTES));
                if written {
                    piece.apply(content, trace);
                }
                !written
            });
        } else {
            self.pieces.drain(..covered).for_each(|piece| piece.apply(content, trace));
        }
        content.set_len(len);
    }

    /// A sync that started with operation `begin` failed: the bytes stay readable and count as clean. The length is
    /// metadata, which a later sync does bring to the disk: then the file is long and its bytes are zeroes.
    pub(super) fn sync_failed(&mut self, begin: usize) {
        for piece in self.pieces.iter_mut().filter(|piece| piece.at < begin) {
            piece.lost |= piece.tie != Tie::Truncates;
        }
    }

    fn split(
        &mut self,
        at: usize,
        start: u64,
        end: u64,
        source: Option<usize>,
        tie: impl Fn(u64) -> Tie,
    ) {
        let mut offset = start;
        while offset < end {
            let piece_end = end.min((offset / SECTOR_BYTES + 1) * SECTOR_BYTES);
            self.pieces.push(Piece {
                at,
                offset,
                len: piece_end - offset,
                source: source.map(|source| source + (offset - start) as usize),
                tie: tie(piece_end),
                lost: false,
            });
            offset = piece_end;
        }
    }
}

impl Piece {
    pub(super) fn apply(&self, content: &mut Content, trace: &Trace) {
        match self.source {
            Some(source) => {
                content.write(self.offset, &trace.arena[source..source + self.len as usize]);
            }
            None => content.write_zeroes(self.offset, self.len),
        }
    }
}
