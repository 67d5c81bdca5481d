//! X1: the general suites catch defects that were planted on purpose, so they can fail.
//!
//! `CORTEN_BUG=list` prints the names. `CORTEN_BUG=NAME` plants that one and runs the suites at their default budget up to
//! the first violation; the test then fails, which is what the caller wants. Without it the suites run briefly, and pass.
//! Those of snapshots (`snapshot-...`) are not listed: no suite here opens one; `--test snapshot_concurrent` fails with each.

#[path = "crash/harness.rs"]
mod harness;

use cortenkv_wal::bugs;
use harness::{Violation, demand, faults, kill, machine, power_cuts, rot, run_seed};

/// How much the suites do.
struct Budgets {
    images: u64,
    faults: u64,
    rots: u64,
    lives: u64,
    rounds: u64,
}

/// Those of the suites themselves, but of rot more: some of it shows in one of 50,000 copies only.
const DEFAULT: Budgets =
    Budgets { images: 250_000, faults: 20_000, rots: 400_000, lives: 2_000, rounds: 200 };

/// To see that nothing is found where nothing was planted; the suites themselves look longer.
const BRIEF: Budgets = Budgets { images: 6_000, faults: 600, rots: 600, lives: 60, rounds: 12 };

/// The name of the test below, by which a killed child starts.
const TEST: &str = "the_general_suites_catch_a_planted_bug";

#[test]
fn the_general_suites_catch_a_planted_bug() {
    let bug = std::env::var("CORTEN_BUG").unwrap_or_default();
    match bug.as_str() {
        "list" => {
            let names = bugs::list().map(|(name, _)| name);
            let names = names.filter(|name| !name.starts_with("snapshot-"));
            names.for_each(|name| println!("bug: {name}"));
        }
        "" => demand(suites(&BRIEF)),
        name => {
            assert!(bugs::plant(name), "there is no bug `{name}`; CORTEN_BUG=list names them");
            demand(suites(&DEFAULT));
        }
    }
}

/// The suites, those that find most first.
fn suites(budgets: &Budgets) -> Result<(), Violation> {
    let kill = |rounds, seed| kill::run(&kill::Budget { rounds, seed, test: TEST });
    if kill::is_child() {
        return kill(0, 0);
    }
    let seed = run_seed("seeded_bugs");
    let (images, runs, lives, only) = (budgets.images, budgets.faults, budgets.lives, None);
    // A first short look by each: most bugs show at once to one of them.
    power_cuts::run(power_cuts::Budget { images: images.min(6_000), seed, only })?;
    faults::run(faults::Budget { runs: runs.min(1_000), seed, only })?;
    kill(budgets.rounds.min(12), seed)?;
    rot::run(rot::Budget { copies: budgets.rots.min(20_000), seed, only })?;
    machine::run(machine::Budget { lives, operations: 100, seed, only })?;
    kill(budgets.rounds, seed)?;
    rot::run(rot::Budget { copies: budgets.rots, seed, only })?;
    faults::run(faults::Budget { runs, seed, only })?;
    power_cuts::run(power_cuts::Budget { images, seed, only })
}
