//! `cargo xtask crash`: power cuts in the simulated file system, SIGKILL of a real child, and seeded bugs, which prove
//! that those suites can fail.
//!
//! # Layout
//! The suites are test targets of `cortenkv` and read their orders from the environment:
//!
//! | target | feature | reads | does |
//! |---|---|---|---|
//! | `crash` | `test-util` | `CORTEN_CRASH_IMAGES`, `CORTEN_SEED` | opens that many disk images after power cuts and faults |
//! | `model_durable` | `test-util` | `CORTEN_MODEL_LIVES`, `CORTEN_SEED` | lives that many lives of 100 operations, crashes among them, beside a model |
//! | `kill` | `test-util` | `CORTEN_KILL_ROUNDS`, `CORTEN_SEED` | kills a child that often, with a ledger outside it |
//! | `seeded_bugs` | `seeded-bugs` | `CORTEN_BUG`, `CORTEN_SEED` | `list`: prints a line `bug: NAME` for each; else plants that bug and runs the general suites, which must fail |
//!
//! # Failure
//! A suite prints each broken promise in a line with `violation:` and `seed=`. A seeded bug counts as caught only by
//! such a line: a suite that does not compile or that trips over its own set-up has caught nothing.

use crate::run::{Failure, Invocation, Result};
use crate::workspace::Workspace;

const PACKAGE: &str = "cortenkv";

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
    /// How many lives of 100 operations to live beside the model, in the place of the budget's figure; 0 for none
    #[arg(long, value_name = "N")]
    pub lives: Option<u64>,
    /// How often to kill the child, in the place of the budget's figure; 0 for none
    #[arg(long, value_name = "N")]
    pub kills: Option<u64>,
    /// Plants one bug and expects that the suites catch it; `list` prints the names
    #[arg(long, value_name = "NAME", conflicts_with_all = ["budget", "images", "lives", "kills", "bugs"])]
    pub bug: Option<String>,
    /// Plants one bug after the other and expects that the suites catch each
    #[arg(long, conflicts_with_all = ["budget", "images", "lives", "kills"])]
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
    fn images(self) -> u64 {
        match self {
            Budget::Ci => 40_000,
            Budget::Long => 100_000_000,
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
            Budget::Ci => 150,
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
            let images = options.images.unwrap_or(options.budget.images());
            if images > 0 {
                run_images(workspace, images, options.seed)?;
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

/// Opens that many images after simulated power cuts and faults.
///
/// # Errors
/// At a violation, or when the suite is missing.
pub fn run_images(workspace: &Workspace, images: u64, seed: Option<u64>) -> Result<()> {
    suite(workspace, "crash", "test-util", seed)?.env("CORTEN_CRASH_IMAGES", images).run()
}

/// Lives that many lives beside the model.
///
/// # Errors
/// At a violation, or when the suite is missing.
pub fn run_model(workspace: &Workspace, lives: u64, seed: Option<u64>) -> Result<()> {
    suite(workspace, "model_durable", "test-util", seed)?.env("CORTEN_MODEL_LIVES", lives).run()
}

/// Kills a child that often.
///
/// # Errors
/// When an acknowledged write is lost, or when the suite is missing.
pub fn run_kill(workspace: &Workspace, rounds: u64, seed: Option<u64>) -> Result<()> {
    suite(workspace, "kill", "test-util", seed)?.env("CORTEN_KILL_ROUNDS", rounds).run()
}

fn suite(
    workspace: &Workspace,
    test: &str,
    feature: &str,
    seed: Option<u64>,
) -> Result<Invocation> {
    workspace.require_target(PACKAGE, "test", test)?;
    let cargo = Invocation::cargo(&workspace.root, ["test", "--profile", "crash", "-p", PACKAGE])
        .args(["--features", feature, "--test", test, "--", "--nocapture"]);
    Ok(cargo.env_opt("CORTEN_SEED", seed))
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
    let list = suite(workspace, "seeded_bugs", "seeded-bugs", None)?.env("CORTEN_BUG", "list");
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
    let suite = suite(workspace, "seeded_bugs", "seeded-bugs", seed)?.env("CORTEN_BUG", name);
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
