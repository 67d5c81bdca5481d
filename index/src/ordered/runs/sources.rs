//! The merge of sorted sources: partitions that change, sealed ones, and runs, into one walk without duplicates.
//!
//! # Concurrency
//! A source over partitions copies a few keys at a time under a partition's lock, and goes on behind the last of them:
//! a writer waits for one such copy at most.

use std::cmp::Ordering;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use super::super::Direction;
use super::super::batch::KeyBatch;
use super::super::hint::Hint;
use super::super::range::KeyRange;
use super::delta::Delta;
use super::level::{LevelCursor, Place};
use crate::error::Result;

/// Keys that are copied under a lock at once: few at first, since most walks are short.
const FIRST_COPY_KEYS: usize = 8;
const COPY_KEYS: usize = 32;

/// A walk over the partitions of one delta.
pub(super) struct DeltaCursor {
    delta: Arc<Delta>,
    /// What is still to be copied.
    range: KeyRange,
    direction: Direction,
    partition: usize,
    batch: KeyBatch,
    at: usize,
}

impl DeltaCursor {
    pub(super) fn new(delta: Arc<Delta>, range: KeyRange, direction: Direction) -> Self {
        let partition = match (direction, range.start(), range.end()) {
            (Direction::Forward, Unbounded, _) => 0,
            (Direction::Reverse, _, Unbounded) => delta.partitions().len() - 1,
            (Direction::Forward, Included(key) | Excluded(key), _)
            | (Direction::Reverse, _, Included(key) | Excluded(key)) => delta.place_of(key),
        };
        let batch = KeyBatch::with_capacity(FIRST_COPY_KEYS, FIRST_COPY_KEYS * 32);
        let mut cursor = DeltaCursor { delta, range, direction, partition, batch, at: 0 };
        cursor.copy();
        cursor
    }

    fn key(&self) -> Option<&[u8]> {
        self.batch.get(self.at)
    }

    fn step(&mut self) {
        self.at += 1;
        if self.at >= self.batch.len() {
            self.copy();
        }
    }

    /// Copies the next keys; none at the end.
    fn copy(&mut self) {
        let mut keys_max = FIRST_COPY_KEYS;
        if let Some(last) = self.batch.iter().next_back() {
            keys_max = COPY_KEYS;
            match self.direction {
                Direction::Forward => self.range.start_after(last),
                Direction::Reverse => self.range.end_before(last),
            }
        }
        self.batch.clear();
        self.at = 0;
        if self.range.is_empty() {
            return;
        }
        while let Some(partition) = self.delta.partitions().get(self.partition) {
            if partition.len() > 0 {
                partition.copy(&self.range, self.direction, keys_max, &mut self.batch);
                if !self.batch.is_empty() {
                    return;
                }
            }
            let is_last = match self.direction {
                Direction::Forward => {
                    self.partition += 1;
                    let bound = self.delta.bound(self.partition);
                    bound.is_some_and(|bound| is_past_end(bound, &self.range))
                }
                Direction::Reverse => {
                    let bound = self.delta.bound(self.partition);
                    let is_last = bound.is_none_or(|bound| is_past_start(bound, &self.range));
                    self.partition = self.partition.wrapping_sub(1);
                    is_last
                }
            };
            if is_last {
                self.partition = usize::MAX;
            }
        }
    }
}

/// True if the range ends before the key.
pub(super) fn is_past_end(key: &[u8], range: &KeyRange) -> bool {
    match range.end() {
        Unbounded => false,
        Included(end) => key > end,
        Excluded(end) => key >= end,
    }
}

/// True if the range starts behind the key, or at it and leaves it out.
pub(super) fn is_past_start(key: &[u8], range: &KeyRange) -> bool {
    match range.start() {
        Unbounded => false,
        Included(start) => key < start,
        Excluded(start) => key <= start,
    }
}

/// One sorted source.
pub(super) enum Source {
    /// Partitions, sealed or not.
    Delta(DeltaCursor),
    /// A run; the number is its place among the runs of the walk.
    Level(u32, LevelCursor),
}

impl Source {
    #[inline]
    fn key(&self) -> Option<&[u8]> {
        match self {
            Source::Delta(delta) => delta.key(),
            Source::Level(_, level) => level.key(),
        }
    }

    fn step(&mut self) -> Result<()> {
        match self {
            Source::Delta(delta) => {
                delta.step();
                Ok(())
            }
            Source::Level(_, level) => level.step(),
        }
    }
}

/// Sources, newest first, as one.
pub(super) struct Sources {
    all: Vec<Source>,
    direction: Direction,
    /// The sources that stand at the current key, in their order.
    at_key: Vec<usize>,
    /// The source whose key comes next among the others.
    next: Option<usize>,
}

impl Sources {
    pub(super) fn new(all: Vec<Source>, direction: Direction) -> Self {
        let mut sources = Sources { all, direction, at_key: Vec::new(), next: None };
        sources.choose();
        sources
    }

    /// The current key; `None` at the end.
    #[inline]
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.at_key.first().and_then(|&n| self.all[n].key())
    }

    /// The hint of the newest run that has one for the key.
    #[inline]
    pub(super) fn hint(&self) -> Option<Hint> {
        self.at_key.iter().find_map(|&n| match &self.all[n] {
            Source::Delta(_) => None,
            Source::Level(_, level) => level.hint(),
        })
    }

    /// Where the key stands in runs: the number of each run with the place; `None` for partitions.
    pub(super) fn places(&self) -> impl Iterator<Item = Option<(u32, Place)>> {
        self.at_key.iter().map(|&n| match &self.all[n] {
            Source::Delta(_) => None,
            Source::Level(number, level) => Some((*number, level.place())),
        })
    }

    /// Goes on to the next key.
    ///
    /// # Errors
    /// `Corruption` if a run is damaged.
    #[inline]
    pub(super) fn step(&mut self) -> Result<()> {
        for &n in &self.at_key {
            self.all[n].step()?;
        }
        // Mostly one source goes on alone for a while: one comparison, or none, instead of all.
        if let [alone] = self.at_key[..]
            && let Some(key) = self.all[alone].key()
            && self.next.is_none_or(|next| self.is_first(key, next))
        {
            return Ok(());
        }
        self.choose();
        Ok(())
    }

    /// True if the key comes before that of a source.
    #[inline]
    fn is_first(&self, key: &[u8], than: usize) -> bool {
        self.all[than].key().is_none_or(|than| self.order(key, than) == Ordering::Less)
    }

    #[inline]
    fn order(&self, a: &[u8], b: &[u8]) -> Ordering {
        match self.direction {
            Direction::Forward => a.cmp(b),
            Direction::Reverse => b.cmp(a),
        }
    }

    /// Finds the first key, all sources that stand at it, and which comes next.
    fn choose(&mut self) {
        let mut at_key = std::mem::take(&mut self.at_key);
        at_key.clear();
        let mut next: Option<usize> = None;
        for (n, source) in self.all.iter().enumerate() {
            let Some(key) = source.key() else { continue };
            let first = at_key.first().and_then(|&first| self.all[first].key());
            match first.map_or(Ordering::Less, |first| self.order(key, first)) {
                Ordering::Less => {
                    next = at_key.first().copied();
                    at_key.clear();
                    at_key.push(n);
                }
                Ordering::Equal => at_key.push(n),
                Ordering::Greater => {
                    if next.is_none_or(|next| self.is_first(key, next)) {
                        next = Some(n);
                    }
                }
            }
        }
        (self.at_key, self.next) = (at_key, next);
    }
}
