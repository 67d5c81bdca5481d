//! A sorted run in pieces: what a scan sees as one run and the store as several files of bounded size.
//!
//! # Invariants
//! Pieces are not empty, and their keys follow each other.

use std::ops::Bound;
use std::sync::Arc;

use super::super::Direction;
use super::super::batch::KeyBatch;
use super::super::hint::Hint;
use super::super::range::{Headed, KeyRange};
use super::super::run::{Ahead, RamRuns, Run, RunBuilder, RunCursor};
use super::options::RunsOptions;
use super::saved::{SavedPiece, SavedRun, open_pieces};
use crate::error::{Error, ErrorKind, Result};

#[derive(Debug)]
struct Piece {
    first: Box<[u8]>,
    run: Arc<Run>,
}

/// A run of any size.
#[derive(Debug)]
pub(super) struct Level {
    pieces: Vec<Piece>,
    len: usize,
}

impl Level {
    /// What an owner keeps of it.
    pub(super) fn save(&self) -> SavedRun {
        let piece = |piece: &Piece| SavedPiece {
            first: piece.first.clone(),
            bytes: Arc::clone(piece.run.bytes()),
        };
        self.pieces.iter().map(piece).collect()
    }

    /// The level of which [`Level::save`] gave this; see [`RunsOrdered::restore`](super::RunsOrdered::restore).
    ///
    /// # Errors
    /// `Corruption` if a piece is damaged, or there is none.
    pub(super) fn restore(run: SavedRun, stands: &mut dyn FnMut(u64, u16) -> bool) -> Result<Self> {
        let pieces = open_pieces(run, stands)?;
        if pieces.is_empty() {
            return Err(Error::new(ErrorKind::Corruption, "a run without a key"));
        }
        let len = pieces.iter().map(|(_, run)| run.len()).sum();
        let pieces = pieces.into_iter().map(|(first, run)| Piece { first, run }).collect();
        Ok(Level { pieces, len })
    }

    /// Keys, skipped ones included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Keys that walks pass over.
    pub(super) fn skipped(&self) -> usize {
        self.pieces.iter().map(|piece| piece.run.dead()).sum()
    }

    pub(super) fn ram_bytes(&self) -> usize {
        let of_piece = |piece: &Piece| piece.first.len() + piece.run.ram_bytes();
        self.pieces.iter().map(of_piece).sum()
    }

    pub(super) fn mapped_bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.run.mapped_bytes()).sum()
    }

    /// Lets later walks pass over the `n`th of some keys.
    pub(super) fn skip(&self, places: Places, n: u32, direction: Direction) {
        let piece = self.pieces.get(places.piece as usize);
        if let Some((piece, position)) = piece.zip(places.keys.position(n, direction)) {
            piece.run.skip(position);
        }
    }
}

/// Where some keys stand in a level: in one block of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    piece: u32,
    keys: Ahead,
}

/// A walk over the keys of a level that are not skipped.
pub(super) struct LevelCursor {
    level: Arc<Level>,
    piece: usize,
    run: RunCursor,
    direction: Direction,
}

impl LevelCursor {
    /// Stands at the first key in the range, in the sense of the direction. It does not end with the range.
    ///
    /// # Errors
    /// `Corruption` if a block on the way is damaged.
    pub(super) fn new(level: Arc<Level>, range: &KeyRange, direction: Direction) -> Result<Self> {
        let bound = match direction {
            Direction::Forward => range.start(),
            Direction::Reverse => range.end(),
        };
        // The piece that holds the bound, or the last one that begins below it.
        let begun = match (bound, direction) {
            (Bound::Unbounded, Direction::Forward) => 0,
            (Bound::Unbounded, Direction::Reverse) => level.pieces.len(),
            (Bound::Included(key) | Bound::Excluded(key), _) => {
                level.pieces.partition_point(|piece| *piece.first <= *key)
            }
        };
        let piece = begun.saturating_sub(1);
        let run = &level.pieces[piece].run;
        let mut cursor = run.cursor();
        match (direction, bound) {
            (Direction::Forward, bound) => cursor.seek(run.lower_bound(bound)?)?,
            (Direction::Reverse, Bound::Unbounded) => cursor.seek_before(u32::MAX)?,
            (Direction::Reverse, Bound::Included(key)) => {
                cursor.seek_before(run.lower_bound(Bound::Excluded(key))?)?;
            }
            (Direction::Reverse, Bound::Excluded(key)) => {
                cursor.seek_before(run.lower_bound(Bound::Included(key))?)?;
            }
        }
        let mut cursor = LevelCursor { level, piece, run: cursor, direction };
        cursor.enter_next_piece()?;
        Ok(cursor)
    }

    #[inline]
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.run.key()
    }

    #[inline]
    pub(super) fn headed(&self) -> Option<Headed<'_>> {
        self.run.headed()
    }

    #[inline]
    pub(super) fn hint(&self) -> Option<Hint> {
        self.run.hint()
    }

    /// Appends the current key and what follows in its block to a batch, as far as that comes before `limit` and is in
    /// the range, and goes on behind. Returns how many keys these are, and their places.
    ///
    /// # Errors
    /// `Corruption` if the next block is damaged.
    #[inline]
    pub(super) fn take(
        &mut self,
        range: &KeyRange,
        limit: Option<Headed<'_>>,
        keys_max: usize,
        batch: &mut KeyBatch,
    ) -> Result<(u32, Places)> {
        // The same twice, each without a question about the direction for every key.
        match self.direction {
            Direction::Forward => {
                self.take_towards((Direction::Forward, range), limit, keys_max, batch)
            }
            Direction::Reverse => {
                self.take_towards((Direction::Reverse, range), limit, keys_max, batch)
            }
        }
    }

    #[inline(always)]
    fn take_towards(
        &mut self,
        (direction, range): (Direction, &KeyRange),
        limit: Option<Headed<'_>>,
        keys_max: usize,
        batch: &mut KeyBatch,
    ) -> Result<(u32, Places)> {
        let is_full = batch.bytes() + self.run.block_bytes() >= KeyBatch::BYTES_MAX;
        let keys_max = if is_full { 1 } else { keys_max };
        let keys = self.run.ahead((direction, range), limit, keys_max);
        let places = Places { piece: self.piece as u32, keys };
        let before = batch.len();
        if !keys.is_empty() {
            self.run.copy(keys, direction, batch);
            self.run.pass(keys, direction);
            self.step()?;
        }
        Ok(((batch.len() - before) as u32, places))
    }

    /// Where the current key stands.
    pub(super) fn places(&self) -> Places {
        Places { piece: self.piece as u32, keys: self.run.current() }
    }

    /// Goes on to the next key.
    ///
    /// # Errors
    /// `Corruption` if its block is damaged.
    #[inline]
    pub(super) fn step(&mut self) -> Result<()> {
        match self.direction {
            Direction::Forward => self.run.advance()?,
            Direction::Reverse => self.run.retreat()?,
        }
        if self.run.key().is_none() { self.enter_next_piece() } else { Ok(()) }
    }

    fn enter_next_piece(&mut self) -> Result<()> {
        while self.run.key().is_none() {
            let next = match self.direction {
                Direction::Forward => Some(self.piece + 1),
                Direction::Reverse => self.piece.checked_sub(1),
            };
            let Some(piece) = next.and_then(|next| self.level.pieces.get(next)) else {
                return Ok(());
            };
            let mut run = piece.run.cursor();
            match self.direction {
                Direction::Forward => run.seek(0)?,
                Direction::Reverse => run.seek_before(u32::MAX)?,
            }
            self.piece = next.unwrap_or_default();
            self.run = run;
        }
        Ok(())
    }
}

/// Builds a level piece by piece.
#[derive(Debug)]
pub(super) struct LevelBuilder {
    pieces: Vec<Piece>,
    first: Option<Box<[u8]>>,
    run: RunBuilder,
}

impl LevelBuilder {
    pub(super) fn new() -> Self {
        LevelBuilder { pieces: Vec::new(), first: None, run: RunBuilder::new() }
    }

    /// Memory of what is not stored yet.
    pub(super) fn bytes(&self) -> usize {
        self.run.bytes()
    }

    /// Adds a key above all others.
    ///
    /// # Errors
    /// Those of the store, if a piece is full.
    pub(super) fn push(
        &mut self,
        key: &[u8],
        hint: Option<Hint>,
        options: &RunsOptions,
    ) -> Result<()> {
        if self.run.len() >= options.piece_keys_max
            || self.run.bytes() >= RunsOptions::PIECE_BYTES_MAX
        {
            self.end_piece(options, false)?;
        }
        self.first.get_or_insert_with(|| key.into());
        self.run.push(key, hint);
        Ok(())
    }

    fn end_piece(&mut self, options: &RunsOptions, may_be_small: bool) -> Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        let run = std::mem::replace(&mut self.run, RunBuilder::new());
        let is_small =
            run.len() <= options.ram_run_keys_max && run.bytes() <= RunsOptions::RAM_RUN_BYTES_MAX;
        let run = if is_small && may_be_small {
            run.finish(&RamRuns)?
        } else {
            run.finish(&*options.store)?
        };
        self.pieces.push(Piece { first, run: Arc::new(run) });
        Ok(())
    }

    /// The level; `None` if it has no key.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn finish(mut self, options: &RunsOptions) -> Result<Option<Arc<Level>>> {
        let is_all = self.pieces.is_empty();
        self.end_piece(options, is_all)?;
        let pieces = self.pieces;
        let len = pieces.iter().map(|piece| piece.run.len()).sum();
        Ok((len > 0).then(|| Arc::new(Level { pieces, len })))
    }
}
