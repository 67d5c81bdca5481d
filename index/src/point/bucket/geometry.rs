//! Where a hash belongs in a table, and how much of the hash a place and a tag give back.
//!
//! # Layout
//! A shard is chosen by the top bits of the hash. The bits below, moved to the top of a word, are the *cell* of a key: a
//! fixed-point fraction of which the first `level + TAG_BITS` bits count and the rest is zero. A table of any size cuts
//! the range of fractions into equal parts: `bucket = cell * buckets / 2^64`, rounded down.
//! ```text
//! hash   [ shard ][ level ][  tag: 23 bits  ][ not kept ]
//! cell            [ level ][  tag: 23 bits  ][ 0 ...... ]
//! ```
//! An entry keeps the tag only. Its group gives the rest, because a group is shorter than `2^-level`: so growing and
//! shrinking need no look at the keys, and no size is preferred.
//!
//! # Invariants
//! `2^level <= groups`: else two cells of one group could share a tag.
//!
//! The larger a table has become since it was made, the fewer bits of a tag tell apart keys of one bucket:
//! `TAG_BITS + level - log2(buckets)` of them. [`Geometry::useful_tag_bits`] tells how many are left.

use super::word::TAG_BITS;

/// Slots in a bucket: one cache line.
pub(super) const BUCKET_SLOTS: usize = if cfg!(any(loom, shuttle)) { 2 } else { 8 };
/// Buckets in a group. A key lives in the group of its home bucket, so a group grows by itself.
pub(super) const GROUP_BUCKETS: usize = match () {
    () if cfg!(loom) => 1,
    () if cfg!(shuttle) => 2,
    () => 16,
};
/// Slots in a group.
pub(super) const GROUP_SLOTS: usize = BUCKET_SLOTS * GROUP_BUCKETS;

/// LIMIT: groups of one table of level 0: 3 useful tag bits, 7 million keys a shard.
pub(super) const GROUPS_MAX: u32 = 1 << 16;

/// The size of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    groups: u32,
    level: u32,
}

/// The part of a hash that a table knows, as a fraction of 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell(u64);

impl Geometry {
    /// A table of so many groups; `level` as of the first table of the shard.
    pub(super) fn new(groups: u32, level: u32) -> Self {
        debug_assert!(1 << level <= groups && level <= 24);
        Geometry { groups, level }
    }

    /// The highest level for a first table of this size: all bits of its tags are useful.
    pub(super) fn level_for(groups: u32) -> u32 {
        groups.max(1).ilog2().min(24)
    }

    pub(super) fn groups(self) -> u32 {
        self.groups
    }

    /// The fewest groups that keep the cells of a group apart.
    pub(super) fn groups_min(self) -> u32 {
        1 << self.level
    }

    /// The most groups that leave useful tag bits.
    pub(super) fn groups_max(self) -> u32 {
        GROUPS_MAX.saturating_mul(1 << self.level)
    }

    /// Tag bits that tell apart two keys of one bucket.
    pub(super) fn useful_tag_bits(self) -> u32 {
        let buckets = u64::from(self.groups) * GROUP_BUCKETS as u64;
        (TAG_BITS + self.level).saturating_sub(buckets.next_power_of_two().ilog2())
    }

    pub(super) fn tag(self, cell: Cell) -> u32 {
        (cell.0 >> self.unused_bits()) as u32 & ((1 << TAG_BITS) - 1)
    }

    /// The bucket that a key of this cell is looked for first.
    pub(super) fn home_bucket(self, cell: Cell) -> usize {
        scaled(cell.0, u64::from(self.groups) * GROUP_BUCKETS as u64) as usize
    }

    pub(super) fn group(self, cell: Cell) -> u32 {
        scaled(cell.0, u64::from(self.groups)) as u32
    }

    /// The lowest cell of a group, as a number of cells; that of the group behind the last is one past the end.
    fn first_cell_number(self, group: u32) -> u64 {
        let bits = self.level + TAG_BITS;
        // A division of 64 bits where they are enough, as they nearly always are.
        if u64::from(group) <= u64::MAX >> bits {
            return (u64::from(group) << bits).div_ceil(u64::from(self.groups));
        }
        (u128::from(group) << bits).div_ceil(u128::from(self.groups)) as u64
    }

    /// The lowest cell of a group.
    pub(super) fn first_cell(self, group: u32) -> Cell {
        Cell(self.first_cell_number(group) << self.unused_bits())
    }

    /// The highest cell of a group.
    pub(super) fn last_cell(self, group: u32) -> Cell {
        Cell((self.first_cell_number(group + 1) - 1) << self.unused_bits())
    }

    /// Gives back the cells of the entries of a group.
    pub(super) fn cells_of(self, group: u32) -> CellsOf {
        CellsOf { first: self.first_cell_number(group), unused_bits: self.unused_bits() }
    }

    /// The groups of this table that hold what belongs into `group` of another one of the same level.
    pub(super) fn sources_of(self, other: Geometry, group: u32) -> std::ops::RangeInclusive<u32> {
        self.group(other.first_cell(group))..=self.group(other.last_cell(group))
    }

    fn unused_bits(self) -> u32 {
        u64::BITS - TAG_BITS - self.level
    }
}

/// The cells of one group by tag.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellsOf {
    first: u64,
    unused_bits: u32,
}

impl CellsOf {
    /// The one cell of the group that has this tag.
    pub(super) fn with_tag(self, tag: u32) -> Cell {
        let distance = u64::from(tag).wrapping_sub(self.first) & ((1 << TAG_BITS) - 1);
        Cell((self.first + distance) << self.unused_bits)
    }
}

impl Cell {
    /// The cell of a hash whose shard bits were shifted out.
    #[inline]
    pub(super) fn of(hash_in_shard: u64, level: u32) -> Cell {
        Cell(hash_in_shard & !(u64::MAX >> (TAG_BITS + level)))
    }

    /// The word that [`Cell::from_bits`] takes.
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn from_bits(bits: u64) -> Cell {
        Cell(bits)
    }
}

/// `fraction / 2^64 * parts`, rounded down.
fn scaled(fraction: u64, parts: u64) -> u64 {
    ((u128::from(fraction) * u128::from(parts)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_group_and_a_tag_give_the_cell_back(
            hash: u64,
            level in 0u32..12,
            groups in 1u32..5_000,
        ) {
            let geometry = Geometry::new(groups.max(1 << level), level);
            let cell = Cell::of(hash, level);
            let group = geometry.group(cell);
            prop_assert_eq!(geometry.home_bucket(cell) / GROUP_BUCKETS, group as usize);
            prop_assert_eq!(geometry.cells_of(group).with_tag(geometry.tag(cell)), cell);
            prop_assert!(geometry.first_cell(group) <= cell && cell <= geometry.last_cell(group));
        }

        #[test]
        fn the_sources_of_a_group_hold_all_its_cells_and_are_few(
            hash: u64,
            level in 0u32..8,
            old in 1u32..5_000,
            new in 1u32..5_000,
        ) {
            let old = Geometry::new(old.max(1 << level), level);
            let new = Geometry::new(new.max(1 << level), level);
            let cell = Cell::of(hash, level);
            let sources = old.sources_of(new, new.group(cell));
            prop_assert!(sources.contains(&old.group(cell)));
            let most = old.groups().div_ceil(new.groups()) + 1;
            prop_assert!(sources.count() as u32 <= most);
        }
    }

    #[test]
    fn the_largest_table_is_no_smaller_than_the_first_one_at_every_level() {
        for groups in [1, 2, 65_535, 65_536, 100_000, 1 << 24, u32::MAX] {
            let geometry = Geometry::new(groups, Geometry::level_for(groups));
            assert!(geometry.groups_max() >= groups, "{geometry:?}");
            assert!(geometry.groups_min() <= groups, "{geometry:?}");
        }
    }

    #[test]
    fn the_groups_share_out_the_cells_without_gap_or_overlap() {
        for groups in [1, 2, 3, 7, 100, 1_023] {
            let geometry = Geometry::new(groups, Geometry::level_for(groups));
            for group in 1..groups {
                let (before, after) = (geometry.last_cell(group - 1), geometry.first_cell(group));
                assert_eq!(before.0 + (1 << geometry.unused_bits()), after.0);
            }
            assert_eq!(geometry.first_cell(0), Cell(0));
            assert_eq!(geometry.last_cell(groups - 1), Cell::of(u64::MAX, geometry.level));
        }
    }
}
