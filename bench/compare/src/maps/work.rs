//! The work that every map and index is measured at, and the checks of what it answers.
//!
//! # Invariants
//! An answer that is wrong fails the case; after changes one key in seven is looked up once more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cortenkv_bench::counting_alloc;
use cortenkv_bench::draw::{Draw, Law, Permutation};
use cortenkv_bench::driver::{self, Load, Measured, Pace, Step, Until, Worker};
use cortenkv_bench::log_store::{Class, Promise};
use cortenkv_bench::process::cpu_time;
use cortenkv_bench::suite::{Case, CaseContext, Outcome};
use cortenkv_bench::{Error, Result};

use super::map::{Map, MapKind, MapSession, PointWork, Size};

/// Keys of each map, unless the plan says otherwise.
const KEYS: u64 = 10_000_000;
/// Threads that fill a map before something else is measured.
const FILL_THREADS: usize = 2;
/// The clock costs a tenth of an operation; one in so many is timed.
const SAMPLE_EVERY: u32 = 16;

/// After changes one key in so many is looked up.
const CHECK_STEP: usize = 7;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// Every key once, into an empty map.
    Insert,
    /// Look-ups of keys that are there.
    Get(Law),
    /// Other values for keys that are there.
    Replace(Law),
    /// Every key is taken out once, in random order.
    Remove,
    /// So many look-ups of a hundred operations; the rest replaces.
    Mixed(u64, Law),
    /// Walks over so many keys from one that is drawn.
    Scan(usize),
    /// Bytes of memory, not time.
    Memory,
}

impl Work {
    /// The name of the case of an arm at this work.
    pub fn case_name(self, kind: &dyn MapKind, threads: usize) -> String {
        let work = match self {
            Work::Insert => "insert".to_string(),
            Work::Get(law) => format!("get-{}", law.name()),
            Work::Replace(law) => format!("replace-{}", law.name()),
            Work::Remove => "remove".into(),
            Work::Mixed(reads, law) => format!("mixed{reads}-{}", law.name()),
            Work::Scan(count) => format!("scan{count}"),
            Work::Memory => "memory".into(),
        };
        format!("{}-{work}-t{threads}", kind.name())
    }

    /// Whether an arm has a row of this work.
    pub fn is_of(self, kind: &dyn MapKind) -> bool {
        match self {
            Work::Insert => kind.has_row(PointWork::Insert),
            Work::Get(_) => kind.has_row(PointWork::Get),
            Work::Replace(_) => kind.has_row(PointWork::Replace),
            Work::Remove => kind.has_row(PointWork::Remove),
            Work::Mixed(..) => kind.has_row(PointWork::Mixed),
            Work::Scan(_) => kind.has_order(),
            Work::Memory => kind.batch_keys() == 1,
        }
    }

    fn operations(self) -> Vec<&'static str> {
        match self {
            Work::Insert | Work::Memory => vec!["insert"],
            Work::Get(_) => vec!["get"],
            Work::Replace(_) => vec!["replace"],
            Work::Remove => vec!["remove"],
            Work::Mixed(..) => vec!["get", "replace"],
            Work::Scan(_) => vec!["scan"],
        }
    }
}

/// The case of an arm at a work.
pub fn case(kind: &Arc<dyn MapKind>, work: Work, threads: usize) -> Case {
    let kind = kind.clone();
    Case {
        name: work.case_name(kind.as_ref(), threads),
        settings: kind.settings(),
        promise: Promise::new(Class::Memory, "nothing is stored"),
        threads,
        prepare: None,
        run: Box::new(move |context| Run::new(kind.as_ref(), work, threads, context).go()),
    }
}

/// One case.
struct Run<'a> {
    kind: &'a dyn MapKind,
    work: Work,
    context: &'a CaseContext<'a>,
    /// Threads of the case; [`Size::threads`] also has room for those that fill.
    threads: usize,
    size: Size,
    seed: u64,
}

impl<'a> Run<'a> {
    fn new(
        kind: &'a dyn MapKind,
        work: Work,
        threads: usize,
        context: &'a CaseContext<'a>,
    ) -> Self {
        let keys = context.plan.keys_or(KEYS);
        let size = Size { keys, threads: threads.max(FILL_THREADS) };
        Run { kind, work, context, threads, size, seed: context.plan.seed }
    }

    fn go(&self) -> Result<Outcome> {
        if self.work == Work::Memory {
            return self.count_memory();
        }
        let map = self.kind.open(self.size, self.context.dir)?;
        let map = map.as_ref();
        if self.work != Work::Insert {
            self.fill(map, FILL_THREADS)?;
            map.settle()?;
        }
        let cpu = cpu_time();
        let measured = self.measure(map)?;
        let outcome = Outcome::of_run(&measured, cpu_time() - cpu, None);
        if matches!(self.work, Work::Insert | Work::Replace(_) | Work::Mixed(..)) {
            let mut session = map.session(0);
            let mut numbers = (0..self.size.keys).step_by(CHECK_STEP);
            if let Some(wrong) = numbers.find(|&number| !session.get(number)) {
                return Err(Error::new(format!("key {wrong} was lost")));
            }
        }
        Ok(outcome)
    }

    fn load(&self, threads: usize) -> Load {
        let all = Load::closed(threads, "", Duration::ZERO, Until::Operations(self.size.keys));
        let mut load = match self.work {
            Work::Insert | Work::Remove | Work::Memory => all,
            _ => self.context.plan.timed_load(threads, ""),
        };
        load.operations = self.work.operations();
        if load.pace == Pace::Closed && self.kind.batch_keys() == 1 {
            load.sample_every = SAMPLE_EVERY;
        }
        load
    }

    /// Every key, by some threads.
    fn fill(&self, map: &dyn Map, threads: usize) -> Result<()> {
        let run = Run { work: Work::Insert, kind: self.kind, context: self.context, ..*self };
        run.measure_by(map, threads, &run.load(threads)).map(drop)
    }

    fn measure(&self, map: &dyn Map) -> Result<Measured> {
        self.measure_by(map, self.threads, &self.load(self.threads))
    }

    fn measure_by(&self, map: &dyn Map, threads: usize, load: &Load) -> Result<Measured> {
        driver::run(load, |thread| {
            let law = match self.work {
                Work::Get(law) | Work::Replace(law) | Work::Mixed(_, law) => law,
                _ => Law::Uniform,
            };
            Ok(Box::new(MapWorker {
                session: map.session(thread),
                work: self.work,
                draw: Draw::new(law, self.size.keys, self.seed, thread),
                choice: Draw::new(Law::Uniform, 100, self.seed ^ 1, thread),
                order: Permutation::new(self.size.keys, self.seed),
                // The driver gives each thread the share of the keys that this stripe has.
                next: thread as u64,
                step: threads as u64,
                batch_keys: self.kind.batch_keys(),
                numbers: Vec::new(),
            }))
        })
    }

    /// Bytes per key, of a map that grew from empty.
    fn count_memory(&self) -> Result<Outcome> {
        counting_alloc::start();
        let (start, cpu) = (Instant::now(), cpu_time());
        let before = counting_alloc::counts();
        let map = self.kind.open(self.size, self.context.dir)?;
        self.fill(map.as_ref(), self.threads)?;
        map.settle()?;
        let bytes = counting_alloc::counts().since(&before).live_bytes - map.bytes_beside();
        let mut outcome = Outcome::of_pass(self.size.keys, start.elapsed(), cpu_time() - cpu);
        outcome.extra.insert("bytes_per_key".into(), bytes as f64 / self.size.keys as f64);
        Ok(outcome)
    }
}

/// Does one operation after the other.
struct MapWorker<'a> {
    session: Box<dyn MapSession + 'a>,
    work: Work,
    draw: Draw,
    choice: Draw,
    order: Permutation,
    next: u64,
    step: u64,
    batch_keys: usize,
    numbers: Vec<u64>,
}

impl MapWorker<'_> {
    fn advance(&mut self) -> u64 {
        self.next += self.step;
        self.next - self.step
    }
}

impl Worker for MapWorker<'_> {
    fn step(&mut self, from: Instant) -> Result<Step> {
        let (mut operation, mut completed) = (0, 1);
        let number;
        let is_right = match self.work {
            Work::Insert | Work::Memory => {
                number = self.advance();
                self.session.insert(number)
            }
            Work::Remove => {
                let place = self.advance();
                number = self.order.at(place);
                self.session.remove(number)
            }
            Work::Get(_) if self.batch_keys > 1 => {
                let MapWorker { numbers, draw, batch_keys, .. } = self;
                numbers.clear();
                numbers.extend((0..*batch_keys).map(|_| draw.draw()));
                number = numbers[0];
                completed = *batch_keys as u64;
                self.session.get_batch(numbers)
            }
            Work::Get(_) => {
                number = self.draw.draw();
                self.session.get(number)
            }
            Work::Replace(_) => {
                number = self.draw.draw();
                self.session.replace(number)
            }
            Work::Mixed(reads, _) => {
                number = self.draw.draw();
                operation = usize::from(self.choice.draw() >= reads);
                match operation {
                    0 => self.session.get(number),
                    _ => self.session.replace(number),
                }
            }
            Work::Scan(count) => {
                number = self.draw.draw();
                self.session.scan(number, count)
            }
        };
        match is_right {
            true => Ok(Step { operation, completed, from }),
            false => Err(Error::new(format!("a wrong answer at key number {number}"))),
        }
    }
}
