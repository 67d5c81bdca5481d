//! The parts of `deny.toml` that the own checks use.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::run::{Failure, Result};

/// What the project takes in.
#[derive(Debug)]
pub struct Policy {
    /// The platforms whose dependencies count.
    pub targets: Vec<String>,
    /// Licences, each as SPDX names it.
    pub licences: BTreeSet<String>,
    /// Crates that must not come in, and why.
    pub banned: BTreeMap<String, String>,
    /// Crates that may come in two versions.
    pub duplicates_allowed: BTreeSet<String>,
    registries: BTreeSet<String>,
}

#[derive(Deserialize)]
struct File {
    graph: GraphSection,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct GraphSection {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Entry>,
    skip: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: BTreeSet<String>,
}

impl Policy {
    /// Reads the text of `deny.toml`.
    ///
    /// # Errors
    /// When it is not TOML or lacks one of the lists.
    pub fn parse(text: &str) -> Result<Policy> {
        let file: File = toml::from_str(text)
            .map_err(|error| Failure::new(format!("cannot read deny.toml: {error}")))?;
        let banned = file.bans.deny.into_iter().map(|entry| (entry.name, entry.reason));
        let skipped = file.bans.skip.into_iter().map(|entry| entry.name);
        Ok(Policy {
            targets: file.graph.targets,
            licences: file.licenses.allow,
            banned: banned.collect(),
            duplicates_allowed: skipped.collect(),
            registries: file.sources.allow_registry,
        })
    }

    /// Whether a package may come from `source`, which cargo writes as `KIND+ADDRESS`.
    pub fn allows_source(&self, source: &str) -> bool {
        let registry = source.strip_prefix("registry+");
        registry.is_some_and(|address| self.registries.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_of_the_project_can_be_read() {
        let policy = Policy::parse(include_str!("../../../deny.toml")).unwrap();
        assert!(policy.licences.contains("MIT") && !policy.targets.is_empty());
        assert!(policy.allows_source("registry+https://github.com/rust-lang/crates.io-index"));
        assert!(!policy.allows_source("git+https://github.com/rust-lang/crates.io-index"));
    }

    #[test]
    fn a_missing_list_is_named() {
        let failure = Policy::parse("[graph]\ntargets = []\n").unwrap_err();
        assert!(failure.to_string().contains("licenses"));
    }
}
