//! Which sets of features are compiled: all of them, or a selection small enough for each run of CI.
//!
//! Code under `cfg` breaks where few features meet, so the selection holds, for any three features, each of the eight
//! ways to have them on and off (a covering array of strength 3). A greedy search finds it; it is the same in each run.

use std::collections::BTreeSet;

/// A set of features, as names.
pub type Set<'a> = Vec<&'a str>;

/// How many features meet in every way in a selection.
const STRENGTH: usize = 3;

/// The sets for the engine: those of `parts`, with all of `others` off and on, and each of `others`
/// alone.
pub fn engine<'a>(parts: &[&'a str], others: &[&'a str], all: bool) -> Vec<Set<'a>> {
    // The others are one more switch, the last.
    let masks = masks(parts.len() + 1, all);
    let mut sets: Vec<Set> = Vec::with_capacity(masks.len() + others.len());
    for mask in masks {
        let mut set = chosen(parts, mask);
        if mask >> parts.len() & 1 == 1 {
            set.extend(others);
        }
        sets.push(set);
    }
    sets.extend(others.iter().map(|other| vec![*other]));
    sets
}

/// The sets of a package whose features are all alike.
pub fn of<'a>(features: &[&'a str], all: bool) -> Vec<Set<'a>> {
    masks(features.len(), all).into_iter().map(|mask| chosen(features, mask)).collect()
}

fn chosen<'a>(features: &[&'a str], mask: u32) -> Set<'a> {
    let on = features.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
    on.map(|(_, name)| *name).collect()
}

/// One bit for each of `count` switches. The selection has nothing on first, everything second.
fn masks(count: usize, all: bool) -> Vec<u32> {
    // LIMIT: 2^16 sets; a package with more features needs another way than to try them all.
    assert!(count <= 16, "{count} features are too many to list their sets");
    let every = 0..1_u32 << count;
    if all || count <= STRENGTH {
        return every.collect();
    }
    let mut selection = vec![0, every.end - 1];
    let mut open: BTreeSet<Meeting> =
        every.clone().flat_map(|mask| meetings(mask, count)).collect();
    for mask in &selection {
        open.retain(|(switches, on)| mask & switches != *on);
    }
    while !open.is_empty() {
        let gain = |mask: u32| meetings(mask, count).filter(|each| open.contains(each)).count();
        let best = every.clone().rev().max_by_key(|mask| gain(*mask)).unwrap_or(0);
        open.retain(|(switches, on)| best & switches != *on);
        selection.push(best);
    }
    selection
}

/// Which switches meet, as bits, and which of them are on.
type Meeting = (u32, u32);

/// The ways in which [`STRENGTH`] of the switches meet in `mask`.
fn meetings(mask: u32, count: usize) -> impl Iterator<Item = Meeting> {
    (0..1_u32 << count)
        .filter(|switches| switches.count_ones() as usize == STRENGTH)
        .map(move |switches| (switches, mask & switches))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: &[&str] = &["wal", "index", "ordered", "cache", "compaction", "snappy"];

    #[test]
    fn all_means_every_set_twice_and_each_other_feature_alone() {
        let sets = engine(PARTS, &["serde", "test-util"], true);
        let distinct: BTreeSet<_> = sets.iter().collect();
        assert_eq!((sets.len(), distinct.len()), (130, 130));
        assert!(sets.contains(&vec!["wal", "cache", "serde", "test-util"]));
        assert!(sets.contains(&vec!["serde"]) && sets.contains(&vec![]));
    }

    #[test]
    fn the_selection_is_small_and_any_three_switches_meet_in_every_way() {
        for count in 4..=10 {
            let selection = masks(count, false);
            assert!(selection.len() <= 20, "{count} switches need {} sets", selection.len());
            let met: BTreeSet<_> =
                selection.iter().flat_map(|&mask| meetings(mask, count)).collect();
            let triples = count * (count - 1) * (count - 2) / 6;
            assert_eq!(met.len(), 8 * triples, "{count} switches");
        }
    }

    #[test]
    fn the_selection_starts_with_nothing_and_everything() {
        let sets = engine(PARTS, &["serde"], false);
        assert!(sets[0].is_empty());
        assert_eq!(sets[1].len(), PARTS.len() + 1);
    }

    #[test]
    fn few_features_are_tried_in_all_sets() {
        assert_eq!(of(&["ordered"], false), [vec![], vec!["ordered"]]);
        assert_eq!(of(&[], false), [Vec::<&str>::new()]);
    }
}
