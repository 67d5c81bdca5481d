//! `cargo xtask bench` and `cargo xtask bench-smoke`: the load driver of `bench/`, built for speed.

use crate::run::{Invocation, Result};
use crate::workspace::Workspace;

const PACKAGE: &str = "cortenkv-bench";

/// The options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The suite to run; without it, the suites are listed
    pub suite: Option<String>,
    /// Print one JSON object for each result
    #[arg(long, requires = "suite")]
    pub json: bool,
}

/// Runs one suite, or lists them.
///
/// # Errors
/// When the driver does not build or answers a failure.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let Some(suite) = &options.suite else {
        return driver(workspace)?.arg("list").run();
    };
    let json = options.json.then_some("--json");
    driver(workspace)?.args(["run", suite]).args(json).run()
}

/// Runs everything in the driver once with tiny sizes.
///
/// # Errors
/// When a workload fails.
pub fn smoke(workspace: &Workspace) -> Result<()> {
    driver(workspace)?.arg("smoke").run()
}

fn driver(workspace: &Workspace) -> Result<Invocation> {
    workspace.require_target(PACKAGE, "bin", PACKAGE)?;
    Ok(Invocation::cargo(&workspace.root, ["run", "--release", "-p", PACKAGE, "--"]))
}
