//! `cargo xtask tidy`: the rules of the house that no other tool checks.
//!
//! # Layout
//! - `source`: a file split in code, comments and literals
//! - `text`, `conditions`, `size`: rules on source files
//! - `crates`: rules on packages
//! - `format_hash`: the rule on `wal/FORMAT.md`

use std::fmt;
use std::fs;
use std::path::Path;

use crate::run::{Failure, Result};
use crate::workspace::Workspace;

mod conditions;
mod crates;
mod format_hash;
mod size;
mod source;
mod text;

use size::{RATCHET_PATH, Ratchet};
use source::Source;

/// The options of `cargo xtask tidy`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// First lower the figures in xtask/size-ratchet.txt and state the hash of today's source in wal/FORMAT.md
    #[arg(long)]
    pub bless: bool,
}

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// A file from the workspace root, or a package.
    pub path: String,
    /// Counted from 1; 0 when the whole file or package is meant.
    pub line: usize,
    /// What is wrong, and what to do where that is not obvious.
    pub text: String,
}

impl Finding {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}

/// Prints every finding.
///
/// # Errors
/// When there is one, or when a file cannot be read.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.bless {
        bless(workspace)?;
    }
    let findings = findings(workspace)?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => Err(Failure::new("tidy: 1 finding")),
        count => Err(Failure::new(format!("tidy: {count} findings"))),
    }
}

/// Applies every rule to the workspace.
///
/// # Errors
/// When a file cannot be read.
pub fn findings(workspace: &Workspace) -> Result<Vec<Finding>> {
    let sources = sources(&workspace.root)?;
    let mut findings = crates::findings(workspace)?;
    for source in &sources {
        findings.extend(text::findings(source));
        findings.extend(conditions::findings(source));
    }
    findings.extend(ratchet(workspace)?.findings(&sources));
    let document = fs::read_to_string(workspace.root.join(format_hash::DOCUMENT_PATH)).ok();
    findings.extend(format_hash::findings(document.as_deref(), &sources));
    Ok(findings)
}

fn bless(workspace: &Workspace) -> Result<()> {
    let sources = sources(&workspace.root)?;
    let lowered = ratchet(workspace)?.lowered(&sources);
    write(&workspace.root.join(RATCHET_PATH), &lowered.print())?;
    let document = workspace.root.join(format_hash::DOCUMENT_PATH);
    if let Ok(text) = fs::read_to_string(&document)
        && let Some(blessed) = format_hash::blessed(&text, &sources)
    {
        write(&document, &blessed)?;
    }
    Ok(())
}

fn ratchet(workspace: &Workspace) -> Result<Ratchet> {
    Ratchet::parse(&read(&workspace.root.join(RATCHET_PATH))?)
}

/// Every `.rs` file below `root`, by path, outside hidden folders and those that cargo builds in.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| cannot("read", &folder, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| cannot("read", &folder, &error))?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
            if path.is_dir() && !path.is_symlink() {
                // Cargo and other builders tag what can be built again.
                if !hidden && !path.join("CACHEDIR.TAG").exists() {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
                sources.push(Source::new(name.replace('\\', "/"), read(&path)?));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| cannot("read", path, &error))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| cannot("write", path, &error))
}

fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {verb} {}: {error}", path.display()))
}
