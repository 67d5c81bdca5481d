//! How many threads.

// LIMIT: threads of a pool.
pub(super) const WORKERS_MAX: usize = 256;

/// The number of workers: `configured` if it is not 0, else twice the larger of processors and databases, at most
/// `automatic_max`; never more than 256, never 0.
pub fn workers_wanted(
    configured: usize,
    automatic_max: usize,
    cpus: usize,
    databases: usize,
) -> usize {
    let workers = match configured {
        0 => cpus.max(databases).saturating_mul(2).min(automatic_max),
        configured => configured,
    };
    workers.clamp(1, WORKERS_MAX)
}

/// The number of compactions that run at a time: `configured` if it is not 0, else 1 up to 7 processors and a quarter of
/// them above, so that users of the store keep the others.
pub fn compactions_wanted(configured: usize, cpus: usize) -> usize {
    if configured == 0 { (cpus / 4).max(1) } else { configured }
}

pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_follow_processors_and_databases_up_to_a_cap() {
        assert_eq!(workers_wanted(0, 256, 2, 1), 4);
        assert_eq!(workers_wanted(0, 256, 2, 7), 14);
        assert_eq!(workers_wanted(0, 1_000, 200, 1), 256);
        assert_eq!(workers_wanted(0, 256, 1, usize::MAX), 256);
        assert_eq!(workers_wanted(3, 2, 64, 64), 3);
        assert_eq!(workers_wanted(1_000, 256, 1, 1), 256);
        assert_eq!(workers_wanted(0, 0, 0, 0), 1);
        assert_eq!(workers_wanted(0, 3, 64, 64), 3);
    }

    #[test]
    fn one_compaction_on_small_machines_and_a_quarter_on_large_ones() {
        assert_eq!([1, 2, 7, 8, 64].map(|cpus| compactions_wanted(0, cpus)), [1, 1, 1, 2, 16]);
        assert_eq!(compactions_wanted(3, 2), 3);
    }
}
