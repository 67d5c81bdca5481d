//! An immutable sorted run of keys: front-coded in blocks, with an address hint and a skip bit for each key.
//!
//! # Layout
//! ```text
//! header: 64   magic 8 | version 4 | checksum of the header 4 | keys 4 | segments 4 | prefix bytes 4
//!              | checksum of the index section 4 | where that section starts 8 | zeros
//! blocks       of 16 keys each (`block`), without gaps; then zeros up to a multiple of 64
//! index        groups: 192 bytes for every 16 blocks: start of the first block 5 | bytes that its keys share 2
//!              | unused 1 | fences of the other 15 blocks 8 each | ends of the blocks, counted from the start, 4 each
//!              group fences: 8 each | segment table: number 8, slot 2 | the prefix that all keys share
//! ```
//! All numbers are little-endian. The fence of a block or group is the eight bytes of its first key behind the bytes
//! that all keys of the group or run share, so long common prefixes cost the search nothing. In memory are the group
//! fences, the segment table and the prefix, a skip bit per key and a verified bit per block.
//!
//! # Invariants
//! Keys are strictly ascending and at most 64 KiB long. A position is the number of keys before, so it names a key.
//!
//! # Concurrency
//! A run is shared freely; skip bits and verified bits are atomic and only ever set. A cursor belongs to one thread at
//! a time and keeps its run alive.
//!
//! # Failure
//! Header and index are verified when the run is opened, a block when it is first touched. Damage is a `Corruption`
//! error. Bytes that change behind the back of these checks may show wrong keys, but never cause a panic.

mod block;
mod build;
mod cursor;
mod format;
mod search;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use block::Block;
pub(crate) use build::RunBuilder;
pub(crate) use cursor::{Ahead, RunCursor};
use format::{BLOCK_KEYS, FENCE_BYTES, GROUP_BLOCKS, Group, Layout, SEGMENT_BYTES, corruption};
pub use store::{RamRuns, RunBytes, RunStore};

use super::hint::Hint;
use crate::error::Result;

/// A sorted run of keys that never changes but for its skip bits.
#[derive(Debug)]
pub(crate) struct Run {
    bytes: Arc<dyn RunBytes>,
    layout: Layout,
    /// What all keys start with, as far as the group fences leave it out.
    prefix: Box<[u8]>,
    group_fences: Box<[u64]>,
    /// Number and slot of each segment that hints name.
    segments: Box<[(u64, u16)]>,
    /// One bit per block: its checksum was right.
    verified: Box<[AtomicU64]>,
    /// One word per block, one bit per key.
    skips: Box<[AtomicU16]>,
    dead: AtomicU32,
}

impl Run {
    /// Opens the bytes that a [`RunBuilder`] made.
    ///
    /// # Errors
    /// `Corruption` if header or index section are damaged; a damaged block shows when it is touched.
    pub(crate) fn open(bytes: Arc<dyn RunBytes>) -> Result<Run> {
        let file = bytes.bytes();
        let layout = Layout::parse(file)?;
        // The lengths are bounded by that of the file, which `parse` compared.
        let (fences, _) = file[layout.fences_at()..layout.segments_at()].as_chunks::<FENCE_BYTES>();
        let table = file[layout.segments_at()..layout.prefix_at()].chunks_exact(SEGMENT_BYTES);
        let segment = |record: &[u8]| {
            let (number, slot) = record.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*number), u16::from_le_bytes(*slot.first_chunk()?)))
        };
        Ok(Run {
            prefix: file[layout.prefix_at()..].into(),
            group_fences: fences.iter().map(|fence| u64::from_le_bytes(*fence)).collect(),
            segments: table.filter_map(segment).collect(),
            verified: (0..layout.blocks().div_ceil(u64::BITS)).map(|_| AtomicU64::new(0)).collect(),
            skips: (0..layout.blocks()).map(|_| AtomicU16::new(0)).collect(),
            dead: AtomicU32::new(0),
            layout,
            bytes,
        })
    }

    /// All bytes, as the store has them.
    pub(crate) fn bytes(&self) -> &Arc<dyn RunBytes> {
        &self.bytes
    }

    /// Makes the hints useless that name a segment of which `stands` says that it is not in that slot.
    pub(crate) fn forget_segments(&mut self, stands: &mut dyn FnMut(u64, u16) -> bool) {
        for (number, slot) in &mut self.segments {
            if !stands(*number, *slot) {
                *number = Hint::NO_SEGMENT;
            }
        }
    }

    /// The number of keys, skipped ones included.
    pub(crate) fn len(&self) -> usize {
        self.layout.keys as usize
    }

    /// The number of keys that are skipped.
    pub(crate) fn dead(&self) -> usize {
        self.dead.load(Ordering::Relaxed) as usize
    }

    /// Makes cursors pass over the key at this position from now on; a cursor that stands in its block already may
    /// still show it. Nothing happens at a position where no key is.
    pub(crate) fn skip(&self, position: u32) {
        if position >= self.layout.keys {
            return;
        }
        let bit = 1 << (position % BLOCK_KEYS);
        let word = &self.skips[(position / BLOCK_KEYS) as usize];
        // ORDERING: pairs with the load in `live`: who passes over a key sees what showed the caller that it is dead.
        if word.fetch_or(bit, Ordering::Release) & bit == 0 {
            self.dead.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The memory that the run holds, its bytes included unless they are mapped.
    pub(crate) fn ram_bytes(&self) -> usize {
        let held = if self.bytes.is_mapped() { 0 } else { self.bytes.bytes().len() };
        held + size_of::<Run>()
            + self.prefix.len()
            + size_of_val(&*self.group_fences)
            + size_of_val(&*self.segments)
            + size_of_val(&*self.verified)
            + size_of_val(&*self.skips)
    }

    /// The bytes of the mapped file; 0 if the run is in memory.
    pub(crate) fn mapped_bytes(&self) -> usize {
        if self.bytes.is_mapped() { self.bytes.bytes().len() } else { 0 }
    }

    /// A cursor before the first key.
    pub(crate) fn cursor(self: &Arc<Self>) -> RunCursor {
        RunCursor::new(Arc::clone(self))
    }

    /// A bit for each key of an existing block that is not skipped.
    fn live(&self, block: u32) -> u32 {
        // ORDERING: pairs with the release in `skip`.
        let skipped = self.skips[block as usize].load(Ordering::Acquire);
        !u32::from(skipped) & ((1 << self.layout.keys_of_block(block)) - 1)
    }

    fn group(&self, group: u32) -> Result<Group<'_>> {
        Group::at(self.bytes.bytes(), &self.layout, group)
            .ok_or_else(|| corruption("the index section is cut"))
    }

    /// The block, verified.
    fn block(&self, block: u32) -> Result<Block<'_>> {
        let place = self.group(block / GROUP_BLOCKS)?.block(block);
        let keys = self.layout.keys_of_block(block);
        let Some(found) = Block::new(self.bytes.bytes(), place, keys) else {
            return Err(malformed(block));
        };
        let bit = 1 << (block % u64::BITS);
        let word = &self.verified[(block / u64::BITS) as usize];
        // ORDERING: relaxed; the bit says something about bytes that were there before the run was shared.
        if word.load(Ordering::Relaxed) & bit == 0 {
            if !found.is_intact() {
                return Err(corruption(format_args!(
                    "block {block} at {}: wrong checksum",
                    place.0
                )));
            }
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(found)
    }
}

/// The error for a block whose checksum is right and whose content is not.
fn malformed(block: u32) -> crate::error::Error {
    corruption(format_args!("block {block} is not what a builder writes"))
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;
