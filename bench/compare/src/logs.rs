//! Logs beside logs: relaxed appends, synced appends, replay. One suite per class of promise.

use std::sync::Arc;
use std::time::Duration;

use cortenkv_bench::by_hand::ByHand;
use cortenkv_bench::cli::Suites;
use cortenkv_bench::cortenkv_log::CortenkvLog;
use cortenkv_bench::log_cases::{append_case, replay_case};
use cortenkv_bench::log_store::LogKind;
use cortenkv_bench::report::Row;
use cortenkv_bench::suite::{Case, Conclusion, Ending, Plan, Suite};
use cortenkv_bench::suites::fsync::RING_BYTES;
use cortenkv_wal::Durability;

use crate::okay_wal::OkayWal;
use crate::wal_db::WalDb;

/// What is wanted over the best rival of a case.
const GOAL: f64 = 2.0;
/// Rivals by the first word of their cases; files by hand are bounds, not rivals.
const RIVALS: [&str; 2] = ["wal-db", "okaywal"];

const INTERVAL: Duration = Duration::from_millis(100);

/// All suites of this package.
pub fn suites() -> Suites {
    vec![Box::new(LogRelaxed), Box::new(LogSynced), Box::new(LogReplay)]
}

/// Appends in class kernel.
struct LogRelaxed;

impl Suite for LogRelaxed {
    fn name(&self) -> &'static str {
        "log-relaxed"
    }

    fn about(&self) -> &'static str {
        "Appends of 128 bytes that survive SIGKILL and are not waited for. okaywal has no such mode and no row. \
         The buffered file by hand loses its buffer to SIGKILL: it is a bound, of a weaker class."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let kinds: [Arc<dyn LogKind>; 5] = [
            Arc::new(CortenkvLog::new("none", Durability::None)),
            Arc::new(CortenkvLog::new("interval-100ms", Durability::Interval(INTERVAL))),
            Arc::new(WalDb::Relaxed),
            Arc::new(ByHand::Written),
            Arc::new(ByHand::Buffered { buffer_bytes: 64 << 10 }),
        ];
        all_threads(&kinds, &plan.threads_or(&[1]))
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        over_best_rival(medians, "cortenkv-none")
    }
}

/// Appends in class synced.
struct LogSynced;

impl Suite for LogSynced {
    fn name(&self) -> &'static str {
        "log-synced"
    }

    fn about(&self) -> &'static str {
        "Appends of 128 bytes, acknowledged once an fdatasync covers them; x f is the multiple of the fsync rate of \
         the minute."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let kinds: [Arc<dyn LogKind>; 5] = [
            Arc::new(CortenkvLog::group()),
            Arc::new(WalDb::Synced),
            Arc::new(OkayWal::Recycled),
            Arc::new(ByHand::SyncedGrowing),
            Arc::new(ByHand::SyncedPrewritten { ring_bytes: RING_BYTES }),
        ];
        all_threads(&kinds, &plan.threads_or(&[1, 8, 32]))
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        over_best_rival(medians, "cortenkv-group")
    }
}

/// Opening a full log.
struct LogReplay;

impl Suite for LogReplay {
    fn name(&self) -> &'static str {
        "log-replay"
    }

    fn about(&self) -> &'static str {
        "Opens a closed log of records of 128 bytes and reads every record once, checksums checked, from the page \
         cache."
    }

    fn cases(&self, _plan: &Plan) -> Vec<Case> {
        let kinds: [Arc<dyn LogKind>; 4] = [
            Arc::new(CortenkvLog::new("none", Durability::None)),
            Arc::new(WalDb::Relaxed),
            Arc::new(OkayWal::Kept),
            Arc::new(ByHand::Buffered { buffer_bytes: 64 << 10 }),
        ];
        kinds.into_iter().map(|kind| replay_case(kind, Ending::Clean)).collect()
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        over_best_rival(medians, "cortenkv-none")
    }
}

fn all_threads(kinds: &[Arc<dyn LogKind>], threads: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &threads in threads {
        cases.extend(kinds.iter().map(|kind| append_case(kind.clone(), threads)));
    }
    cases
}

/// For each case of ours, its speed over the best rival at the same work (the same end of the name) and promise. Synced
/// rows are compared by their multiple of the fsync rate, because each had a minute of its own.
fn over_best_rival(medians: &[Row], ours: &str) -> Vec<Conclusion> {
    let mut conclusions = Vec::new();
    for row in medians {
        let Some(work) = row.case.strip_prefix(ours) else { continue };
        let is_rival = |other: &&Row| {
            other.promise.class == row.promise.class
                && RIVALS.iter().any(|rival| other.case == format!("{rival}{work}"))
        };
        let best = medians.iter().filter(is_rival).max_by(|a, b| a.rank().total_cmp(&b.rank()));
        if let Some(best) = best {
            conclusions.push(Conclusion {
                text: format!("{} over {}, the best rival", row.case, best.case),
                value: row.rank() / best.rank(),
                goal: Some(GOAL),
            });
        }
    }
    conclusions
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortenkv_bench::log_store::{Class, Promise};

    fn row(case: &str, class: Class, ops_per_second: f64, ratio_to_fsync_rate: Option<f64>) -> Row {
        Row {
            suite: "test".into(),
            case: case.into(),
            repeat: 1,
            settings: String::new(),
            promise: Promise::new(class, "a test"),
            threads: 1,
            seed: 1,
            outcome: Default::default(),
            ops_per_second,
            memory: Default::default(),
            disk_bytes: 0,
            fsync_rate_before: None,
            fsync_rate_after: None,
            ratio_to_fsync_rate,
        }
    }

    #[test]
    fn ours_is_compared_with_the_best_rival_at_the_same_work() {
        let rows = [
            row("cortenkv-group-t1", Class::Synced, 100.0, Some(1.0)),
            row("cortenkv-group-t8", Class::Synced, 900.0, Some(9.0)),
            row("wal-db-t8", Class::Synced, 600.0, Some(2.0)),
            row("okaywal-t8", Class::Synced, 300.0, Some(3.0)),
            row("by-hand-growing-t8", Class::Synced, 9000.0, Some(90.0)),
        ];
        let conclusions = over_best_rival(&rows, "cortenkv-group");
        assert_eq!(conclusions.len(), 1);
        assert_eq!((conclusions[0].value, conclusions[0].holds()), (3.0, true));
        assert!(conclusions[0].text.contains("okaywal-t8"), "{}", conclusions[0].text);
    }

    #[test]
    fn a_rival_of_another_promise_is_no_rival() {
        let rows = [
            row("cortenkv-none-t1", Class::Kernel, 500.0, None),
            row("wal-db-t1", Class::Memory, 100.0, None),
        ];
        assert_eq!(over_best_rival(&rows, "cortenkv-none"), []);
    }

    #[test]
    fn every_arm_of_a_suite_of_one_class_promises_that_class() {
        let plan = Plan::full();
        let synced = LogSynced.cases(&plan);
        assert!(synced.iter().all(|case| case.promise.class == Class::Synced));
        let relaxed = LogRelaxed.cases(&plan);
        let weaker: Vec<_> =
            relaxed.iter().filter(|case| case.promise.class != Class::Kernel).collect();
        // The bound that the suite names in its description, and nothing else.
        assert!(weaker.iter().all(|case| case.name.starts_with("by-hand-buffered")));
        assert!(!relaxed.iter().any(|case| case.name.starts_with("okaywal")));
    }
}
