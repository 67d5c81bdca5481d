//! `cargo xtask stress`: the point index beside its oracle, in ten million operations or as many as asked for.
//!
//! The suite `stress` of a package reads `CORTEN_OPERATIONS` and `CORTEN_SEED`; without a seed it chooses one and prints
//! it.

use crate::run::{Invocation, Result};
use crate::workspace::Workspace;

const PACKAGE: &str = "cortenkv-index";

/// The options of `cargo xtask stress`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many operations in all
    #[arg(long, value_name = "N", default_value_t = Options::default().operations)]
    pub operations: u64,
    /// Replays the operations of this seed; how threads meet is left to the machine
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options { operations: 10_000_000, seed: None }
    }
}

/// Runs the suite.
///
/// # Errors
/// When the kinds differ, or when there is no suite.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    workspace.require_target(PACKAGE, "test", "stress")?;
    Invocation::cargo(&workspace.root, ["test", "--profile", "crash", "-p", PACKAGE])
        .args(["--features", "test-util", "--test", "stress", "--", "--nocapture"])
        .env("CORTEN_OPERATIONS", options.operations)
        .env_opt("CORTEN_SEED", options.seed)
        .run()
}
