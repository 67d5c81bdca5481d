//! Runs the cases of suites: each in a process and a directory of its own, repeats interleaved.
//!
//! # Layout
//! The parent makes the directory, probes the fsync rate and starts its own program again with the hidden command
//! `case`; that child does one phase of one case ([`child`]) and prints the row as its last line.
//!
//! # Failure
//! A case that fails stops the suite with the name of the case and what the child wrote to its standard error.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::disk_usage;
use crate::error::{Context, Error, Result};
use crate::fsync_rate;
use crate::log_store::Class;
use crate::process::memory;
use crate::report::Row;
use crate::suite::{Case, CaseContext, Ending, Plan, Suite};

/// Runs suites.
pub struct Runner<'a> {
    /// The program that answers the command `case`.
    pub program: PathBuf,
    /// Cases get fresh directories in here.
    pub dir: &'a Path,
    /// How large everything is.
    pub plan: &'a Plan,
    /// Only cases whose name contains this; empty = all.
    pub filter: &'a str,
}

/// Which part of a case a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Phase {
    /// The work beforehand.
    Prepare,
    /// The measured work.
    Run,
}

impl Runner<'_> {
    /// Runs every case of a suite as often as the plan says; `each` sees every row as it comes.
    pub fn run(
        &self,
        suite: &dyn Suite,
        mut each: impl FnMut(&Row) -> Result<()>,
    ) -> Result<Vec<Row>> {
        let mut cases = suite.cases(self.plan);
        cases.retain(|case| case.name.contains(self.filter));
        let mut rows = Vec::new();
        for repeat in 1..=self.plan.repeats {
            for case in &cases {
                let row = self
                    .run_case(suite, case, repeat)
                    .context(|| format!("suite {}, case {}", suite.name(), case.name))?;
                each(&row)?;
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn run_case(&self, suite: &dyn Suite, case: &Case, repeat: u32) -> Result<Row> {
        let fresh = tempfile::Builder::new()
            .prefix("cortenkv-bench-")
            .tempdir_in(self.dir)
            .context(|| format!("cannot make a directory in {}", self.dir.display()))?;
        let case_dir = fresh.path().join("case");
        std::fs::create_dir(&case_dir)
            .context(|| format!("cannot create {}", case_dir.display()))?;
        if case.prepare.is_some() {
            self.child(suite, case, &case_dir, Phase::Prepare)?;
        }
        let is_synced = case.promise.class == Class::Synced;
        let probe_window = Duration::from_secs_f64(self.plan.fsync_probe_seconds);
        let probe = || match is_synced {
            true => {
                fsync_rate::measure(fresh.path(), probe_window).map(|rate| Some(rate.per_second))
            }
            false => Ok(None),
        };
        let before = probe()?;
        let output = self.child(suite, case, &case_dir, Phase::Run)?;
        let after = probe()?;
        let last_line = output.lines().last().unwrap_or_default();
        let mut row: Row = serde_json::from_str(last_line)
            .context(|| format!("the child printed {last_line:?} instead of a row"))?;
        row.repeat = repeat;
        row.fsync_rate_before = before;
        row.fsync_rate_after = after;
        row.ratio_to_fsync_rate =
            before.zip(after).map(|(before, after)| row.ops_per_second / ((before + after) / 2.0));
        fresh.close().context(|| "cannot remove the directory of the case".into())?;
        Ok(row)
    }

    /// Runs one phase in a child and returns its standard output.
    fn child(&self, suite: &dyn Suite, case: &Case, dir: &Path, phase: Phase) -> Result<String> {
        let plan = serde_json::to_string(self.plan).context(|| "cannot encode the plan".into())?;
        let phase_name = if phase == Phase::Prepare { "prepare" } else { "run" };
        let output = Command::new(&self.program)
            .args([
                "case",
                suite.name(),
                &case.name,
                "--phase",
                phase_name,
                "--plan",
                &plan,
                "--dir",
            ])
            .arg(dir)
            .stdin(Stdio::null())
            .output()
            .context(|| format!("cannot start {}", self.program.display()))?;
        let dies = phase == Phase::Prepare
            && case.prepare.as_ref().is_some_and(|prepare| prepare.ending == Ending::Killed);
        let as_expected = match dies {
            true => output.status.signal() == Some(Signal::KILL.as_raw()),
            false => output.status.success(),
        };
        if !as_expected {
            let reason = String::from_utf8_lossy(&output.stderr);
            let status = output.status;
            return Err(Error::new(format!(
                "its {phase_name} ended with {status}: {}",
                reason.trim()
            )));
        }
        String::from_utf8(output.stdout)
            .context(|| "the child printed bytes that are not text".into())
    }
}

/// The child's side: one phase of one case. A phase that ends killed does not return.
pub fn child(suite: &dyn Suite, name: &str, phase: Phase, dir: &Path, plan: &Plan) -> Result<()> {
    let cases = suite.cases(plan);
    let case = cases.iter().find(|case| case.name == name).ok_or_else(|| {
        Error::new(format!("suite {} has no case {name} under this plan", suite.name()))
    })?;
    let context = CaseContext { dir, plan };
    match phase {
        Phase::Prepare => prepare(case, &context),
        Phase::Run => {
            let outcome = (case.run)(&context)?;
            let row = Row {
                suite: suite.name().into(),
                case: case.name.clone(),
                repeat: 0,
                settings: case.settings.clone(),
                promise: case.promise.clone(),
                threads: case.threads,
                seed: plan.seed,
                ops_per_second: outcome.ops as f64 / outcome.seconds.max(1e-9),
                outcome,
                memory: memory(),
                disk_bytes: disk_usage::of(dir, |_| true)?,
                fsync_rate_before: None,
                fsync_rate_after: None,
                ratio_to_fsync_rate: None,
            };
            let line = serde_json::to_string(&row).context(|| "cannot encode the row".into())?;
            writeln!(std::io::stdout(), "{line}").context(|| "cannot print the row".into())
        }
    }
}

fn prepare(case: &Case, context: &CaseContext<'_>) -> Result<()> {
    let Some(prepare) = &case.prepare else {
        return Err(Error::new(format!("case {} has nothing to prepare", case.name)));
    };
    let kept = (prepare.run)(context)?;
    if prepare.ending == Ending::Killed {
        // Everything is still open: no destructor runs, no buffer of the process is written.
        kill_process(getpid(), Signal::KILL).context(|| "cannot kill this process".into())?;
    }
    drop(kept);
    Ok(())
}
