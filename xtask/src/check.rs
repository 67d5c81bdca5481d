//! `cargo xtask check`: what can be said about the code without running it.

use crate::run::{Invocation, Result};
use crate::tidy;
use crate::workspace::Workspace;

/// Formatting, tidy, clippy and docs, cheapest first; a warning is an error.
///
/// # Errors
/// At the first of them that finds something.
pub fn run(workspace: &Workspace) -> Result<()> {
    let cargo = |args: &[&str]| Invocation::cargo(&workspace.root, args.iter().copied());
    cargo(&["fmt", "--all", "--", "--check"]).run()?;
    // The fuzz targets are no member of the workspace: other flags, another lock file.
    if workspace.root.join("fuzz/Cargo.toml").exists() {
        cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--", "--check"]).run()?;
    }
    tidy::run(workspace, &tidy::Options { bless: false })?;
    let deny_warnings = ["--", "-D", "warnings"];
    cargo(&["clippy", "--workspace", "--all-targets"]).args(deny_warnings).run()?;
    // What the default features leave out: test doubles and the tests that need them, spans, planted bugs.
    cargo(&["clippy", "-p", "cortenkv", "-p", "cortenkv-index", "--all-targets"])
        .args(["--features", "cortenkv/test-util,cortenkv-index/test-util"])
        .args(deny_warnings)
        .run()?;
    cargo(&["clippy", "-p", "cortenkv-wal", "--all-targets"])
        .args(["--features", "test-util,seeded-bugs,tracing"])
        .args(deny_warnings)
        .run()?;
    cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").run()
}
