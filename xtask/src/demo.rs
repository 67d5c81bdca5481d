//! `cargo xtask demo`: the main job in one command, on real files: import a folder, open again, get, scan, count, verify.

use std::path::PathBuf;

use crate::run::{Failure, Invocation, Result};
use crate::workspace::Workspace;

/// The options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The folder to import
    #[arg(default_value = "/usr/share/doc")]
    pub source: PathBuf,
    /// The key to get; without it, the first of the first thousand keys that ends in "copyright", or the very first
    #[arg(long)]
    pub key: Option<String>,
}

/// Builds `corten`, imports a folder into a new database under the target folder, and shows what is in it. Each command
/// is a process of its own, so each opens the database again.
///
/// # Errors
/// When a command fails.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let cargo = |args: &[&str]| Invocation::cargo(&workspace.root, args.iter().copied());
    cargo(&["build", "--release", "-p", "cortenkv-cli"]).run()?;
    let target = workspace.root.join("target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target, PathBuf::from);
    let corten = target.join("release/corten");
    let database = target.join("demo");
    if database.exists() {
        std::fs::remove_dir_all(&database)
            .map_err(|e| Failure::new(format!("cannot remove {}: {e}", database.display())))?;
    }
    let corten = |args: &[&str]| {
        let (command, rest) = args.split_first().expect("a command of corten");
        Invocation::new(&workspace.root, corten.display().to_string())
            .args([*command])
            .arg(database.display())
            .args(rest.iter().copied())
    };
    corten(&["import"]).arg(options.source.display()).run()?;
    let key = match &options.key {
        Some(key) => key.clone(),
        None => {
            let keys = corten(&["scan", "--keys-only", "--limit", "1000"]).read()?;
            let readable = keys.lines().find(|key| key.ends_with("copyright"));
            let first = || Failure::new("nothing was imported; give a folder with files");
            readable.or(keys.lines().next()).ok_or_else(first)?.to_owned()
        }
    };
    let prefix = key.split('/').next().unwrap_or(&key).to_owned();
    corten(&["get", &key, "--format", "text"]).run()?;
    corten(&["scan", "--prefix", &prefix, "--keys-only", "--limit", "20"]).run()?;
    corten(&["count"]).run()?;
    corten(&["stats"]).run()?;
    corten(&["verify"]).run()
}
