//! The work that every log is measured at: appends by some threads, appends in flight, replay.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::{self, Simple, Step, Worker};
use crate::error::{Error, Result};
use crate::log_store::{Class, LogKind, LogStore, LogWriter, Pending, Promise, Replayed};
use crate::process::cpu_time;
use crate::seed::SplitMix64;
use crate::suite::{Case, CaseContext, Ending, Outcome, Prepare};

/// Bytes of a record in the suites of the log.
pub const RECORD_BYTES: usize = 128;
/// Threads that fill a log before its replay is measured: synced logs fill faster with company.
const FILL_THREADS: usize = 32;
/// Relaxed appends take as long as five readings of the clock; one in so many is timed.
const RELAXED_SAMPLE_EVERY: u32 = 16;

/// Records of one thread: random bytes, and a number that makes each differ.
pub struct Records {
    bytes: Vec<u8>,
    number: u64,
}

impl Records {
    /// The records of a thread of a seed.
    pub fn new(seed: u64, thread: usize, record_bytes: usize) -> Self {
        let mut bytes = vec![0; record_bytes.max(8)];
        SplitMix64::for_thread(seed, thread).fill(&mut bytes);
        Records { bytes, number: (thread as u64) << 40 }
    }

    /// The next record.
    pub fn advance(&mut self) -> &[u8] {
        self.number += 1;
        self.bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        &self.bytes
    }
}

/// Appends of [`RECORD_BYTES`] by some threads, each waiting for its own.
pub fn append_case(kind: Arc<dyn LogKind>, threads: usize) -> Case {
    case(&kind, format!("{}-t{threads}", kind.name()), threads, move |log, context, thread| {
        let mut writer = log.writer()?;
        let mut records = Records::new(context.plan.seed, thread, RECORD_BYTES);
        Ok(Box::new(Simple(move || writer.append(records.advance()))))
    })
}

/// Appends of [`RECORD_BYTES`] by one thread that keeps `depth` in flight.
pub fn pipeline_case(kind: Arc<dyn LogKind>, depth: usize) -> Case {
    case(&kind, format!("{}-t1-in-flight-{depth}", kind.name()), 1, move |log, context, thread| {
        Ok(Box::new(Pipeline {
            writer: log.writer()?,
            records: Records::new(context.plan.seed, thread, RECORD_BYTES),
            depth,
            in_flight: VecDeque::with_capacity(depth),
        }))
    })
}

fn case(
    kind: &Arc<dyn LogKind>,
    name: String,
    threads: usize,
    make: impl for<'a> Fn(&'a dyn LogStore, &CaseContext<'_>, usize) -> Result<Box<dyn Worker + 'a>>
    + Sync
    + 'static,
) -> Case {
    let (settings, promise) = (kind.settings(), kind.promise());
    let kind = kind.clone();
    Case {
        name,
        settings,
        promise,
        threads,
        prepare: None,
        run: Box::new(move |context| {
            let log = kind.open(context.dir)?;
            let mut load = context.plan.timed_load(threads, "append");
            if kind.promise().class != Class::Synced && load.pace == driver::Pace::Closed {
                load.sample_every = RELAXED_SAMPLE_EVERY;
            }
            // What opening wrote and synced is not the price of an append.
            let before = log.disk_counts();
            let cpu_before = cpu_time();
            let measured = driver::run(&load, |thread| make(log.as_ref(), context, thread))?;
            let cpu = cpu_time() - cpu_before;
            let disk = log.disk_counts().zip(before).map(|(after, before)| after.since(&before));
            log.close()?;
            Ok(Outcome::of_run(&measured, cpu, disk))
        }),
    }
}

struct Pipeline<'a> {
    writer: Box<dyn LogWriter + 'a>,
    records: Records,
    depth: usize,
    in_flight: VecDeque<(Instant, Pending)>,
}

impl Worker for Pipeline<'_> {
    fn step(&mut self, from: Instant) -> Result<Step> {
        self.in_flight.push_back((from, self.writer.submit(self.records.advance())?));
        if self.in_flight.len() < self.depth {
            return Ok(Step { operation: 0, completed: 0, from });
        }
        match self.in_flight.pop_front() {
            Some((from, wait)) => wait().map(|()| Step { operation: 0, completed: 1, from }),
            None => Err(Error::new("a pipeline needs a depth of one or more")),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.in_flight.drain(..).try_for_each(|(_, wait)| wait())
    }
}

/// Fills a log with the records of the plan in one process, which closes it or is killed, and times the reading of all
/// of them in the next one. The files are in the page cache: it measures the log, not the disk.
pub fn replay_case(kind: Arc<dyn LogKind>, ending: Ending) -> Case {
    let how = if ending == Ending::Killed { "killed" } else { "closed" };
    let filler = kind.clone();
    Case {
        name: format!("{}-replay-{how}", kind.name()),
        settings: kind.settings(),
        promise: Promise::new(Class::Kernel, "reads every record once, checksums checked"),
        threads: 1,
        prepare: Some(Prepare {
            ending,
            run: Box::new(move |context| {
                let log = filler.open(context.dir)?;
                fill(log.as_ref(), context)?;
                if ending == Ending::Clean {
                    log.close()?;
                    return Ok(Box::new(()));
                }
                Ok(Box::new(log))
            }),
        }),
        run: Box::new(move |context| {
            let (start, cpu) = (Instant::now(), cpu_time());
            let (replayed, open) = kind.replay(context.dir)?;
            let (elapsed, cpu) = (start.elapsed(), cpu_time() - cpu);
            drop(open);
            let records = context.plan.records;
            let expected = Replayed { records, payload_bytes: records * RECORD_BYTES as u64 };
            if replayed != expected {
                return Err(Error::new(format!(
                    "replay found {} records of {records}, and {} payload bytes of {}",
                    replayed.records, replayed.payload_bytes, expected.payload_bytes
                )));
            }
            let mut outcome = Outcome::of_pass(replayed.records, elapsed, cpu);
            outcome.extra.insert("open_ms".into(), elapsed.as_secs_f64() * 1e3);
            Ok(outcome)
        }),
    }
}

fn fill(log: &dyn LogStore, context: &CaseContext<'_>) -> Result<()> {
    let until = driver::Until::Operations(context.plan.records);
    let load = driver::Load::closed(FILL_THREADS, "append", Duration::ZERO, until);
    driver::run(&load, |thread| {
        let mut writer = log.writer()?;
        let mut records = Records::new(context.plan.seed, thread, RECORD_BYTES);
        Ok(Box::new(Simple(move || writer.append(records.advance()))))
    })?;
    log.sync()
}
