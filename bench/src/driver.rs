//! Runs workers on threads for a time or a count, and keeps what each operation took.
//!
//! # Closed loop and open loop
//! In a closed loop each thread starts its next operation when the last one is done: it measures what the store can
//! do, and hides stalls, because nobody asks while it stalls. In an open loop operations are due at a fixed rate,
//! whatever the store does, and the latency of each counts from when it was due: a stall of 100 ms at 1000/s is seen
//! by 100 operations ("coordinated omission" is what the closed loop does to them; G. Tene, 2013).
//!
//! # Invariants
//! - An operation that began inside the measured window counts, however late it ends; so a stall at the end shows.
//! - Operations of an open loop that were due but never started are recorded with the time they had waited so far, and
//!   counted in [`Measured::not_started`]: with them, quantiles are lower bounds.
//!
//! # Failure
//! The first error of a worker stops all threads and is returned.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};
use crate::latency::Latency;

/// When operations start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// The next after the last.
    Closed,
    /// So many per second over all threads, evenly spaced.
    Open {
        /// Operations per second of all threads together.
        rate_per_second: f64,
    },
}

/// When a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this long.
    Elapsed(Duration),
    /// After so many operations of all threads together.
    Operations(u64),
}

/// How a run goes.
#[derive(Debug, Clone)]
pub struct Load {
    /// Threads, each with a worker of its own.
    pub threads: usize,
    /// When operations start.
    pub pace: Pace,
    /// When the measured part ends.
    pub until: Until,
    /// What is done before this is not measured.
    pub warm_up: Duration,
    /// In a closed loop, only each n-th operation is timed: a clock costs 20-30 ns. 1 = all.
    pub sample_every: u32,
    /// Names of the operations; [`Step::operation`] is an index into it.
    pub operations: Vec<&'static str>,
}

impl Load {
    /// A closed loop of one operation, every one timed.
    pub fn closed(
        threads: usize,
        operation: &'static str,
        warm_up: Duration,
        until: Until,
    ) -> Self {
        Load {
            threads,
            pace: Pace::Closed,
            until,
            warm_up,
            sample_every: 1,
            operations: vec![operation],
        }
    }
}

/// What one call of a worker did.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Which operation, as an index into [`Load::operations`].
    pub operation: usize,
    /// How many operations are now done: 1, or 0 while a pipeline fills, or the size of a batch.
    pub completed: u64,
    /// The instant from which the latency of the completed operation counts.
    pub from: Instant,
}

/// The work of one thread.
pub trait Worker {
    /// Does one operation, or completes an earlier one. `from` is the instant from which an operation begun now counts;
    /// a worker with several in flight keeps it and hands it back with the one that it completes.
    fn step(&mut self, from: Instant) -> Result<Step>;

    /// Completes whatever is in flight, after the measured part.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A worker of one kind of operation, from a closure.
pub struct Simple<F>(pub F);

impl<F: FnMut() -> Result<()>> Worker for Simple<F> {
    fn step(&mut self, from: Instant) -> Result<Step> {
        (self.0)()?;
        Ok(Step { operation: 0, completed: 1, from })
    }
}

/// One second of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Second {
    /// Operations completed in it.
    pub ops: u64,
    /// The longest of those that were timed.
    pub max_ns: u64,
}

/// What a run did.
#[derive(Debug)]
pub struct Measured {
    /// Operations of the measured part.
    pub ops: u64,
    /// All operations, warm-up included: what counters of the store are compared with.
    pub ops_with_warm_up: u64,
    /// From the start of the measured part to its last completion, or to its end if that is later.
    pub elapsed: Duration,
    /// Per operation, by name.
    pub latencies: Vec<(&'static str, Latency)>,
    /// Whole seconds of the measured part.
    pub per_second: Vec<Second>,
    /// Operations of an open loop that were due and never started.
    pub not_started: u64,
}

impl Measured {
    /// Operations per second of the measured part.
    pub fn ops_per_second(&self) -> f64 {
        self.ops as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Runs a load; `make_worker` is called on each thread with its number, before the clock starts.
pub fn run<'a>(
    load: &Load,
    make_worker: impl Fn(usize) -> Result<Box<dyn Worker + 'a>> + Sync,
) -> Result<Measured> {
    validate(load)?;
    let start_line = Barrier::new(load.threads);
    let start = OnceLock::new();
    let stop = AtomicBool::new(false);
    let one_thread = |thread: usize| {
        // A panic must reach the start line too, or the others would wait there for ever.
        let worker = catch_unwind(AssertUnwindSafe(|| make_worker(thread)))
            .unwrap_or_else(|_| Err(Error::new("making a worker panicked")));
        if worker.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        start_line.wait();
        let mut worker = worker?;
        let start = *start.get_or_init(Instant::now);
        let mut lane = Lane::new(load, thread, start);
        let result = lane.run(worker.as_mut(), &stop).and_then(|()| worker.finish());
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        result.map(|()| lane)
    };
    let lanes: Vec<Result<Lane>> = std::thread::scope(|scope| {
        let one_thread = &one_thread;
        let handles: Vec<_> =
            (0..load.threads).map(|thread| scope.spawn(move || one_thread(thread))).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|_| Err(Error::new("a worker panicked"))))
            .collect()
    });
    let lanes = lanes.into_iter().collect::<Result<Vec<_>>>()?;
    let start = *start.get().expect("a thread that made its worker set the start");
    Ok(merge(load, start, &lanes))
}

fn validate(load: &Load) -> Result<()> {
    // LIMIT: a wrong option must not start ten thousand threads, or an open loop that never catches up.
    let refuse = |text: &str| Err(Error::new(text));
    match load {
        Load { threads: 0 | 4097.., .. } => refuse("a run has 1 to 4096 threads"),
        Load { sample_every: 0, .. } => refuse("sample_every starts at 1"),
        Load { pace: Pace::Open { rate_per_second: rate }, .. } if !(1e-3..=1e8).contains(rate) => {
            refuse("the rate of an open loop is between 0.001 and 100,000,000 per second")
        }
        _ => Ok(()),
    }
}

/// What one thread has done.
struct Lane<'a> {
    load: &'a Load,
    thread: usize,
    start: Instant,
    window_start: Instant,
    deadline: Option<Instant>,
    share: u64,
    ops: u64,
    ops_with_warm_up: u64,
    not_started: u64,
    last_completion: Instant,
    latencies: Vec<Latency>,
    per_second: Vec<Second>,
}

impl<'a> Lane<'a> {
    fn new(load: &'a Load, thread: usize, start: Instant) -> Self {
        let window_start = start + load.warm_up;
        let (deadline, share) = match load.until {
            Until::Elapsed(window) => (Some(window_start + window), u64::MAX),
            Until::Operations(total) => {
                let threads = load.threads as u64;
                (None, total / threads + u64::from((thread as u64) < total % threads))
            }
        };
        Lane {
            load,
            thread,
            start,
            window_start,
            deadline,
            share,
            ops: 0,
            ops_with_warm_up: 0,
            not_started: 0,
            last_completion: window_start,
            latencies: vec![Latency::new(); load.operations.len()],
            per_second: Vec::new(),
        }
    }

    fn run(&mut self, worker: &mut dyn Worker, stop: &AtomicBool) -> Result<()> {
        match self.load.pace {
            Pace::Closed => self.run_closed(worker, stop),
            Pace::Open { rate_per_second } => self.run_open(worker, stop, rate_per_second),
        }
    }

    fn run_closed(&mut self, worker: &mut dyn Worker, stop: &AtomicBool) -> Result<()> {
        let mut now = Instant::now();
        while self.ops < self.share && !stop.load(Ordering::Relaxed) {
            let measured = now >= self.window_start;
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
            let burst = u64::from(self.load.sample_every).min(self.share - self.ops);
            let mut completed = 0;
            for _ in 1..burst {
                completed += worker.step(now)?.completed;
            }
            // In a closed loop that times everything, the end of one operation is the start of the next.
            let from = if burst > 1 { Instant::now() } else { now };
            let step = worker.step(from)?;
            now = Instant::now();
            self.note(measured, step, completed, now);
        }
        Ok(())
    }

    fn run_open(&mut self, worker: &mut dyn Worker, stop: &AtomicBool, rate: f64) -> Result<()> {
        // The usual slack of 50 us would be counted as latency of the store.
        let slack = std::num::NonZeroU64::MIN;
        rustix::thread::set_current_timer_slack(Some(slack))
            .context(|| "cannot set the timer slack of this thread".into())?;
        let gap_seconds = 1.0 / rate;
        let (mut index, mut due) = (0, self.due(gap_seconds, 0));
        while self.ops < self.share && !stop.load(Ordering::Relaxed) {
            if self.deadline.is_some_and(|deadline| due >= deadline || Instant::now() >= deadline) {
                break;
            }
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                std::thread::sleep(early);
            }
            let step = worker.step(due)?;
            let measured = due >= self.window_start;
            self.note(measured, step, 0, Instant::now());
            index += 1;
            due = self.due(gap_seconds, index);
        }
        if let Some(deadline) = self.deadline {
            self.note_not_started(gap_seconds, index, deadline);
        }
        Ok(())
    }

    /// Keeps one timed step, and the untimed operations before it.
    fn note(&mut self, measured: bool, step: Step, untimed: u64, now: Instant) {
        let ops = step.completed + untimed;
        self.ops_with_warm_up += ops;
        if !measured || ops == 0 {
            return;
        }
        self.ops += ops;
        self.last_completion = now;
        let latency = now.saturating_duration_since(step.from);
        if step.completed > 0 {
            self.latencies[step.operation].record(latency);
        }
        let second = now.saturating_duration_since(self.window_start).as_secs() as usize;
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, Second::default());
        }
        self.per_second[second].ops += ops;
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.per_second[second].max_ns = self.per_second[second].max_ns.max(latency_ns);
    }

    /// When the operation with this index of this thread is due.
    fn due(&self, gap_seconds: f64, index: u64) -> Instant {
        let number = index as f64 * self.load.threads as f64 + self.thread as f64;
        self.start + Duration::from_secs_f64(number * gap_seconds)
    }

    /// Those that were due before the deadline and never started have waited at least until now.
    fn note_not_started(&mut self, gap_seconds: f64, first: u64, deadline: Instant) {
        let now = Instant::now();
        for index in first.. {
            let due = self.due(gap_seconds, index);
            if due >= deadline {
                break;
            }
            self.not_started += 1;
            if due >= self.window_start {
                self.latencies[0].record(now.saturating_duration_since(due));
            }
        }
    }
}

fn merge(load: &Load, start: Instant, lanes: &[Lane<'_>]) -> Measured {
    let window_start = start + load.warm_up;
    let last = lanes.iter().map(|lane| lane.last_completion).max().unwrap_or(window_start);
    let mut measured = Measured {
        ops: lanes.iter().map(|lane| lane.ops).sum(),
        ops_with_warm_up: lanes.iter().map(|lane| lane.ops_with_warm_up).sum(),
        elapsed: (last - window_start).max(match load.until {
            Until::Elapsed(window) => window,
            Until::Operations(_) => Duration::ZERO,
        }),
        latencies: load.operations.iter().map(|name| (*name, Latency::new())).collect(),
        per_second: Vec::new(),
        not_started: lanes.iter().map(|lane| lane.not_started).sum(),
    };
    for lane in lanes {
        for ((_, whole), part) in measured.latencies.iter_mut().zip(&lane.latencies) {
            whole.merge(part);
        }
        let seconds = measured.per_second.len().max(lane.per_second.len());
        measured.per_second.resize(seconds, Second::default());
        for (whole, part) in measured.per_second.iter_mut().zip(&lane.per_second) {
            whole.ops += part.ops;
            whole.max_ns = whole.max_ns.max(part.max_ns);
        }
    }
    // A second that was cut short would look like a stall.
    measured.per_second.truncate(measured.elapsed.as_secs() as usize);
    measured
}
