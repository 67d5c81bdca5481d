//! S5: rot in a database that was closed. Every commit is durable and a mark says so, so an opening shows all of it or a
//! typed error, never a wrong value and never less.
//!
//! The one exception is documented in FORMAT.md: damage that takes the last mark together with commits before it cannot
//! be told from a torn tail, so the last two sectors of a segment's content are damaged by single bits only.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cortenkv::vfs::SimVfs;
use cortenkv::vfs::sim::Image;
use cortenkv::{ErrorKind, ManualClock};

use super::observe::{Observed, observe};
use super::operations::{self, Operation};
use super::random::{Random, mix};
use super::setup::{EPOCH_MS, Setup};
use super::world::World;
use super::{FirstViolation, Violation, no_panic, on_all_cores};

const SECTOR_BYTES: u64 = 512;

/// Damaged copies of each database.
const COPIES: u64 = 40;

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Damaged databases to open.
    pub copies: u64,
    pub seed: u64,
    /// Only this database, as a replay.
    pub only: Option<u64>,
}

/// Opens that many damaged databases.
pub fn run(budget: Budget) -> Result<(), Violation> {
    let first = FirstViolation::default();
    let (next, opened, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    on_all_cores(1, || {
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number * COPIES >= budget.copies || first.is_set() {
                return;
            }
            if budget.only.is_some_and(|only| only != number) {
                continue;
            }
            let mut place = String::new();
            let checked =
                no_panic(|| one(mix(budget.seed, number), number, &mut place, &opened, &refused));
            if let Err(what) = checked {
                first.set(Violation {
                    what,
                    seed: budget.seed,
                    place: format!("point=closed variant={place} trace={number}"),
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
        "rot: {} damaged databases opened whole, {} refused; {} violations",
        opened.load(Relaxed),
        refused.load(Relaxed),
        u64::from(first.is_set())
    );
    first.into_result()
}

/// One database, damaged in many ways.
fn one(
    seed: u64,
    number: u64,
    place: &mut String,
    opened: &AtomicU64,
    refused: &AtomicU64,
) -> Result<(), String> {
    let mut random = Random::new(seed);
    let setup = Setup::of(number, &mut random);
    let mut world = World::new(setup, seed);
    world.open()?;
    let operations = operations::draw(&mut random);
    let ending = ending(&mut random);
    operations.iter().chain(&ending).try_for_each(|operation| world.run(operation))?;
    if let Some(db) = world.db.take() {
        db.close().map_err(|e| e.to_string())?;
    }
    let now_ms = world.promise.now_ms.max(EPOCH_MS);
    let image = world.sim.image();
    let whole = show(&setup, image.clone(), now_ms).map_err(|e| e.to_string())??;
    for _ in 0..COPIES {
        let mut damaged = image.clone();
        let Some(done) = damage(&mut damaged, &mut random) else { continue };
        *place = format!("{done} {setup}").replace(' ', "_");
        match show(&setup, damaged, now_ms) {
            Ok(Ok(found)) => {
                if let Some(slot) = found.difference(&whole) {
                    let (found, wanted) = (&found.entries[slot], &whole.entries[slot]);
                    return Err(format!("rot shows {found:?} in slot {slot}, not {wanted:?}"));
                }
                opened.fetch_add(1, Relaxed);
            }
            // A damaged record answers for itself.
            Ok(Err(text)) if text.contains("is damaged") => {
                refused.fetch_add(1, Relaxed);
            }
            Ok(Err(text)) => return Err(format!("rot is not told from other failures: {text}")),
            Err(error) => {
                let typed = matches!(
                    error.kind(),
                    ErrorKind::Corruption { .. }
                        | ErrorKind::Unsupported
                        | ErrorKind::InvalidArgument
                );
                if !typed {
                    return Err(format!("rot is answered by {error}"));
                }
                refused.fetch_add(1, Relaxed);
            }
        }
    }
    Ok(())
}

/// What comes last: whole jobs of compaction, or one that is left half done with records dying in it.
fn ending(random: &mut Random) -> Vec<Operation> {
    if random.percent(50) {
        let mut jobs = vec![Operation::Compact, operations::compaction(random)];
        jobs.truncate(random.below(3));
        return jobs;
    }
    // By then it is idle.
    let mut ending = vec![Operation::Advance(1_500), Operation::Steps(1 + random.below(40))];
    ending.extend((0..random.below(8)).map(|_| operations::commit(random, None, 5)));
    ending
}

/// Opens a disk and reads all of it; the inner error is one of reading.
fn show(setup: &Setup, image: Image, now_ms: u64) -> cortenkv::Result<Result<Observed, String>> {
    let sim = setup.on(SimVfs::from_image(image, 7));
    let clock = Arc::new(ManualClock::at_wall_ms(now_ms));
    let db = setup.open(Arc::new(sim), &clock)?;
    Ok(observe(&db))
}

/// Damages one file; what was done, or nothing when the draw hit nothing.
fn damage(image: &mut Image, random: &mut Random) -> Option<String> {
    let files: Vec<PathBuf> = image.paths().map(Path::to_path_buf).collect();
    let path = files.get(random.below(files.len()))?.clone();
    let name = path.file_name()?.to_str()?.to_owned();
    let content = image.read(&path)?;
    let used = content.iter().rposition(|byte| *byte != 0)? as u64 + 1;
    let is_segment = name.ends_with(".seg");
    let bound = if is_segment { used.saturating_sub(2 * SECTOR_BYTES) } else { used };
    let offset = random.below(bound.max(1) as usize) as u64;
    let sector = offset / SECTOR_BYTES;
    let fits = (sector + 1) * SECTOR_BYTES <= bound;
    let (what, changed) = match random.below(4) {
        0 | 1 => {
            let bit = random.below(used as usize * 8) as u64;
            (format!("bit-{bit}"), image.flip_bit(&path, bit))
        }
        2 if fits => (format!("zeroed-sector-{sector}"), image.zero_sector(&path, sector)),
        3 if fits => {
            let from = files.get(random.below(files.len()))?.clone();
            let from_sector = random.below(32) as u64 * SECTOR_BYTES;
            let to = sector * SECTOR_BYTES;
            let changed = image.misdirect((&from, from_sector), (&path, to), SECTOR_BYTES);
            (format!("misdirected-sector-{sector}"), changed)
        }
        _ => return None,
    };
    changed.then(|| format!("{name}-{what}"))
}
