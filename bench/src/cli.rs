//! The command of every package that brings suites: `list`, `run`, `smoke`.
//!
//! # Failure
//! Exit code 0: everything ran (and, with `--check`, every goal was reached); 1: a case failed or a goal was missed;
//! 2: the command line is wrong.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::error::{Context, Error, Result};
use crate::machine::Machine;
use crate::report::{self, Line, Row};
use crate::runner::{self, Phase, Runner};
use crate::suite::{Conclusion, Plan, Suite};

/// The suites of a package.
pub type Suites = Vec<Box<dyn Suite>>;

#[derive(Parser)]
#[command(version, about = "Measures Cortenkv, and other stores at the same work")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the suites and their cases.
    List,
    /// Runs suites and prints medians.
    Run(Run),
    /// Runs every suite tiny in a directory that is removed again; its numbers mean nothing.
    Smoke {
        /// Cases get fresh directories in here; the default is the system's temporary directory.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// One phase of one case; the runner starts it.
    #[command(hide = true)]
    Case {
        suite: String,
        case: String,
        #[arg(long, value_enum)]
        phase: Phase,
        #[arg(long)]
        plan: String,
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// Names of suites, or "all".
    #[arg(required = true)]
    suites: Vec<String>,
    /// Prints JSON lines instead of tables in Markdown.
    #[arg(long)]
    json: bool,
    /// Also writes the JSON lines to this file.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Cases get fresh directories in here: choose the file system that is to be measured.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    case: String,
    /// Exit with 1 when a goal is not reached.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    plan: PlanArgs,
}

#[derive(Args)]
struct PlanArgs {
    /// Seconds of the measured part of a timed case.
    #[arg(long, value_parser = positive)]
    seconds: Option<f64>,
    /// Operations of a timed case instead of its seconds.
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    operations: Option<u64>,
    /// Seconds before it that do not count.
    #[arg(long, value_parser = not_negative)]
    warm_up: Option<f64>,
    /// Seconds of each probe of the fsync rate.
    #[arg(long, value_parser = positive)]
    fsync_probe: Option<f64>,
    /// Records of cases that have a size.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// Keys of suites of stores and indexes instead of their own number.
    #[arg(long, value_parser = clap::value_parser!(u64).range(64..=100_000_000))]
    keys: Option<u64>,
    /// Bytes of a value in those suites instead of their own.
    #[arg(long, value_parser = clap::value_parser!(u16).range(32..))]
    value_bytes: Option<u16>,
    /// Thread counts instead of those of the suite, for instance 1,8,32.
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// Operations per second: an open loop, in which waiting counts.
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// Seed of all random bytes.
    #[arg(long)]
    seed: Option<u64>,
    /// Times that each case runs; the median is reported.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
}

impl PlanArgs {
    fn plan(&self) -> Plan {
        let full = Plan::full();
        Plan {
            seconds: self.seconds.unwrap_or(full.seconds),
            operations: self.operations,
            warm_up_seconds: self.warm_up.unwrap_or(full.warm_up_seconds),
            fsync_probe_seconds: self.fsync_probe.unwrap_or(full.fsync_probe_seconds),
            records: self.records.unwrap_or(full.records),
            keys: self.keys,
            value_bytes: self.value_bytes.map(usize::from),
            threads: self.threads.clone(),
            rate_per_second: self.rate,
            seed: self.seed.unwrap_or(full.seed),
            repeats: self.repeat.unwrap_or(full.repeats),
        }
    }
}

fn not_negative(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("a number from 0 to 1,000,000,000 is expected".into()),
    }
}

fn positive(text: &str) -> std::result::Result<f64, String> {
    not_negative(text).and_then(|number| match number {
        0.0 => Err("a number above 0 is expected".into()),
        number => Ok(number),
    })
}

/// Runs the command line of this process over these suites.
pub fn main(suites: Suites) -> ExitCode {
    let result = match Cli::parse().command {
        Command::List => list(&suites),
        Command::Run(run) => run.go(&suites),
        Command::Smoke { dir } => smoke(&suites, dir.as_deref()),
        Command::Case { suite, case, phase, plan, dir } => {
            run_child(&suites, &suite, &case, phase, &plan, &dir)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run_child(
    suites: &Suites,
    suite: &str,
    case: &str,
    phase: Phase,
    plan: &str,
    dir: &Path,
) -> Result<()> {
    let plan = serde_json::from_str(plan).context(|| "the plan is not JSON".into())?;
    runner::child(find(suites, suite)?, case, phase, dir, &plan)
}

fn list(suites: &Suites) -> Result<()> {
    let mut text = String::new();
    for suite in suites {
        text.push_str(&format!("{}\n    {}\n", suite.name(), suite.about()));
        for case in suite.cases(&Plan::full()) {
            text.push_str(&format!("    - {}: {}\n", case.name, case.settings));
        }
    }
    print(&text)
}

fn find<'a>(suites: &'a Suites, name: &str) -> Result<&'a dyn Suite> {
    suites.iter().find(|suite| suite.name() == name).map(|suite| suite.as_ref()).ok_or_else(|| {
        let names: Vec<_> = suites.iter().map(|suite| suite.name()).collect();
        Error::new(format!("no suite is called {name}; there are {}", names.join(", ")))
    })
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().context(|| "cannot find the program to start for each case".into())
}

impl Run {
    fn go(&self, suites: &Suites) -> Result<()> {
        let plan = self.plan.plan();
        let chosen: Vec<&dyn Suite> = match self.suites.iter().any(|name| name == "all") {
            true => suites.iter().map(|suite| suite.as_ref()).collect(),
            false => self.suites.iter().map(|name| find(suites, name)).collect::<Result<_>>()?,
        };
        let runner =
            Runner { program: program()?, dir: &self.dir, plan: &plan, filter: &self.case };
        let mut lines = Lines::new(self)?;
        let machine = Machine::gather(&self.dir);
        if !self.json {
            print(&format!("{}\n", machine_text(&machine)))?;
        }
        lines.line(&Line::Machine(machine))?;
        let mut missed = 0;
        for suite in chosen {
            let rows = runner.run(suite, |row| {
                eprintln!(
                    "{} {} #{}: {:.0} ops/s",
                    row.suite, row.case, row.repeat, row.ops_per_second
                );
                lines.line(&Line::Run(Box::new(row.clone())))
            })?;
            let medians = report::medians(&rows);
            let conclusions = suite.conclude(&medians);
            missed += conclusions.iter().filter(|conclusion| !conclusion.holds()).count();
            self.print_suite(suite, &medians, &conclusions, &mut lines)?;
        }
        if self.check && missed > 0 {
            return Err(Error::new(format!("{missed} goals were not reached")));
        }
        Ok(())
    }

    fn print_suite(
        &self,
        suite: &dyn Suite,
        medians: &[Row],
        conclusions: &[Conclusion],
        lines: &mut Lines,
    ) -> Result<()> {
        if !self.json {
            print(&suite_text(suite, medians, conclusions))?;
        }
        for row in medians {
            lines.line(&Line::Median(Box::new(row.clone())))?;
        }
        for conclusion in conclusions {
            let (suite, conclusion) = (suite.name().to_string(), conclusion.clone());
            lines.line(&Line::Conclusion { suite, conclusion })?;
        }
        Ok(())
    }
}

/// Where JSON lines go: standard output, a file, both or nowhere.
struct Lines {
    to_stdout: bool,
    file: Option<std::fs::File>,
}

impl Lines {
    fn new(run: &Run) -> Result<Self> {
        let create = |path: &PathBuf| {
            std::fs::File::create(path).context(|| format!("cannot create {}", path.display()))
        };
        Ok(Lines { to_stdout: run.json, file: run.output.as_ref().map(create).transpose()? })
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        let text = serde_json::to_string(line).context(|| "cannot encode a result".into())? + "\n";
        if self.to_stdout {
            print(&text)?;
        }
        match &mut self.file {
            Some(file) => {
                file.write_all(text.as_bytes()).context(|| "cannot write the output file".into())
            }
            None => Ok(()),
        }
    }
}

fn smoke(suites: &Suites, dir: Option<&Path>) -> Result<()> {
    let parent = dir.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let plan = Plan::smoke();
    for suite in suites {
        let runner = Runner { program: program()?, dir: &parent, plan: &plan, filter: "" };
        let rows = runner.run(suite.as_ref(), |_| Ok(()))?;
        if rows.is_empty() || rows.iter().any(|row| row.outcome.ops == 0) {
            return Err(Error::new(format!("a case of suite {} did nothing", suite.name())));
        }
        // Conclusions are computed too, so that they cannot rot; at this size they mean nothing.
        let medians = report::medians(&rows);
        let text = suite_text(suite.as_ref(), &medians, &suite.conclude(&medians));
        if text.is_empty() {
            return Err(Error::new(format!("suite {} has no report", suite.name())));
        }
        print(&format!("{}: {} cases ran\n", suite.name(), rows.len()))?;
    }
    Ok(())
}

fn suite_text(suite: &dyn Suite, medians: &[Row], conclusions: &[Conclusion]) -> String {
    let mut text = format!("\n## {}\n\n{}\n\n", suite.name(), suite.about());
    text.push_str(&format!("{}\n\n{}", report::table(medians), report::legend(medians)));
    for conclusion in conclusions {
        text.push_str(&format!("\n* {}", report::conclusion_text(conclusion)));
    }
    text + "\n"
}

fn machine_text(machine: &Machine) -> String {
    let Machine { cpu, cores, memory_bytes, kernel, filesystem, rustc, build, date } = machine;
    let gibibytes = *memory_bytes as f64 / (1u64 << 30) as f64;
    let warning = match build.as_str() {
        "debug" => "\nA debug build: these numbers mean nothing; use --release.",
        _ => "",
    };
    format!(
        "{cpu}, {cores} cores, {gibibytes:.1} GiB; {kernel}; {filesystem}; {rustc}, {build}; {date}{warning}"
    )
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context(|| "cannot print".into())
}
