//! The walk over all entries, in the order of shards and cells.
//!
//! # Invariants
//! A position names a shard, the first cell of a group, and how many words of the group were passed. The last counts
//! only while the shard has the same table: in another one the cells from there on come anew, so an entry that stays is
//! named at least once, and twice at most per resize.

use super::geometry::Cell;
use super::shard::{Shard, Shared};
use crate::address::Address;
use crate::bugs::{Bug, planted};
use crate::point::ExportPosition;
use crate::reclaim::pin;

const SHARD_BITS: u32 = 17;
const PASSED_BITS: u32 = 24;
const GENERATION_BITS: u32 = u64::BITS - SHARD_BITS - PASSED_BITS;

/// Where a walk stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    shard: usize,
    /// Words of the group that were passed.
    passed: usize,
    /// The table that this count is for, in [`GENERATION_BITS`].
    generation: u32,
    cell: Cell,
}

impl Place {
    fn unpack(position: ExportPosition) -> Place {
        let [packed, cell] = position.words();
        let field = |shift: u32, bits: u32| packed >> shift & ((1 << bits) - 1);
        Place {
            shard: field(0, SHARD_BITS) as usize,
            passed: field(SHARD_BITS, PASSED_BITS) as usize,
            generation: field(SHARD_BITS + PASSED_BITS, GENERATION_BITS) as u32,
            cell: Cell::from_bits(cell),
        }
    }

    fn pack(self) -> ExportPosition {
        // LIMIT: 16 million words passed in one group; more are named again.
        let passed = self.passed as u64 & ((1 << PASSED_BITS) - 1);
        let packed = self.shard as u64
            | passed << SHARD_BITS
            | u64::from(self.generation) << (SHARD_BITS + PASSED_BITS);
        ExportPosition::from_words([packed, self.cell.bits()])
    }
}

/// See [`PointIndex::export`](crate::PointIndex::export).
pub(super) fn export(
    shards: &[Shard],
    shared: &Shared,
    from: ExportPosition,
    entries_max: usize,
    out: &mut Vec<Address>,
) -> Option<ExportPosition> {
    let guard = pin();
    let mut place = Place::unpack(from);
    let mut left = entries_max.max(1);
    while let Some(shard) = shards.get(place.shard) {
        // A group that is moving is moved now, so that its words are in one table.
        let table = if planted(Bug::ExportOfOneTable) {
            shard.table(&guard)
        } else {
            shard.writable(place.cell, shared, &guard)
        };
        let group = table.geometry.group(place.cell);
        let generation = table.progress.generation & ((1 << GENERATION_BITS) - 1);
        let skipped = if generation == place.generation { place.passed } else { 0 };
        let (mut passed, mut stopped) = (0, None);
        table.for_each_word(group, &guard, |word| {
            if passed >= skipped
                && stopped.is_none()
                && let Some(address) = word.address()
            {
                if left == 0 {
                    stopped = Some(passed);
                } else {
                    out.push(address);
                    left -= 1;
                }
            }
            passed += 1;
        });
        if let Some(passed) = stopped {
            return Some(Place { passed, generation, ..place }.pack());
        }
        let next = group + 1;
        place = if next == table.geometry.groups() {
            Place { shard: place.shard + 1, passed: 0, generation: 0, cell: Cell::from_bits(0) }
        } else {
            let cell = table.geometry.first_cell(next);
            Place { passed: 0, generation, cell, ..place }
        };
    }
    None
}
