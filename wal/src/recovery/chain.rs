//! Decides which segments are the log, from what the scans found. A pure function, tested without files.
//!
//! 1. K = the largest sequence that any intact frame anywhere says to have been durable.
//! 2. A segment is *reachable* when its first frame is intact and each predecessor is there, intact to the end that
//!    its successor recorded, down to the first segment or to the oldest that a purge left.
//! 3. The log is the newest reachable segment with its predecessors. What is newer is a tail that never became part
//!    of the log: it was made ready only, or a power cut took something below it.
//! 4. A segment that recovery built is intact at least to the end that its header states, else it is damaged.
//! 5. A retired segment is there and empty, whatever its file says: the walk goes through it, to the predecessor that it had,
//!    and everything up to its last commit was durable.
//! 6. A segment that the owner knows was durable up to its last commit, whether its file is there or not; that counts like that
//!    of a retired one.
//! 7. If the log ends below K, something that was on the disk is gone: that is damage, and no crash explains it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::collections::{BTreeMap, BTreeSet};

use super::scan::Scan;
use crate::bugs::{Bug, planted};
use crate::known::KnownSegment;
use crate::retire::RetiredSegment;
use crate::segment::Position;

/// The log: its segments from the oldest on, each with the place where it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) segments: Vec<(u64, Position)>,
    /// The last commit.
    pub(crate) last_seq: u64,
    /// What was durable for certain.
    pub(crate) durable: u64,
    /// The largest sequence seen anywhere, in what is dropped, too.
    pub(crate) seq_max: u64,
    /// The oldest segment that belongs to the log.
    pub(crate) oldest: u64,
}

/// Where durable commits are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gap {
    /// In a segment, from a stored offset on.
    In { id: u64, offset: u32 },
    /// The first frame of a segment names an end of its predecessor where no frame ends.
    End { id: u64, predecessor: u64 },
    /// The successor of a sealed segment is not there.
    Behind { id: u64 },
    /// A whole segment is not there.
    Missing { id: u64 },
    /// It cannot be said which.
    Unknown,
}

/// The segments that were retired, by id.
pub(crate) type Retired = BTreeMap<u64, RetiredSegment>;

/// Chooses the log; the second part says where it falls short of what was durable.
pub(crate) fn choose(
    scans: &BTreeMap<u64, Scan>,
    retired: &Retired,
    known: &[KnownSegment],
) -> (Chain, Option<Gap>) {
    let retired_seqs = retired.values().map(|retired| retired.last_seq);
    let seqs = scans.values().map(|scan| scan.seq_max).chain(retired_seqs);
    let retired_oldest = retired.values().map(|retired| retired.oldest);
    let oldest = scans.values().map(|scan| scan.oldest).chain(retired_oldest).max().unwrap_or(0);
    let seq_max = seqs.max().unwrap_or(0);
    let mut chain = Chain { seq_max, oldest, ..Chain::default() };
    let mut broken = None;
    let ids: BTreeSet<u64> = scans.keys().chain(retired.keys()).copied().collect();
    for &id in ids.iter().rev() {
        match reach(scans, retired, id, oldest) {
            Ok(segments) => {
                chain.segments = segments;
                break;
            }
            // The newest break is the one that the damaged end of the log is behind.
            Err(gap) => broken = broken.or(gap),
        }
    }
    let newest_id = chain.segments.last().map_or(0, |(id, _)| *id);
    let (newest, newest_retired) = (scans.get(&newest_id), retired.get(&newest_id));
    let retired_seq = newest_retired.map(|retired| retired.last_seq);
    chain.last_seq = newest.map(|scan| scan.last_seq).or(retired_seq).unwrap_or(0);
    // One that the log goes around was set aside by a salvage, which does not ask for what came after it.
    let counts = |id: &u64| *id > newest_id || chain.segments.iter().any(|(known, _)| known == id);
    let known = known.iter().filter(|known| known.is_possible()).map(|k| (k.id, k.last_seq));
    let told = retired.values().map(|retired| (retired.id, retired.last_seq)).chain(known);
    let proven = told.filter(|(id, _)| counts(id)).map(|(_, last_seq)| last_seq);
    chain.durable = scans.values().map(|scan| scan.durable).chain(proven).max().unwrap_or(0);
    let cut = scans.iter().find_map(|(&id, scan)| {
        let end = scan.end.map_or(0, |end| end.stored);
        (id >= oldest && end < scan.built_end).then_some(Gap::In { id, offset: end })
    });
    let gap = if cut.is_some() {
        // It was durable before it had its name, so no crash took it.
        cut
    } else if chain.durable > chain.last_seq {
        let end = chain.segments.last().map(|(id, end)| Gap::In { id: *id, offset: end.stored });
        broken.or(end).or(Some(Gap::Unknown))
    } else if (newest_retired.is_some() || newest.is_some_and(|scan| scan.is_known))
        && scans.range(newest_id + 1..).next().is_none()
    {
        // Only sealed segments are retired or known, and their successor had a durable name by then.
        Some(Gap::Behind { id: newest_id })
    } else {
        // A segment names its successor only after that one's name was durable.
        newest
            .and_then(|scan| scan.next)
            .filter(|next| !ids.contains(next))
            .map(|id| Gap::Missing { id })
    };
    (chain, gap)
}

/// The segments from the oldest to `id`, or why they do not connect; `Err(None)` for one that was never begun.
fn reach(
    scans: &BTreeMap<u64, Scan>,
    retired: &Retired,
    id: u64,
    oldest: u64,
) -> Result<Vec<(u64, Position)>, Option<Gap>> {
    let mut segments = Vec::new();
    let mut at = id;
    let mut end = scans.get(&id).and_then(|scan| scan.end);
    loop {
        if let Some(retired) = retired.get(&at) {
            // Where the end is another, `misplaced_end` says so.
            segments.push((at, end.unwrap_or(retired.end())));
            if retired.predecessor == 0 || at <= oldest {
                segments.reverse();
                return Ok(segments);
            }
            (at, end) = (retired.predecessor, Some(retired.predecessor_end()));
            continue;
        }
        let scan = scans.get(&at).ok_or(Some(Gap::Missing { id: at }))?;
        let Some(chain) = scan.chain else {
            // Of the newest, this says that it was never begun; of a predecessor, that its start is damaged.
            let begun = !segments.is_empty() || !scan.islands.is_empty() || scan.fault.is_some();
            return Err(begun.then_some(Gap::In { id: at, offset: crate::format::HEADER_BYTES }));
        };
        let intact = scan.end.unwrap_or(Position { stored: 0, logical: 0 });
        let wanted = end.unwrap_or(intact);
        if intact < wanted && !planted(Bug::EnteredBehindTear) {
            return Err(Some(Gap::In { id: at, offset: intact.stored }));
        }
        segments.push((at, wanted.min(intact)));
        let is_first = chain.predecessor == 0 || at <= oldest;
        if is_first {
            segments.reverse();
            return Ok(segments);
        }
        // Ids grow, so the walk ends; a chain that says otherwise is damaged.
        if chain.predecessor >= at {
            return Err(Some(Gap::In { id: at, offset: crate::format::HEADER_BYTES }));
        }
        at = chain.predecessor;
        end = Some(Position {
            stored: chain.predecessor_end,
            logical: chain.predecessor_logical_end,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ChainFrame;

    /// A segment that follows `predecessor`, which ended at `predecessor_end`; intact up to `end`.
    fn segment(predecessor: u64, predecessor_end: u32, end: u32, last_seq: u64) -> Scan {
        let chain = ChainFrame {
            last_seq: 0,
            predecessor,
            predecessor_end,
            predecessor_logical_end: predecessor_end,
            durable_seq: 0,
            oldest: 1,
            wall_ms: 0,
            seq_floor: 0,
        };
        let end = Some(Position { stored: end, logical: end });
        Scan { chain: Some(chain), end, last_seq, seq_max: last_seq, oldest: 1, ..Scan::default() }
    }

    fn ids(chain: &Chain) -> Vec<u64> {
        chain.segments.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn an_intact_chain_is_the_log() {
        let scans = BTreeMap::from([(1, segment(0, 0, 100, 5)), (2, segment(1, 100, 80, 9))]);
        let (chain, gap) = choose(&scans, &Retired::new(), &[]);
        assert_eq!((ids(&chain), chain.last_seq, gap), (vec![1, 2], 9, None));
    }

    #[test]
    fn a_segment_behind_a_torn_predecessor_is_not_entered() {
        let mut scans = BTreeMap::from([(1, segment(0, 0, 60, 3)), (2, segment(1, 100, 80, 9))]);
        let (chain, gap) = choose(&scans, &Retired::new(), &[]);
        assert_eq!((ids(&chain), chain.last_seq, chain.seq_max, gap), (vec![1], 3, 9, None));
        // The same with a proof that commit 4 was durable is damage.
        scans.get_mut(&2).unwrap().durable = 4;
        let (_, gap) = choose(&scans, &Retired::new(), &[]);
        assert_eq!(gap, Some(Gap::In { id: 1, offset: 60 }));
    }

    #[test]
    fn the_copy_that_recovery_made_wins_over_what_it_copied() {
        // 3 was made by an earlier recovery, which trusted 1 up to byte 40 and copied the rest.
        let scans = BTreeMap::from([
            (1, segment(0, 0, 100, 5)),
            (2, segment(1, 100, 80, 9)),
            (3, segment(1, 40, 90, 9)),
        ]);
        let (chain, gap) = choose(&scans, &Retired::new(), &[]);
        assert_eq!((ids(&chain), gap), (vec![1, 3], None));
        assert_eq!(chain.segments[0].1.stored, 40);
    }

    #[test]
    fn a_missing_middle_segment_is_damage_and_a_purged_prefix_is_not() {
        let mut scans = BTreeMap::from([(2, segment(1, 100, 80, 5)), (4, segment(3, 100, 80, 9))]);
        scans.get_mut(&2).unwrap().oldest = 2;
        scans.get_mut(&4).unwrap().durable = 7;
        let (chain, gap) = choose(&scans, &Retired::new(), &[]);
        assert_eq!((ids(&chain), gap), (vec![2], Some(Gap::Missing { id: 3 })));
        let purged = BTreeMap::from([(2, {
            let mut scan = segment(1, 100, 80, 5);
            scan.oldest = 2;
            scan
        })]);
        assert_eq!(choose(&purged, &Retired::new(), &[]).1, None);
    }

    #[test]
    fn a_lost_successor_of_a_sealed_segment_is_damage() {
        let mut sealed = segment(0, 0, 100, 5);
        sealed.next = Some(2);
        let (_, gap) = choose(&BTreeMap::from([(1, sealed.clone())]), &Retired::new(), &[]);
        assert_eq!(gap, Some(Gap::Missing { id: 2 }));
        // It was made ready and never begun: the rotation did not reach the disk.
        let ready = Scan { end: Some(Position { stored: 4096, logical: 4096 }), ..Scan::default() };
        let (chain, gap) = choose(&BTreeMap::from([(1, sealed), (2, ready)]), &Retired::new(), &[]);
        assert_eq!((ids(&chain), gap), (vec![1], None));
    }

    fn retired(id: u64, predecessor: u64, end: u32, last_seq: u64) -> (u64, RetiredSegment) {
        let retired = RetiredSegment {
            id,
            end_stored: end,
            end_logical: end,
            last_seq,
            predecessor,
            predecessor_end_stored: 100,
            predecessor_end_logical: 100,
            oldest: 1,
        };
        (id, retired)
    }

    #[test]
    fn the_log_goes_through_a_retired_segment_and_may_end_with_one() {
        let mut scans = BTreeMap::from([(1, segment(0, 0, 100, 5)), (4, segment(3, 80, 90, 9))]);
        let gone = Retired::from([retired(3, 1, 80, 7)]);
        let (chain, gap) = choose(&scans, &gone, &[]);
        assert_eq!((ids(&chain), chain.last_seq, chain.durable, gap), (vec![1, 3, 4], 9, 7, None));
        // Nothing of its successor reached the disk but its name: no number up to its last commit is free.
        scans.insert(4, Scan::default());
        let (chain, gap) = choose(&scans, &gone, &[]);
        assert_eq!((ids(&chain), chain.last_seq, chain.seq_max, gap), (vec![1, 3], 7, 7, None));
        scans.remove(&4);
        assert_eq!(choose(&scans, &gone, &[]).1, Some(Gap::Behind { id: 3 }));
        // What stood before it was durable.
        scans.insert(1, segment(0, 0, 60, 3));
        let (chain, gap) = choose(&scans, &gone, &[]);
        assert_eq!((ids(&chain), gap), (vec![1], Some(Gap::In { id: 1, offset: 60 })));
    }

    #[test]
    fn a_retired_segment_knows_where_the_log_began() {
        // Segment 1 was purged, and only the note of it in segment 2 was durable.
        let scans = BTreeMap::from([(3, Scan::default())]);
        let (id, mut gone) = retired(2, 1, 80, 7);
        assert_eq!(
            choose(&scans, &Retired::from([(id, gone)]), &[]).1,
            Some(Gap::Missing { id: 1 })
        );
        gone.oldest = 2;
        let (chain, gap) = choose(&scans, &Retired::from([(id, gone)]), &[]);
        assert_eq!((ids(&chain), gap), (vec![2], None));
    }

    #[test]
    fn what_the_owner_knows_was_durable_unless_the_log_goes_around_it() {
        let mut known = KnownSegment::from_bytes(&[0; KnownSegment::BYTES]);
        (known.id, known.last_seq, known.oldest) = (2, 9, 1);
        (known.end_stored, known.end_logical) = (4_200, 4_200);
        // Its first frame is damaged, or its file is not there.
        let mut scans = BTreeMap::from([(1, segment(0, 0, 100, 5)), (2, Scan::default())]);
        assert_eq!(choose(&scans, &Retired::new(), &[]).1, None);
        let gap = Some(Gap::In { id: 1, offset: 100 });
        assert_eq!(choose(&scans, &Retired::new(), &[known]).1, gap);
        scans.remove(&2);
        assert_eq!(choose(&scans, &Retired::new(), &[known]).1, gap);
        // An opening that did not know it has copied it.
        scans.insert(3, segment(1, 100, 90, 8));
        assert_eq!(choose(&scans, &Retired::new(), &[known]).1, None);
    }

    #[test]
    fn a_loop_in_the_chain_ends() {
        let scans = BTreeMap::from([(2, segment(2, 10, 100, 5)), (3, segment(2, 10, 100, 5))]);
        assert!(choose(&scans, &Retired::new(), &[]).0.segments.is_empty());
    }
}
