//! What a suite is: named cases, and what their rows say together.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::driver::{Load, Measured, Pace, Second, Until};
use crate::error::Result;
use crate::latency::LatencySummary;
use crate::log_store::{DiskCounts, Promise};
use crate::report::Row;

/// How large everything is. It travels to the process of each case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Measured part of a timed case.
    pub seconds: f64,
    /// Operations of a timed case instead of its seconds.
    pub operations: Option<u64>,
    /// Work before it that does not count.
    pub warm_up_seconds: f64,
    /// Each probe of the fsync rate, before and after a synced case.
    pub fsync_probe_seconds: f64,
    /// Records of cases that have a size: replay, compression.
    pub records: u64,
    /// Keys of suites of stores and indexes instead of their own number.
    pub keys: Option<u64>,
    /// Bytes of a value in those suites instead of their own.
    pub value_bytes: Option<usize>,
    /// Thread counts instead of those of the suite; empty = those of the suite.
    pub threads: Vec<usize>,
    /// Operations per second of an open loop; none = closed loop.
    pub rate_per_second: Option<f64>,
    /// Seed of all random bytes.
    pub seed: u64,
    /// Times that each case runs.
    pub repeats: u32,
}

impl Plan {
    /// What numbers are quoted from.
    pub fn full() -> Self {
        Plan {
            seconds: 5.0,
            operations: None,
            warm_up_seconds: 0.5,
            fsync_probe_seconds: 3.0,
            records: 1_000_000,
            keys: None,
            value_bytes: None,
            threads: Vec::new(),
            rate_per_second: None,
            seed: 1,
            repeats: 3,
        }
    }

    /// So small that every suite runs in the tests: it shows that they work, its numbers mean nothing. Counted, not
    /// timed, because on a busy disk one sync can take longer than a tiny window.
    pub fn smoke() -> Self {
        Plan {
            seconds: 0.01,
            operations: Some(200),
            warm_up_seconds: 0.001,
            fsync_probe_seconds: 0.01,
            records: 2000,
            keys: Some(2000),
            repeats: 1,
            ..Plan::full()
        }
    }

    /// The thread counts of a suite whose own are `own`.
    pub fn threads_or(&self, own: &[usize]) -> Vec<usize> {
        if self.threads.is_empty() { own.to_vec() } else { self.threads.clone() }
    }

    /// The number of keys of a suite whose own is `own`.
    pub fn keys_or(&self, own: u64) -> u64 {
        self.keys.unwrap_or(own)
    }

    /// A load of one operation for the seconds, or the operations, of the plan.
    pub fn timed_load(&self, threads: usize, operation: &'static str) -> Load {
        let warm_up = Duration::from_secs_f64(self.warm_up_seconds);
        let window = Duration::from_secs_f64(self.seconds);
        let until = self.operations.map_or(Until::Elapsed(window), Until::Operations);
        let mut load = Load::closed(threads, operation, warm_up, until);
        if let Some(rate_per_second) = self.rate_per_second {
            load.pace = Pace::Open { rate_per_second };
        }
        load
    }
}

/// Where a case runs.
#[derive(Debug, Clone, Copy)]
pub struct CaseContext<'a> {
    /// A directory of its own, empty before `prepare` and kept between `prepare` and `run`.
    pub dir: &'a Path,
    /// How large everything is.
    pub plan: &'a Plan,
}

/// How the process of a [`Prepare`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself; what was prepared is dropped.
    Clean,
    /// By SIGKILL, with everything still open.
    Killed,
}

/// Work in a process of its own before the process that is measured.
pub struct Prepare {
    /// Does it; what it returns stays alive until the process ends.
    pub run: PrepareFn,
    /// How the process ends.
    pub ending: Ending,
}

/// See [`Prepare::run`].
pub type PrepareFn = Box<dyn Fn(&CaseContext<'_>) -> Result<Box<dyn Any>>>;
/// See [`Case::run`].
pub type RunFn = Box<dyn Fn(&CaseContext<'_>) -> Result<Outcome>>;

/// One arm at one work: what becomes one row per repeat.
pub struct Case {
    /// Unique in its suite, without spaces.
    pub name: String,
    /// Every setting of the arm.
    pub settings: String,
    /// What it promises. Synced cases have the fsync rate measured before and after.
    pub promise: Promise,
    /// Threads that work.
    pub threads: usize,
    /// Work beforehand.
    pub prepare: Option<Prepare>,
    /// The measured work.
    pub run: RunFn,
}

/// What the work of a case gave; the runner adds the facts around it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Operations of the measured part.
    pub ops: u64,
    /// How long it took.
    pub seconds: f64,
    /// Latency by operation.
    pub latency: BTreeMap<String, LatencySummary>,
    /// Whole seconds, for seeing stalls.
    pub per_second: Vec<Second>,
    /// What went to the disk, where it is counted.
    pub disk: Option<DiskCounts>,
    /// Processor time per operation, driver included.
    pub cpu_ns_per_op: f64,
    /// Numbers that only this suite has.
    pub extra: BTreeMap<String, f64>,
}

impl Outcome {
    /// The outcome of a run of the driver; `cpu` is the processor time of the whole run, warm-up included.
    pub fn of_run(measured: &Measured, cpu: Duration, disk: Option<DiskCounts>) -> Self {
        let all = measured.ops_with_warm_up.max(1) as f64;
        let mut outcome = Outcome {
            ops: measured.ops,
            seconds: measured.elapsed.as_secs_f64(),
            per_second: measured.per_second.clone(),
            disk,
            cpu_ns_per_op: cpu.as_nanos() as f64 / all,
            ..Outcome::default()
        };
        for (name, latency) in &measured.latencies {
            outcome.latency.insert((*name).to_string(), latency.summary());
        }
        if let Some(disk) = disk {
            outcome.extra.insert("fsyncs_per_op".into(), disk.fsyncs as f64 / all);
            outcome.extra.insert("writes_per_op".into(), disk.writes as f64 / all);
        }
        if measured.not_started > 0 {
            outcome.extra.insert("not_started".into(), measured.not_started as f64);
        }
        outcome
    }

    /// The outcome of work that is one operation over many things, such as a replay.
    pub fn of_pass(things: u64, elapsed: Duration, cpu: Duration) -> Self {
        Outcome {
            ops: things,
            seconds: elapsed.as_secs_f64(),
            cpu_ns_per_op: cpu.as_nanos() as f64 / things.max(1) as f64,
            ..Outcome::default()
        }
    }
}

/// What the rows of a suite say together: a ratio, a claim, and whether it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conclusion {
    /// What the value is.
    pub text: String,
    /// The value.
    pub value: f64,
    /// At least this is wanted, where something is.
    pub goal: Option<f64>,
}

impl Conclusion {
    /// True when nothing is wanted, or it is reached.
    pub fn holds(&self) -> bool {
        self.goal.is_none_or(|goal| self.value >= goal)
    }
}

/// A named set of cases.
pub trait Suite {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// One sentence.
    fn about(&self) -> &'static str;

    /// Its cases, in the order in which each round runs them.
    fn cases(&self, plan: &Plan) -> Vec<Case>;

    /// What the median rows say together.
    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let _ = medians;
        Vec::new()
    }
}
