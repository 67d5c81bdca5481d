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
use cortenkv_bench::driver::{self, Load, Measured, Pace, Simple, Step, Until, Worker};
use cortenkv_bench::process::cpu_time;
use cortenkv_bench::seed::SplitMix64;
use cortenkv_bench::suite::{Case, CaseContext, Outcome};
use cortenkv_bench::{Error, Result};

use crate::store::{Entries, Key, Session, Store, StoreKind};
use crate::store_data::{Values, key, missing_key};

/// Keys of each store, unless the plan says otherwise.
const KEYS: u64 = 2_000_000;
const VALUE_BYTES: usize = 100;
/// Entries of a seek.
const SEEK_ENTRIES: u64 = 50;
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
struct Run<'a> {
    kind: &'a dyn StoreKind,
    context: &'a CaseContext<'a>,
    keys: u64,
    seed: u64,
    values: Values,
}

impl<'a> Run<'a> {
    fn new(kind: &'a dyn StoreKind, context: &'a CaseContext<'a>) -> Self {
        let plan = context.plan;
        let values = Values::new(plan.value_bytes.unwrap_or(VALUE_BYTES), plan.seed);
        Run { kind, context, keys: plan.keys_or(KEYS), seed: plan.seed, values }
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
    fn order(&self, layout: Layout) -> impl Fn(u64) -> u64 + Sync + 'static {
        let permutation = Permutation::new(self.keys, self.seed);
        move |place| match layout {
            Layout::KeyOrder => place,
            Layout::Random => permutation.at(place),
        }
    }

    fn load(&self, store: &dyn Store, layout: Layout) -> Result<()> {
        let order = self.order(layout);
        store.load(&mut Entries::new(self.keys, |place, value| {
            let number = order(place);
            self.values.make(number, 0, value);
            key(number)
        }))
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

    fn fill<'s>(
        &'s self,
        mut session: Box<dyn Session + 's>,
        layout: Layout,
        thread: usize,
        threads: usize,
    ) -> Box<dyn Worker + 's> {
        let order = self.order(layout);
        let mut value = Vec::new();
        // The driver gives each thread the share of the keys that this stripe has.
        let mut place = thread as u64;
        Box::new(Simple(move || {
            let number = order(place);
            place += threads as u64;
            self.values.make(number, 0, &mut value);
            session.put(&key(number), &value)
        }))
    }

    fn overwrite<'s>(
        &'s self,
        mut session: Box<dyn Session + 's>,
        mut random: SplitMix64,
    ) -> Box<dyn Worker + 's> {
        let mut value = Vec::new();
        let mut generation = 0;
        Box::new(Simple(move || {
            let number = random.below(self.keys);
            generation += 1;
            self.values.make(number, generation, &mut value);
            session.put(&key(number), &value)
        }))
    }

    fn reads<'s>(
        &'s self,
        mut session: Box<dyn Session + 's>,
        mut random: SplitMix64,
    ) -> Box<dyn Worker + 's> {
        Box::new(Simple(move || {
            let number = random.below(self.keys);
            let mut is_right = false;
            session.get(&key(number), &mut |value| is_right = self.values.is_of(number, value))?;
            right(is_right, number)
        }))
    }

    fn missing_reads<'s>(
        &'s self,
        mut session: Box<dyn Session + 's>,
        mut random: SplitMix64,
    ) -> Box<dyn Worker + 's> {
        Box::new(Simple(move || {
            let number = random.below(self.keys);
            let is_found = session.get(&missing_key(number), &mut |_| ())?;
            right(!is_found, number)
        }))
    }

    fn batches<'s>(
        &'s self,
        session: Box<dyn Session + 's>,
        random: SplitMix64,
        key_of: fn(u64) -> Key,
    ) -> Box<dyn Worker + 's> {
        let len = self.kind.batch_keys();
        let is_missing = key_of(0) == missing_key(0);
        let numbers = Vec::with_capacity(len);
        let keys = Vec::with_capacity(len);
        Box::new(Batches { run: self, session, random, key_of, is_missing, numbers, keys })
    }

    fn seeks<'s>(
        &'s self,
        mut session: Box<dyn Session + 's>,
        mut random: SplitMix64,
    ) -> Box<dyn Worker + 's> {
        Box::new(Simple(move || {
            let first = random.below(self.keys - SEEK_ENTRIES + 1);
            self.walk(session.as_mut(), first, SEEK_ENTRIES)
        }))
    }

    fn scans<'s>(&'s self, mut session: Box<dyn Session + 's>) -> Box<dyn Worker + 's> {
        Box::new(WholeScans(move || {
            self.walk(session.as_mut(), 0, self.keys)?;
            Ok(self.keys)
        }))
    }

    /// Walks over `count` entries from a key on; every value must be that of the next key.
    fn walk(&self, session: &mut dyn Session, first: u64, count: u64) -> Result<()> {
        let end = first + count;
        let mut number = first;
        let mut is_right = true;
        session.scan(&key(first), &mut |found, value| {
            is_right = self.values.is_of(number, value) && (number > first || found == key(first));
            number += 1;
            let goes_on = is_right && number < end;
            if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        right(is_right && number == end, number)
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

/// Gets of many keys in one call.
struct Batches<'a> {
    run: &'a Run<'a>,
    session: Box<dyn Session + 'a>,
    random: SplitMix64,
    key_of: fn(u64) -> Key,
    is_missing: bool,
    numbers: Vec<u64>,
    keys: Vec<Key>,
}

impl Worker for Batches<'_> {
    fn step(&mut self, from: Instant) -> Result<Step> {
        let Batches { run, session, random, key_of, numbers, keys, .. } = self;
        numbers.clear();
        numbers.extend((0..run.kind.batch_keys()).map(|_| random.below(run.keys)));
        keys.clear();
        keys.extend(numbers.iter().map(|&number| key_of(number)));
        let (mut seen, mut is_right) = (0, true);
        session.get_batch(keys, &mut |n, value| {
            seen += 1;
            is_right &= run.values.is_of(numbers[n], value);
        })?;
        let expected = if self.is_missing { 0 } else { numbers.len() };
        right(is_right && seen == expected, numbers[0])?;
        Ok(Step { operation: 0, completed: numbers.len() as u64, from })
    }
}

/// Scans; the closure returns how many entries it saw.
struct WholeScans<F>(F);

impl<F: FnMut() -> Result<u64>> Worker for WholeScans<F> {
    fn step(&mut self, from: Instant) -> Result<Step> {
        Ok(Step { operation: 0, completed: (self.0)()?, from })
    }
}

fn right(is_right: bool, number: u64) -> Result<()> {
    match is_right {
        true => Ok(()),
        false => Err(Error::new(format!("a wrong answer at or near key number {number}"))),
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
