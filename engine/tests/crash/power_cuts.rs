//! S1 to S4: crash at every operation of many traces, and open what is left.
//!
//! Per point of a trace: the process dies, nothing unsynced survives, and a draw of the other legal disks; a trace has
//! one disk model. Images that were seen before are not opened again unless more is promised of them by now.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cortenkv::vfs::SimVfs;
use cortenkv::vfs::sim::{CrashVariant, Cursor, DiskModel, Trace};

use super::history::Prefix;
use super::operations;
use super::random::{Random, mix};
use super::setup::{Mode, Setup};
use super::survivor::{Case, Disks, Survivor, survive};
use super::world::{Promise, World};
use super::{FirstViolation, Violation, no_panic, on_all_cores};

/// Disks per point beside those of a killed process and of nothing unsynced.
const DRAWS: usize = 4;

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Distinct images in all, the same number of each mode.
    pub images: u64,
    pub seed: u64,
    /// Only this trace, as a replay.
    pub only: Option<u64>,
}

/// What one mode has seen.
#[derive(Debug, Default)]
struct Tally {
    traces: AtomicU64,
    images: AtomicU64,
    in_recovery: AtomicU64,
    kill_and_cut: AtomicU64,
    lived_on: AtomicU64,
}

/// What all have seen.
#[derive(Debug)]
struct Run {
    budget: Budget,
    quota: u64,
    tallies: [Tally; 6],
    seen: Disks,
    /// Those of them and behind them.
    disks: Disks,
    first: FirstViolation,
}

/// Opens that many disks.
pub fn run(budget: Budget) -> Result<(), Violation> {
    let run = Run {
        budget,
        quota: budget.images.div_ceil(6),
        tallies: Default::default(),
        seen: Disks::default(),
        disks: Disks::default(),
        first: FirstViolation::default(),
    };
    let started = super::kill::stopwatch();
    let next = AtomicU64::new(0);
    on_all_cores(1, || {
        while !run.first.is_set() {
            let number = match budget.only {
                Some(only) if next.fetch_add(1, Relaxed) == 0 => only,
                Some(_) => break,
                None => next.fetch_add(1, Relaxed),
            };
            if run.tallies.iter().all(|tally| tally.images.load(Relaxed) >= run.quota) {
                break;
            }
            run.trace(number);
        }
    });
    run.print(started.elapsed().as_secs_f64());
    run.first.into_result()
}

impl Run {
    fn trace(&self, number: u64) {
        let seed = mix(self.budget.seed, number);
        let mut random = Random::new(seed);
        let setup = Setup::of(number, &mut random);
        let model = random.pick(&DiskModel::ALL);
        let tally = &self.tallies[setup.mode as usize];
        if tally.images.load(Relaxed) >= self.quota {
            return;
        }
        tally.traces.fetch_add(1, Relaxed);
        let mut world = World::new(setup, seed);
        let place = format!("trace={number} model={model:?} {setup}");
        let played = no_panic(|| {
            world.open()?;
            operations::draw(&mut random).iter().try_for_each(|operation| world.run(operation))
        });
        let played = played.map_err(|what| (what, "point=end variant=Running".to_owned()));
        let trace = world.sim.trace();
        let result = played.and_then(|()| self.crash(&world, &trace, model, tally, seed));
        if let Err((what, point)) = result {
            super::show(&trace, &point);
            self.first.set(Violation {
                what,
                seed: self.budget.seed,
                place: format!("{point} {place}"),
                replay: format!(
                    "CORTEN_SEED={} CORTEN_TRACE={number} cargo test --profile crash -p cortenkv \
                     --features test-util --test crash power -- --nocapture",
                    self.budget.seed
                ),
            });
        }
    }

    /// Crashes at every point of a trace.
    fn crash(
        &self,
        world: &World,
        trace: &Trace,
        model: DiskModel,
        tally: &Tally,
        seed: u64,
    ) -> Result<(), (String, String)> {
        let mut crasher = Crasher { run: self, world, trace, tally, seed, shown: HashMap::new() };
        let mut cursor = trace.cursor(model);
        loop {
            let mut random = Random::new(mix(seed, cursor.point() as u64));
            let draws = if cursor.has_unsynced() { DRAWS } else { 0 };
            let variants = [CrashVariant::Kill, CrashVariant::AllLost].into_iter();
            let drawn = (0..draws).map(|_| random.pick(&CrashVariant::STANDARD[1..]));
            for variant in variants.chain(drawn.collect::<Vec<_>>()) {
                let place = || format!("point={} variant={variant:?}", cursor.point());
                let checked = no_panic(|| crasher.image(&cursor, variant));
                checked.map_err(|what| (what, place()))?;
            }
            if !cursor.advance() || self.first.is_set() || tally.images.load(Relaxed) >= self.quota
            {
                return Ok(());
            }
        }
    }

    fn print(&self, seconds: f64) {
        let mut total = 0;
        println!("mode        traces   images  images/s       S2       S3       S4");
        for (mode, tally) in Mode::ALL.iter().zip(&self.tallies) {
            let images = tally.images.load(Relaxed);
            total += images;
            println!(
                "{:<10} {:>7} {images:>8} {:>9.0} {:>8} {:>8} {:>8}",
                format!("{mode:?}"),
                tally.traces.load(Relaxed),
                images as f64 / seconds,
                tally.in_recovery.load(Relaxed),
                tally.kill_and_cut.load(Relaxed),
                tally.lived_on.load(Relaxed),
            );
        }
        let violations = u64::from(self.first.is_set());
        println!(
            "total: {total} distinct images at crash points in {seconds:.1} s, {:.0}/s; with those behind them (S2 to S4) {} in \
             all; {violations} violations",
            total as f64 / seconds,
            self.disks.count()
        );
    }
}

/// Crashes one trace.
struct Crasher<'a> {
    run: &'a Run,
    world: &'a World,
    trace: &'a Trace,
    tally: &'a Tally,
    seed: u64,
    /// What each image of this trace showed.
    shown: HashMap<u64, Shown>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    prefix: Prefix,
    keyspaces: u8,
}

impl Crasher<'_> {
    fn image(&mut self, cursor: &Cursor<'_>, variant: CrashVariant) -> Result<(), String> {
        let note = cursor.notes().last().map_or(0, |(_, tag)| *tag as usize);
        let promise = self.world.promises[note];
        let is_kill = variant == CrashVariant::Kill;
        let least = if is_kill { promise.acknowledged } else { promise.durable };
        let seed = mix(self.seed, cursor.point() as u64);
        let image = cursor.image(variant, seed);
        let hash = image.hash();
        if self.is_known(hash, least, &promise) {
            return Ok(());
        }
        let case = Case {
            setup: self.world.setup,
            history: self.world.history_of(&promise),
            promise,
            least,
            disks: &self.run.disks,
        };
        let mut random = Random::new(mix(hash, seed));
        let survivor = survive(SimVfs::from_image(image, random.next()), case)?;
        let Survivor { prefix, .. } = survivor;
        self.shown.insert(hash, Shown { prefix, keyspaces: survivor.observed.keyspaces });
        if !self.run.seen.is_new(hash) {
            return Ok(());
        }
        self.run.disks.is_new(hash);
        self.tally.images.fetch_add(1, Relaxed);
        if random.percent(25) {
            self.tally.in_recovery.fetch_add(1, Relaxed);
            survivor.crash_in_recovery(case, 0, 2, &mut random)?;
        }
        self.tally.lived_on.fetch_add(1, Relaxed);
        survivor.lives_on(case, &mut random)?;
        if random.percent(12) {
            self.tally.kill_and_cut.fetch_add(1, Relaxed);
            self.kill_and_cut(cursor.point(), promise, &mut random)?;
        }
        Ok(())
    }

    /// True when the image was opened before and showed all that is promised by now.
    fn is_known(&self, hash: u64, least: Prefix, promise: &Promise) -> bool {
        self.shown
            .get(&hash)
            .is_some_and(|shown| shown.prefix >= least && promise.keyspaces & !shown.keyspaces == 0)
    }

    /// S3 and, behind it, S2 and S4 on a machine that was not switched off.
    fn kill_and_cut(
        &self,
        point: usize,
        promise: Promise,
        random: &mut Random,
    ) -> Result<(), String> {
        let least = promise.acknowledged;
        let case = Case {
            setup: self.world.setup,
            history: self.world.history_of(&promise),
            promise,
            least,
            disks: &self.run.disks,
        };
        let sim = SimVfs::after_kill(self.trace, point, random.next());
        let survivor = survive(sim, case).map_err(|e| format!("after a kill: {e}"))?;
        survivor.survives_power_cut(case, random)?;
        if random.percent(50) {
            let cut = Case { least: promise.durable, ..case };
            survivor.crash_in_recovery(cut, point, 1, random)?;
        }
        survivor.lives_on(case, random)
    }
}
