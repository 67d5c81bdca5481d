//! `cargo xtask deny`: what the project takes in from others, against `deny.toml`. No network is needed once
//! cargo has fetched the packages.
//!
//! `cargo-deny` does it when it is installed. Else the checks here read the same file and cover the parts of it that the
//! project uses: allowed licences, allowed registries, banned crates, and crates in two versions.
//!
//! # Layout
//! - `policy`: what `deny.toml` says; `graph`: the packages that cargo resolved; `licence`: SPDX expressions

use std::fs;

use crate::run::{Failure, Invocation, Result};
use crate::workspace::Workspace;

mod graph;
mod licence;
mod policy;

use graph::Graph;
use policy::Policy;

const POLICY_PATH: &str = "deny.toml";

/// Checks bans, licences and sources of everything that cargo resolves, tools and tests included.
///
/// # Errors
/// When a package breaks the policy; the sentence names each.
pub fn run(workspace: &Workspace) -> Result<()> {
    let cargo_deny = Invocation::cargo(&workspace.root, ["deny"]);
    if cargo_deny.clone().arg("--version").answers() {
        return cargo_deny.args(["--offline", "check", "bans", "licenses", "sources"]).run();
    }
    println!("deny: cargo-deny is not installed, own checks against {POLICY_PATH}");
    let text = fs::read_to_string(workspace.root.join(POLICY_PATH))
        .map_err(|error| Failure::new(format!("cannot read {POLICY_PATH}: {error}")))?;
    let policy = Policy::parse(&text)?;
    let mut findings = Vec::new();
    for target in &policy.targets {
        let cargo = Invocation::cargo(&workspace.root, ["metadata", "--format-version", "1"])
            .args(["--all-features", "--filter-platform", target]);
        println!("$ {}", cargo.line());
        findings.extend(check(&policy, &Graph::parse(&cargo.read()?)?));
    }
    findings.sort();
    findings.dedup();
    if findings.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("against {POLICY_PATH}:\n  {}", findings.join("\n  "))))
}

/// One sentence for each breach of the policy.
fn check(policy: &Policy, graph: &Graph) -> Vec<String> {
    let mut findings = Vec::new();
    for package in &graph.packages {
        let name = format!("{} {}", package.name, package.version);
        match package.license.as_deref() {
            None => findings.push(format!("{name} states no licence")),
            Some(licence) if !licence::allows(licence, &policy.licences) => {
                findings.push(format!("{name} has the licence `{licence}`, which is not allowed"));
            }
            Some(_) => {}
        }
        let source = package.source.as_deref();
        if source.is_some_and(|source| !policy.allows_source(source)) {
            let source = source.unwrap_or_default();
            findings.push(format!("{name} comes from `{source}`, which is not allowed"));
        }
        if let Some(reason) = policy.banned.get(&package.name) {
            findings.push(format!("{name} is banned: {reason}"));
        }
    }
    for (name, versions) in graph.duplicates() {
        if !policy.duplicates_allowed.contains(name) {
            let versions = versions.join(" and ");
            findings.push(format!("{name} is built in versions {versions}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [graph]
        targets = ["x86_64-unknown-linux-gnu"]
        [licenses]
        allow = ["MIT", "Apache-2.0"]
        [bans]
        deny = [{ crate = "openssl-sys", reason = "not a network program" }]
        skip = [{ crate = "syn", reason = "two generations" }]
        [sources]
        allow-registry = ["https://github.com/rust-lang/crates.io-index"]
    "#;

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    /// A graph in which the member `a` depends on `packages`, each a name, version, licence and source.
    fn findings(packages: &[(&str, &str, &str, &str)]) -> Vec<String> {
        let package = |name: &str, version: &str, licence: &str, source: Option<&str>| {
            serde_json::json!({ "id": format!("{name}@{version}"), "name": name, "version": version,
                "license": licence, "source": source })
        };
        let all: Vec<_> = packages
            .iter()
            .map(|(name, version, licence, source)| package(name, version, licence, Some(source)))
            .chain([package("a", "0.1.0", "MIT", None)])
            .collect();
        let deps: Vec<_> = packages
            .iter()
            .map(|(name, version, ..)| {
                serde_json::json!({ "pkg": format!("{name}@{version}"), "dep_kinds": [{ "kind": null }] })
            })
            .collect();
        let mut nodes = vec![serde_json::json!({ "id": "a@0.1.0", "deps": deps })];
        nodes.extend(packages.iter().map(|(name, version, ..)| {
            serde_json::json!({ "id": format!("{name}@{version}"), "deps": [] })
        }));
        let json = serde_json::json!({ "packages": all, "workspace_members": ["a@0.1.0"],
            "resolve": { "nodes": nodes } });
        check(&Policy::parse(POLICY).unwrap(), &Graph::parse(&json.to_string()).unwrap())
    }

    #[test]
    fn what_the_policy_allows_passes() {
        let packages =
            [("b", "1.0.0", "GPL-3.0 OR MIT", CRATES_IO), ("syn", "1.0.0", "MIT", CRATES_IO)];
        assert_eq!(findings(&packages), [""; 0]);
        let twice = [("syn", "1.0.0", "MIT", CRATES_IO), ("syn", "2.0.0", "MIT", CRATES_IO)];
        assert_eq!(findings(&twice), [""; 0]);
    }

    #[test]
    fn a_licence_a_source_and_a_ban_are_each_named() {
        let packages = [
            ("b", "1.0.0", "GPL-3.0", CRATES_IO),
            ("c", "1.0.0", "MIT", "git+https://example.org/c"),
            ("openssl-sys", "1.0.0", "MIT", CRATES_IO),
        ];
        assert_eq!(
            findings(&packages),
            [
                "b 1.0.0 has the licence `GPL-3.0`, which is not allowed",
                "c 1.0.0 comes from `git+https://example.org/c`, which is not allowed",
                "openssl-sys 1.0.0 is banned: not a network program",
            ]
        );
    }

    #[test]
    fn a_crate_in_two_versions_is_named() {
        let packages = [("b", "1.0.0", "MIT", CRATES_IO), ("b", "2.0.0", "MIT", CRATES_IO)];
        assert_eq!(findings(&packages), ["b is built in versions 1.0.0 and 2.0.0"]);
    }
}
