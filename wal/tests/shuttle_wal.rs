//! The whole log under random schedules: threads append in every mode on the simulated file system, the power fails at
//! random points, and what recovery finds is held against what was promised (rows L6, L7, L10, U1).
//!
//! `cargo xtask shuttle` runs it. `CORTEN_SCHEDULES` is the number of schedules of all tests together (20,000), and
//! `CORTEN_SEED` repeats a run: a failing schedule is met again after the same number of schedules.
//!
//! # Layout
//! `run` is one schedule: a log, its writers, and a ledger of what they were told. `check` cuts the power and compares.
#![cfg(shuttle)]
#![expect(clippy::disallowed_methods, reason = "a test prints its rate and chooses its seed")]

#[path = "shuttle_wal/check.rs"]
mod check;
#[path = "shuttle_wal/run.rs"]
mod run;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cortenkv_wal::{Background, Durability};
use run::Setting;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

const SCHEDULES: usize = 20_000;

/// Preemptions that a PCT schedule aims at.
const PCT_DEPTH: usize = 3;

/// Relaxed and durable ones side by side.
const MIXED: &[Durability] = &[
    Durability::Always,
    Durability::group(),
    Durability::EveryN(1),
    Durability::EveryN(3),
    Durability::Checkpoint,
    Durability::None,
];

const RELAXED: &[Durability] = &[Durability::None, Durability::Checkpoint, Durability::EveryN(2)];

const DURABLE: &[Durability] = &[Durability::Always, Durability::group(), Durability::EveryN(1)];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is not a number")))
}

fn seed() -> u64 {
    number("CORTEN_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64 % 1_000_000_007
    })
}

/// Runs a share of the schedules, in percent, and prints how many and how fast.
fn explore<S: Scheduler + 'static>(
    name: &str,
    share: usize,
    scheduler: impl FnOnce(u64, usize) -> S,
    setting: Setting,
) {
    let all = number("CORTEN_SCHEDULES").map_or(SCHEDULES, |n| n as usize);
    let (seed, schedules) = (seed(), (all * share / 100).max(1));
    println!("{name}: seed {seed}, {schedules} schedules; repeat with CORTEN_SEED={seed}");
    let mut config = Config::new();
    // Recovery has buffers of 4 KiB on its stack.
    config.stack_size = 256 << 10;
    config.max_steps = MaxSteps::FailAfter(200_000);
    let started = Instant::now();
    let ran = Runner::new(scheduler(seed, schedules), config).run(move || run::schedule(&setting));
    let seconds = started.elapsed().as_secs_f64();
    println!("{name}: {ran} schedules in {seconds:.1} s ({:.0}/s)", ran as f64 / seconds);
}

#[test]
fn every_mode_keeps_its_promise_when_modes_are_mixed() {
    let setting = Setting { modes: MIXED, ..Setting::default() };
    explore("mixed", 40, RandomScheduler::new_from_seed, setting);
}

#[test]
fn every_mode_keeps_its_promise_when_few_preemptions_are_placed_badly() {
    let setting = Setting { modes: MIXED, background: Background::Thread, ..Setting::default() };
    explore(
        "mixed, PCT",
        20,
        |seed, schedules| PctScheduler::new_from_seed(seed, PCT_DEPTH, schedules),
        setting,
    );
}

#[test]
fn relaxed_commits_have_no_hole_below_them() {
    let setting = Setting { modes: RELAXED, ..Setting::default() };
    explore("relaxed", 15, RandomScheduler::new_from_seed, setting);
}

#[test]
fn durable_commits_are_installed_in_log_order() {
    let setting = Setting { modes: DURABLE, background: Background::Thread, ..Setting::default() };
    explore("durable", 25, RandomScheduler::new_from_seed, setting);
}

#[test]
#[should_panic(expected = "the handler was not offered")]
fn canary_a_handler_that_is_not_offered_a_record() {
    let setting = Setting { modes: MIXED, deaf_handler: true, ..Setting::default() };
    explore("canary", 1, RandomScheduler::new_from_seed, setting);
}

/// Each in a process of its own: a bug stays planted.
#[cfg(feature = "seeded-bugs")]
#[test]
fn canary_seeded_bugs_of_the_protocols_are_caught() {
    const BUG: &str = "CORTEN_SHUTTLE_BUG";
    if let Ok(bug) = std::env::var(BUG) {
        assert!(cortenkv_wal::bugs::plant(&bug), "there is no bug {bug}");
        let setting = Setting { modes: MIXED, ..Setting::default() };
        return explore(&bug, 100, RandomScheduler::new_from_seed, setting);
    }
    let bugs = [
        "acknowledged-before-sync",
        "acknowledged-behind-hole",
        "every-n-off-by-one",
        "half-batch",
        "hole-between-segments",
        "mark-too-early",
        "predecessor-not-flushed",
    ];
    for bug in bugs {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["canary_seeded_bugs_of_the_protocols_are_caught", "--exact"])
            .env(BUG, bug)
            .env("CORTEN_SCHEDULES", "5000")
            .output()
            .unwrap();
        assert!(!child.status.success(), "{bug} was not caught");
    }
}
