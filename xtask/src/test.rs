//! `cargo xtask test`: every test that plain cargo runs.

use crate::run::{Invocation, Result};
use crate::workspace::Workspace;

/// Unit tests, integration tests and documentation tests of the workspace, then the tests that need
/// the test doubles.
///
/// # Errors
/// When a test fails or does not compile.
pub fn run(workspace: &Workspace) -> Result<()> {
    let cargo = |args: &[&str]| Invocation::cargo(&workspace.root, args.iter().copied()).run();
    // Those two have their turn with the test doubles: their tests run once.
    cargo(&["test", "--workspace", "--exclude", "cortenkv", "--exclude", "cortenkv-wal"])?;
    cargo(&["test", "-p", "cortenkv-wal", "--features", "test-util"])?;
    // The crash suites have a command of their own, which builds them for speed; here they only have to work.
    Invocation::cargo(&workspace.root, ["test", "-p", "cortenkv", "--features", "test-util,serde"])
        .env("CORTEN_CRASH_IMAGES", 3_000)
        .env("CORTEN_FAULT_RUNS", 300)
        .env("CORTEN_ROT_COPIES", 1_000)
        .env("CORTEN_KILL_ROUNDS", 12)
        .run()
}
