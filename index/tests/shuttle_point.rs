//! The lock-free point index under random schedules: threads install, remove, swap, look up, export and help while the
//! one shard grows and shrinks, and what each key answered is held against a register (rows L1 to L3, U1).
//!
//! Under shuttle a bucket has 2 slots and a group 2 buckets, so that a few keys make it grow. `cargo xtask shuttle` runs
//! it. `CORTEN_SCHEDULES` is the number of schedules of all tests together (20,000), and `CORTEN_SEED` repeats a run: a
//! failing schedule is met again after the same number of schedules.
//!
//! # Layout
//! `history` is what the threads did and the check that some order of it is legal. Here are the schedules.
#![cfg(shuttle)]
#![expect(clippy::disallowed_methods, reason = "a test prints its rate and chooses its seed")]

#[path = "shuttle_point/history.rs"]
mod history;
mod schedules;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cortenkv_index::{Address, BucketOptions, BucketPoint, PointIndex};
use history::{History, KEYS, Operation, STABLE, probe};
use schedules::pct;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{RandomScheduler, Scheduler};
use shuttle::thread;

const THREADS: u64 = 4;

/// What the threads of a test do.
#[derive(Debug, Clone, Copy)]
struct Setting {
    operations: usize,
    /// Of 8 operations so many take something out; more than half and the shard shrinks.
    removals: usize,
    /// Keys that are there from the start, besides the stable ones.
    filled: usize,
}

/// Resizes of all schedules of this process.
static RESIZES: AtomicU64 = AtomicU64::new(0);

/// Runs a share of the schedules, in percent, and makes sure that shards were resized in them.
fn explore<S: Scheduler + 'static>(
    name: &str,
    share: usize,
    scheduler: impl FnOnce(u64, usize) -> S,
    setting: Setting,
) {
    schedules::explore(name, share, scheduler, move || schedule(setting));
    assert!(RESIZES.load(Ordering::Relaxed) > 0, "no schedule resized anything");
}

fn schedule(setting: Setting) {
    let options = BucketOptions::default().shards(1);
    let index = Arc::new(BucketPoint::with_options(options).expect("legal"));
    let history = Arc::new(History::default());
    for key in STABLE.into_iter().chain(KEYS.into_iter().take(setting.filled)) {
        history.run(&index, Operation::Install(key, history.next_seq()));
    }
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let (index, history) = (Arc::clone(&index), Arc::clone(&history));
            thread::spawn(move || match n {
                0 => read(&index, &history),
                _ => write(&index, &history, setting),
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    end(&index, &history);
    RESIZES.fetch_add(index.stats().resizes, Ordering::Relaxed);
}

fn write(index: &BucketPoint, history: &History, setting: Setting) {
    let mut random = thread_rng();
    for _ in 0..setting.operations {
        let key = KEYS[random.gen_range(0..KEYS.len())];
        let kind = random.gen_range(0..8);
        let operation = match (kind, history.last_seen(key)) {
            (_, Some(seen)) if kind < setting.removals => Operation::Remove(key, seen),
            (6, Some(seen)) => Operation::Swap(key, seen, history.copy_of(seen)),
            (7, _) => Operation::Get(key),
            _ => {
                let seq = history.next_seq();
                // Lets later sequence numbers arrive first.
                thread::yield_now();
                Operation::Install(key, seq)
            }
        };
        history.run(index, operation);
    }
}

/// Looks at keys that nobody changes, exports everything, and helps.
fn read(index: &BucketPoint, history: &History) {
    for key in STABLE {
        assert!(history.run(index, Operation::Get(key)).is_some(), "a stable key is missing");
        history.run(index, Operation::Get(KEYS[0]));
    }
    let mut exported = Vec::new();
    let _ = index.for_each(&mut |address| {
        exported.push(address);
        ControlFlow::Continue(())
    });
    for key in STABLE {
        assert!(exported.iter().any(|at| at.slot() == key.id), "a stable key was not exported");
    }
    index.maintain();
}

/// Nobody else is there any more.
fn end(index: &BucketPoint, history: &History) {
    let mut found = BTreeMap::new();
    for key in STABLE.into_iter().chain(KEYS) {
        if let Some(address) = history.run(index, Operation::Get(key)) {
            found.insert(key.id, address);
        }
    }
    assert_eq!(index.len(), found.len(), "the count is off");
    let mut exported = Vec::new();
    let _ = index.for_each(&mut |address: Address| {
        exported.push((address.slot(), address));
        ControlFlow::Continue(())
    });
    // A resize that is under way may have an entry named twice, and never two entries of a key.
    exported.sort_unstable();
    exported.dedup();
    assert_eq!(exported, found.into_iter().collect::<Vec<_>>(), "export and look-ups differ");
    for key in STABLE.into_iter().chain(KEYS) {
        history.check(key);
        let _ = index.find(key.hash, |at| probe(at, key));
    }
}

const GROWING: Setting = Setting { operations: 8, removals: 1, filled: 0 };
const CHANGING: Setting = Setting { operations: 8, removals: 3, filled: 2 };
const SHRINKING: Setting = Setting { operations: 8, removals: 6, filled: KEYS.len() };

#[test]
fn each_key_is_a_register_while_the_shard_grows() {
    explore("growing", 25, RandomScheduler::new_from_seed, GROWING);
}

#[test]
fn each_key_is_a_register_while_entries_come_and_go() {
    explore("changing", 25, RandomScheduler::new_from_seed, CHANGING);
}

#[test]
fn each_key_is_a_register_while_the_shard_shrinks() {
    explore("shrinking", 25, RandomScheduler::new_from_seed, SHRINKING);
}

#[test]
fn each_key_is_a_register_when_few_preemptions_are_placed_badly() {
    explore("changing, PCT", 25, pct, CHANGING);
}

/// Each in a process of its own: a bug stays planted.
#[cfg(feature = "seeded-bugs")]
#[test]
fn canary_seeded_bugs_of_the_protocols_are_caught() {
    const BUG: &str = "CORTEN_SHUTTLE_BUG";
    if let Ok(bug) = std::env::var(BUG) {
        assert!(cortenkv_index::bugs::plant(&bug), "there is no bug {bug}");
        for setting in [GROWING, CHANGING, SHRINKING] {
            explore(&bug, 50, RandomScheduler::new_from_seed, setting);
            explore(&bug, 50, pct, setting);
        }
        return;
    }
    let bugs = [
        "chain-not-frozen",
        "deleted-taken-for-end",
        "fill-without-freeze",
        "frozen-taken-for-present",
        "late-fill",
        "late-swap-wins",
        "lost-slot-passed-over",
        "whole-by-first-slot",
    ];
    for bug in bugs {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["canary_seeded_bugs_of_the_protocols_are_caught", "--exact"])
            .env(BUG, bug)
            .env("CORTEN_SCHEDULES", "5000")
            .output()
            .unwrap();
        assert!(!child.status.success(), "{bug} was not caught");
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(!said.contains("there is no bug"), "{said}");
    }
}
