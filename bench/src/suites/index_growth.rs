//! Puts into an index that grows from empty: the histogram of their latency, and the longest one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cortenkv_index::{Outcome as Installed, PointIndex};

use crate::computed_records::ComputedRecords;
use crate::driver::{self, Load, Measured, Simple, Until};
use crate::error::{Error, Result};
use crate::index_kinds::{self as kinds, ORDER_NAME, Order, POINT_NAME, Point};
use crate::log_store::{Class, Promise};
use crate::process::cpu_time;
use crate::report::Row;
use crate::suite::{Case, CaseContext, Conclusion, Outcome, Plan, Suite};
use crate::suites::row;

/// Keys at the end, unless the plan says otherwise.
const KEYS: u64 = 20_000_000;
const KEY_BYTES: usize = 16;
/// The most buckets that a put may move for a resize that is under way.
const BUCKETS_MOVED_MAX: f64 = 64.0;
/// How long the background thread sleeps when it found nothing to do.
const IDLE: Duration = Duration::from_micros(200);

/// See the module.
pub struct IndexGrowth;

impl Suite for IndexGrowth {
    fn name(&self) -> &'static str {
        "index-growth"
    }

    fn about(&self) -> &'static str {
        "Puts of new keys of 16 bytes into an index that grows from empty, each one timed; with the index's own \
         counters of its growth. Records are computed, so that nothing but the index is waited for."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let mut cases = Vec::new();
        for threads in plan.threads_or(&[1, 2]) {
            for arm in [Arm::Alone, Arm::Maintained, Arm::Ordered] {
                cases.push(arm.case(threads));
            }
        }
        cases
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let mut conclusions = Vec::new();
        for row in medians {
            conclusions.extend(row.latency().map(|latency| Conclusion {
                text: format!("{}: longest put in milliseconds", row.case),
                value: latency.max_ns as f64 / 1e6,
                goal: None,
            }));
        }
        for row in medians {
            let moved = row.outcome.extra.get("buckets_moved_max").copied();
            conclusions.extend(moved.map(|moved| Conclusion {
                text: format!("{}: one put moved {moved} buckets at most; 64 over it", row.case),
                value: BUCKETS_MOVED_MAX / moved.max(1.0),
                goal: Some(1.0),
            }));
        }
        let mean = |arm: Arm| Some(row(medians, &arm.name(1))?.latency()?.mean_ns);
        if let (Some(point), Some(ordered)) = (mean(Arm::Maintained), mean(Arm::Ordered)) {
            let added = ordered - point;
            let text =
                format!("key order adds {added:.0} ns to a put of a new key; 200 ns over it");
            // Below a nanosecond it is within the noise.
            conclusions.push(Conclusion { text, value: 200.0 / added.max(1.0), goal: Some(1.0) });
        }
        conclusions
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arm {
    /// The point index; putting threads do all the work of growing.
    Alone,
    /// The point index with a thread that does its background work, as in the engine.
    Maintained,
    /// The same, and each new key also goes into the ordered index.
    Ordered,
}

impl Arm {
    fn name(self, threads: usize) -> String {
        match self {
            Arm::Alone => format!("{POINT_NAME}-alone-t{threads}"),
            Arm::Maintained => format!("{POINT_NAME}-maintained-t{threads}"),
            Arm::Ordered => format!("{POINT_NAME}+{ORDER_NAME}-maintained-t{threads}"),
        }
    }

    fn settings(self) -> &'static str {
        match self {
            Arm::Alone => "no background thread",
            Arm::Maintained => "one background thread",
            Arm::Ordered => "one background thread; key order beside it",
        }
    }

    fn case(self, threads: usize) -> Case {
        Case {
            name: self.name(threads),
            settings: self.settings().into(),
            promise: Promise::new(Class::Memory, "an index alone"),
            threads,
            prepare: None,
            run: Box::new(move |context| self.run(threads, context)),
        }
    }

    fn run(self, threads: usize, context: &CaseContext<'_>) -> Result<Outcome> {
        let keys = context.plan.keys_or(KEYS);
        let point = kinds::new_point(None);
        let order = (self == Arm::Ordered).then(|| kinds::new_order(context.dir));
        let cpu = cpu_time();
        let done = AtomicBool::new(false);
        let measured = std::thread::scope(|scope| {
            let background = (self != Arm::Alone)
                .then(|| scope.spawn(|| maintain(&point, order.as_ref(), &done)));
            let measured = puts(&point, order.as_ref(), threads, keys);
            // ORDERING: relaxed; nothing is handed over with it.
            done.store(true, Ordering::Relaxed);
            let maintained = background.map_or(Ok(Ok(())), |background| background.join());
            maintained.unwrap_or_else(|_| Err(Error::new("the background thread panicked")))?;
            measured
        })?;
        if point.len() as u64 != keys {
            return Err(Error::new(format!("the index holds {} of {keys} keys", point.len())));
        }
        let mut outcome = Outcome::of_run(&measured, cpu_time() - cpu, None);
        for (name, value) in kinds::point_counters(&point) {
            outcome.extra.insert(name.into(), value);
        }
        Ok(outcome)
    }
}

fn puts(point: &Point, order: Option<&Order>, threads: usize, keys: u64) -> Result<Measured> {
    let load = Load::closed(threads, "put", Duration::ZERO, Until::Operations(keys));
    let records = ComputedRecords::new(KEY_BYTES);
    driver::run(&load, |thread| {
        // The driver gives each thread the share of the keys that this stripe has.
        let mut number = thread as u64;
        let mut key = Vec::with_capacity(KEY_BYTES);
        Ok(Box::new(Simple(move || {
            records.key(number, &mut key);
            let outcome = point.install(&records.offer(number, &key), &records, &mut |old| {
                if let (Some(order), None) = (order, old) {
                    kinds::insert_order(order, &key);
                }
            });
            number += threads as u64;
            match outcome {
                Installed::Inserted => Ok(()),
                other => Err(Error::new(format!("a new key was {other:?} in the index"))),
            }
        })))
    })
}

fn maintain(point: &Point, order: Option<&Order>, done: &AtomicBool) -> Result<()> {
    let records = ComputedRecords::new(KEY_BYTES);
    while !done.load(Ordering::Relaxed) {
        if !kinds::maintain(point, order, &records)? {
            std::thread::sleep(IDLE);
        }
    }
    Ok(())
}
