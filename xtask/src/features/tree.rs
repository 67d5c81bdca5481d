//! How many crates a user takes in with a package, itself included.

use std::collections::BTreeSet;

use crate::run::{Failure, Invocation, Result};
use crate::workspace::Workspace;

// LIMIT: crates in the tree of a package with its default features, itself included.
const CRATES_MAX: &[(&str, usize)] = &[("cortenkv", 30), ("cortenkv-wal", 12)];

/// Counts normal and build dependencies, on this platform.
///
/// # Errors
/// When a tree is over its limit; the sentence lists it.
pub fn run(workspace: &Workspace) -> Result<()> {
    for (package, limit) in CRATES_MAX {
        let cargo = Invocation::cargo(&workspace.root, ["tree", "-p", package]).args([
            "-e",
            "normal,build",
            "--prefix",
            "none",
        ]);
        println!("$ {}", cargo.line());
        let text = cargo.read()?;
        println!("  {}", verdict(package, &crates(&text), *limit)?);
    }
    Ok(())
}

/// The different `name version` in what `cargo tree --prefix none` prints.
fn crates(tree: &str) -> BTreeSet<String> {
    let named = tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    });
    named.collect()
}

fn verdict(package: &str, crates: &BTreeSet<String>, limit: usize) -> Result<String> {
    let count = crates.len();
    if count <= limit {
        return Ok(format!("{count} crates in the tree of {package}, at most {limit}"));
    }
    let list = crates.iter().map(|each| format!("\n  {each}")).collect::<String>();
    Err(Failure::new(format!("{count} crates in the tree of {package}, at most {limit}:{list}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_counts_once_per_version() {
        let tree = "cortenkv v0.1.0 (/somewhere/engine)\nbytes v1.12.0\nsyn v2.0.1 (*)\n\
                    syn v2.0.1\nsyn v1.0.0\nserde_derive v1.0.2 (proc-macro)\n";
        assert_eq!(crates(tree).len(), 5);
    }

    #[test]
    fn a_tree_over_its_limit_is_listed() {
        let crates = crates("a v1\nb v1\n");
        assert_eq!(verdict("a", &crates, 2).unwrap(), "2 crates in the tree of a, at most 2");
        let failure = verdict("a", &crates, 1).unwrap_err();
        assert!(failure.to_string().ends_with("at most 1:\n  a v1\n  b v1"));
    }
}
