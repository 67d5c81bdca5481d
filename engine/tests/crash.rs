//! Power cuts, kills and faults on the simulated file system: S1 to S5, F1 and F2 of the reliability rows.
//!
//! `CORTEN_CRASH_IMAGES`, `CORTEN_FAULT_RUNS` and `CORTEN_ROT_COPIES` set how much is done, `CORTEN_SEED` replays a run, and `CORTEN_TRACE`
//! only one trace of it.

use std::sync::{Mutex, PoisonError};

#[path = "crash/harness.rs"]
mod harness;

use harness::{demand, faults, from_env, power_cuts, rot, run_seed};

/// Each suite takes all cores, so they run one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn only_trace() -> Option<u64> {
    std::env::var("CORTEN_TRACE").is_ok().then(|| from_env("CORTEN_TRACE", 0))
}

// D1, S1, S2, S3, S4
#[test]
fn power_cuts_take_nothing_that_was_promised() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let images = from_env("CORTEN_CRASH_IMAGES", 250_000);
    let seed = run_seed("crash");
    demand(power_cuts::run(power_cuts::Budget { images, seed, only: only_trace() }));
}

// F1, F2
#[test]
fn faults_are_told_and_lose_nothing() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let runs = from_env("CORTEN_FAULT_RUNS", 5_000);
    let seed = run_seed("faults");
    demand(faults::run(faults::Budget { runs, seed, only: only_trace() }));
}

// S5
#[test]
fn rot_is_told_and_shows_nothing_wrong() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let copies = from_env("CORTEN_ROT_COPIES", 20_000);
    let seed = run_seed("rot");
    demand(rot::run(rot::Budget { copies, seed, only: only_trace() }));
}
