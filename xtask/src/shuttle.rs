//! `cargo xtask shuttle`: the protocols in test targets named `shuttle_*`, run through random schedules.
//!
//! The suites read `CORTEN_SCHEDULES` (how many schedules in all) and `CORTEN_SEED`; without a seed they choose one and
//! print it.

use crate::run::{Invocation, Result};
use crate::workspace::Workspace;

/// The options of `cargo xtask shuttle`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many schedules the suites of a package try together
    #[arg(long, value_name = "N", default_value_t = Options::default().schedules)]
    pub schedules: u64,
    /// Replays the run with this seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options { schedules: 20_000, seed: None }
    }
}

/// Runs the suites of every package that has some.
///
/// # Errors
/// When a schedule fails, or when there is no suite.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let packages = workspace.packages_with_tests("shuttle_")?;
    let packages = packages.into_iter().map(|name| workspace.package(name));
    let packages = packages.collect::<Result<Vec<_>>>()?;
    Invocation::cargo(&workspace.root, ["test", "--profile", "crash"])
        .args(packages.iter().flat_map(|package| package.args_to_check()))
        .args(["--test", "shuttle_*", "--target-dir"])
        .arg(workspace.target_dir.join("shuttle").display())
        .args(["--", "--nocapture"])
        // Some suites must fail, to show that they can; what they panic with in each of many schedules is no news. A
        // schedule that fails otherwise is named by its seed.
        .env("RUST_BACKTRACE", 0)
        .env("RUSTFLAGS", "--cfg shuttle")
        .env("CORTEN_SCHEDULES", options.schedules)
        .env_opt("CORTEN_SEED", options.seed)
        .run()
}
