//! S5: a bit flips, a sector is zeroed, or a file loses its end, long after it was written. Opening tells of it, or
//! everything that the log has a proof of is there; a read tells of it, or answers rightly.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cortenkv::vfs::SimVfs;
use cortenkv::vfs::sim::Image;
use cortenkv::{ErrorKind, ManualClock};

use super::history::Prefix;
use super::observe::observe;
use super::operations;
use super::random::{Random, mix};
use super::setup::Setup;
use super::world::World;
use super::{FirstViolation, Violation, no_panic, on_all_cores};

const IMAGES_PER_TRACE: u64 = 100;

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub images: u64,
    pub seed: u64,
    /// Only this trace, as a replay.
    pub only: Option<u64>,
}

/// Lets so many images rot.
pub fn run(budget: Budget) -> Result<(), Violation> {
    let first = FirstViolation::default();
    let (next, told) = (AtomicU64::new(0), AtomicU64::new(0));
    let traces = budget.images.div_ceil(IMAGES_PER_TRACE);
    on_all_cores(|| {
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= traces || first.is_set() {
                return;
            }
            if budget.only.is_some_and(|only| only != number) {
                continue;
            }
            let seed = mix(budget.seed, number);
            let mut random = Random::new(seed);
            let setup = Setup::of(number, &mut random);
            let mut damage = String::new();
            let rotted = no_panic(|| {
                let mut world = World::new(setup, seed);
                world.open()?;
                operations::draw(&mut random).iter().try_for_each(|op| world.run(op))?;
                for _ in 0..IMAGES_PER_TRACE {
                    let mut image = world.sim.image();
                    damage = rot(&mut image, &mut random);
                    // A lost sector or end may have held the proof, too: that is a torn tail then.
                    let least = if damage.starts_with("flip") { world.proven } else { 0 };
                    let is_told = one(&world, image, least, random.next())?;
                    told.fetch_add(u64::from(is_told), Relaxed);
                }
                Ok(())
            });
            if let Err(what) = rotted {
                first.set(Violation {
                    what,
                    seed: budget.seed,
                    place: format!("point=end variant={damage} trace={number} {setup}"),
                    replay: format!(
                        "CORTEN_SEED={} CORTEN_TRACE={number} cargo test --profile crash -p cortenkv \
                         --features test-util --test crash rot -- --nocapture",
                        budget.seed
                    ),
                });
            }
        }
    });
    println!(
        "rot: {} images, {} told of; {} violations",
        traces * IMAGES_PER_TRACE,
        told.load(Relaxed),
        u64::from(first.is_set())
    );
    first.into_result()
}

/// Damages one file; says how.
fn rot(image: &mut Image, random: &mut Random) -> String {
    let paths: Vec<PathBuf> = image.paths().map(Into::into).collect();
    loop {
        let path = &paths[random.below(paths.len())];
        let bytes = image.len_of(path).unwrap_or(0) as usize;
        if bytes == 0 {
            continue;
        }
        // Most of a segment lies behind its end; half of the damage goes to where the records are.
        let at =
            if random.percent(50) { random.below(bytes) } else { random.below(bytes.min(9_000)) };
        let (what, changed) = match random.below(4) {
            0 | 1 => ("flip", image.flip_bit(path, 8 * at as u64 + random.next() % 8)),
            2 => ("zero", image.zero_sector(path, at as u64 / 512)),
            _ => ("cut", image.truncate(path, at as u64)),
        };
        if changed {
            return format!("{what}:{}@{at}", path.display());
        }
    }
}

/// Opens a damaged disk; true when it told of the damage.
fn one(world: &World, image: Image, least: Prefix, seed: u64) -> Result<bool, String> {
    let sim = world.setup.on(SimVfs::from_image(image, seed));
    let clock = Arc::new(ManualClock::at_wall_ms(world.promise.now_ms));
    let db = match world.setup.open(Arc::new(sim), &clock) {
        Ok(db) => db,
        Err(e) if e.is_corruption() || matches!(e.kind(), ErrorKind::Unsupported) => {
            return Ok(true);
        }
        Err(e) => return Err(format!("damage is taken for something else: {e}")),
    };
    let observed = match observe(&db) {
        Ok(observed) => observed,
        Err(e) if e.contains("is damaged") => return Ok(true),
        Err(e) => return Err(e),
    };
    let now_ms = world.promise.now_ms;
    world.history.find(least, world.promise.begun, &observed.entries, now_ms)?;
    Ok(false)
}
