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
}

impl Content {
    pub(super) fn new() -> Self {
        Content { slots: [Word::EMPTY; GROUP_SLOTS], overflow: Vec::new() }
    }

    /// Places an entry into the first free slot of its order.
    pub(super) fn place(&mut self, home_bucket: usize, word: Word) {
        let home = home_bucket % GROUP_BUCKETS;
        for step in 0..GROUP_BUCKETS {
            let first = (home ^ step) * BUCKET_SLOTS;
            let bucket = &mut self.slots[first..first + BUCKET_SLOTS];
            if let Some(slot) = bucket.iter_mut().find(|slot| **slot == Word::EMPTY) {
                *slot = word;
                return;
            }
        }
        self.overflow.push(word);
    }

    /// The entries that found no slot, as blocks.
    pub(super) fn overflow_chain(&self) -> Option<Box<Block>> {
        self.overflow.chunks(BLOCK_SLOTS).rev().fold(None, |rest, words| {
            let mut block = Block::with(words);
            if let Some(rest) = rest {
                block.next = Link::to(rest);
            }
            Some(block)
        })
    }
}
