//! The suite `store-open`: how long a store takes from nothing to its first answer, after a close and after a kill.
//!
//! # How it is measured
//! One process loads the store and closes it. Where a kill is measured, it opens the store again, puts some of the keys once
//! more, and is killed with the store open. The next process opens the store and gets one key; that is the time. Files
//! are in the page cache. Behind the clock every entry is counted.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use cortenkv_bench::process::cpu_time;
use cortenkv_bench::report::Row;
use cortenkv_bench::suite::{Case, CaseContext, Conclusion, Ending, Outcome, Plan, Prepare, Suite};
use cortenkv_bench::{Error, Result};

use crate::store::{Role, Store, StoreKind};
use crate::store_data::key;
use crate::store_work::{Layout, Run};
use crate::stores;

/// Numbers of keys, unless the plan says otherwise.
const KEYS: [u64; 2] = [1_000_000, 10_000_000];
/// Puts between the last close and a kill, in percent of the keys.
const LATE_PERCENT: [u64; 3] = [10, 25, 50];
/// The one of them that every store is measured at.
const LATE_PERCENT_OF_ALL: u64 = 10;

/// The arm that goals are about.
const OURS: &str = "cortenkv";

/// See the module.
pub struct StoreOpen;

impl Suite for StoreOpen {
    fn name(&self) -> &'static str {
        "store-open"
    }

    fn about(&self) -> &'static str {
        "Opens stores of 1 and 10 M entries of 16 and 100 bytes (--keys, --value-bytes) that were closed, or killed after some \
         more puts, and gets one key."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let sizes = plan.keys.map_or(KEYS.to_vec(), |keys| vec![keys]);
        let mut cases = Vec::new();
        for keys in sizes {
            for kind in stores::all().into_iter().filter(|kind| has_row(kind.as_ref())) {
                cases.push(Open { keys, late_percent: None }.case(&kind));
                let late = LATE_PERCENT.into_iter().filter(|&percent| {
                    // The larger sizes are about the close; the other amounts about ours.
                    keys == KEYS[0].min(keys)
                        && (percent == LATE_PERCENT_OF_ALL || kind.role() == Role::Ours)
                });
                for percent in late {
                    cases.push(Open { keys, late_percent: Some(percent) }.case(&kind));
                }
            }
        }
        cases
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let conclusions = medians.iter().filter_map(|row| {
            let open_ms = *row.outcome.extra.get("open_ms")?;
            Some(match row.case.strip_prefix(OURS).and_then(goal_ms) {
                Some(goal_ms) => {
                    let text = format!("{}: {goal_ms} ms over its {open_ms:.1} ms", row.case);
                    Conclusion { text, value: goal_ms / open_ms, goal: Some(1.0) }
                }
                None => {
                    let text = format!("{}: milliseconds", row.case);
                    Conclusion { text, value: open_ms, goal: None }
                }
            })
        });
        conclusions.collect()
    }
}

/// What is wanted of a case of ours, by its name behind that of the arm.
fn goal_ms(case: &str) -> Option<f64> {
    match case {
        "-open-1M-closed" => Some(100.0),
        "-open-10M-closed" => Some(500.0),
        _ if case.starts_with("-open-1M-killed") => Some(300.0),
        _ => None,
    }
}

fn has_row(kind: &dyn StoreKind) -> bool {
    matches!(kind.role(), Role::Ours | Role::Peer) && !kind.is_for_writes_only()
}

/// One case but for its arm.
#[derive(Debug, Clone, Copy)]
struct Open {
    keys: u64,
    /// Puts before the kill; none: it was closed.
    late_percent: Option<u64>,
}

impl Open {
    fn case(self, kind: &Arc<dyn StoreKind>) -> Case {
        let (preparing, measured) = (kind.clone(), kind.clone());
        let ending = if self.late_percent.is_some() { Ending::Killed } else { Ending::Clean };
        Case {
            name: self.name(kind.as_ref()),
            settings: kind.settings(),
            promise: kind.promise(),
            threads: 1,
            prepare: Some(Prepare {
                ending,
                run: Box::new(move |context| self.prepare(preparing.as_ref(), context)),
            }),
            run: Box::new(move |context| self.open(measured.as_ref(), context)),
        }
    }

    fn name(self, kind: &dyn StoreKind) -> String {
        let size = match self.keys {
            keys if keys >= 1_000_000 && keys % 1_000_000 == 0 => format!("{}M", keys / 1_000_000),
            keys => keys.to_string(),
        };
        let how = match self.late_percent {
            None => "closed".into(),
            Some(percent) => format!("killed-after-{percent}%"),
        };
        format!("{}-open-{size}-{how}", kind.name())
    }

    fn prepare(
        self,
        kind: &dyn StoreKind,
        context: &CaseContext<'_>,
    ) -> Result<Box<dyn std::any::Any>> {
        let run = Run::of_keys(kind, context, self.keys);
        let store = kind.open(context.dir)?;
        run.load(store.as_ref(), Layout::Random)?;
        store.settle()?;
        store.close()?;
        let Some(percent) = self.late_percent else { return Ok(Box::new(())) };
        let store = kind.open(context.dir)?;
        run.overwrite_some(store.as_ref(), self.keys * percent / 100)?;
        Ok(Box::new(Kept(store)))
    }

    fn open(self, kind: &dyn StoreKind, context: &CaseContext<'_>) -> Result<Outcome> {
        let (start, cpu) = (Instant::now(), cpu_time());
        let store = kind.open(context.dir)?;
        let is_found = store.session()?.get(&key(self.keys / 2), &mut |_| ())?;
        let (elapsed, cpu) = (start.elapsed(), cpu_time() - cpu);
        let found = count(store.as_ref())?;
        store.close()?;
        // What promises less may have lost puts, even all of them.
        let is_whole = is_found && found == self.keys;
        if !is_whole && (self.late_percent.is_none() || kind.role() == Role::Ours) {
            return Err(Error::new(format!("it has {found} entries of {}", self.keys)));
        }
        let mut outcome = Outcome::of_pass(self.keys, elapsed, cpu);
        outcome.extra.insert("open_ms".into(), elapsed.as_secs_f64() * 1e3);
        outcome.extra.insert("entries_found".into(), found as f64);
        Ok(outcome)
    }
}

/// A store that stays open until its process is killed.
struct Kept(#[expect(dead_code, reason = "it is held, not used")] Box<dyn Store>);

fn count(store: &dyn Store) -> Result<u64> {
    let mut found = 0;
    store.session()?.scan(&key(0), &mut |_, _| {
        found += 1;
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_names_of_their_own_and_ours_have_goals() {
        let cases = StoreOpen.cases(&Plan::full());
        for (n, case) in cases.iter().enumerate() {
            assert!(!cases[..n].iter().any(|other| other.name == case.name), "{}", case.name);
        }
        let with_goal =
            cases.iter().filter(|case| case.name.strip_prefix(OURS).and_then(goal_ms).is_some());
        assert_eq!(with_goal.count(), 5);
    }
}
