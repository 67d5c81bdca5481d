//! What a group of the next table begins with: worked out from frozen words, before anything is stored.
//!
//! # Invariants
//! The same words in the same order give the same content, whoever works it out.

use super::geometry::{BUCKET_SLOTS, GROUP_BUCKETS, GROUP_SLOTS};
use super::memory::Link;
use super::table::{BLOCK_SLOTS, Block};
use super::word::Word;

/// What a group of a new table begins with.
pub(super) struct Content {
    pub(super) slots: [Word; GROUP_SLOTS],
    pub(super) overflow: Vec<Word>,
    /// Slots of each bucket that are taken: the first ones.
    taken: [u8; GROUP_BUCKETS],
}

impl Content {
    pub(super) fn new() -> Self {
        let taken = [0; GROUP_BUCKETS];
        Content { slots: [Word::EMPTY; GROUP_SLOTS], overflow: Vec::new(), taken }
    }

    /// Places an entry into the first free slot of its order.
    pub(super) fn place(&mut self, home_bucket: usize, word: Word) {
        let home = home_bucket % GROUP_BUCKETS;
        for step in 0..GROUP_BUCKETS {
            let bucket = home ^ step;
            let taken = usize::from(self.taken[bucket]);
            if taken < BUCKET_SLOTS {
                self.slots[bucket * BUCKET_SLOTS + taken] = word;
                self.taken[bucket] += 1;
                return;
            }
        }
        self.overflow.push(word);
    }

    /// The entries that found no slot, as blocks.
    pub(super) fn overflow_chain(&self) -> Option<Box<Block>> {
        chain_of(&self.overflow)
    }
}

/// Words behind the slots of a group, as blocks.
pub(super) fn chain_of(words: &[Word]) -> Option<Box<Block>> {
    words.chunks(BLOCK_SLOTS).rev().fold(None, |rest, words| {
        let mut block = Block::with(words);
        if let Some(rest) = rest {
            block.next = Link::to(rest);
        }
        Some(block)
    })
}
