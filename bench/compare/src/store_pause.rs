//! The suite `store-pause`: latencies of puts and gets while compaction rewrites segments, and while it has nothing to do.
//!
//! # How it is measured
//! One thread puts new keys and gets old ones by turns drawn at random, as fast as it can: nothing becomes garbage, so nothing is compacted by
//! itself. In the busy case another thread has every settled segment rewritten, one after the other and again, and the bytes a
//! second that this moved are in the row. It is about Cortenkv alone: other stores cannot be told to compact the same amount.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cortenkv::{Compression, Db, Durability};
use cortenkv_bench::driver::{self, Step, Worker};
use cortenkv_bench::log_store::{Class, Promise};
use cortenkv_bench::process::cpu_time;
use cortenkv_bench::report::Row;
use cortenkv_bench::seed::SplitMix64;
use cortenkv_bench::suite::{Case, CaseContext, Conclusion, Outcome, Plan, Suite};
use cortenkv_bench::{Context, Error, Result};

use crate::store_data::{Values, key};

/// Keys beforehand, unless the plan says otherwise.
const KEYS: u64 = 1_000_000;
const VALUE_BYTES: usize = 100;
/// The clock costs a tenth of a fast operation; one in so many is timed.
const SAMPLE_EVERY: u32 = 15;
const OPERATIONS: [&str; 2] = ["get", "put"];
/// A call that finds no segment to rewrite is made again after this.
const PAUSE: Duration = Duration::from_millis(10);
/// What compaction moves at least, for the comparison to mean anything.
const MOVED_MB_PER_SECOND: f64 = 20.0;
/// How much slower a put or a get may be beside it.
const SLOWER_MAX: f64 = 2.0;

/// See the module.
pub struct StorePause;

impl Suite for StorePause {
    fn name(&self) -> &'static str {
        "store-pause"
    }

    fn about(&self) -> &'static str {
        "Cortenkv only: puts of new keys and gets of old ones, in turn, with and without compaction at full speed beside them \
         (C3)."
    }

    fn cases(&self, _plan: &Plan) -> Vec<Case> {
        [false, true].map(case).into()
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let of = |is_busy| medians.iter().find(|row| row.case == name(is_busy));
        let (Some(idle), Some(busy)) = (of(false), of(true)) else { return Vec::new() };
        let moved = busy.outcome.extra.get("compaction_mb_per_second").copied().unwrap_or(0.0);
        let mut conclusions = vec![Conclusion {
            text: format!("compaction moved {moved:.0} MB/s of {MOVED_MB_PER_SECOND} wanted"),
            value: moved / MOVED_MB_PER_SECOND,
            goal: Some(1.0),
        }];
        for operation in OPERATIONS {
            let p99 = |row: &Row| Some(row.outcome.latency.get(operation)?.p99_ns as f64);
            let (Some(idle), Some(busy)) = (p99(idle), p99(busy)) else { continue };
            let text = format!(
                "{operation}: {SLOWER_MAX} x P99 idle ({idle} ns) over P99 busy ({busy} ns)"
            );
            let value = SLOWER_MAX * idle / busy.max(1.0);
            conclusions.push(Conclusion { text, value, goal: Some(1.0) });
        }
        conclusions
    }
}

fn name(is_busy: bool) -> String {
    format!("cortenkv-{}", if is_busy { "compacting" } else { "idle" })
}

fn case(is_busy: bool) -> Case {
    Case {
        name: name(is_busy),
        settings: "default features, compression off, durability None; else defaults".into(),
        promise: Promise::new(Class::Kernel, "survives SIGKILL"),
        threads: 1,
        prepare: None,
        run: Box::new(move |context| run(is_busy, context)),
    }
}

fn run(is_busy: bool, context: &CaseContext<'_>) -> Result<Outcome> {
    let plan = context.plan;
    let (keys, values) = (plan.keys_or(KEYS), Values::new(VALUE_BYTES, plan.seed));
    let db = Db::builder(context.dir.join("db"))
        .durability(Durability::None)
        .compression(Compression::None)
        .build()
        .context(|| "cannot open a database".into())?;
    let mut value = Vec::new();
    for number in 0..keys {
        values.make(number, 0, &mut value);
        db.put(key(number), &value).context(|| "cannot put".into())?;
    }
    db.flush().context(|| "cannot flush".into())?;
    let mut load = plan.timed_load(1, OPERATIONS[0]);
    load.operations = OPERATIONS.into();
    load.sample_every = SAMPLE_EVERY;
    let is_done = AtomicBool::new(false);
    let (cpu, start) = (cpu_time(), Instant::now());
    let before = db.stats().compaction;
    let measured = std::thread::scope(|scope| {
        let compacting = is_busy.then(|| scope.spawn(|| compact(&db, &is_done)));
        let measured = driver::run(&load, |_| {
            let random = SplitMix64::new(plan.seed);
            Ok(Box::new(InTurn {
                db: &db,
                values: &values,
                keys,
                random,
                puts: 0,
                value: Vec::new(),
            }))
        });
        is_done.store(true, Relaxed);
        let compacted = compacting.map_or(Ok(Ok(())), |thread| thread.join());
        compacted.unwrap_or_else(|_| Err(Error::new("the compacting thread panicked")))?;
        measured
    })?;
    let after = db.stats().compaction;
    let moved = (after.bytes_written - before.bytes_written) as f64 / 1e6;
    let mut outcome = Outcome::of_run(&measured, cpu_time() - cpu, None);
    let mut note = |name: &str, value: f64| outcome.extra.insert(name.into(), value);
    note("compaction_mb_per_second", moved / start.elapsed().as_secs_f64());
    note("delay_us", (after.delay_us - before.delay_us) as f64);
    db.close().context(|| "cannot close".into())?;
    Ok(outcome)
}

/// Rewrites all segments that may be rewritten, again and again.
fn compact(db: &Db, is_done: &AtomicBool) -> Result<()> {
    while !is_done.load(Relaxed) {
        let settled = db.settled_segments().context(|| "cannot list segments".into())?;
        for segment in settled {
            if is_done.load(Relaxed) {
                break;
            }
            // One that a job of its own has taken meanwhile is left to it.
            db.compact_segments(&[segment]).context(|| "cannot compact".into())?;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Gets an old key or puts a new one.
struct InTurn<'a> {
    db: &'a Db,
    values: &'a Values,
    keys: u64,
    random: SplitMix64,
    puts: u64,
    value: Vec<u8>,
}

impl Worker for InTurn<'_> {
    fn step(&mut self, from: Instant) -> Result<Step> {
        let operation = (self.random.next_u64() % 2) as usize;
        if operation == 0 {
            let number = self.random.below(self.keys);
            let found = self.db.get_with(key(number), |value| self.values.is_of(number, value));
            if found.context(|| "cannot get".into())? != Some(true) {
                return Err(Error::new(format!("a wrong answer for key number {number}")));
            }
        } else {
            let number = self.keys + self.puts;
            self.puts += 1;
            self.values.make(number, 0, &mut self.value);
            self.db.put(key(number), &self.value).context(|| "cannot put".into())?;
        }
        Ok(Step { operation, completed: 1, from })
    }
}
