//! The suite `store-read`: loads, overwrites, point reads and scans of data that is resident, store beside store.
//!
//! Goals are ratios over the best peer in the same run at the same work. A peer of a weaker class of promise counts as
//! one: it has less to do.

use std::sync::Arc;

use cortenkv_bench::report::Row;
use cortenkv_bench::suite::{Case, Conclusion, Plan, Suite};

use crate::store::{Role, StoreKind};
use crate::store_work::{self, Layout, Work};
use crate::stores;

/// The peer that goals of scans are about.
const SCAN_PEER: &str = "lmdb";

/// See the module.
pub struct StoreRead;

impl Suite for StoreRead {
    fn name(&self) -> &'static str {
        "store-read"
    }

    fn about(&self) -> &'static str {
        "Stores that hold 2 M entries of 16 and 100 bytes, all in memory (--keys, --value-bytes): loads in key order and \
         in random order, overwrites, point reads, 50 entries from a key on, the whole store. Values are checked at each \
         read, and every byte of the store once. Loads and what stores do after them are not in the rates of reads."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let kinds = stores::all();
        let mut cases = Vec::new();
        for work in works(plan) {
            let has_row = |kind: &&Arc<dyn StoreKind>| has_row(kind.as_ref(), work);
            cases.extend(kinds.iter().filter(has_row).map(|kind| store_work::case(kind, work)));
        }
        cases
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let mut conclusions = Vec::new();
        for row in medians {
            let (work, ours) = match find(row) {
                Some((work, kind)) if is_ours(kind.as_ref()) => (work, kind),
                _ => continue,
            };
            if work == Work::CountAllocations {
                conclusions.extend(allocations(row, ours.role()));
                continue;
            }
            for role in [Role::Peer, Role::Bound] {
                conclusions.extend(over_best(medians, row, work, ours.as_ref(), role));
            }
        }
        conclusions
    }
}

/// All works, in the order of the rows.
fn works(plan: &Plan) -> Vec<Work> {
    let mut works = Vec::new();
    for threads in plan.threads_or(&[1]) {
        works.push(Work::Fill { layout: Layout::KeyOrder, threads });
        works.push(Work::Fill { layout: Layout::Random, threads });
        works.push(Work::Overwrite { threads });
    }
    works.extend(plan.threads_or(&[1, 2]).iter().map(|&threads| Work::Read { threads }));
    works.extend(plan.threads_or(&[1]).iter().map(|&threads| Work::ReadMissing { threads }));
    for layout in [Layout::KeyOrder, Layout::Random] {
        let threads = plan.threads_or(&[1]);
        works.extend(threads.iter().map(|&threads| Work::Seek { layout, threads }));
        works.push(Work::Scan { layout });
    }
    works.push(Work::CountAllocations);
    works
}

fn has_row(kind: &dyn StoreKind, work: Work) -> bool {
    match work {
        Work::Fill { .. } | Work::Overwrite { .. } => !kind.is_for_reads_only(),
        Work::Read { .. } | Work::ReadMissing { .. } => !kind.is_for_writes_only(),
        Work::Seek { .. } | Work::Scan { .. } => kind.has_scans(),
        Work::CountAllocations => is_ours(kind) && !kind.is_for_writes_only(),
    }
}

fn is_ours(kind: &dyn StoreKind) -> bool {
    matches!(kind.role(), Role::Ours | Role::OursOtherwise)
}

/// The work and the arm of a row.
fn find(row: &Row) -> Option<(Work, Arc<dyn StoreKind>)> {
    let plan = Plan { threads: vec![row.threads], ..Plan::full() };
    let kinds = stores::all();
    works(&plan).into_iter().find_map(|work| {
        let kind = kinds.iter().find(|kind| row.case == work.case_name(kind.as_ref()))?;
        Some((work, kind.clone()))
    })
}

/// What issue and design want over the best peer; `None` where they want nothing.
fn goal(work: Work) -> Option<f64> {
    match work {
        Work::Fill { layout: Layout::Random, threads: 1 } => Some(4.0),
        Work::Overwrite { threads: 1 } => Some(8.0),
        Work::Read { threads: 1 } => Some(3.5),
        Work::Read { threads: 2 } | Work::ReadMissing { .. } => Some(2.5),
        Work::Seek { layout: Layout::KeyOrder, .. } | Work::Scan { layout: Layout::KeyOrder } => {
            Some(1.5)
        }
        Work::Seek { layout: Layout::Random, .. } | Work::Scan { layout: Layout::Random } => {
            Some(1.0)
        }
        _ => None,
    }
}

/// The speed of a row of ours over the best arm with a role at the same work and a promise that is not stronger.
fn over_best(
    medians: &[Row],
    ours: &Row,
    work: Work,
    kind: &dyn StoreKind,
    role: Role,
) -> Option<Conclusion> {
    let is_scan = matches!(work, Work::Seek { .. } | Work::Scan { .. });
    let rivals = stores::all();
    let rivals = rivals.iter().filter(|rival| rival.role() == role);
    let rivals = rivals.filter(|rival| !is_scan || rival.name().starts_with(SCAN_PEER));
    let rows = rivals.filter_map(|rival| {
        let case = work.case_name(rival.as_ref());
        medians.iter().find(|row| row.case == case && row.promise.class <= ours.promise.class)
    });
    let best = rows.max_by(|a, b| a.ops_per_second.total_cmp(&b.ops_per_second))?;
    let what = match role {
        Role::Bound => "the best bound",
        _ if is_scan => "the peer that scans are measured by",
        _ => "the best peer",
    };
    Some(Conclusion {
        text: format!("{} over {}, {what}", ours.case, best.case),
        value: ours.ops_per_second / best.ops_per_second,
        goal: goal(work).filter(|_| kind.role() == Role::Ours && role == Role::Peer),
    })
}

fn allocations(row: &Row, role: Role) -> Option<Conclusion> {
    let per_get = *row.outcome.extra.get("allocations_per_get")?;
    Some(match role {
        // The value, and nothing beyond it.
        Role::Ours => Conclusion {
            text: format!("{}: {per_get:.3} allocations for each get; 1 over it", row.case),
            value: 1.0 / per_get.max(1e-9),
            goal: Some(1.0),
        },
        _ => Conclusion {
            text: format!("{}: allocations for each key read", row.case),
            value: per_get,
            goal: None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortenkv_bench::log_store::{Class, Promise};

    fn row(case: &str, class: Class, threads: usize, ops_per_second: f64) -> Row {
        Row {
            suite: "store-read".into(),
            case: case.into(),
            repeat: 1,
            settings: String::new(),
            promise: Promise::new(class, "a test"),
            threads,
            seed: 1,
            outcome: Default::default(),
            ops_per_second,
            memory: Default::default(),
            disk_bytes: 0,
            fsync_rate_before: None,
            fsync_rate_after: None,
            ratio_to_fsync_rate: None,
        }
    }

    #[test]
    fn ours_is_compared_with_the_best_peer_and_apart_with_the_best_bound() {
        let rows = [
            row("cortenkv-readrandom-t2", Class::Kernel, 2, 800.0),
            row("cortenkv-get-with-readrandom-t2", Class::Kernel, 2, 1000.0),
            row("lmdb-readrandom-t2", Class::Kernel, 2, 200.0),
            row("redb-readrandom-t2", Class::Memory, 2, 250.0),
            row("lmdb-snapshot-readrandom-t2", Class::Kernel, 2, 500.0),
            row("sled-readrandom-t2", Class::Synced, 2, 9000.0),
            row("fjall-readrandom-t1", Class::Kernel, 1, 9000.0),
        ];
        let found: Vec<_> = StoreRead
            .conclude(&rows)
            .into_iter()
            .map(|conclusion| (conclusion.value, conclusion.goal))
            .collect();
        assert_eq!(found, [(3.2, Some(2.5)), (1.6, None), (4.0, None), (2.0, None)]);
    }

    #[test]
    fn goals_of_scans_are_about_lmdb() {
        let rows = [
            row("cortenkv-scan-key-order", Class::Kernel, 1, 300.0),
            row("lmdb-scan-key-order", Class::Kernel, 1, 200.0),
            row("redb-scan-key-order", Class::Memory, 1, 900.0),
        ];
        let conclusions = StoreRead.conclude(&rows);
        assert_eq!((conclusions[0].value, conclusions[0].goal), (1.5, Some(1.5)));
    }

    #[test]
    fn every_case_of_the_suite_is_found_again_by_its_name_and_names_differ() {
        let cases = StoreRead.cases(&Plan::full());
        for (n, case) in cases.iter().enumerate() {
            let row = row(&case.name, case.promise.class, case.threads, 1.0);
            let (work, kind) = find(&row).unwrap();
            assert_eq!(work.case_name(kind.as_ref()), case.name);
            assert!(!cases[..n].iter().any(|other| other.name == case.name), "{}", case.name);
        }
        assert!(cases.iter().any(|case| case.name == "lmdb-written-overwrite-t1"));
        assert!(!cases.iter().any(|case| case.name == "lmdb-written-readrandom-t1"));
    }
}
