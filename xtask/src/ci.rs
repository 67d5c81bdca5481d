//! `cargo xtask ci`: everything that must pass before a merge, in one order, within one budget.
//!
//! A step over its budget is printed as OVER and does not fail: nobody may assert a time on a machine that others use.
//! Whoever adds to a step takes the seconds from the reserve; what does not fit belongs in `cargo xtask torture`.

use std::time::Instant;

use crate::run::{Result, seconds};
use crate::workspace::Workspace;
use crate::{check, crash, deny, features, fuzz, loom, shuttle, stress, test};

/// Seconds that the whole may take on 2 cores, from an empty target folder.
const BUDGET_SECONDS: u32 = 20 * 60;

/// LIMIT: seconds that each fuzz target may run in CI. Its runs are counted, and take about 6 s on a core of their own;
/// a machine on which they take longer than this tries fewer inputs, but still the same ones.
const FUZZ_SECONDS: u64 = 45;

/// One line of the budget.
struct Step {
    name: &'static str,
    /// On 2 cores, from an empty target folder.
    budget_seconds: u32,
    /// Nothing for a reserve.
    run: Option<fn(&Workspace) -> Result<()>>,
}

/// The budget, in the order of the run: what fails most often and soonest comes first.
const STEPS: &[Step] = &[
    step("check", 45, check::run),
    step("deny", 10, deny::run),
    step("test", 420, test::run),
    step("features", 50, |workspace| features::run(workspace, &features::Options { all: false })),
    step("crash", 115, |workspace| crash::run(workspace, &crash::Options::default())),
    step("crash --bugs", 150, |workspace| {
        crash::run(workspace, &crash::Options { bugs: true, ..Default::default() })
    }),
    step("loom", 170, |workspace| loom::run(workspace, &loom::Options::default())),
    step("shuttle", 60, |workspace| shuttle::run(workspace, &shuttle::Options::default())),
    step("stress", 50, |workspace| stress::run(workspace, &stress::Options::default())),
    step("fuzz", 90, |workspace| {
        let options = fuzz::Options {
            seconds: FUZZ_SECONDS,
            repeatable: true,
            if_available: true,
            ..Default::default()
        };
        fuzz::run(workspace, &options)
    }),
    reserve("reserve", 40),
];

const fn step(name: &'static str, budget_seconds: u32, run: fn(&Workspace) -> Result<()>) -> Step {
    Step { name, budget_seconds, run: Some(run) }
}

const fn reserve(name: &'static str, budget_seconds: u32) -> Step {
    Step { name, budget_seconds, run: None }
}

const _: () = {
    let (mut sum, mut at) = (0, 0);
    while at < STEPS.len() {
        sum += STEPS[at].budget_seconds;
        at += 1;
    }
    assert!(sum == BUDGET_SECONDS, "the budgets of the steps must add up to that of the whole");
};

/// Runs the steps and prints what they took beside what they may take.
///
/// # Errors
/// At the first step that fails.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut taken_seconds = Vec::new();
    let mut result = Ok(());
    for step in STEPS {
        let Some(run) = step.run else { continue };
        println!("\n=== {}", step.name);
        let start = Instant::now();
        let replay = format!("cargo xtask {}", step.name);
        result = run(workspace).map_err(|failure| failure.in_step(step.name, &replay));
        taken_seconds.push(start.elapsed().as_secs_f64());
        if result.is_err() {
            break;
        }
    }
    println!("\n{}", table(&taken_seconds, result.is_err()));
    result
}

/// The budget with what the first steps took; the last of these failed or not.
fn table(taken_seconds: &[f64], failed: bool) -> String {
    let mut lines = vec![format!("{:<14}{:>10}{:>16}", "step", "budget", "took")];
    for (at, step) in STEPS.iter().enumerate() {
        let took = taken_seconds.get(at);
        let remark = match took {
            Some(_) if failed && at + 1 == taken_seconds.len() => "  FAILED",
            Some(&took) if took > f64::from(step.budget_seconds) => "  OVER",
            _ => "",
        };
        let took = took.map_or("-".to_owned(), |took| seconds(*took));
        lines.push(format!("{:<14}{:>8} s{took:>16}{remark}", step.name, step.budget_seconds));
    }
    let total = seconds(taken_seconds.iter().sum());
    lines.push(format!("{:<14}{BUDGET_SECONDS:>8} s{total:>16}", "total"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(table: &'a str, name: &str) -> &'a str {
        table.lines().find(|line| line.starts_with(name)).unwrap()
    }

    #[test]
    fn a_step_over_its_budget_is_said_so_and_does_not_fail() {
        let table = table(&[1_000.0, 1.0], false);
        assert!(line(&table, "check").ends_with("16 min 40 s  OVER"));
        assert!(line(&table, "deny").ends_with("1.0 s"));
        assert!(line(&table, "total").ends_with("16 min 41 s"));
    }

    #[test]
    fn the_step_that_failed_is_marked_and_the_rest_has_no_time() {
        let table = table(&[1.0, 2.0], true);
        assert!(line(&table, "deny").ends_with("2.0 s  FAILED"));
        assert!(line(&table, "test").ends_with('-'));
    }

    #[test]
    fn reserves_come_last_so_that_times_match_steps() {
        assert!(STEPS.iter().is_sorted_by_key(|step| step.run.is_none()));
    }
}
