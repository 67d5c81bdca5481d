//! Tables as bytes: how an index is written to a file beside writers that go on, and made again without a look at any key.
//!
//! # Layout
//! A part is one shard, in words of 8 bytes, least significant byte first:
//! ```text
//! magic | shard 4, shards 4 | level 4, groups 4 | entries of the first table | slots in use at most | overflow words
//! the slots of all groups | for each overflow word its group and the word, in their order
//! ```
//!
//! # Invariants
//! The words of a part are of one table, each as it was at some moment of the export. An entry that came meanwhile may stand
//! behind a slot that was still EMPTY when it was read, where no look-up finds it: whoever makes an index of the parts
//! leaves such entries out.

use super::content::chain_of;
use super::geometry::{GROUP_SLOTS, Geometry};
use super::memory::Link;
use super::metrics::{Memory, ResizeCounters};
use super::resize::Sizes;
use super::shard::{Live, Shard, Shared};
use super::table::{BLOCK_SLOTS, Block, Table};
use super::word::Word;
use super::{BucketPoint, SHARDS_MAX};
use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::reclaim::pin;
use crate::sync::atomic::Ordering;

const MAGIC: u64 = u64::from_le_bytes(*b"CSHARD1\n");
const WORD_BYTES: usize = 8;
const HEADER_WORDS: usize = 6;
/// LIMIT: the level of a table, as the geometry has it.
const LEVEL_MAX: u32 = 24;

impl BucketPoint {
    /// The number of shards: the parts of [`export_raw`](Self::export_raw).
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Appends the table of a shard to `out` as it is, about 10 bytes an entry; nothing if there is no such shard. Writers go
    /// on.
    ///
    /// An entry that stays as it is throughout the call is in the part. One that comes, moves or goes meanwhile may be in it
    /// or not, before and after at once too.
    pub fn export_raw(&self, shard: usize, out: &mut Vec<u8>) {
        let Some(found) = self.shards.get(shard) else { return };
        // From here on there is a table that has all entries of this moment, and what is frozen in it was so later.
        while found.help_if_resizing(&self.shared, &pin()) {}
        let guard = pin();
        let table = found.table(&guard);
        let (first, level) = found.sizes.first_and_level();
        let groups = table.geometry.groups();
        let mut overflow = Vec::new();
        out.reserve((HEADER_WORDS + groups as usize * GROUP_SLOTS) * WORD_BYTES);
        let header_at = out.len();
        for word in [
            MAGIC,
            pair(shard as u32, self.shards.len() as u32),
            pair(level, groups),
            first,
            table.progress.used_max,
            0,
        ] {
            put(out, word);
        }
        for group in 0..groups {
            let mut nth = 0;
            table.for_each_word(group, &guard, |word| {
                if nth < GROUP_SLOTS {
                    put(out, word.thawed().bits());
                } else if word.thawed() != Word::EMPTY {
                    overflow.push((group, word.thawed()));
                }
                nth += 1;
            });
        }
        let count_at = header_at + (HEADER_WORDS - 1) * WORD_BYTES;
        let count = (overflow.len() as u64).to_le_bytes();
        out[count_at..count_at + WORD_BYTES].copy_from_slice(&count);
        for (group, word) in overflow {
            put(out, u64::from(group));
            put(out, word.bits());
        }
    }

    /// An index of all parts of [`export_raw`](Self::export_raw), in the order of their shards. `map` says for each address
    /// which one takes its place, `None` where the entry is to be left out.
    ///
    /// `map` must leave out every entry that was installed, swapped or moved after the first export began: it may be there
    /// twice, or where no look-up finds it. Offering those records again is what makes the index complete.
    ///
    /// # Errors
    /// `Corruption` for parts that no export gives. The caller has verified that they are the bytes that were stored: what
    /// is altered within the form is not found here, and shows wrong addresses.
    pub fn from_raw<'a>(
        parts: impl IntoIterator<Item = &'a [u8]>,
        mut map: impl FnMut(Address) -> Option<Address>,
    ) -> Result<BucketPoint> {
        let shared = Shared { memory: Memory::default(), resizes: ResizeCounters::default() };
        let mut shards: Vec<Shard> = Vec::new();
        let mut count = None;
        for bytes in parts {
            let part = Part::parse(bytes)?;
            let of = *count.get_or_insert(part.shards);
            if (part.shard as usize, part.shards) != (shards.len(), of) {
                return Err(corruption("the parts are not those of all shards in their order"));
            }
            shards.push(part.load(&shared, &mut map)?);
        }
        if count.is_none_or(|count| count as usize != shards.len()) {
            return Err(corruption("parts are missing"));
        }
        let shards = shards.into_boxed_slice();
        shared.memory.add(size_of_val(&*shards) + size_of::<Self>());
        Ok(BucketPoint { shard_bits: shards.len().trailing_zeros(), shards, shared })
    }
}

/// One shard as bytes, its form checked.
struct Part<'a> {
    shard: u32,
    shards: u32,
    geometry: Geometry,
    level: u32,
    first: u64,
    used_max: u64,
    slots: &'a [[u8; WORD_BYTES]],
    overflow: &'a [[u8; WORD_BYTES]],
}

impl<'a> Part<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Part<'a>> {
        let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
        let Some((header, words)) = words.split_first_chunk::<HEADER_WORDS>() else {
            return Err(corruption("a part is cut"));
        };
        let [magic, place, size, first, used_max, overflow] = header.map(u64::from_le_bytes);
        let (shard, shards) = unpair(place);
        let (level, groups) = unpair(size);
        let is_sane = magic == MAGIC
            && rest.is_empty()
            && shards.is_power_of_two()
            && shards <= SHARDS_MAX
            && shard < shards
            && level <= LEVEL_MAX
            && groups >= 1 << level;
        if !is_sane {
            return Err(corruption("the header of a part makes no sense"));
        }
        let geometry = Geometry::new(groups, level);
        let slots = groups as usize * GROUP_SLOTS;
        let words_wanted =
            overflow.checked_mul(2).and_then(|words| words.checked_add(slots as u64));
        if groups > geometry.groups_max() || words_wanted != Some(words.len() as u64) {
            return Err(corruption("a part has not as many words as it says"));
        }
        let (slots, overflow) = words.split_at(slots);
        Ok(Part { shard, shards, geometry, level, first, used_max, slots, overflow })
    }

    fn load(
        &self,
        shared: &Shared,
        map: &mut impl FnMut(Address) -> Option<Address>,
    ) -> Result<Shard> {
        let mut counts = Counts::default();
        let mut table = Table::uninit(self.geometry, self.used_max, 0, &shared.memory);
        for (slot, stored) in table.slots.iter().zip(self.slots) {
            slot.begin(counts.word(*stored, map)?);
        }
        let (pairs, _) = self.overflow.as_chunks::<2>();
        for of_group in pairs.chunk_by(|[a, _], [b, _]| a == b) {
            let group = of_group.first().map_or(0, |[group, _]| u64::from_le_bytes(*group));
            let link = usize::try_from(group).ok().and_then(|group| table.overflow.get_mut(group));
            let words = of_group.iter().map(|[_, word]| counts.word(*word, map));
            let words = words.collect::<Result<Vec<_>>>()?;
            let Some(link) = link.filter(|link| link.is_null()) else {
                return Err(corruption("overflow of a group that is not there, or has its own"));
            };
            if let Some(chain) = chain_of(&words) {
                *link = Link::to(chain);
                let blocks = words.len().div_ceil(BLOCK_SLOTS);
                table.progress.memory.add(blocks * size_of::<Block>());
            }
        }
        // ORDERING: Relaxed: nobody else has the table yet.
        table.progress.used.store(counts.used, Ordering::Relaxed);
        table.progress.whole.store(self.geometry.groups(), Ordering::Relaxed);
        let phase = f64::from(self.shard) / f64::from(self.shards);
        let sizes = Sizes::restored(phase, self.first, self.level);
        Ok(Shard { current: Link::to(table), sizes, live: Live::of(counts.live) })
    }
}

/// What the words of a shard add up to.
#[derive(Default)]
struct Counts {
    used: u64,
    live: u64,
}

impl Counts {
    /// The word to put where this one stood.
    #[inline]
    fn word(
        &mut self,
        stored: [u8; WORD_BYTES],
        map: &mut impl FnMut(Address) -> Option<Address>,
    ) -> Result<Word> {
        let word = Word::from_stored(u64::from_le_bytes(stored));
        let word = word.ok_or_else(|| corruption("a word that no slot holds"))?;
        if word == Word::EMPTY {
            return Ok(word);
        }
        self.used += 1;
        let Some(address) = word.address().and_then(&mut *map) else { return Ok(Word::DELETED) };
        self.live += 1;
        Ok(Word::entry(word.tag(), address))
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn unpair(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

fn put(out: &mut Vec<u8>, word: u64) {
    out.extend_from_slice(&word.to_le_bytes());
}

fn corruption(what: &str) -> Error {
    let advice = "the index is derived data, so it can be built again from the records";
    Error::new(ErrorKind::Corruption, format!("damaged parts of an index: {what}; {advice}"))
}
