//! `cargo xtask features`: a user may switch any part off, so sets of features compile without a warning; and the trees
//! of dependencies stay small.
//!
//! # Layout
//! - `sets`: which sets are tried
//! - `tree`: how many crates a user takes in

use crate::run::{Invocation, Result};
use crate::workspace::Workspace;

mod sets;
mod tree;

/// The parts of the engine: every combination of them is a store that somebody may want.
const PARTS: &[&str] = &["wal", "index", "ordered", "cache", "compaction", "snappy"];

/// The crates that stand alone, each with few features of its own.
const LEAVES: &[&str] =
    &["cortenkv-wal", "cortenkv-index", "cortenkv-cache", "cortenkv-compaction"];

/// The options of `cargo xtask features`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Every set, instead of a selection in which any three features meet in every way
    #[arg(long)]
    pub all: bool,
}

/// Checks the sets of the engine, of the leaves, and then the sizes of the trees.
///
/// # Errors
/// At the first set that does not compile without a warning, or the first tree over its limit.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let engine = features_of(workspace, "cortenkv")?;
    let others: Vec<&str> = engine.into_iter().filter(|name| !PARTS.contains(name)).collect();
    for set in sets::engine(PARTS, &others, options.all) {
        check(workspace, "cortenkv", &set)?;
    }
    for leaf in LEAVES {
        for set in sets::of(&features_of(workspace, leaf)?, options.all) {
            check(workspace, leaf, &set)?;
        }
    }
    tree::run(workspace)
}

fn features_of<'a>(workspace: &'a Workspace, package: &str) -> Result<Vec<&'a str>> {
    let names = workspace.package(package)?.features.keys().map(String::as_str);
    Ok(names.filter(|name| *name != "default").collect())
}

fn check(workspace: &Workspace, package: &str, set: &[&str]) -> Result<()> {
    let mut cargo = Invocation::cargo(&workspace.root, ["check", "--quiet", "-p", package])
        .arg("--no-default-features");
    if !set.is_empty() {
        cargo = cargo.arg("--features").arg(set.join(","));
    }
    cargo
        .arg("--target-dir")
        .arg(workspace.target_dir.join("features").display())
        .env("RUSTFLAGS", "-Dwarnings")
        .run()
}
