//! `cargo xtask asan`: the suites of the packages with unsafe code that many threads run through, under
//! AddressSanitizer: a table that is read after it was dropped shows as such, whatever the bytes say.
//!
//! ThreadSanitizer would need a standard library built with it, so a nightly toolchain with `rust-src`.

use crate::fuzz::nightly_host;
use crate::run::{Failure, Invocation, Result};
use crate::workspace::Workspace;

const PACKAGE: &str = "cortenkv-index";

/// The suites; `--lib` is run with them.
const SUITES: &[&str] = &["model_point", "pins", "stopped_writer", "stress"];

/// The options of `cargo xtask asan`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many operations the suite `stress` does
    #[arg(long, value_name = "N", default_value_t = Options::default().operations)]
    pub operations: u64,
    /// Replays the operations of this seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// A machine without a nightly toolchain skips this and says so
    #[arg(long)]
    pub if_available: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { operations: 1_000_000, seed: None, if_available: false }
    }
}

/// Builds the suites with a nightly compiler and runs them.
///
/// # Errors
/// When a suite fails or is missing, or when the toolchain is missing and need not be.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    for suite in SUITES {
        workspace.require_target(PACKAGE, "test", suite)?;
    }
    let Some(host) = nightly_host(&workspace.root) else {
        if options.if_available {
            println!("asan: skipped, no nightly toolchain");
            return Ok(());
        }
        return Err(Failure::new(
            "no nightly toolchain; `rustup toolchain install nightly` adds it",
        ));
    };
    let suites = SUITES.iter().flat_map(|suite| ["--test", suite]);
    // A target triple of its own for the suites keeps the flags away from build scripts.
    Invocation::new(&workspace.root, "rustup")
        .args(["run", "nightly", "cargo", "test", "--profile", "crash", "-p", PACKAGE])
        .args(["--features", "test-util", "--lib"])
        .args(suites)
        .args(["--target", &host, "--target-dir"])
        .arg(workspace.target_dir.join("asan").display())
        // The canaries of the kit test the kit.
        .args(["--", "--skip", "canary_"])
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // Generic statics in several crates are not two definitions of one.
        .env("ASAN_OPTIONS", "detect_odr_violation=0")
        .env("CORTEN_OPERATIONS", options.operations)
        .env_opt("CORTEN_SEED", options.seed)
        .run()
}
