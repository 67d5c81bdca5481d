//! The bytes of one file after a crash: each sector at one of its stages.
//!
//! # Invariants
//! - A sector's stage is "the stores before operation n": so a sector is never seen in a state that it did not go
//!   through, whatever rule chose the stage.

use std::sync::Arc;

use super::SECTOR_BYTES;
use super::content::Content;
use super::crash::DiskModel;
use super::cursor::Cursor;
use super::disk::{DiskFile, Piece, Tie};
use super::random::Random;

/// Which unsynced bytes survive.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bytes {
    None,
    All,
    /// Those stored before an operation.
    Before(usize),
    /// Those stored before an operation, and of that one some units.
    Torn {
        at: usize,
        unit_bytes: u64,
    },
    /// Of each unit those before a random operation.
    Stages {
        unit_bytes: u64,
    },
    /// Those before a random sector.
    Head,
}

/// For each sector from the first unsynced one: the stores before this operation survive.
struct Stages {
    first_sector: u64,
    ends: Vec<usize>,
}

/// The content of a file after a crash which kept the first `length_stage` changes of its length.
pub(super) fn survivor(
    cursor: &Cursor<'_>,
    file: &DiskFile,
    length_stage: usize,
    bytes: Bytes,
    random: &mut Random,
) -> Arc<Content> {
    let last_change = length_stage.checked_sub(1).map(|last| &file.lengths[last]);
    let len = last_change.map_or(file.durable.len(), |change| change.len);
    let is_tied = |piece: &Piece| {
        let changed = last_change.is_some_and(|change| piece.at <= change.at);
        changed
            && match piece.tie {
                Tie::Free => false,
                Tie::Extends => cursor.model == DiskModel::Ext4 && !piece.lost,
                Tie::Truncates => cursor.model != DiskModel::Posix,
            }
    };
    let mut stages = Stages::choose(&file.pieces, bytes, random);
    for piece in file.pieces.iter().filter(|piece| is_tied(piece)) {
        let end = stages.end_mut(piece);
        *end = (*end).max(piece.at + 1);
    }
    let kept = |piece: &&Piece| piece.at < stages.end(piece);
    if len == file.durable.len() && !file.pieces.iter().any(|piece| kept(&piece)) {
        return Arc::clone(&file.durable);
    }
    let mut content = Content::clone(&file.durable);
    for piece in file.pieces.iter().filter(kept) {
        piece.apply(&mut content, cursor.trace);
    }
    content.set_len(len);
    Arc::new(content)
}

/// Puts garbage into one sector of a store: over its unsynced bytes, or over all of it.
pub(super) fn spoil(
    content: &mut Content,
    file: &DiskFile,
    at: usize,
    whole: bool,
    random: &mut Random,
) {
    let stored: Vec<&Piece> = file.pieces.iter().filter(|piece| piece.at == at).collect();
    if stored.is_empty() {
        return;
    }
    let sector = stored[random.below(stored.len() as u64) as usize].offset / SECTOR_BYTES;
    let start = sector * SECTOR_BYTES;
    let mut garbage = [0; SECTOR_BYTES as usize];
    random.fill(&mut garbage);
    let len = content.len();
    let mut overwrite = |offset: u64, end: u64| {
        let end = end.min(len);
        if offset < end {
            content.write(offset, &garbage[(offset - start) as usize..(end - start) as usize]);
        }
    };
    if whole {
        overwrite(start, start + SECTOR_BYTES);
    } else {
        for piece in file.pieces.iter().filter(|piece| piece.offset / SECTOR_BYTES == sector) {
            overwrite(piece.offset, piece.offset + piece.len);
        }
    }
}

impl Stages {
    fn choose(pieces: &[Piece], bytes: Bytes, random: &mut Random) -> Stages {
        let sectors = pieces.iter().map(|piece| piece.offset / SECTOR_BYTES);
        let first_sector = sectors.clone().min().unwrap_or(0);
        let count = sectors.max().map_or(0, |last| (last - first_sector + 1) as usize);
        let uniform = match bytes {
            Bytes::All => usize::MAX,
            Bytes::Before(at) | Bytes::Torn { at, .. } => at,
            Bytes::None | Bytes::Head | Bytes::Stages { .. } => 0,
        };
        let mut stages = Stages { first_sector, ends: vec![uniform; count] };
        match bytes {
            Bytes::None | Bytes::All | Bytes::Before(_) => {}
            Bytes::Head => {
                let cut = random.below(count as u64 + 1) as usize;
                stages.ends[..cut].fill(usize::MAX);
            }
            Bytes::Torn { at, unit_bytes } => stages.tear(pieces, at, unit_bytes, random),
            Bytes::Stages { unit_bytes } => stages.draw(pieces, unit_bytes, random),
        }
        stages
    }

    /// Takes each unit of one store or leaves it.
    fn tear(&mut self, pieces: &[Piece], at: usize, unit_bytes: u64, random: &mut Random) {
        let mut unit = None;
        let mut kept = false;
        for piece in pieces.iter().filter(|piece| piece.at == at) {
            if unit.replace(piece.offset / unit_bytes) != Some(piece.offset / unit_bytes) {
                kept = random.coin();
            }
            if kept {
                *self.end_mut(piece) = at + 1;
            }
        }
    }

    /// Draws a stage for each unit, all stages being equally likely.
    fn draw(&mut self, pieces: &[Piece], unit_bytes: u64, random: &mut Random) {
        let first_unit = self.first_sector * SECTOR_BYTES / unit_bytes;
        let sectors_per_unit = unit_bytes / SECTOR_BYTES;
        let last_sector = self.first_sector + self.ends.len() as u64;
        let units = (last_sector / sectors_per_unit + 1 - first_unit) as usize;
        // Of each unit: the stores seen so far, the newest of them, and the end of the stage drawn.
        let mut drawn = vec![(0_u64, usize::MAX, 0_usize); units];
        for piece in pieces {
            let (seen, newest, end) = &mut drawn[(piece.offset / unit_bytes - first_unit) as usize];
            if *newest != piece.at {
                *newest = piece.at;
                *seen += 1;
                // Reservoir sampling: the newest of `seen + 1` stages replaces the earlier draw with that chance.
                if random.below(*seen + 1) == 0 {
                    *end = piece.at + 1;
                }
            }
        }
        for (index, end) in self.ends.iter_mut().enumerate() {
            let unit = (self.first_sector + index as u64) / sectors_per_unit - first_unit;
            *end = drawn[unit as usize].2;
        }
    }

    fn end(&self, piece: &Piece) -> usize {
        self.ends[(piece.offset / SECTOR_BYTES - self.first_sector) as usize]
    }

    fn end_mut(&mut self, piece: &Piece) -> &mut usize {
        &mut self.ends[(piece.offset / SECTOR_BYTES - self.first_sector) as usize]
    }
}
