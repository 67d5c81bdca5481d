//! What the crash suites share: seeded traces on the simulated file system, a ledger of what was promised, and the
//! check of what a crash left against it.
//!
//! # Layout
//! `setup` opens databases in every combination; `operations` draws the operations of a trace; `history` knows the state
//! after each commit; `world` runs a trace and keeps the ledger; `observe` reads a database in every way it can be
//! read; `survivor` opens what a crash left and checks it.
//! Suites on top: `power_cuts` (S1-S4), `faults` (F1, F2), `machine` (M1), `rot` (S5), `kill` (K1).
//!
//! # Failure
//! A suite answers the first [`Violation`]; its `Display` is the one line that the commands of the project look for.
#![allow(dead_code, reason = "each test target uses a part of the harness")]

use std::fmt;
use std::sync::{Mutex, PoisonError};

pub mod conditional;
pub mod faults;
pub mod history;
pub mod kill;
pub mod machine;
pub mod observe;
pub mod operations;
pub mod power_cuts;
pub mod random;
pub mod rot;
pub mod setup;
pub mod survivor;
pub mod world;

/// A broken promise, with all that a replay needs.
#[derive(Debug, Clone)]
pub struct Violation {
    pub what: String,
    /// Of the run, as in `CORTEN_SEED`.
    pub seed: u64,
    /// Point, variant, mode and whatever else leads there.
    pub place: String,
    /// The command that shows it again.
    pub replay: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.replace('\n', " ");
        write!(f, "violation: {what} seed={} {}", self.seed, self.place)
    }
}

/// The first violation that any worker found.
#[derive(Debug, Default)]
pub struct FirstViolation(Mutex<Option<Violation>>);

impl FirstViolation {
    pub fn set(&self, violation: Violation) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(violation);
    }

    pub fn is_set(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub fn into_result(self) -> Result<(), Violation> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Prints a violation with its replay and fails the test.
pub fn demand<T>(result: Result<T, Violation>) -> T {
    result.unwrap_or_else(|violation| {
        println!("{violation}\nreplay: {}", violation.replay);
        panic!("a promise was broken; see the line above");
    })
}

/// A number from the environment.
pub fn from_env(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`; it must be a number"))
}

/// The seed of the run: that of the environment, else one that differs from run to run; printed either way.
pub fn run_seed(suite: &str) -> u64 {
    let seed = from_env("CORTEN_SEED", u64::from(std::process::id()) * 0x9E37 % 1_000_000_007);
    println!("{suite}: seed={seed}");
    seed
}

/// With `CORTEN_SHOW`, prints the operations before a point of a trace.
pub fn show(trace: &cortenkv::vfs::sim::Trace, place: &str) {
    let shown = from_env("CORTEN_SHOW", 0) as usize;
    let point = place.split_once("point=").map_or("", |(_, rest)| rest);
    let point = point.split(' ').next().and_then(|point| point.parse().ok()).unwrap_or(trace.len());
    for (at, op) in trace.ops().iter().enumerate().take(point).skip(point.saturating_sub(shown)) {
        println!("{at:6} {op:?}");
    }
}

/// Runs `work` on every core, so often on each, until it returns.
pub fn on_all_cores(per_core: usize, work: impl Fn() + Sync) {
    let threads = per_core * std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

/// A panic of the database is a violation like any other.
pub fn no_panic<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        Err(format!("it panicked: {text}"))
    })
}
