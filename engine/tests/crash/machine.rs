//! M1: a long life against a model. The machine draws operations, closes, kills and power cuts one after the other on
//! one directory; the model is the history, cut to what each open showed.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cortenkv::Stats;
use cortenkv::vfs::sim::{CrashVariant, DiskModel};

use super::history::{KEYS, SLOTS, key_of};
use super::observe::observe;
use super::operations::{self, Operation};
use super::random::{Random, mix};
use super::setup::Setup;
use super::world::World;
use super::{FirstViolation, Violation, no_panic, on_all_cores};

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub lives: u64,
    pub operations: u64,
    pub seed: u64,
    /// Only this life, as a replay.
    pub only: Option<u64>,
}

/// Lives so many lives.
pub fn run(budget: Budget) -> Result<(), Violation> {
    let first = FirstViolation::default();
    let next = AtomicU64::new(0);
    on_all_cores(1, || {
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= budget.lives || first.is_set() {
                return;
            }
            if budget.only.is_some_and(|only| only != number) {
                continue;
            }
            let seed = mix(budget.seed, number);
            let mut random = Random::new(seed);
            let setup = Setup::of(number, &mut random);
            let mut at = 0;
            let lived = no_panic(|| {
                let mut world = World::new(setup, seed);
                world.open()?;
                while at < budget.operations {
                    one(&mut world, &mut random)?;
                    at += 1;
                }
                world.run(&Operation::Sync)?;
                same(&world)
            });
            if let Err(what) = lived {
                first.set(Violation {
                    what,
                    seed: budget.seed,
                    place: format!("point={at} variant=Machine trace={number} {setup}"),
                    replay: format!(
                        "CORTEN_SEED={} CORTEN_TRACE={number} cargo test --profile crash -p cortenkv \
                         --features test-util --test model_durable lives -- --nocapture",
                        budget.seed
                    ),
                });
            }
        }
    });
    println!(
        "model: {} lives of {} operations; {} violations",
        budget.lives,
        budget.operations,
        u64::from(first.is_set())
    );
    first.into_result()
}

fn one(world: &mut World, random: &mut Random) -> Result<(), String> {
    let operation = match random.below(100) {
        0..40 => operations::commit(random, None, 1),
        40..49 => operations::commit(random, None, 5),
        49..52 => Operation::Settle,
        52..55 => Operation::Sync,
        55..56 => Operation::Flush,
        56..58 => Operation::Keyspace(1 + random.below(2)),
        58..63 => Operation::Advance(random.pick(&[1, 20, 50, 60, 1_500])),
        63..69 => operations::steps(random),
        69..76 => operations::compaction(random),
        76..77 => Operation::Reopen,
        77..78 if world.is_quiet() => return reopen(world),
        78..80 => Operation::Kill,
        80..84 => {
            let (variant, model) =
                (random.pick(&CrashVariant::STANDARD), random.pick(&DiskModel::ALL));
            return world.power_cut(variant, model).map_err(|e| format!("{variant:?}: {e}"));
        }
        84..92 if world.is_quiet() => return range(world, random),
        92..96 if world.is_quiet() => return same(world),
        _ => return get(world, random),
    };
    world.run(&operation)
}

fn get(world: &World, random: &mut Random) -> Result<(), String> {
    let slot = random.below(SLOTS) % KEYS;
    let found = world.db().get(key_of(slot)).map_err(|e| e.to_string())?;
    if world.may_show(slot, found.as_deref()) {
        return Ok(());
    }
    Err(format!("get of slot {slot} shows what the model does not"))
}

fn range(world: &World, random: &mut Random) -> Result<(), String> {
    let ends = [key_of(random.below(KEYS)), key_of(random.below(KEYS))];
    let (start, end) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
    let bound = |random: &mut Random, key: &'static [u8]| match random.below(3) {
        0 => Bound::Included(key),
        1 => Bound::Excluded(key),
        _ => Bound::Unbounded,
    };
    let mut bounds = (bound(random, start), bound(random, end));
    if start == end {
        bounds.1 = Bound::Unbounded;
    }
    let backwards = random.percent(50);
    let scan = world.db().range::<&[u8]>(bounds);
    let found: Vec<_> = if backwards { scan.rev().collect() } else { scan.collect() };
    let found: Vec<_> = found.into_iter().collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let model = world.history.map(world.history.len(), 0, world.promise.now_ms);
    let mut wanted: Vec<_> = model.range::<[u8], _>(bounds).collect();
    if backwards {
        wanted.reverse();
    }
    let same = wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|((k, v), (key, value))| key == **k && value == **v);
    if same { Ok(()) } else { Err(format!("the range {bounds:?} shows what the model does not")) }
}

/// Everything, in every way that it can be read, and counted.
fn same(world: &World) -> Result<(), String> {
    let observed = observe(world.db())?;
    let all = world.history.len();
    world.history.find(all, all, &observed.entries, world.promise.now_ms)?;
    let (live, may_count) = world.history.keys(all, world.promise.now_ms);
    let Stats { keys: counted, tombstones, index, .. } = world.db().stats();
    if !(live..=may_count).contains(&counted) {
        return Err(format!("{counted} keys are counted, of {live} to {may_count}"));
    }
    if cfg!(feature = "index") && counted + tombstones != index.entries {
        let entries = index.entries;
        return Err(format!(
            "{counted} keys and {tombstones} tombstones are counted, of {entries}"
        ));
    }
    Ok(())
}

/// Closes and opens again; what is live then is what was counted as live before.
fn reopen(world: &mut World) -> Result<(), String> {
    // A job that is under way may be about to forget something.
    while world.db().step().map_err(|e| e.to_string())? {}
    let counts = |world: &World| {
        let Stats { keys, tombstones, compaction, .. } = world.db().stats();
        (keys, tombstones, compaction.live_bytes)
    };
    let before = counts(world);
    world.run(&Operation::Reopen)?;
    let after = counts(world);
    match before == after {
        true => Ok(()),
        false => Err(format!(
            "keys, tombstones and live bytes were {before:?}, and are {after:?} when opened again"
        )),
    }
}
