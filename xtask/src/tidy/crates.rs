//! Rules on packages: who may know whom, and what a library crate must bring along.

use std::collections::BTreeSet;

use super::Finding;
use crate::run::Result;
use crate::workspace::{Package, Workspace};

/// The packages of this workspace that each package may depend on, in `dev-dependencies` too.
const EDGES: &[(&str, &[&str])] = &[
    ("cortenkv-wal", &[]),
    ("cortenkv-index", &[]),
    ("cortenkv-cache", &[]),
    ("cortenkv-compaction", &[]),
    ("cortenkv", LEAVES),
    ("cortenkv-cli", &["cortenkv"]),
    (
        "cortenkv-bench",
        &["cortenkv", "cortenkv-wal", "cortenkv-index", "cortenkv-cache", "cortenkv-compaction"],
    ),
    ("xtask", &[]),
];

const LEAVES: &[&str] =
    &["cortenkv-wal", "cortenkv-index", "cortenkv-cache", "cortenkv-compaction"];

/// The crates that people use from their own code.
const LIBRARIES: &[&str] =
    &["cortenkv-wal", "cortenkv-index", "cortenkv-cache", "cortenkv-compaction", "cortenkv"];

/// Applies both rules.
///
/// # Errors
/// When a library crate is not in the workspace.
pub fn findings(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = edge_findings(&workspace.packages);
    for name in LIBRARIES {
        findings.extend(missing_parts(workspace.package(name)?));
    }
    Ok(findings)
}

fn edge_findings(packages: &[Package]) -> Vec<Finding> {
    let members: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        let Some((name, allowed)) = EDGES.iter().find(|(name, _)| *name == package.name) else {
            let text = "has no line in the table of xtask/src/tidy/crates.rs: say whom it may know";
            findings.push(Finding::new(&package.name, 0, text));
            continue;
        };
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            // A package may name itself, to turn its own features on for its tests.
            if !members.contains(other) || other == *name || allowed.contains(&other) {
                continue;
            }
            let kind = dependency.kind.as_deref().unwrap_or("normal");
            let text = format!("must not know `{other}` ({kind} dependency)");
            findings.push(Finding::new(&package.name, 0, text));
        }
    }
    findings
}

fn missing_parts(package: &Package) -> Vec<Finding> {
    let files = ["README.md", "CHANGELOG.md"];
    let missing_files = files.into_iter().filter(|file| !package.folder().join(file).is_file());
    let missing_example = package.targets_of("example").next().is_none();
    missing_files
        .chain(missing_example.then_some("an example in examples/"))
        .map(|missing| Finding::new(&package.name, 0, format!("lacks {missing}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies.iter().map(|(name, kind)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
        });
        Package {
            name: name.to_owned(),
            manifest_path: "/nowhere/Cargo.toml".into(),
            dependencies: dependencies.collect(),
            targets: Vec::new(),
            features: Default::default(),
        }
    }

    #[test]
    fn leaves_must_not_know_one_another_in_tests_neither() {
        let packages = [
            package("cortenkv-wal", &[("bytes", None), ("cortenkv-index", Some("dev"))]),
            package("cortenkv-index", &[]),
            package("cortenkv", &[("cortenkv-wal", None), ("cortenkv-index", None)]),
        ];
        let found = edge_findings(&packages);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "cortenkv-wal: must not know `cortenkv-index` (dev dependency)"
        );
    }

    #[test]
    fn xtask_knows_nobody_and_nobody_knows_xtask() {
        let packages = [
            package("xtask", &[("cortenkv-wal", None)]),
            package("cortenkv-wal", &[("xtask", Some("build"))]),
        ];
        assert_eq!(edge_findings(&packages).len(), 2);
    }

    #[test]
    fn a_package_may_name_itself_and_a_new_package_needs_a_line() {
        assert!(edge_findings(&[package("cortenkv", &[("cortenkv", Some("dev"))])]).is_empty());
        assert_eq!(edge_findings(&[package("cortenkv-server", &[])]).len(), 1);
    }

    #[test]
    fn a_bare_library_lacks_three_things() {
        assert_eq!(missing_parts(&package("cortenkv-wal", &[])).len(), 3);
    }
}
