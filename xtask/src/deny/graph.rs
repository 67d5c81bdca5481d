//! The packages that cargo resolved for one platform, and which of them go into what users build.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use crate::run::{Failure, Result};

/// Everything that cargo resolved.
#[derive(Debug)]
pub struct Graph {
    /// The resolved packages, those of the workspace included.
    pub packages: Vec<Package>,
    /// The ids of packages reached without a dev-dependency.
    built: BTreeSet<String>,
}

/// One resolved package.
#[derive(Debug, Deserialize)]
pub struct Package {
    id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// An SPDX expression, when its author gave one.
    pub license: Option<String>,
    /// Nothing for a package of the workspace.
    pub source: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

impl Graph {
    /// Reads the output of `cargo metadata`.
    ///
    /// # Errors
    /// When it is not what cargo prints.
    pub fn parse(json: &str) -> Result<Graph> {
        let metadata: Metadata = serde_json::from_str(json).map_err(|error| {
            Failure::new(format!("cannot read the output of cargo metadata: {error}"))
        })?;
        let nodes: HashMap<&str, &Node> =
            metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let mut built = BTreeSet::new();
        let mut open: Vec<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
        while let Some(id) = open.pop() {
            if built.insert(id.to_owned()) {
                let deps = nodes.get(id).into_iter().flat_map(|node| &node.deps);
                open.extend(deps.filter(|dep| dep.is_built()).map(|dep| dep.pkg.as_str()));
            }
        }
        // Cargo lists packages for other platforms too; only resolved ones are nodes.
        let resolved: BTreeSet<String> = nodes.keys().map(|id| (*id).to_owned()).collect();
        let packages = metadata.packages.into_iter();
        let packages = packages.filter(|package| resolved.contains(&package.id)).collect();
        Ok(Graph { packages, built })
    }

    /// The crates built in more than one version, tests aside, with the versions.
    pub fn duplicates(&self) -> impl Iterator<Item = (&String, Vec<&str>)> {
        let mut versions: BTreeMap<&String, Vec<&str>> = BTreeMap::new();
        for package in self.packages.iter().filter(|package| self.built.contains(&package.id)) {
            versions.entry(&package.name).or_default().push(&package.version);
        }
        versions.into_iter().filter(|(_, versions)| versions.len() > 1)
    }
}

impl Dep {
    fn is_built(&self) -> bool {
        self.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_version_counts_only_where_something_is_built_from_it() {
        let graph = |kind: &str| {
            let json = format!(
                r#"{{ "packages": [
                    {{ "id": "a", "name": "a", "version": "1.0.0", "license": "MIT" }},
                    {{ "id": "b1", "name": "b", "version": "1.0.0", "license": "MIT" }},
                    {{ "id": "b2", "name": "b", "version": "2.0.0", "license": "MIT" }},
                    {{ "id": "windows", "name": "b", "version": "3.0.0", "license": "MIT" }} ],
                "workspace_members": ["a"],
                "resolve": {{ "nodes": [
                    {{ "id": "a", "deps": [
                        {{ "pkg": "b1", "dep_kinds": [{{ "kind": null }}] }},
                        {{ "pkg": "b2", "dep_kinds": [{{ "kind": {kind} }}] }} ] }},
                    {{ "id": "b1", "deps": [] }}, {{ "id": "b2", "deps": [] }} ] }} }}"#
            );
            Graph::parse(&json).unwrap()
        };
        assert_eq!(graph("\"dev\"").duplicates().count(), 0);
        let graph = graph("\"build\"");
        let duplicates: Vec<_> = graph.duplicates().map(|(_, versions)| versions).collect();
        assert_eq!(duplicates, [["1.0.0", "2.0.0"]]);
    }
}
