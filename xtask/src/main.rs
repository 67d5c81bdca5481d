//! `cargo xtask`: every developer command of Cortenkv. Without an argument it runs `ci`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::run::Result;
use xtask::workspace::Workspace;
use xtask::{
    asan, bench, check, ci, crash, demo, deny, features, fuzz, loom, shuttle, stress, test, tidy,
    torture,
};

/// Every developer command of Cortenkv. Each prints the command lines that it runs, stops at the
/// first failure, and says how to run that again.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything that must pass before a merge, with a budget per step (the default)
    Ci,
    /// Formatting, tidy, clippy and docs, with warnings as errors
    Check,
    /// The rules of the house: crate edges, file heads, tags, sizes, the hash in FORMAT.md
    Tidy(tidy::Options),
    /// All tests of the workspace, and those behind the feature test-util
    Test,
    /// Sets of features compile without a warning, and dependency trees stay small
    Features(features::Options),
    /// The crash suites: power cuts in a simulated file system, SIGKILL of a child, seeded bugs
    Crash(crash::Options),
    /// Every interleaving of small models, by loom
    Loom(loom::Options),
    /// Random schedules of whole protocols, by shuttle
    Shuttle(shuttle::Options),
    /// The point index beside its oracle, for ten million operations or more
    Stress(stress::Options),
    /// Suites with unsafe code under AddressSanitizer; needs a nightly toolchain
    Asan(asan::Options),
    /// Fuzz targets under AddressSanitizer; needs a nightly toolchain and a C++ compiler
    Fuzz(fuzz::Options),
    /// A look around: imports a folder with corten, opens it again, and asks it questions
    Demo(demo::Options),
    /// One suite of benchmarks; without a name, the list of them
    Bench(bench::Options),
    /// Every benchmark once with tiny sizes, so that none of them rots
    BenchSmoke,
    /// What does not fit in ci: crash, kill, shuttle and fuzz with new seeds until time is up
    Torture(torture::Options),
    /// Licences, sources and banned crates against deny.toml
    Deny,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            if let Some(line) = failure.last_line() {
                eprintln!("xtask: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let workspace = &Workspace::load()?;
    match cli.command.as_ref().unwrap_or(&Command::Ci) {
        Command::Ci => ci::run(workspace),
        Command::Check => check::run(workspace),
        Command::Tidy(options) => tidy::run(workspace, options),
        Command::Test => test::run(workspace),
        Command::Features(options) => features::run(workspace, options),
        Command::Crash(options) => crash::run(workspace, options),
        Command::Loom(options) => loom::run(workspace, options),
        Command::Shuttle(options) => shuttle::run(workspace, options),
        Command::Stress(options) => stress::run(workspace, options),
        Command::Asan(options) => asan::run(workspace, options),
        Command::Fuzz(options) => fuzz::run(workspace, options),
        Command::Demo(options) => demo::run(workspace, options),
        Command::Bench(options) => bench::run(workspace, options),
        Command::BenchSmoke => bench::smoke(workspace),
        Command::Torture(options) => torture::run(workspace, options),
        Command::Deny => deny::run(workspace),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
