//! `cargo xtask loom`: the models in `src/loom_models.rs` of a package, run through every interleaving up to a bound.
//!
//! They are unit tests, since the protocols that they model are private.

use crate::run::{Failure, Invocation, Result};
use crate::workspace::{Package, Workspace};

/// Where a package has its models.
const MODELS: &str = "src/loom_models.rs";

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
    let has_models = |package: &&Package| package.folder().join(MODELS).is_file();
    let packages: Vec<&Package> = workspace.packages.iter().filter(has_models).collect();
    if packages.is_empty() {
        return Err(Failure::new(format!(
            "no package has models; expected for instance wal/{MODELS}"
        )));
    }
    // Together, so that the models of one are compiled beside those of another.
    Invocation::cargo(&workspace.root, ["test", "--profile", "crash"])
        .args(packages.iter().flat_map(|package| package.args_to_check()))
        .args(["--lib", "--target-dir"])
        .arg(workspace.target_dir.join("loom").display())
        .arg("loom_models::")
        // Models with a planted defect must panic; where they do is no news.
        .env("RUST_BACKTRACE", 0)
        .env("RUSTFLAGS", "--cfg loom")
        .env("LOOM_MAX_PREEMPTIONS", options.bound)
        .run()
}
