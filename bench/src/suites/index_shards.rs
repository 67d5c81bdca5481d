//! The number of shards of the point index, from 64 to 1024, under reads with some writes and many threads (D17).

use std::time::Instant;

use cortenkv_index::{Outcome as Installed, PointIndex, pin};

use crate::computed_records::{ComputedRecords, REPLACEMENTS_MAX};
use crate::driver::{self, Step, Worker};
use crate::error::{Error, Result};
use crate::index_kinds::{self as kinds, POINT_NAME, Point};
use crate::log_store::{Class, Promise};
use crate::process::cpu_time;
use crate::report::Row;
use crate::seed::SplitMix64;
use crate::suite::{Case, CaseContext, Conclusion, Outcome, Plan, Suite};
use crate::suites::row;

const SHARDS: [usize; 5] = [64, 128, 256, 512, 1024];
/// One thread a core of this machine, and far more threads than it has cores.
const THREADS: [usize; 2] = [2, 128];
/// Keys, unless the plan says otherwise.
const KEYS: u64 = 2_000_000;
const KEY_BYTES: usize = 16;
/// Replacements among 100 operations; the others are look-ups of keys that are there.
const REPLACED_PERCENT: u64 = 5;

/// The operations, as the driver counts them.
const OPERATIONS: [&str; 2] = ["get", "replace"];
const GET: usize = 0;
const REPLACE: usize = 1;

/// See the module.
pub struct IndexShards;

impl Suite for IndexShards {
    fn name(&self) -> &'static str {
        "index-shards"
    }

    fn about(&self) -> &'static str {
        "95 look-ups to 5 replacements in an index of 64 to 1024 shards, by 2 and by 128 threads (D17). Records are \
         computed, so that nothing but the index is waited for."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let threads = plan.threads_or(&THREADS);
        let sweep = |&threads: &usize| SHARDS.map(|shards| case(shards, threads));
        threads.iter().flat_map(sweep).collect()
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let mut threads: Vec<usize> = medians.iter().map(|row| row.threads).collect();
        threads.dedup();
        let mut conclusions = Vec::new();
        for threads in threads {
            let of = |shards| row(medians, &name(shards, threads));
            let rows: Vec<&Row> = SHARDS.into_iter().filter_map(of).collect();
            let spread = |what: &str, of: &dyn Fn(&Row) -> Option<f64>| {
                let all = || rows.iter().filter_map(|row| of(row));
                let (least, most) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
                let text =
                    format!("{threads} threads: {what}, most over least of all shard counts");
                Some(Conclusion { text, value: most / least.max(1.0), goal: None })
            };
            let get = |row: &Row| row.outcome.latency.get(OPERATIONS[GET]).cloned();
            conclusions.extend(spread("operations a second", &|row| Some(row.ops_per_second)));
            conclusions.extend(spread("P99 of a get", &|row| Some(get(row)?.p99_ns as f64)));
            conclusions.extend(spread("P99.9 of a get", &|row| Some(get(row)?.p999_ns as f64)));
        }
        conclusions
    }
}

fn name(shards: usize, threads: usize) -> String {
    format!("{POINT_NAME}-{shards}-shards-t{threads}")
}

fn case(shards: usize, threads: usize) -> Case {
    Case {
        name: name(shards, threads),
        settings: format!("{shards} shards; grown from empty; no background thread"),
        promise: Promise::new(Class::Memory, "an index alone"),
        threads,
        prepare: None,
        run: Box::new(move |context| run(shards, threads, context)),
    }
}

fn run(shards: usize, threads: usize, context: &CaseContext<'_>) -> Result<Outcome> {
    let keys = context.plan.keys_or(KEYS).max(threads as u64);
    let point = kinds::new_point_of_shards(shards)?;
    let records = ComputedRecords::new(KEY_BYTES);
    let mut key = Vec::with_capacity(KEY_BYTES);
    for number in 0..keys {
        records.key(number, &mut key);
        point.install(&records.offer(number, &key), &records, &mut |_| {});
    }
    let mut load = context.plan.timed_load(threads, OPERATIONS[GET]);
    load.operations = OPERATIONS.into();
    let cpu = cpu_time();
    let measured = driver::run(&load, |thread| {
        let random = SplitMix64::for_thread(context.plan.seed, thread);
        let next = thread as u64;
        let key = Vec::with_capacity(KEY_BYTES);
        Ok(Box::new(Reader { point: &point, keys, threads, random, next, pass: 0, key }))
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

/// Looks up any key, and replaces those of its own stripe one after the other.
struct Reader<'a> {
    point: &'a Point,
    keys: u64,
    threads: usize,
    random: SplitMix64,
    /// The next number of the stripe, and how often the whole stripe was replaced.
    next: u64,
    pass: u64,
    key: Vec<u8>,
}

impl Worker for Reader<'_> {
    fn step(&mut self, from: Instant) -> Result<Step> {
        let drawn = self.random.next_u64();
        let replaces = drawn % 100 < REPLACED_PERCENT && self.pass < REPLACEMENTS_MAX;
        if replaces {
            self.replace()?;
        } else {
            self.get((drawn >> 8) % self.keys)?;
        }
        let operation = if replaces { REPLACE } else { GET };
        Ok(Step { operation, completed: 1, from })
    }
}

impl Reader<'_> {
    fn get(&mut self, number: u64) -> Result<()> {
        let records = ComputedRecords::new(KEY_BYTES);
        records.key(number, &mut self.key);
        let (hash, key) = (records.offer(number, &self.key).hash, &self.key);
        let found = kinds::find(self.point, hash, &pin(), |at| records.probe_key(at, key));
        found.map(|_| ()).ok_or_else(|| Error::new(format!("key {number} was not found")))
    }

    fn replace(&mut self) -> Result<()> {
        let records = ComputedRecords::new(KEY_BYTES);
        records.key(self.next, &mut self.key);
        let entry = records.offer_again(self.next, self.pass, &self.key);
        let outcome = self.point.install(&entry, &records, &mut |_| {});
        self.next += self.threads as u64;
        if self.next >= self.keys {
            self.next %= self.threads as u64;
            self.pass += 1;
        }
        match outcome {
            Installed::Replaced(_) => Ok(()),
            other => Err(Error::new(format!("a key that is there was {other:?}"))),
        }
    }
}
