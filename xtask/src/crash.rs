//! `cargo xtask crash`: power cuts in the simulated file system, SIGKILL of a real child, and seeded bugs, which prove
//! that those suites can fail.
//!
//! # Layout
//! The suites are test targets of `cortenkv` and read their orders from the environment:
//!
//! | target | reads | does |
//! |---|---|---|
//! | `crash` | `CORTEN_CRASH_IMAGES`, `CORTEN_FAULT_RUNS`, `CORTEN_SEED` | opens that many disk images after power cuts, and makes that many runs fail |
//! | `model_durable` | `CORTEN_MODEL_LIVES`, `CORTEN_SEED` | lives that many lives of 100 operations, crashes among them, beside a model |
//! | `kill` | `CORTEN_KILL_ROUNDS`, `CORTEN_SEED` | kills a child that often, with a ledger outside it |
//! | `seeded_bugs` | `CORTEN_BUG`, `CORTEN_SEED` | `list`: prints a line `bug: NAME` for each; else plants that bug and runs the general suites, which must fail |
//!
//! All are built with the feature `seeded-bugs`, in which a bug that is not planted is a branch that is not taken;
//! `cargo xtask test` runs the first three briefly without it.
//!
//! # Failure
//! A suite prints each broken promise in a line with `violation:` and `seed=`. A seeded bug counts as caught only by
//! such a line: a suite that does not compile or that trips over its own set-up has caught nothing.

use crate::run::{Failure, Invocation, Result};
use crate::workspace::Workspace;

const PACKAGE: &str = "cortenkv";

/// The suites.
const TARGETS: [&str; 4] = ["crash", "model_durable", "kill", "seeded_bugs"];

/// What stands in the line of a violation.
const VIOLATION: [&str; 2] = ["violation:", "seed="];

/// What stands before the name of each seeded bug in the list of them.
const BUG: &str = "bug: ";

/// The options of `cargo xtask crash`.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct Options {
    /// Replays the run with this seed; without it, a suite chooses one and prints it
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How much to try
    #[arg(long, value_enum, default_value_t)]
    pub budget: Budget,
    /// How many disk images to open, in the place of the budget's figure; 0 for none
    #[arg(long, value_name = "N")]
    pub images: Option<u64>,
    /// How many runs to make fail, in the place of the budget's figure; 0 for none
    #[arg(long, value_name = "N")]
    pub faults: Option<u64>,
    /// How many lives of 100 operations to live beside the model, in the place of the budget's figure; 0 for none
    #[arg(long, value_name = "N")]
    pub lives: Option<u64>,
    /// How often to kill the child, in the place of the budget's figure; 0 for none
    #[arg(long, value_name = "N")]
    pub kills: Option<u64>,
    /// Plants one bug and expects that the suites catch it; `list` prints the names
    #[arg(long, value_name = "NAME", conflicts_with_all = ["budget", "images", "faults", "lives", "kills", "bugs"])]
    pub bug: Option<String>,
    /// Plants one bug after the other and expects that the suites catch each
    #[arg(long, conflicts_with_all = ["budget", "images", "faults", "lives", "kills"])]
    pub bugs: bool,
}

/// Amounts for people who do not want to think about amounts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Budget {
    /// What each run of CI does: a minute or two
    #[default]
    #[value(alias = "default")]
    Ci,
    /// Some hours
    Long,
}

impl Budget {
    /// At crash points; with those of the recoveries and later lives behind them about 2.7 times as many.
    fn images(self) -> u64 {
        match self {
            Budget::Ci => 40_000,
            Budget::Long => 100_000_000,
        }
    }

    fn faults(self) -> u64 {
        match self {
            Budget::Ci => 5_000,
            Budget::Long => 2_000_000,
        }
    }

    /// A hundred operations each: 300,000 in CI.
    fn lives(self) -> u64 {
        match self {
            Budget::Ci => 3_000,
            Budget::Long => 100_000,
        }
    }

    fn kills(self) -> u64 {
        match self {
            Budget::Ci => 250,
            Budget::Long => 100_000,
        }
    }
}

/// Runs the suites, or the seeded bugs when asked for them.
///
/// # Errors
/// When a suite fails or is missing, or when a seeded bug is not caught.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    match &options.bug {
        Some(name) if name == "list" => {
            bug_names(workspace)?.iter().for_each(|name| println!("{name}"));
            Ok(())
        }
        Some(name) => catch(workspace, name, options.seed),
        None if options.bugs => catch_all(workspace, options.seed),
        None => {
            build(workspace)?;
            let images = options.images.unwrap_or(options.budget.images());
            let faults = options.faults.unwrap_or(options.budget.faults());
            if images + faults > 0 {
                run_disks(workspace, images, faults, options.seed)?;
            }
            let lives = options.lives.unwrap_or(options.budget.lives());
            if lives > 0 {
                run_model(workspace, lives, options.seed)?;
            }
            let kills = options.kills.unwrap_or(options.budget.kills());
            if kills > 0 {
                run_kill(workspace, kills, options.seed)?;
            }
            Ok(())
        }
    }
}

/// Opens that many images after simulated power cuts, and makes that many runs fail.
///
/// # Errors
/// At a violation, or when the suite is missing.
pub fn run_disks(workspace: &Workspace, images: u64, faults: u64, seed: Option<u64>) -> Result<()> {
    let suite = suite(workspace, "crash", seed)?;
    suite.env("CORTEN_CRASH_IMAGES", images).env("CORTEN_FAULT_RUNS", faults).run()
}

/// Lives that many lives beside the model.
///
/// # Errors
/// At a violation, or when the suite is missing.
pub fn run_model(workspace: &Workspace, lives: u64, seed: Option<u64>) -> Result<()> {
    suite(workspace, "model_durable", seed)?.env("CORTEN_MODEL_LIVES", lives).run()
}

/// Kills a child that often.
///
/// # Errors
/// When an acknowledged write is lost, or when the suite is missing.
pub fn run_kill(workspace: &Workspace, rounds: u64, seed: Option<u64>) -> Result<()> {
    suite(workspace, "kill", seed)?.env("CORTEN_KILL_ROUNDS", rounds).run()
}

fn suite(workspace: &Workspace, test: &str, seed: Option<u64>) -> Result<Invocation> {
    workspace.require_target(PACKAGE, "test", test)?;
    let cargo = cargo(workspace).args(["--test", test, "--", "--nocapture"]);
    Ok(cargo.env_opt("CORTEN_SEED", seed))
}

/// Compiles all suites at once: one after the other they would leave cores idle.
fn build(workspace: &Workspace) -> Result<()> {
    TARGETS
        .iter()
        .fold(cargo(workspace), |cargo, test| cargo.args(["--test", test]))
        .arg("--no-run")
        .run()
}

/// One set of features for all of them, so that the crates are compiled once.
fn cargo(workspace: &Workspace) -> Invocation {
    Invocation::cargo(&workspace.root, ["test", "--profile", "crash", "-p", PACKAGE])
        .args(["--features", "seeded-bugs"])
}

fn catch_all(workspace: &Workspace, seed: Option<u64>) -> Result<()> {
    let names = bug_names(workspace)?;
    for name in &names {
        catch(workspace, name, seed)?;
    }
    println!("{} seeded bugs, all caught", names.len());
    Ok(())
}

fn bug_names(workspace: &Workspace) -> Result<Vec<String>> {
    let list = suite(workspace, "seeded_bugs", None)?.env("CORTEN_BUG", "list");
    let captured = list.capture()?;
    if !captured.success {
        let text = captured.text;
        return Err(Failure::new(format!("`{}` failed:\n{text}", list.line())));
    }
    let names = listed(&captured.text);
    if names.is_empty() {
        return Err(Failure::new(format!("`{}` printed no line `{BUG}NAME`", list.line())));
    }
    Ok(names)
}

fn listed(text: &str) -> Vec<String> {
    // The test harness may have printed the start of the first line.
    let names = text.lines().filter_map(|line| line.split_once(BUG));
    names.map(|(_, name)| name.trim().to_owned()).collect()
}

fn catch(workspace: &Workspace, name: &str, seed: Option<u64>) -> Result<()> {
    let suite = suite(workspace, "seeded_bugs", seed)?.env("CORTEN_BUG", name);
    let captured = suite.capture()?;
    let violation = violation(captured.success, &captured.text).map_err(|reason| {
        Failure::new(format!("seeded bug `{name}` was not caught: {reason}\n  {}", suite.line()))
    })?;
    println!("  caught `{name}`: {violation}");
    Ok(())
}

/// The line of the violation by which a suite caught its bug, or why it did not.
fn violation(success: bool, text: &str) -> Result<&str, String> {
    if success {
        return Err("the suites passed".to_owned());
    }
    let line = text.lines().find(|line| VIOLATION.iter().all(|mark| line.contains(mark)));
    line.map(str::trim).ok_or_else(|| {
        let marks = VIOLATION.join(" ");
        format!("the run failed, but not by a line with `{marks}`:\n{}", text.trim_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_caught_by_a_violation_only() {
        let text = "crash: seed=7\n  violation: k1 is lost: seed=7 point=3\nb";
        assert_eq!(violation(false, text), Ok("violation: k1 is lost: seed=7 point=3"));
        assert_eq!(violation(true, text), Err("the suites passed".to_owned()));
        let broken = violation(false, "crash: seed=7\nerror[E0425]: no value").unwrap_err();
        assert!(broken.contains("but not by a line with") && broken.contains("E0425"));
    }

    #[test]
    fn names_are_read_from_the_output_of_the_test_harness() {
        let text = "\nrunning 1 test\ntest all ... bug: no-dir-sync\nbug: short-crc \nok\n";
        assert_eq!(listed(text), ["no-dir-sync", "short-crc"]);
    }
}
