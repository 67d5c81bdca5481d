//! How evenly inserts spread over the partitions, and what to do about it.

/// The spread below which partitions are changed.
pub(super) const SPREAD_MIN: f64 = 0.85;

/// Shannon entropy of the counts over its largest possible value, H / log2(P): 1 if all are alike, 0 if all is in one
/// place. `None` without inserts or with fewer than two partitions.
pub(super) fn spread(counts: &[usize]) -> Option<f64> {
    let all: usize = counts.iter().sum();
    if counts.len() < 2 || all == 0 {
        return None;
    }
    let share = |count: &usize| *count as f64 / all as f64;
    let bits: f64 =
        counts.iter().filter(|count| **count > 0).map(share).map(|p| -p * p.log2()).sum();
    Some(bits / (counts.len() as f64).log2())
}

/// The partition with the most inserts.
pub(super) fn hottest(counts: &[usize]) -> Option<usize> {
    (0..counts.len()).max_by_key(|&n| counts[n])
}

/// The left one of the two neighbours with the fewest inserts, the hottest not among them.
pub(super) fn coldest_pair(counts: &[usize]) -> Option<usize> {
    let hottest = hottest(counts)?;
    let pairs = (0..counts.len().saturating_sub(1)).filter(|&n| n != hottest && n + 1 != hottest);
    pairs.min_by_key(|&n| counts[n] + counts[n + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_one_when_even_and_nothing_when_in_one_place() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[5]), None);
        assert_eq!(spread(&[0, 0]), None);
        assert_eq!(spread(&[7; 16]), Some(1.0));
        assert_eq!(spread(&[0, 9, 0, 0]), Some(0.0));
        assert_eq!(spread(&[1, 1, 0, 0]), Some(0.5));
    }

    #[test]
    fn the_coldest_pair_are_neighbours_without_the_hottest() {
        assert_eq!(coldest_pair(&[9, 0]), None);
        assert_eq!(coldest_pair(&[1, 2, 9, 0, 4]), Some(0));
        assert_eq!(coldest_pair(&[5, 2, 9, 0, 4]), Some(3));
        assert_eq!(coldest_pair(&[0, 9, 0]), None);
    }
}
