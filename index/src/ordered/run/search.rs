//! The search of a run: from the group fences in memory through the fences of one group to one block.
//!
//! # Layout
//! A search touches the group fences, one group record (two or three cache lines) and one block. Only where eight
//! bytes behind the common prefix do not tell keys apart does it read first keys of further groups or blocks.

use std::cmp::Ordering;
use std::ops::Bound;

use super::format::{BLOCK_KEYS, GROUP_BLOCKS, fence};
use super::{Run, malformed};
use crate::error::Result;

impl Run {
    /// The position of the first key that satisfies a lower bound, skipped or not; `len()` if there is none.
    ///
    /// For an upper bound take the opposite one: the keys up to and with `k` end before `lower_bound(Excluded(k))`.
    ///
    /// # Errors
    /// `Corruption` if a block on the way is damaged.
    pub(crate) fn lower_bound(&self, bound: Bound<&[u8]>) -> Result<u32> {
        let (key, or_equal) = match bound {
            Bound::Unbounded => return Ok(0),
            Bound::Included(key) => (key, false),
            Bound::Excluded(key) => (key, true),
        };
        if self.layout.keys == 0 {
            return Ok(0);
        }
        let block = match compare_prefix(key, &self.prefix) {
            Ordering::Less => return Ok(0),
            Ordering::Greater => return Ok(self.layout.keys),
            Ordering::Equal => self.block_in_group(self.group_of(key)?, key)?,
        };
        let below =
            self.block(block)?.count_below(key, or_equal).ok_or_else(|| malformed(block))?;
        Ok(block * BLOCK_KEYS + below)
    }

    /// The last group whose first key is not above `key`, else the first group.
    fn group_of(&self, key: &[u8]) -> Result<u32> {
        let sought = fence(key, self.prefix.len());
        let not_above = self.group_fences.partition_point(|fence| *fence <= sought) as u32;
        let last = not_above.saturating_sub(1);
        if last == 0 || self.group_fences[last as usize] < sought {
            return Ok(last);
        }
        // The fence is the same: the first keys decide, here and in all groups before with this fence.
        let below = self.group_fences.partition_point(|fence| *fence < sought) as u32;
        self.last_not_above(key, below.saturating_sub(1), last, |group| group * GROUP_BLOCKS)
    }

    /// The last block of the group whose first key is not above `key`, else its first block. If `key` is not above
    /// the first key of the next group, the position is in this block or at its end.
    fn block_in_group(&self, group: u32, key: &[u8]) -> Result<u32> {
        let record = self.group(group)?;
        let first = group * GROUP_BLOCKS;
        let blocks = (self.layout.blocks() - first).min(GROUP_BLOCKS);
        let sought = fence(key, record.shared());
        let (mut below, mut not_above) = (0, 0);
        for fence in record.fences().take(blocks as usize - 1) {
            below += u32::from(fence < sought);
            not_above += u32::from(fence <= sought);
        }
        let (low, last) = (first + below, first + not_above);
        // The fences mean something only if the key starts as the whole group does, which any of its keys can tell.
        let first_key = self.first_key(last)?;
        let shared = first_key.get(..record.shared()).ok_or_else(|| malformed(last))?;
        match compare_prefix(key, shared) {
            Ordering::Less => Ok(first),
            Ordering::Greater => Ok(first + blocks - 1),
            Ordering::Equal if low == last || first_key <= key => Ok(last),
            Ordering::Equal => self.last_not_above(key, low, last - 1, |block| block),
        }
    }

    /// The last of `low..=high` with a first key that is not above `key`; `low` need not fulfil that.
    fn last_not_above(
        &self,
        key: &[u8],
        mut low: u32,
        mut high: u32,
        block_of: impl Fn(u32) -> u32,
    ) -> Result<u32> {
        while low < high {
            let middle = high - (high - low) / 2;
            if self.first_key(block_of(middle))? <= key {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(low)
    }

    fn first_key(&self, block: u32) -> Result<&[u8]> {
        self.block(block)?.first_key().ok_or_else(|| malformed(block))
    }
}

/// Compares a key with what others start with: equal if it starts so too.
fn compare_prefix(key: &[u8], prefix: &[u8]) -> Ordering {
    key.get(..prefix.len()).unwrap_or(key).cmp(prefix)
}
