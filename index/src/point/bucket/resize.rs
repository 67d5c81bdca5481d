//! Growth and shrinking of a shard: group by group, by everybody who passes, waiting for nobody.
//!
//! # The protocol
//! ```text
//! 1. begin    somebody sets current.next to a table of another size, all slots UNINIT
//! 2. move     for each group of the next table, by any number of threads at once:
//!             a. freeze the groups of the current table that its entries come from: their words are final
//!             b. work out what the group begins with: a function of the frozen words, the same for everybody
//!             c. store the overflow chain if there is one, then each slot: UNINIT -> its word, in order
//!             the group is whole when its last slot is no longer UNINIT
//! 3. finish   all groups are whole: the shard's link goes from the current table to the next one, the old one is
//!             dropped once its last reader is gone
//! ```
//! A slot leaves UNINIT once, so a helper that wakes up late changes nothing. A change goes to the next table as soon as
//! there is one, after its group was made whole; one that was on its way into the current table comes before the freeze
//! and is copied, or fails on the frozen word and goes to the next one.
//!
//! # Sizes
//! A shard grows by a third, and the shards of an index are spread evenly over that step, so that memory per key hardly
//! depends on the number of keys. One call moves at most [`BUCKETS_MOVED_MAX`] buckets.
//!
//! The entries that were taken out leave their slots with the next table, so one of the same size may follow.

use std::ops::RangeInclusive;

use super::content::Content;
use super::geometry::{Cell, GROUP_BUCKETS, GROUP_SLOTS, Geometry};
use super::memory::Linked;
use super::shard::{Shard, Shared};
use super::table::Table;
use crate::reclaim::Guard;
use crate::stops::{Stop, stop};
use crate::sync::atomic::Ordering;

/// LIMIT: buckets of the current table that one call of the index reads to move them; more only where a group has an
/// overflow chain, which needs keys whose hashes collide.
pub(super) const BUCKETS_MOVED_MAX: u32 = if cfg!(loom) { 2 } else { 4 } * GROUP_BUCKETS as u32;

/// The share of its slots that a table may use.
const LOAD_MAX: f64 = 0.85;
/// The ratio of one size to the one before.
const GROWTH: f64 = if cfg!(loom) { 2.0 } else { 4.0 / 3.0 };
/// A shard that holds less than this share of what it may hold shrinks.
const SPARSE: u64 = 4;
/// A shrinking step, so that few groups go into one.
const SHRINK_FACTOR_MAX: u32 = 2;
/// Groups that a helper looks at before it leaves the rest to the next one.
const CLAIMS_MAX: u32 = 8;

/// The ladder of sizes of one shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Entries at the first rung.
    base: f64,
    /// Entries that the first table was sized for.
    first: u64,
    level: u32,
}

impl Sizes {
    /// `phase` in [0, 1) is where this shard stands among the others; `capacity` is the number of entries that it will
    /// hold before it grows.
    pub(super) fn new(phase: f64, capacity: u64) -> Self {
        let base = GROUP_SLOTS as f64 * LOAD_MAX * GROWTH.powf(-phase);
        let first = capacity.max(base as u64);
        let sizes = Sizes { base, first, level: 0 };
        Sizes { level: Geometry::level_for(sizes.groups_for(first)), ..sizes }
    }

    /// Those of a shard that was begun with `first` entries at this level.
    pub(super) fn restored(phase: f64, first: u64, level: u32) -> Self {
        Sizes { first, level, ..Sizes::new(phase, 0) }
    }

    /// What [`Sizes::restored`] takes.
    pub(super) fn first_and_level(&self) -> (u64, u32) {
        (self.first, self.level)
    }

    /// The cell of a hash whose shard bits were shifted out.
    #[inline]
    pub(super) fn cell(&self, hash_in_shard: u64) -> Cell {
        Cell::of(hash_in_shard, self.level)
    }

    pub(super) fn first_geometry(&self) -> Geometry {
        Geometry::new(self.groups_for(self.first), self.level)
    }

    pub(super) fn first_used_max(&self) -> u64 {
        self.first
    }

    fn groups_for(&self, entries: u64) -> u32 {
        (entries as f64 / (GROUP_SLOTS as f64 * LOAD_MAX)).ceil().max(1.0) as u32
    }

    /// The entries of the lowest rung that holds at least so many.
    fn rung_above(&self, entries: u64) -> u64 {
        let steps = (entries as f64 / self.base).ln() / GROWTH.ln();
        (self.base * GROWTH.powf(steps.ceil().max(0.0))) as u64
    }

    /// The size and the bound of use for a table that replaces `old` and begins with so many entries.
    fn after(&self, old: Geometry, live: u64) -> (Geometry, u64) {
        let wanted = self.rung_above(live + live / 8 + 1);
        let least = old.groups().div_ceil(SHRINK_FACTOR_MAX).max(old.groups_min());
        let groups = self.groups_for(wanted).clamp(least, old.groups_max());
        let fits = (f64::from(groups) * GROUP_SLOTS as f64 * LOAD_MAX) as u64;
        // The largest table stays, but not the slots of what was taken out.
        let is_largest = groups == old.groups_max();
        let used_max = if is_largest { fits.max(live + live / 4) } else { fits };
        (Geometry::new(groups, self.level), used_max)
    }
}

impl Shard {
    /// Sets the next table of `table`, if that is the current one and has none.
    pub(super) fn begin_resize(&self, table: &Table, shared: &Shared, guard: &Guard) {
        let has_next = !matches!(table.next.load(guard), Linked::Null);
        if has_next || !std::ptr::eq(self.table(guard), table) {
            return;
        }
        let (geometry, used_max) = self.sizes.after(table.geometry, self.live.count());
        let generation = table.progress.generation.wrapping_add(1);
        let next = Table::uninit(geometry, used_max, generation, &shared.memory);
        stop(Stop::BeforeBegin);
        if table.next.publish(next).is_ok() {
            shared.resizes.begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    pub(super) fn shrink_if_sparse(&self, table: &Table, shared: &Shared, guard: &Guard) {
        let may_hold = u64::from(table.geometry.groups()) * GROUP_SLOTS as u64;
        let is_least = table.geometry.groups() == table.geometry.groups_min();
        if !is_least && self.live.count() * SPARSE < may_hold {
            self.begin_resize(table, shared, guard);
        }
    }

    /// Moves some groups if a resize is under way; true if it was.
    pub(super) fn help_if_resizing(&self, shared: &Shared, guard: &Guard) -> bool {
        let table = self.table(guard);
        let Linked::To(next) = table.next.load(guard) else { return false };
        // ORDERING: Relaxed, as in `help`.
        let claimed = next.progress.cursor.fetch_add(1, Ordering::Relaxed);
        self.help(table, next, claimed % next.geometry.groups(), shared, guard);
        true
    }

    /// Makes one group of the next table whole, and perhaps another one; finishes the resize if that was the last.
    pub(super) fn help(
        &self,
        table: &Table,
        next: &Table,
        group: u32,
        shared: &Shared,
        guard: &Guard,
    ) {
        let sources_of = |group| table.geometry.sources_of(next.geometry, group);
        let mut moved = move_group(table, next, group, sources_of, guard);
        let mut claims = 0;
        while !next.is_all_whole() && claims < CLAIMS_MAX {
            claims += 1;
            // ORDERING: Relaxed: a hint where to look; the groups say themselves whether they are whole.
            let claimed = next.progress.cursor.fetch_add(1, Ordering::Relaxed);
            let claimed = claimed % next.geometry.groups();
            let sources = sources_of(claimed);
            if moved + sources.clone().count() as u32 * GROUP_BUCKETS as u32 > BUCKETS_MOVED_MAX {
                break;
            }
            moved += move_group(table, next, claimed, |_| sources, guard);
        }
        if moved > 0 {
            shared.resizes.moved(moved);
        }
        if next.is_all_whole() {
            stop(Stop::BeforeFinish);
            if self.current.advance(table, &table.next, guard) {
                shared.resizes.finished.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
}

/// Steps a to c of the protocol for one group; returns how many buckets were read for it.
fn move_group(
    table: &Table,
    next: &Table,
    group: u32,
    sources_of: impl FnOnce(u32) -> RangeInclusive<u32>,
    guard: &Guard,
) -> u32 {
    if next.is_whole(group) {
        return 0;
    }
    let mut content = Content::new();
    let mut moved = 0;
    for source in sources_of(group) {
        let cells = table.geometry.cells_of(source);
        stop(Stop::BeforeFreeze);
        table.freeze(source, guard, |word| {
            if word.is_entry() {
                let cell = cells.with_tag(word.tag());
                if next.geometry.group(cell) == group {
                    content.place(next.geometry.home_bucket(cell), word);
                }
            }
        });
        moved += GROUP_BUCKETS as u32;
    }
    stop(Stop::BeforeFill);
    next.fill(group, &content);
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_per_entry_hardly_depends_on_the_number_of_entries() {
        // All shards of an index together, each at the size that a run of inserts gives it.
        const SHARDS: u64 = 256;
        for thousands in [100u64, 123, 150, 180, 250, 400, 1_000, 1_300, 1_700, 2_500] {
            let entries = thousands * 1_000;
            let slots: u64 = (0..SHARDS)
                .map(|shard| {
                    let sizes = Sizes::new(shard as f64 / SHARDS as f64, 0);
                    u64::from(sizes.groups_for(sizes.rung_above(entries / SHARDS)))
                        * GROUP_SLOTS as u64
                })
                .sum();
            let bytes = slots as f64 * 8.0 / entries as f64;
            assert!((9.0..13.5).contains(&bytes), "{bytes:.1} bytes an entry at {entries}");
        }
    }

    #[test]
    fn the_largest_table_is_still_replaced_when_most_of_its_slots_are_of_the_dead() {
        let sizes = Sizes::new(0.0, 0);
        let largest = Geometry::new(sizes.first_geometry().groups_max(), sizes.level);
        for live in [6_000_000, 7_000_000, 20_000_000] {
            let (geometry, used_max) = sizes.after(largest, live);
            assert_eq!(geometry, largest);
            assert!((live + live / 100..=2 * live).contains(&used_max), "{used_max} for {live}");
        }
    }

    // A shard of a single one that was sized in advance for ten million keys.
    #[test]
    fn a_shard_that_began_large_grows_and_shrinks() {
        let sizes = Sizes::new(0.0, 10_000_000);
        let first = sizes.first_geometry();
        let (grown, used_max) = sizes.after(first, sizes.first_used_max());
        assert!(grown.groups() > first.groups() && used_max > sizes.first_used_max());
        let (shrunk, _) = sizes.after(first, 10);
        assert_eq!(shrunk.groups(), first.groups_min());
    }

    #[test]
    fn a_step_of_growth_reads_few_groups_for_one_and_shrinking_stops_at_the_level() {
        let sizes = Sizes::new(0.3, 0);
        let mut geometry = sizes.first_geometry();
        let mut live = sizes.first_used_max();
        for _ in 0..20 {
            let (grown, used_max) = sizes.after(geometry, live);
            assert!(grown.groups() >= geometry.groups() && used_max > live, "{grown:?} {used_max}");
            for group in [0, grown.groups() / 2, grown.groups() - 1] {
                assert!(geometry.sources_of(grown, group).count() <= 2);
            }
            (geometry, live) = (grown, used_max);
        }
        let sizes = Sizes::new(0.0, 5_000);
        let mut geometry = sizes.first_geometry();
        for _ in 0..20 {
            let (shrunk, _) = sizes.after(geometry, 10);
            for group in [0, shrunk.groups() - 1] {
                assert!(geometry.sources_of(shrunk, group).count() <= 3);
            }
            geometry = shrunk;
        }
        assert_eq!(geometry.groups(), geometry.groups_min());
    }
}
