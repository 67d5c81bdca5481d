//! What cargo says about this workspace: its folders, packages, targets and features.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::run::{Failure, Invocation, Result};

/// The workspace as `cargo metadata --no-deps` describes it.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// The folder of the root `Cargo.toml`.
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    /// Where cargo builds; commands with flags of their own build in a folder below it.
    #[serde(rename = "target_directory")]
    pub target_dir: PathBuf,
    /// The member packages.
    pub packages: Vec<Package>,
}

/// One package of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// The package name, `cortenkv-wal` for the folder `wal`.
    pub name: String,
    /// The path of its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// Direct dependencies of every kind.
    pub dependencies: Vec<Dependency>,
    /// Libraries, binaries, examples, tests and benches.
    pub targets: Vec<Target>,
    /// Feature names and what each turns on.
    pub features: BTreeMap<String, Vec<String>>,
}

/// A direct dependency of a package.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The name of the package that is depended on.
    pub name: String,
    /// Nothing for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
}

/// One thing that cargo can build in a package.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// Its name, for tests the file name without `.rs`.
    pub name: String,
    /// `lib`, `bin`, `example`, `test`, `bench` or a crate type.
    pub kind: Vec<String>,
}

impl Workspace {
    /// Asks cargo about the workspace that this xtask belongs to, whatever the current folder is.
    ///
    /// # Errors
    /// When cargo cannot read a manifest.
    pub fn load() -> Result<Workspace> {
        let mut args = vec!["metadata", "--format-version", "1", "--no-deps"];
        let manifest =
            std::env::var("CARGO_MANIFEST_DIR").map(|dir| format!("{dir}/../Cargo.toml"));
        if let Ok(manifest) = &manifest {
            args.extend(["--manifest-path", manifest]);
        }
        Workspace::parse(&Invocation::cargo(Path::new("."), args).read()?)
    }

    /// Reads the packages from another manifest, such as the one of `fuzz/`.
    ///
    /// # Errors
    /// When cargo cannot read the manifest.
    pub fn load_other(manifest: &Path) -> Result<Workspace> {
        let folder = manifest.parent().unwrap_or(Path::new("."));
        let args = ["metadata", "--format-version", "1", "--no-deps", "--manifest-path"];
        Workspace::parse(&Invocation::cargo(folder, args).arg(manifest.display()).read()?)
    }

    fn parse(json: &str) -> Result<Workspace> {
        serde_json::from_str(json).map_err(|error| {
            Failure::new(format!("cannot read the output of cargo metadata: {error}"))
        })
    }

    /// The package of that name.
    ///
    /// # Errors
    /// When the workspace has no such member.
    pub fn package(&self, name: &str) -> Result<&Package> {
        self.packages
            .iter()
            .find(|package| package.name == name)
            .ok_or_else(|| Failure::new(format!("the workspace has no package `{name}`")))
    }

    /// Says clearly that a suite or binary does not exist, before cargo says it less clearly.
    ///
    /// # Errors
    /// When the package has no target of that kind and name.
    pub fn require_target(&self, package: &str, kind: &str, name: &str) -> Result<()> {
        let package = self.package(package)?;
        if package.has_target(kind, name) {
            return Ok(());
        }
        let folder = package.folder();
        let folder = folder.strip_prefix(&self.root).unwrap_or(folder).display();
        let place = match kind {
            "test" => format!("{folder}/tests/{name}.rs"),
            "example" => format!("{folder}/examples/{name}.rs"),
            _ => format!("a [[{kind}]] section in {folder}/Cargo.toml or {folder}/src/main.rs"),
        };
        Err(Failure::new(format!(
            "package `{}` has no {kind} target `{name}`; expected {place}",
            package.name
        )))
    }

    /// The packages with test targets whose names start with `prefix`.
    ///
    /// # Errors
    /// When there is none: a suite that silently runs nothing would pass.
    pub fn packages_with_tests(&self, prefix: &str) -> Result<Vec<&str>> {
        let names: Vec<&str> = self
            .packages
            .iter()
            .filter(|package| {
                package.targets.iter().any(|target| {
                    target.name.starts_with(prefix) && target.kind.iter().any(|kind| kind == "test")
                })
            })
            .map(|package| package.name.as_str())
            .collect();
        if names.is_empty() {
            return Err(Failure::new(format!(
                "no package has a test target `{prefix}*`; expected for instance wal/tests/{prefix}*.rs"
            )));
        }
        Ok(names)
    }
}

impl Package {
    /// The folder of the package.
    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    /// The arguments that select it with what the checkers need: the simulator, and bugs that can be planted.
    pub fn args_to_check(&self) -> Vec<String> {
        let known = |feature: &&str| self.features.contains_key(*feature);
        let best = ["seeded-bugs", "test-util"].into_iter().find(known);
        let mut args = vec!["-p".to_owned(), self.name.clone()];
        if let Some(feature) = best {
            args.extend(["--features".to_owned(), format!("{}/{feature}", self.name)]);
        }
        args
    }

    /// Whether the package has a target of that kind and name.
    pub fn has_target(&self, kind: &str, name: &str) -> bool {
        self.targets
            .iter()
            .any(|target| target.name == name && target.kind.iter().any(|each| each == kind))
    }

    /// The names of the targets of one kind.
    pub fn targets_of(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.targets
            .iter()
            .filter(move |target| target.kind.iter().any(|each| each == kind))
            .map(|target| target.name.as_str())
    }
}
