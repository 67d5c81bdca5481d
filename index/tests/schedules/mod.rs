//! How the shuttle suites of this crate choose and count their schedules.
//!
//! `CORTEN_SCHEDULES` is the number of schedules of all tests of a suite together, and `CORTEN_SEED` repeats a run: a
//! failing schedule is met again after the same number of schedules.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use shuttle::scheduler::{PctScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

const SCHEDULES: usize = 20_000;

/// Preemptions that a PCT schedule aims at.
const PCT_DEPTH: usize = 3;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is not a number")))
}

fn seed() -> u64 {
    number("CORTEN_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64 % 1_000_000_007
    })
}

/// Few preemptions, placed badly.
pub fn pct(seed: u64, schedules: usize) -> PctScheduler {
    PctScheduler::new_from_seed(seed, PCT_DEPTH, schedules)
}

/// Runs a share of the schedules, in percent, and prints how many and how fast.
pub fn explore<S: Scheduler + 'static>(
    name: &str,
    share: usize,
    scheduler: impl FnOnce(u64, usize) -> S,
    schedule: impl Fn() + Send + Sync + 'static,
) {
    let all = number("CORTEN_SCHEDULES").map_or(SCHEDULES, |n| n as usize);
    let (seed, schedules) = (seed(), (all * share / 100).max(1));
    println!("{name}: seed {seed}, {schedules} schedules; repeat with CORTEN_SEED={seed}");
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.max_steps = MaxSteps::FailAfter(200_000);
    let started = Instant::now();
    let ran = Runner::new(scheduler(seed, schedules), config).run(schedule);
    let seconds = started.elapsed().as_secs_f64();
    println!("{name}: {ran} schedules in {seconds:.1} s ({:.0}/s)", ran as f64 / seconds);
}
