//! The suite `maps`: the index alone beside maps that hold their keys.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use cortenkv_bench::draw::Law;
use cortenkv_bench::report::Row;
use cortenkv_bench::suite::{Case, Conclusion, Plan, Suite};
use crossbeam_skiplist::SkipMap;
use dashmap::DashMap;

use self::index::Index;
use self::map::{MapKey, MapKind, Xxh3};
use self::plain::Plain;
use self::work::Work;

mod index;
mod map;
mod plain;
mod records;
mod work;

const LAWS: [Law; 2] = [Law::Uniform, Law::Zipf(0.99)];

/// See the module.
pub struct Maps;

impl Suite for Maps {
    fn name(&self) -> &'static str {
        "maps"
    }

    fn about(&self) -> &'static str {
        "Maps of 10 M keys of 16 bytes (--keys) to 8 bytes, and the index alone over a flat array of records, at the work \
         of a point index. A map answers from the key it holds; the index looks into the record for it, and has it in \
         the cache then. Same hash for all; every answer is checked."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let kinds = kinds();
        let mut cases = Vec::new();
        for threads in plan.threads_or(&[1, 2]) {
            for work in works() {
                let kinds = kinds.iter().filter(|kind| work.is_of(kind.as_ref()));
                // Memory does not depend on threads.
                if work != Work::Memory || threads == 1 {
                    cases.extend(kinds.map(|kind| work::case(kind, work, threads)));
                }
            }
        }
        cases
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let table = Table { medians };
        let mut conclusions = Vec::new();
        for threads in [1, 2] {
            for law in LAWS {
                conclusions.extend(table.speeds(Work::Get(law), threads, "index", "papaya", 1.0));
                conclusions.extend(table.speeds(Work::Get(law), threads, "batch", "dashmap", 2.0));
            }
            for count in SCANS {
                let scan = Work::Scan(count);
                conclusions.extend(table.speeds(scan, threads, "ordered", "skiplist", 3.0));
                // Within 1.5 times of it.
                let goal = 1.0 / 1.5;
                conclusions.extend(table.speeds(scan, threads, "ordered", "rwlock-btreemap", goal));
            }
        }
        conclusions.extend(LAWS.iter().filter_map(|&law| table.two_threads(Work::Get(law))));
        conclusions.extend(table.memory("dashmap", 0.4));
        conclusions.extend(table.memory("papaya", 0.3));
        conclusions.extend(table.cost_of_order(Work::Insert, 200.0));
        conclusions.extend(table.cost_of_order(Work::Replace(Law::Uniform), 20.0));
        conclusions
    }
}

/// Keys of a scan.
const SCANS: [usize; 2] = [10, 100];

/// Every arm, in the order in which each round runs them.
fn kinds() -> Vec<Arc<dyn MapKind>> {
    vec![
        Arc::new(Index::Point),
        Arc::new(Index::Batch),
        Arc::new(Index::Ordered),
        Arc::new(Plain::<DashMap<MapKey, u64, Xxh3>>::new()),
        Arc::new(Plain::<papaya::HashMap<MapKey, u64, Xxh3>>::new()),
        Arc::new(Plain::<scc::HashMap<MapKey, u64, Xxh3>>::new()),
        Arc::new(Plain::<SkipMap<MapKey, u64>>::new()),
        Arc::new(Plain::<RwLock<BTreeMap<MapKey, u64>>>::new()),
    ]
}

fn works() -> Vec<Work> {
    let mut works = vec![Work::Memory, Work::Insert];
    for law in LAWS {
        works.extend([Work::Get(law), Work::Replace(law), Work::Mixed(95, law)]);
        works.push(Work::Mixed(50, law));
    }
    works.push(Work::Remove);
    works.extend(SCANS.map(Work::Scan));
    works
}

/// Looks rows up by arm and work.
struct Table<'a> {
    medians: &'a [Row],
}

impl Table<'_> {
    fn row(&self, arm: &str, work: Work, threads: usize) -> Option<&Row> {
        let name = match arm {
            "index" => work.case_name(&Index::Point, threads),
            "batch" => work.case_name(&Index::Batch, threads),
            "ordered" => work.case_name(&Index::Ordered, threads),
            _ => {
                let kinds = kinds();
                let kind = kinds.iter().find(|kind| kind.name() == arm)?;
                work.case_name(kind.as_ref(), threads)
            }
        };
        self.medians.iter().find(|row| row.case == name)
    }

    fn speeds(
        &self,
        work: Work,
        threads: usize,
        ours: &str,
        peer: &str,
        goal: f64,
    ) -> Option<Conclusion> {
        let (ours, peer) = (self.row(ours, work, threads)?, self.row(peer, work, threads)?);
        Some(Conclusion {
            text: format!("{} over {}", ours.case, peer.case),
            value: ours.ops_per_second / peer.ops_per_second,
            goal: Some(goal),
        })
    }

    fn two_threads(&self, work: Work) -> Option<Conclusion> {
        let (one, two) = (self.row("index", work, 1)?, self.row("index", work, 2)?);
        Some(Conclusion {
            text: format!("{} over one thread", two.case),
            value: two.ops_per_second / one.ops_per_second,
            goal: Some(1.8),
        })
    }

    fn memory(&self, peer: &str, share_max: f64) -> Option<Conclusion> {
        let bytes = |arm| {
            let row: &Row = self.row(arm, Work::Memory, 1)?;
            row.outcome.extra.get("bytes_per_key").copied()
        };
        let (ours, theirs) = (bytes("index")?, bytes(peer)?);
        let share = ours / theirs.max(1e-9);
        Some(Conclusion {
            text: format!(
                "the index takes {ours:.1} bytes per key, {peer} {theirs:.1}, a share of {share:.2}; {share_max} over it"
            ),
            value: share_max / share.max(1e-9),
            goal: Some(1.0),
        })
    }

    /// What key order adds to an operation of one thread, in nanoseconds.
    fn cost_of_order(&self, work: Work, ns_max: f64) -> Option<Conclusion> {
        let ns = |arm| Some(1e9 / self.row(arm, work, 1)?.ops_per_second);
        let added = ns("ordered")? - ns("index")?;
        let what = if work == Work::Insert { "an insert" } else { "a replacement" };
        Some(Conclusion {
            text: format!("key order adds {added:.0} ns to {what}; {ns_max} over it"),
            // Below a nanosecond it is within the noise.
            value: ns_max / added.max(1.0),
            goal: Some(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortenkv_bench::driver::{self, Load, Simple, Until};
    use map::{Map, Size};
    use std::path::Path;
    use std::time::Duration;

    const SIZE: Size = Size { keys: 3000, threads: 2 };

    fn filled(kind: &dyn MapKind, dir: &Path) -> Box<dyn Map> {
        let map = kind.open(SIZE, dir).unwrap();
        let mut session = map.session(0);
        assert!((0..SIZE.keys).all(|number| session.insert(number)), "{}", kind.name());
        drop(session);
        map.settle().unwrap();
        map
    }

    #[test]
    fn every_arm_answers_right_and_tells_a_key_that_is_not_there() {
        for kind in kinds() {
            let dir = tempfile::tempdir().unwrap();
            let (name, map) = (kind.name(), filled(kind.as_ref(), dir.path()));
            let mut session = map.session(0);
            assert!((0..SIZE.keys).all(|number| session.get(number)), "{name}");
            assert!(session.get_batch(&[1, 5, 1, SIZE.keys - 1]), "{name}");
            assert!((0..SIZE.keys).all(|number| session.replace(number)), "{name}");
            assert!(session.get_batch(&(0..SIZE.keys).collect::<Vec<_>>()), "{name}");
            if kind.has_order() {
                assert!(session.scan(17, 100), "{name}");
                assert!(!session.scan(SIZE.keys, 10), "{name}");
            } else {
                assert!(!session.scan(17, 10), "{name}");
            }
            assert!(session.remove(9) && !session.remove(9) && !session.get(9), "{name}");
            assert!(!session.get_batch(&[8, 9]), "{name}");
        }
    }

    #[test]
    fn records_that_are_written_again_mislead_nobody() {
        // Each of two threads writes each of its spare records again more than a hundred times.
        let dir = tempfile::tempdir().unwrap();
        let map = filled(&Index::Point, dir.path());
        let load = Load::closed(2, "replace", Duration::ZERO, Until::Operations(80_000));
        driver::run(&load, |thread| {
            let mut session = map.session(thread);
            let mut number = 0;
            Ok(Box::new(Simple(move || {
                number = (number + 7) % SIZE.keys;
                let batch = [number, (number + 1500) % SIZE.keys];
                assert!(session.replace(number) && session.get_batch(&batch), "{number}");
                assert!(session.get(number), "{number}");
                Ok(())
            })))
        })
        .unwrap();
        let mut session = map.session(0);
        assert!((0..SIZE.keys).all(|number| session.get(number)));
    }

    #[test]
    fn conclusions_come_from_the_rows_that_they_name() {
        let names: Vec<String> =
            Maps.cases(&Plan::full()).into_iter().map(|case| case.name).collect();
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        let row = |case: String, ops_per_second: f64| Row {
            suite: "maps".into(),
            case,
            repeat: 1,
            settings: String::new(),
            promise: cortenkv_bench::log_store::Promise::new(
                cortenkv_bench::log_store::Class::Memory,
                "a test",
            ),
            threads: 1,
            seed: 1,
            outcome: Default::default(),
            ops_per_second,
            memory: Default::default(),
            disk_bytes: 0,
            fsync_rate_before: None,
            fsync_rate_after: None,
            ratio_to_fsync_rate: None,
        };
        let get = Work::Get(Law::Uniform);
        let rows = [
            row(get.case_name(&Index::Point, 1), 30.0),
            row(get.case_name(&Index::Point, 2), 45.0),
            row("papaya-get-uniform-t1".into(), 20.0),
        ];
        let found: Vec<_> = Maps.conclude(&rows).iter().map(|c| (c.value, c.holds())).collect();
        assert_eq!(found, [(1.5, true), (1.5, false)]);
    }
}
