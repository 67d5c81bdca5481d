//! F1 and F2: every operation of a trace fails once, or from there on for good, in every way; every sync fails once and
//! the next says OK. Then the directory is opened again, in the same boot and after a power cut.
//!
//! During the run `world` demands that nothing is acknowledged after a failure, that reads go on, and that a full disk
//! is no failure; afterwards nothing acknowledged may be gone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cortenkv::vfs::sim::{CrashVariant, DiskModel};
use cortenkv::vfs::{FaultKind, FaultPlan, FaultVfs, OpCounts, OpKind, SimVfs};

use super::history::KEYS;
use super::operations::{self, Call, Operation, Recipe};
use super::random::{Random, mix};
use super::setup::Setup;
use super::survivor::{Case, Disks, survive};
use super::world::World;
use super::{FirstViolation, Violation, no_panic, on_all_cores};

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub runs: u64,
    pub seed: u64,
    /// Only this trace, as a replay.
    pub only: Option<u64>,
}

/// The fault of one run.
#[derive(Debug, Clone, Copy)]
struct Fault {
    kind: FaultKind,
    /// Of all operations, or of one kind.
    of: Option<OpKind>,
    number: u64,
    for_good: bool,
}

impl Fault {
    fn plan(self) -> FaultPlan {
        let plan = match self.of {
            Some(of) => FaultPlan::nth_of(of, self.number, self.kind),
            None => FaultPlan::nth(self.number, self.kind),
        };
        if self.for_good { plan.for_good() } else { plan }
    }
}

/// The operations of one trace.
struct Script {
    setup: Setup,
    seed: u64,
    operations: Vec<Operation>,
}

impl Script {
    fn new(number: u64, run_seed: u64) -> Script {
        let seed = mix(run_seed, number);
        let mut random = Random::new(seed);
        let setup = Setup::of(number, &mut random);
        let mut operations = operations::draw(&mut random);
        // The injector goes with the machine, so the process is killed at the end only.
        for operation in &mut operations {
            if matches!(operation, Operation::Kill) {
                *operation = Operation::Reopen;
            }
        }
        Script { setup, seed, operations }
    }

    /// Runs it with a fault, up to so many operations after it struck, or without one.
    fn play(&self, fault: Option<Fault>, more: usize) -> Result<(World, FaultVfs), String> {
        let mut world = World::new(self.setup, self.seed);
        let faults = world.inject(FaultVfs::new);
        faults.set_plan(fault.map(Fault::plan));
        world.open()?;
        let mut left = more;
        for operation in &self.operations {
            if faults.counts().fired() > 0 {
                let Some(less) = left.checked_sub(1) else { break };
                left = less;
            }
            world.run(operation)?;
        }
        Ok((world, faults))
    }

    /// Every fault of the trace: each operation once, with the ways to fail taking turns, and each sync.
    fn faults(&self, counts: OpCounts, random: &mut Random) -> Vec<Fault> {
        let turn = random.below(FaultKind::ALL.len());
        let ways = |number: u64| {
            let kind = FaultKind::ALL[(number as usize + turn) % FaultKind::ALL.len()];
            let for_good = kind != FaultKind::Interrupted && (number / 7).is_multiple_of(2);
            Fault { kind, of: None, number, for_good }
        };
        let mut faults: Vec<Fault> = (0..counts.total()).map(ways).collect();
        let once = |of, kind| {
            (0..counts.of(of)).map(move |number| Fault {
                kind,
                of: Some(of),
                number,
                for_good: false,
            })
        };
        faults.extend(once(OpKind::SyncData, FaultKind::Io));
        faults.extend(once(OpKind::SyncDir, FaultKind::Io));
        faults.extend(once(OpKind::Allocate, FaultKind::StorageFull));
        faults.extend(once(OpKind::Write, FaultKind::ShortWrite));
        faults
    }
}

/// Makes so many runs fail.
pub fn run(budget: Budget) -> Result<(), Violation> {
    let (next, done, struck) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (first, disks) = (FirstViolation::default(), Disks::default());
    let started = super::kill::stopwatch();
    on_all_cores(1, || {
        while !first.is_set() && done.load(Relaxed) < budget.runs {
            let number = match budget.only {
                Some(only) if next.fetch_add(1, Relaxed) == 0 => only,
                Some(_) => break,
                None => next.fetch_add(1, Relaxed),
            };
            let script = Script::new(number, budget.seed);
            let told = |what: String, fault: Option<Fault>| {
                let place = match fault {
                    Some(Fault { kind, of, number: point, for_good }) => format!(
                        "point={point} variant={kind:?} of={of:?} for_good={for_good} trace={number} {}",
                        script.setup
                    ),
                    None => format!("point=none variant=none trace={number} {}", script.setup),
                };
                let replay = format!(
                    "CORTEN_SEED={} CORTEN_TRACE={number} cargo test --profile crash -p cortenkv \
                     --features test-util --test crash faults -- --nocapture",
                    budget.seed
                );
                first.set(Violation { what, seed: budget.seed, place, replay });
            };
            let counts = match no_panic(|| script.play(None, 0)) {
                Ok((_, faults)) => faults.counts(),
                Err(what) => return told(what, None),
            };
            let mut random = Random::new(mix(script.seed, 1));
            for fault in script.faults(counts, &mut random) {
                if first.is_set() || done.fetch_add(1, Relaxed) >= budget.runs {
                    return;
                }
                match no_panic(|| one(&script, fault, &disks, &mut random)) {
                    Ok(has_struck) => struck.fetch_add(u64::from(has_struck), Relaxed),
                    Err(what) => return told(what, Some(fault)),
                };
            }
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "faults: {} runs over {} traces in {seconds:.1} s, {} struck, {} distinct images; {} violations",
        done.load(Relaxed).min(budget.runs),
        next.load(Relaxed),
        struck.load(Relaxed),
        disks.count(),
        u64::from(first.is_set())
    );
    first.into_result()
}

/// One run with a fault and everything after it; true if the fault struck.
fn one(script: &Script, fault: Fault, disks: &Disks, random: &mut Random) -> Result<bool, String> {
    // The end may come at once, a little later, or never: a lie shows until something mends it by chance.
    let more = random.pick(&[0, 0, 1, 3, usize::MAX]);
    let (mut world, faults) = script.play(Some(fault), more)?;
    let has_struck = faults.counts().fired() > 0;
    faults.set_plan(None);
    if more == usize::MAX {
        goes_on_if_it_may(&mut world, fault)?;
    }
    let trace = world.sim.trace();
    let promise = world.promise;
    let case = Case {
        setup: world.setup,
        history: &world.history,
        promise,
        least: promise.acknowledged,
        disks,
    };
    // The same boot: pages that a failed sync left clean look as if they were on the disk.
    let sim = SimVfs::after_kill(&trace, trace.len(), random.next());
    let survivor = survive(sim, case).map_err(|e| format!("in the same boot: {e}"))?;
    survivor.survives_power_cut(case, random).map_err(|e| format!("in the same boot: {e}"))?;
    survivor.lives_on(case, random).map_err(|e| format!("in the same boot: {e}"))?;
    for variant in [CrashVariant::AllLost, random.pick(&CrashVariant::STANDARD)] {
        let model = random.pick(&DiskModel::ALL);
        let image = trace.crash_image(model, trace.len(), variant, random.next());
        let case = Case { least: promise.durable, ..case };
        disks.is_new(image.hash());
        let sim = SimVfs::from_image(image, random.next());
        let describe = |e| format!("after a power cut ({model:?}, {variant:?}): {e}");
        survive(sim, case).map_err(describe)?.lives_on(case, random).map_err(describe)?;
    }
    Ok(has_struck)
}

/// A full disk is no failure: once there is room, and a second later, writes go on. A latched log stays so.
fn goes_on_if_it_may(world: &mut World, fault: Fault) -> Result<(), String> {
    if world.db.is_none() {
        return Ok(());
    }
    let full = [FaultKind::StorageFull, FaultKind::QuotaExceeded, FaultKind::TooManyFiles];
    let making_room = fault.of == Some(OpKind::Allocate) && full.contains(&fault.kind);
    if making_room && world.latched && !fault.for_good {
        return Err("a full disk while room was made has closed the log".into());
    }
    world.run(&Operation::Advance(2_000))?;
    let was_latched = world.latched;
    let recipe = Recipe { bytes: 100, compressible: false, salt: 1 };
    let commits = world.history.len();
    let put = Operation::Commit {
        changes: vec![(KEYS - 1, Some((recipe, None)))],
        call: Call::Plain(Some(cortenkv::Durability::Always)),
    };
    world.run(&put)?;
    match (was_latched, world.latched || world.history.len() == commits) {
        (false, true) => Err("writes do not go on, though nothing fails any more".into()),
        _ => Ok(()),
    }
}
