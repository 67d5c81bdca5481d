//! The walk over one run, in both directions, a block at a time.

use std::fmt;
use std::sync::Arc;

use super::block::Decoded;
use super::format::BLOCK_KEYS;
use super::{Run, malformed};
use crate::error::{Error, Result};
use crate::ordered::Direction;
use crate::ordered::batch::KeyBatch;
use crate::ordered::hint::Hint;
use crate::ordered::range::{Headed, KeyRange};

/// The block number of a cursor that stands before the first key.
const BEFORE: u32 = u32::MAX;

/// A walk over the keys of a run that are not skipped.
///
/// It stands at a key, before the first or behind the last. After an error it stands behind the last.
pub(crate) struct RunCursor {
    run: Arc<Run>,
    /// The block that is decoded; `BEFORE`, or the number of blocks, if there is none.
    block: u32,
    /// The place of the current key in its block.
    place: u32,
    /// A bit for each key of the block that the walk shows; none if no block is decoded.
    live: u32,
    decoded: Decoded,
}

impl RunCursor {
    pub(super) fn new(run: Arc<Run>) -> Self {
        let decoded = Decoded::new();
        RunCursor { run, block: BEFORE, place: 0, live: 0, decoded }
    }

    /// Moves to the first key at or behind a position; a [`retreat`](Self::retreat) then leads to the last one before.
    ///
    /// # Errors
    /// `Corruption` if its block is damaged.
    pub(crate) fn seek(&mut self, position: u32) -> Result<()> {
        let block = position / BLOCK_KEYS;
        self.forward_from(block, u32::MAX << (position % BLOCK_KEYS))
    }

    /// Moves to the last key before a position, as a [`seek`](Self::seek) and a [`retreat`](Self::retreat) do, but
    /// without decoding the block behind.
    ///
    /// # Errors
    /// `Corruption` if its block is damaged.
    pub(crate) fn seek_before(&mut self, position: u32) -> Result<()> {
        let position = position.min(self.run.layout.keys);
        let block = position / BLOCK_KEYS;
        self.backward_from(block, !(u32::MAX << (position % BLOCK_KEYS)))
    }

    /// The key; `None` before the first and behind the last.
    #[inline]
    pub(crate) fn key(&self) -> Option<&[u8]> {
        (self.live != 0).then(|| self.decoded.get(self.place as usize))
    }

    /// The key with its first bytes as a number.
    #[inline]
    pub(crate) fn headed(&self) -> Option<Headed<'_>> {
        (self.live != 0).then(|| self.decoded.headed(self.place as usize))
    }

    /// The hint of the key, if it has one.
    #[inline]
    pub(crate) fn hint(&self) -> Option<Hint> {
        if self.live == 0 {
            return None;
        }
        self.decoded.hint(self.place as usize, &self.run.segments)
    }

    /// The position of the key; the number of keys if there is none.
    pub(crate) fn position(&self) -> u32 {
        if self.live == 0 { self.run.layout.keys } else { self.block * BLOCK_KEYS + self.place }
    }

    /// The current block and the keys in it, a bit each, from the current one on that come before `limit` and in the
    /// range, at most `keys_max`.
    #[inline(always)]
    pub(crate) fn ahead(
        &self,
        (direction, range): (Direction, &KeyRange),
        limit: Option<Headed<'_>>,
        keys_max: usize,
    ) -> Ahead {
        let mut keys = match direction {
            Direction::Forward => self.live & (u32::MAX << self.place),
            Direction::Reverse => self.live & (u32::MAX >> (31 - self.place)),
        };
        if let Some(limit) = limit {
            keys = self.before(limit, keys, direction);
        }
        if keys_max < BLOCK_KEYS as usize {
            while keys.count_ones() as usize > keys_max {
                keys &= !last_of(keys, direction).1;
            }
        }
        while keys != 0 {
            let (place, bit) = last_of(keys, direction);
            if !range.is_past(self.decoded.get(place), direction) {
                break;
            }
            keys &= !bit;
        }
        Ahead { block: self.block, keys }
    }

    /// Those of some keys that come before `limit`.
    #[inline(always)]
    fn before(&self, limit: Headed<'_>, keys: u32, direction: Direction) -> u32 {
        let limit_head = limit.head_towards(direction);
        let mut rest = keys;
        while rest != 0 {
            let (place, bit) = first_of(rest, direction);
            let key = self.decoded.headed(place);
            let head = key.head_towards(direction);
            let is_before =
                head < limit_head || head == limit_head && key.compare(limit, direction).is_lt();
            if !is_before {
                break;
            }
            rest &= !bit;
        }
        keys & !rest
    }

    /// The current key alone.
    pub(crate) fn current(&self) -> Ahead {
        Ahead { block: self.block, keys: self.live & 1 << self.place }
    }

    /// Appends keys of the current block to a batch, at least one, with their hints.
    #[inline(always)]
    pub(crate) fn copy(&self, ahead: Ahead, direction: Direction, batch: &mut KeyBatch) {
        let mut keys = ahead.keys;
        let hint = |place| self.decoded.hint(place, &self.run.segments);
        let (first, end) = (keys.trailing_zeros() as usize, keys.ilog2() as usize + 1);
        let is_gapless = keys >> first == u32::MAX >> (u32::BITS as usize - (end - first));
        // A few keys cost less one by one.
        if direction == Direction::Forward && is_gapless && end - first > 3 {
            let (bytes, ends, from) = self.decoded.part(first, end);
            batch.extend(bytes, ends, from, (first..end).map(hint));
            return;
        }
        while keys != 0 {
            let (place, bit) = first_of(keys, direction);
            match self.decoded.padded(place) {
                Some((bytes, length)) => batch.push_start_of(bytes, length, hint(place)),
                None => batch.push_with_hint(self.decoded.get(place), hint(place)),
            }
            keys &= !bit;
        }
    }

    /// Moves to the last of these keys of the current block.
    #[inline(always)]
    pub(crate) fn pass(&mut self, ahead: Ahead, direction: Direction) {
        self.place = last_of(ahead.keys, direction).0 as u32;
    }

    /// The bytes of all keys of the current block.
    #[inline]
    pub(crate) fn block_bytes(&self) -> usize {
        self.decoded.len()
    }

    /// Moves to the next key, from before the first to the first.
    ///
    /// # Errors
    /// `Corruption` if the next block is damaged.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<()> {
        let ahead = self.live & (u32::MAX << 1 << self.place);
        if ahead != 0 {
            self.place = ahead.trailing_zeros();
            return Ok(());
        }
        if self.block == self.run.layout.blocks() {
            return Ok(());
        }
        self.forward_from(self.block.wrapping_add(1), u32::MAX)
    }

    /// Moves to the key before, from behind the last to the last.
    ///
    /// # Errors
    /// `Corruption` if the block before is damaged.
    #[inline]
    pub(crate) fn retreat(&mut self) -> Result<()> {
        let behind = self.live & !(u32::MAX << self.place);
        if behind != 0 {
            self.place = behind.ilog2();
            return Ok(());
        }
        if self.block == BEFORE {
            return Ok(());
        }
        self.backward_from(self.block.wrapping_sub(1), u32::MAX)
    }

    /// Moves to the first key that is shown, `among` those of the first block.
    fn forward_from(&mut self, first: u32, mut among: u32) -> Result<()> {
        for block in first..self.run.layout.blocks() {
            let live = self.run.live(block);
            if live & among != 0 {
                self.place = (live & among).trailing_zeros();
                return self.load(block, live);
            }
            among = u32::MAX;
        }
        self.stand_at(self.run.layout.blocks());
        Ok(())
    }

    /// The same backwards; a first block that does not exist has no keys.
    fn backward_from(&mut self, first: u32, mut among: u32) -> Result<()> {
        let mut next = first;
        while next != BEFORE {
            let live = if next < self.run.layout.blocks() { self.run.live(next) } else { 0 };
            if live & among != 0 {
                self.place = (live & among).ilog2();
                return self.load(next, live);
            }
            (next, among) = (next.wrapping_sub(1), u32::MAX);
        }
        self.stand_at(BEFORE);
        Ok(())
    }

    /// Decodes a block, unless it is there.
    fn load(&mut self, block: u32, live: u32) -> Result<()> {
        if self.block == block {
            self.live = live;
            return Ok(());
        }
        if let Err(error) = self.decode(block) {
            self.stand_at(self.run.layout.blocks());
            return Err(error);
        }
        (self.block, self.live) = (block, live);
        Ok(())
    }

    pub(super) fn decode(&mut self, block: u32) -> Result<(), Error> {
        let found = self.run.block(block)?;
        found.decode(&mut self.decoded).ok_or_else(|| malformed(block))
    }

    fn stand_at(&mut self, block: u32) {
        (self.block, self.live, self.place) = (block, 0, 0);
    }
}

/// Some keys of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ahead {
    block: u32,
    /// A bit for each key.
    keys: u32,
}

impl Ahead {
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.keys == 0
    }

    /// The position of the `n`th of the keys in the sense of a direction.
    pub(crate) fn position(self, n: u32, direction: Direction) -> Option<u32> {
        let mut keys = self.keys;
        for _ in 0..n.min(BLOCK_KEYS) {
            if keys != 0 {
                keys &= !first_of(keys, direction).1;
            }
        }
        (keys != 0).then(|| self.block * BLOCK_KEYS + first_of(keys, direction).0 as u32)
    }
}

/// The place of the first of some keys in the sense of a direction, and its bit.
#[inline(always)]
fn first_of(keys: u32, direction: Direction) -> (usize, u32) {
    let place = match direction {
        Direction::Forward => keys.trailing_zeros(),
        Direction::Reverse => keys.ilog2(),
    };
    (place as usize, 1 << place)
}

#[inline(always)]
fn last_of(keys: u32, direction: Direction) -> (usize, u32) {
    match direction {
        Direction::Forward => first_of(keys, Direction::Reverse),
        Direction::Reverse => first_of(keys, Direction::Forward),
    }
}

impl fmt::Debug for RunCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.position();
        f.debug_struct("RunCursor").field("position", &position).finish_non_exhaustive()
    }
}
