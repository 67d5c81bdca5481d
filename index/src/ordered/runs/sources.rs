//! The merge of sorted sources: partitions that change, sealed ones, and runs, into one walk without duplicates.
//!
//! # Invariants
//! `order` names the sources that are not at their end by their keys, of equal ones the newest first. So as long as the
//! keys of the first come before that of the second, they go on to the batch as they are, a block at a time.
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
use super::super::range::{Headed, KeyRange};
use super::delta::Delta;
use super::level::{LevelCursor, Places};
use super::state::OrderState;
use crate::error::Result;

/// Keys that are copied under a lock at once: few at first, since most walks are short.
const FIRST_COPY_KEYS: usize = 8;
const COPY_KEYS: usize = 32;

/// A walk over the partitions of one delta.
struct DeltaCursor {
    delta: Arc<Delta>,
    direction: Direction,
    partition: usize,
    batch: KeyBatch,
    at: usize,
    /// The last key of the batch before.
    last: Vec<u8>,
}

impl DeltaCursor {
    fn new(delta: Arc<Delta>, range: &KeyRange, direction: Direction) -> Self {
        let partition = match (direction, range.start(), range.end()) {
            (Direction::Forward, Unbounded, _) => 0,
            (Direction::Reverse, _, Unbounded) => delta.partitions().len() - 1,
            (Direction::Forward, Included(key) | Excluded(key), _)
            | (Direction::Reverse, _, Included(key) | Excluded(key)) => delta.place_of(key),
        };
        let batch = KeyBatch::with_capacity(FIRST_COPY_KEYS, FIRST_COPY_KEYS * 32);
        let last = Vec::new();
        let mut cursor = DeltaCursor { delta, direction, partition, batch, at: 0, last };
        cursor.copy(range);
        cursor
    }

    #[inline]
    fn key(&self) -> Option<&[u8]> {
        self.batch.get(self.at)
    }

    /// Appends the current key and those that follow, as far as they are copied and come before `limit`, to a batch;
    /// returns how many they are.
    fn take(
        &mut self,
        range: &KeyRange,
        limit: Option<Headed<'_>>,
        keys_max: usize,
        batch: &mut KeyBatch,
    ) -> u32 {
        let is_full = batch.bytes() + self.batch.bytes() >= KeyBatch::BYTES_MAX;
        let most = self.at.saturating_add(if is_full { 1 } else { keys_max });
        let is_before =
            |key| limit.is_none_or(|limit| Headed::new(key).compare(limit, self.direction).is_lt());
        let mut to = self.at;
        while to < most && self.batch.get(to).is_some_and(is_before) {
            to += 1;
        }
        let taken = to - self.at;
        if taken > 0 {
            batch.extend_from_batch(&self.batch, self.at, to);
            self.step(taken, range);
        }
        taken as u32
    }

    fn step(&mut self, keys: usize, range: &KeyRange) {
        self.at += keys;
        if self.at >= self.batch.len() {
            self.copy(range);
        }
    }

    /// Copies the next keys; none at the end.
    fn copy(&mut self, range: &KeyRange) {
        let (mut keys_max, mut bounds) = (FIRST_COPY_KEYS, (range.start(), range.end()));
        if let Some(last) = self.batch.iter().next_back() {
            keys_max = COPY_KEYS;
            self.last.clear();
            self.last.extend_from_slice(last);
            match self.direction {
                Direction::Forward => bounds.0 = Excluded(&self.last),
                Direction::Reverse => bounds.1 = Excluded(&self.last),
            }
        }
        self.batch.clear();
        self.at = 0;
        while let Some(partition) = self.delta.partitions().get(self.partition) {
            if partition.len() > 0 {
                partition.copy(bounds, self.direction, keys_max, &mut self.batch);
                if !self.batch.is_empty() {
                    return;
                }
            }
            // A partition is out of reach if the bound between it and this one is behind the range. In reverse the
            // bound itself belongs to this one, so the range must begin below it.
            let is_last = match self.direction {
                Direction::Forward => {
                    self.partition += 1;
                    let bound = self.delta.bound(self.partition);
                    bound.is_some_and(|bound| range.is_past(bound, self.direction))
                }
                Direction::Reverse => {
                    let bound = self.delta.bound(self.partition);
                    self.partition = self.partition.wrapping_sub(1);
                    bound.is_none_or(|bound| range.is_past(bound, self.direction))
                }
            };
            if is_last {
                self.partition = usize::MAX;
            }
        }
    }
}

/// Some keys of a batch that follow each other, and where they came from. A key of several sources is one of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    first: u32,
    keys: u32,
    level: Option<(u32, Places)>,
}

impl Span {
    /// The number of its first key in the batch.
    pub(super) fn first(&self) -> usize {
        self.first as usize
    }

    /// The number behind its last key.
    pub(super) fn end(&self) -> usize {
        (self.first + self.keys) as usize
    }

    /// The number of the run and the places in it; `None` for partitions.
    pub(super) fn level(&self) -> Option<(u32, Places)> {
        self.level
    }
}

/// One sorted source.
#[expect(
    clippy::large_enum_variant,
    reason = "most sources are runs; a box would cost each seek an allocation"
)]
enum Source {
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

    #[inline]
    fn headed(&self) -> Option<Headed<'_>> {
        match self {
            Source::Delta(delta) => delta.key().map(Headed::new),
            Source::Level(_, level) => level.headed(),
        }
    }

    fn hint(&self) -> Option<Hint> {
        match self {
            Source::Delta(_) => None,
            Source::Level(_, level) => level.hint(),
        }
    }

    /// Compares with a key of another source where the heads say nothing; of equal ones the newer comes first.
    #[cold]
    fn is_before(&self, is_newer: bool, key: Headed<'_>, direction: Direction) -> bool {
        match self.headed().map(|mine| mine.compare(key, direction)) {
            Some(Ordering::Equal) => is_newer,
            order => order == Some(Ordering::Less),
        }
    }

    /// Appends keys that come before `limit` to a batch; none if not even the current one does, or if it is behind the
    /// range.
    #[inline]
    fn take(
        &mut self,
        range: &KeyRange,
        limit: Option<Headed<'_>>,
        keys_max: usize,
        batch: &mut KeyBatch,
    ) -> Result<Span> {
        let first = batch.len() as u32;
        Ok(match self {
            Source::Delta(delta) => {
                let keys = delta.take(range, limit, keys_max, batch);
                Span { first, keys, level: None }
            }
            Source::Level(number, level) => {
                let (keys, places) = level.take(range, limit, keys_max, batch)?;
                Span { first, keys, level: Some((*number, places)) }
            }
        })
    }

    /// Goes on to the next key. The current one is in a batch already, as number `first`.
    fn pass(&mut self, range: &KeyRange, first: u32) -> Result<Span> {
        let level = match self {
            Source::Delta(delta) => {
                delta.step(1, range);
                None
            }
            Source::Level(number, level) => {
                let places = level.places();
                level.step()?;
                Some((*number, places))
            }
        };
        Ok(Span { first, keys: 1, level })
    }
}

/// The turn of a source that is not at its end.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// The head of its current key, in the sense of the direction: of two that differ the lower comes first.
    head: u128,
    source: usize,
}

/// Sources, newest first, as one.
pub(super) struct Sources {
    all: Vec<Source>,
    order: Vec<Turn>,
    range: KeyRange,
    direction: Direction,
}

impl Sources {
    /// The parts of a state at the first key of a range that is not empty.
    ///
    /// # Errors
    /// `Corruption` if a run is damaged.
    pub(super) fn open(state: &OrderState, range: KeyRange, direction: Direction) -> Result<Self> {
        let mut all = Vec::with_capacity(2 + state.levels.len());
        for delta in [Some(&state.delta), state.sealed.as_ref()].into_iter().flatten() {
            if delta.len() > 0 {
                all.push(Source::Delta(DeltaCursor::new(Arc::clone(delta), &range, direction)));
            }
        }
        for (n, level) in state.levels.iter().enumerate() {
            let cursor = LevelCursor::new(Arc::clone(level), &range, direction)?;
            all.push(Source::Level(n as u32, cursor));
        }
        let order = Vec::with_capacity(all.len());
        let mut sources = Sources { all, order, range, direction };
        (0..sources.all.len()).for_each(|n| sources.enter(n));
        Ok(sources)
    }

    /// True if there is no key any more.
    pub(super) fn is_at_end(&self) -> bool {
        self.order.is_empty()
    }

    /// Appends the next keys to a batch until it holds `keys_max` or enough bytes, and tells where they come from.
    ///
    /// # Errors
    /// `Corruption` if a run is damaged.
    pub(super) fn fill(
        &mut self,
        keys_max: usize,
        batch: &mut KeyBatch,
        mut note: impl FnMut(Span),
    ) -> Result<()> {
        while batch.len() < keys_max && batch.bytes() < KeyBatch::BYTES_MAX {
            let left = keys_max - batch.len();
            let span = match self.order[..] {
                [] => return Ok(()),
                [first] => self.all[first.source].take(&self.range, None, left, batch)?,
                [first, second, ..] => {
                    let both = [first.source, second.source];
                    let Ok([first, second]) = self.all.get_disjoint_mut(both) else {
                        return Ok(());
                    };
                    first.take(&self.range, second.headed(), left, batch)?
                }
            };
            if span.keys > 0 {
                note(span);
                self.settle_first();
            } else {
                self.take_from_several(batch, &mut note)?;
            }
        }
        Ok(())
    }

    /// Takes a key that more than one source holds, or finds that the range is at its end.
    #[cold]
    fn take_from_several(
        &mut self,
        batch: &mut KeyBatch,
        note: &mut impl FnMut(Span),
    ) -> Result<()> {
        let key = self.order.first().and_then(|first| self.all[first.source].key());
        let Some(key) = key.filter(|key| !self.range.is_past(key, self.direction)) else {
            self.order.clear();
            return Ok(());
        };
        let is_same = |turn: &&Turn| self.all[turn.source].key() == Some(key);
        let same = self.order.iter().take_while(is_same).count();
        let number = batch.len() as u32;
        // The newest hint counts.
        let hint = self.order[..same].iter().find_map(|turn| self.all[turn.source].hint());
        batch.push_with_hint(key, hint);
        // Each goes behind those that still stand at the key: theirs is less than any that follows.
        for _ in 0..same {
            let Some(first) = self.order.first() else { break };
            note(self.all[first.source].pass(&self.range, number)?);
            self.settle_first();
        }
        Ok(())
    }

    /// Puts a source to its place in the order, unless it is at its end.
    fn enter(&mut self, source: usize) {
        self.order.insert(0, Turn { head: 0, source });
        self.settle_first();
    }

    /// Moves the first source to where it belongs now, or takes it out if it is at its end.
    #[inline]
    fn settle_first(&mut self) {
        let Sources { all, order, direction, .. } = self;
        let Some((first, others)) = order.split_first_mut() else { return };
        let source = first.source;
        let Some(key) = all[source].headed() else {
            order.remove(0);
            return;
        };
        let head = key.head_towards(*direction);
        let mut place = first;
        for next in others {
            let is_before = next.head < head
                || next.head == head
                    && all[next.source].is_before(next.source < source, key, *direction);
            if !is_before {
                break;
            }
            *place = *next;
            place = next;
        }
        *place = Turn { head, source };
    }
}
