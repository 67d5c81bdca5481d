//! The suite `store-churn`: what a store takes on the disk while it is overwritten, after that, and after most of it is deleted.
//!
//! # How it is measured
//! Allocated blocks of all files; those that are derived from others apart. Live bytes are those of keys and values. A
//! thread looks four times a second. Nobody calls anything while the store is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cortenkv_bench::disk_usage;
use cortenkv_bench::process::{cpu_time, written_bytes};
use cortenkv_bench::report::Row;
use cortenkv_bench::suite::{Case, CaseContext, Conclusion, Outcome, Plan, Suite};
use cortenkv_bench::{Error, Result};

use crate::store::{KEY_BYTES, Role, Store, StoreKind};
use crate::store_work::{Layout, Run};
use crate::stores;

/// Keys and bytes of a value, unless the plan says otherwise.
const SIZES: [(u64, usize); 2] = [(2_000_000, 100), (2_000_000, 1024)];
/// How often the whole is overwritten.
const ROUNDS: u64 = 10;
/// Of this many keys one stays when the others are deleted.
const KEPT_OF: u64 = 20;
/// How long the store is left alone. A tiny run (one with counted operations) has no time for it.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_TINY: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What a store may take beside what its data needs.
const BASE_BYTES: f64 = (32 << 20) as f64;

/// See the module.
pub struct StoreChurn;

impl Suite for StoreChurn {
    fn name(&self) -> &'static str {
        "store-churn"
    }

    fn about(&self) -> &'static str {
        "Space and bytes written: 2 M entries of 16 + 100 and of 16 + 1,024 bytes (--keys, --value-bytes) are overwritten ten \
         times at random, left alone for 30 s, deleted but for one in 20, and left alone again."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let mut cases = Vec::new();
        for size in sizes(plan) {
            let kinds = stores::all().into_iter();
            let kinds = kinds.filter(|kind| matches!(kind.role(), Role::Ours | Role::Peer));
            cases.extend(
                kinds.filter(|kind| !kind.is_for_writes_only()).map(|kind| case(&kind, size)),
            );
        }
        cases
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        medians.iter().flat_map(conclusions).collect()
    }
}

/// The figures of a row, and what is wanted of those of ours.
fn conclusions(row: &Row) -> Vec<Conclusion> {
    let is_ours = row.case.starts_with("cortenkv-churn-");
    let idle_goal = if row.case.ends_with("-100") { 1.7 } else { 1.25 };
    let goals = [
        ("x_live_under_load", Some(1.45)),
        ("x_live_at_the_end", None),
        ("x_live_after_idle", Some(idle_goal)),
        ("mb_after_idle", None),
        ("derived_bytes_per_key", None),
        ("write_amplification", Some(2.8)),
        ("x_live_after_deletes", Some(1.3)),
        ("mb_after_deletes", None),
    ];
    let found = goals.into_iter().filter_map(|(name, goal)| {
        let value = *row.outcome.extra.get(name)?;
        Some(match goal.filter(|_| is_ours) {
            Some(goal) => {
                let text = format!("{}: {goal} over {name} of {value:.2}", row.case);
                Conclusion { text, value: goal / value.max(1e-9), goal: Some(1.0) }
            }
            None => Conclusion { text: format!("{}: {name}", row.case), value, goal: None },
        })
    });
    found.collect()
}

fn sizes(plan: &Plan) -> Vec<(u64, usize)> {
    match (plan.keys, plan.value_bytes) {
        (None, None) => SIZES.to_vec(),
        (keys, value_bytes) => {
            vec![(keys.unwrap_or(SIZES[0].0), value_bytes.unwrap_or(SIZES[0].1))]
        }
    }
}

fn case(kind: &Arc<dyn StoreKind>, (keys, value_bytes): (u64, usize)) -> Case {
    let kind = kind.clone();
    Case {
        name: format!("{}-churn-{value_bytes}", kind.name()),
        settings: kind.settings(),
        promise: kind.promise(),
        threads: 1,
        prepare: None,
        run: Box::new(move |context| {
            let run = Run::of_size(kind.as_ref(), context, keys, value_bytes);
            Churn { run, context, keys, entry_bytes: (KEY_BYTES + value_bytes) as u64 }.go()
        }),
    }
}

struct Churn<'a> {
    run: Run<'a>,
    context: &'a CaseContext<'a>,
    keys: u64,
    entry_bytes: u64,
}

impl Churn<'_> {
    fn go(&self) -> Result<Outcome> {
        let store = self.run.kind.open(self.context.dir)?;
        let store = store.as_ref();
        let written_before = written_bytes();
        self.run.load(store, Layout::Random)?;
        let (start, cpu) = (Instant::now(), cpu_time());
        let puts = self.keys * ROUNDS;
        let most = self.while_looking(|| self.run.overwrite_some(store, puts))?;
        let mut outcome = Outcome::of_pass(puts, start.elapsed(), cpu_time() - cpu);
        let mut note = |name: &str, value: f64| outcome.extra.insert(name.into(), value);
        let live = (self.keys * self.entry_bytes) as f64;
        note("x_live_under_load", over(most, live));
        note("x_live_at_the_end", over(self.bytes()?, live));
        self.idle();
        note("x_live_after_idle", over(self.bytes()?, live));
        note("mb_after_idle", self.bytes()? as f64 / 1e6);
        note("derived_bytes_per_key", self.derived_bytes()? as f64 / self.keys as f64);
        let put_bytes = ((self.keys + puts) * self.entry_bytes) as f64;
        note("write_amplification", (written_bytes() - written_before) as f64 / put_bytes);
        let kept = self.delete_most(store)?;
        self.idle();
        let live = (kept * self.entry_bytes) as f64;
        note("x_live_after_deletes", over(self.bytes()?, live));
        note("mb_after_deletes", self.bytes()? as f64 / 1e6);
        self.check(store, kept)?;
        Ok(outcome)
    }

    /// Does the work while a thread looks at the disk; returns the most bytes of data that it saw.
    fn while_looking(&self, work: impl FnOnce() -> Result<()>) -> Result<u64> {
        let (is_done, most) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                while !is_done.load(Relaxed) {
                    most.fetch_max(self.bytes()?, Relaxed);
                    std::thread::sleep(LOOK_EVERY);
                }
                Ok(())
            });
            let worked = work();
            is_done.store(true, Relaxed);
            let looked = looking.join().unwrap_or_else(|_| Err(Error::new("looking panicked")));
            worked.and(looked)
        })?;
        Ok(most.into_inner())
    }

    fn delete_most(&self, store: &dyn Store) -> Result<u64> {
        let mut session = store.session()?;
        let order = self.run.order(Layout::Random);
        let mut kept = 0;
        for place in 0..self.keys {
            match place % KEPT_OF {
                0 => kept += 1,
                _ => session.delete(&crate::store_data::key(order(place)))?,
            }
        }
        Ok(kept)
    }

    /// Whether what is kept is there, and what is deleted is not.
    fn check(&self, store: &dyn Store, kept: u64) -> Result<()> {
        let mut found = 0;
        store.session()?.scan(&crate::store_data::key(0), &mut |_, _| {
            found += 1;
            std::ops::ControlFlow::Continue(())
        })?;
        match found == kept {
            true => Ok(()),
            false => Err(Error::new(format!("it has {found} entries of {kept}"))),
        }
    }

    fn idle(&self) {
        let is_tiny = self.context.plan.operations.is_some();
        std::thread::sleep(if is_tiny { IDLE_TINY } else { IDLE });
    }

    fn bytes(&self) -> Result<u64> {
        disk_usage::of(self.context.dir, |file| !self.run.kind.is_derived(file))
    }

    fn derived_bytes(&self) -> Result<u64> {
        disk_usage::of(self.context.dir, |file| self.run.kind.is_derived(file))
    }
}

/// How many times its live bytes a store takes, without what any store may take.
fn over(bytes: u64, live: f64) -> f64 {
    (bytes as f64 - BASE_BYTES).max(0.0) / live
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_store_may_take_does_not_count() {
        assert_eq!(over((32 << 20) + 150, 100.0), 1.5);
        assert_eq!(over(5, 100.0), 0.0);
    }

    #[test]
    fn a_run_has_its_own_sizes_or_those_of_the_plan() {
        assert_eq!(sizes(&Plan::full()), SIZES);
        assert_eq!(sizes(&Plan { keys: Some(7), ..Plan::full() }), [(7, 100)]);
    }
}
