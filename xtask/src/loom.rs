//! `cargo xtask loom`: the models in test targets named `loom_*`, run through every interleaving up to a bound.

use crate::run::{Invocation, Result};
use crate::workspace::Workspace;

/// The options of `cargo xtask loom`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often a thread may be interrupted in one interleaving
    #[arg(long, value_name = "N", default_value_t = Options::default().bound)]
    pub bound: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { bound: 2 }
    }
}

/// Runs the models of every package that has some.
///
/// # Errors
/// When a model fails, or when there is none.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    for package in workspace.packages_with_tests("loom_")? {
        Invocation::cargo(&workspace.root, ["test", "--profile", "crash", "-p", package])
            .args(["--test", "loom_*", "--target-dir"])
            .arg(workspace.target_dir.join("loom").display())
            .env("RUSTFLAGS", "--cfg loom")
            .env("LOOM_MAX_PREEMPTIONS", options.bound)
            .run()?;
    }
    Ok(())
}
