//! The work that every store is measured at, and the checks of what it answers.
//!
//! # Invariants
//! A wrong value, a key that is missing, or one that should not be there fails the case. Before reads are measured, a
//! scan has looked at every byte of every entry, which also brings the data into whatever cache the store has.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cortenkv_bench::counting_alloc;
use cortenkv_bench::draw::Permutation;
use cortenkv_bench::driver::{self, Load, Measured, Pace, Until};
use cortenkv_bench::process::cpu_time;
use cortenkv_bench::seed::SplitMix64;
use cortenkv_bench::suite::{Case, CaseContext, Outcome};
use cortenkv_bench::{Error, Result};

use crate::store::{Entries, Store, StoreKind};
use crate::store_data::{Values, key, missing_key};

/// Keys of each store, unless the plan says otherwise.
const KEYS: u64 = 2_000_000;
const VALUE_BYTES: usize = 100;
/// The clock costs a tenth of a fast operation; one in so many is timed.
const SAMPLE_EVERY: u32 = 16;
/// Operations whose allocations are counted.
const COUNTED_GETS: u64 = 16_000;

/// The order in which a store was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Ascending keys.
    KeyOrder,
    /// Each key once, in an order that is random.
    Random,
}

impl Layout {
    fn name(self) -> &'static str {
        match self {
            Layout::KeyOrder => "key-order",
            Layout::Random => "random",
        }
    }
}

/// What is measured. Reads of keys are done in a store that was loaded in random order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Puts of every key, each once, into an empty store.
    Fill { layout: Layout, threads: usize },
    /// Puts of keys that are there, drawn at random.
    Overwrite { threads: usize },
    /// Gets of keys that are there, drawn at random.
    Read { threads: usize },
    /// Gets of keys that are not there, between those that are.
    ReadMissing { threads: usize },
    /// A key drawn at random, and the 49 entries behind it.
    Seek { layout: Layout, threads: usize },
    /// Every entry.
    Scan { layout: Layout },
    /// Allocations of gets, not their time.
    CountAllocations,
}

impl Work {
    /// The name of the case of an arm at this work.
    pub fn case_name(self, kind: &dyn StoreKind) -> String {
        let work = match self {
            Work::Fill { layout: Layout::KeyOrder, threads } => format!("fillseq-t{threads}"),
            Work::Fill { layout: Layout::Random, threads } => format!("fillrandom-t{threads}"),
            Work::Overwrite { threads } => format!("overwrite-t{threads}"),
            Work::Read { threads } => format!("readrandom-t{threads}"),
            Work::ReadMissing { threads } => format!("readmissing-t{threads}"),
            Work::Seek { layout, threads } => format!("seek50-{}-t{threads}", layout.name()),
            Work::Scan { layout } => format!("scan-{}", layout.name()),
            Work::CountAllocations => "allocations".into(),
        };
        format!("{}-{work}", kind.name())
    }

    fn threads(self) -> usize {
        match self {
            Work::Fill { threads, .. }
            | Work::Overwrite { threads }
            | Work::Read { threads }
            | Work::ReadMissing { threads }
            | Work::Seek { threads, .. } => threads,
            Work::Scan { .. } | Work::CountAllocations => 1,
        }
    }

    /// How the store is loaded beforehand; `None`: not at all.
    fn loaded(self) -> Option<Layout> {
        match self {
            Work::Fill { .. } => None,
            Work::Seek { layout, .. } | Work::Scan { layout } => Some(layout),
            _ => Some(Layout::Random),
        }
    }

    fn changes_the_store(self) -> bool {
        matches!(self, Work::Fill { .. } | Work::Overwrite { .. })
    }
}

/// The case of an arm at a work.
pub fn case(kind: &Arc<dyn StoreKind>, work: Work) -> Case {
    let kind = kind.clone();
    Case {
        name: work.case_name(kind.as_ref()),
        settings: kind.settings(),
        promise: kind.promise(),
        threads: work.threads(),
        prepare: None,
        run: Box::new(move |context| Run::new(kind.as_ref(), context).go(work)),
    }
}

/// One case.
pub(crate) struct Run<'a> {
    pub(crate) kind: &'a dyn StoreKind,
    context: &'a CaseContext<'a>,
    pub(crate) keys: u64,
    seed: u64,
    pub(crate) values: Values,
}

impl<'a> Run<'a> {
    /// The case of an arm.
    pub(crate) fn new(kind: &'a dyn StoreKind, context: &'a CaseContext<'a>) -> Self {
        Run::of_keys(kind, context, context.plan.keys_or(KEYS))
    }

    /// The same with so many keys.
    pub(crate) fn of_keys(
        kind: &'a dyn StoreKind,
        context: &'a CaseContext<'a>,
        keys: u64,
    ) -> Self {
        Run::of_size(kind, context, keys, context.plan.value_bytes.unwrap_or(VALUE_BYTES))
    }

    /// The same with so many keys and bytes of a value.
    pub(crate) fn of_size(
        kind: &'a dyn StoreKind,
        context: &'a CaseContext<'a>,
        keys: u64,
        value_bytes: usize,
    ) -> Self {
        let seed = context.plan.seed;
        Run { kind, context, keys, seed, values: Values::new(value_bytes, seed) }
    }

    fn go(&self, work: Work) -> Result<Outcome> {
        let store = self.kind.open(self.context.dir)?;
        let store_ref = store.as_ref();
        let (mut load, mut settle) = (Duration::ZERO, Duration::ZERO);
        if let Some(layout) = work.loaded() {
            load = timed(|| self.load(store_ref, layout))?;
            settle = timed(|| store_ref.settle())?;
            self.verify(store_ref)?;
        }
        let mut outcome = match work {
            Work::CountAllocations => self.count_allocations(store_ref)?,
            _ => {
                let cpu = cpu_time();
                let measured = self.measure(store_ref, work)?;
                Outcome::of_run(&measured, cpu_time() - cpu, None)
            }
        };
        if work.changes_the_store() {
            settle = timed(|| store_ref.settle())?;
            self.verify(store_ref)?;
        }
        outcome.extra.insert("load_seconds".into(), load.as_secs_f64());
        outcome.extra.insert("settle_seconds".into(), settle.as_secs_f64());
        store.close()?;
        Ok(outcome)
    }

    /// The number of the key at a place of the load.
    pub(crate) fn order(&self, layout: Layout) -> impl Fn(u64) -> u64 + Sync + 'static {
        let permutation = Permutation::new(self.keys, self.seed);
        move |place| match layout {
            Layout::KeyOrder => place,
            Layout::Random => permutation.at(place),
        }
    }

    /// Puts every key once, quickly.
    pub(crate) fn load(&self, store: &dyn Store, layout: Layout) -> Result<()> {
        let order = self.order(layout);
        store.load(&mut Entries::new(self.keys, |place, value| {
            let number = order(place);
            self.values.make(number, 0, value);
            key(number)
        }))
    }

    /// Puts `count` keys that are there again, drawn at random.
    pub(crate) fn overwrite_some(&self, store: &dyn Store, count: u64) -> Result<()> {
        let mut worker = self.overwrite(store.session()?, SplitMix64::new(self.seed));
        let start = Instant::now();
        (0..count).try_for_each(|_| worker.step(start).map(drop))
    }

    /// Looks at every byte of every entry.
    fn verify(&self, store: &dyn Store) -> Result<()> {
        let mut number = 0;
        let mut is_right = true;
        store.session()?.scan(&key(0), &mut |found, value| {
            is_right = found == key(number) && self.values.is_whole(number, value);
            number += u64::from(is_right);
            if is_right { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        match is_right && number == self.keys {
            true => Ok(()),
            false => Err(Error::new(format!(
                "a scan found {number} right entries of {}, then a wrong one or the end",
                self.keys
            ))),
        }
    }

    fn measure(&self, store: &dyn Store, work: Work) -> Result<Measured> {
        let mut load = match work {
            Work::Fill { threads, .. } => {
                Load::closed(threads, "put", Duration::ZERO, Until::Operations(self.keys))
            }
            Work::Overwrite { threads } => self.context.plan.timed_load(threads, "put"),
            Work::Scan { .. } => self.context.plan.timed_load(1, "scan"),
            _ => self.context.plan.timed_load(work.threads(), "read"),
        };
        let is_short = !matches!(work, Work::Seek { .. } | Work::Scan { .. });
        if is_short && self.kind.batch_keys() == 1 && load.pace == Pace::Closed {
            load.sample_every = SAMPLE_EVERY;
        }
        driver::run(&load, |thread| {
            let session = store.session()?;
            let random = SplitMix64::for_thread(self.seed, thread);
            Ok(match work {
                Work::Fill { layout, threads } => self.fill(session, layout, thread, threads),
                Work::Overwrite { .. } => self.overwrite(session, random),
                Work::Read { .. } if self.kind.batch_keys() > 1 => {
                    self.batches(session, random, key)
                }
                Work::ReadMissing { .. } if self.kind.batch_keys() > 1 => {
                    self.batches(session, random, missing_key)
                }
                Work::Read { .. } | Work::CountAllocations => self.reads(session, random),
                Work::ReadMissing { .. } => self.missing_reads(session, random),
                Work::Seek { .. } => self.seeks(session, random),
                Work::Scan { .. } => self.scans(session),
            })
        })
    }

    fn count_allocations(&self, store: &dyn Store) -> Result<Outcome> {
        counting_alloc::start();
        let random = SplitMix64::new(self.seed);
        let mut worker = match self.kind.batch_keys() {
            1 => self.reads(store.session()?, random),
            _ => self.batches(store.session()?, random, key),
        };
        let (start, cpu) = (Instant::now(), cpu_time());
        // The first operation of a thread may set up what later ones use.
        worker.step(start)?;
        let before = counting_alloc::counts();
        let mut gets = 0;
        while gets < COUNTED_GETS {
            gets += worker.step(start)?.completed;
        }
        let allocations = counting_alloc::counts().since(&before).allocations;
        let mut outcome = Outcome::of_pass(gets, start.elapsed(), cpu_time() - cpu);
        outcome.extra.insert("allocations_per_get".into(), allocations as f64 / gets as f64);
        Ok(outcome)
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests;
