//! Opening a database as a command needs it, without making one by mistake.
//!
//! # Invariants
//! - A command that reads creates nothing: no directory, no database in a directory of other things, no keyspace.
//! - A command that writes makes a database in a new or empty directory only.

#![expect(
    clippy::disallowed_methods,
    reason = "looks at a directory before it is handed to the database"
)]

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;

use cortenkv::{Builder, Db, Error, Keyspace};
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::{Exit, Failure, Result};

/// What a path holds.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Nothing, or an empty directory, or one where a database was only begun.
    New,
    Database,
    /// A directory with other files.
    Foreign,
    /// No directory; the database says so itself.
    Other,
}

/// Opens a database that exists.
///
/// # Errors
/// `Absent` when there is none, otherwise as `Db::open`.
pub fn existing(path: &Path, quiet: bool) -> Result<Db> {
    open(path, quiet, |builder| builder)
}

/// Opens a database that exists, with options.
///
/// # Errors
/// As [`existing`].
pub fn open(path: &Path, quiet: bool, options: impl FnOnce(Builder) -> Builder) -> Result<Db> {
    refuse_absent(path)?;
    Ok(build(path, quiet, options)?)
}

/// Opens a database that exists, to be verified: damage is an answer, not a failure.
///
/// # Errors
/// As [`existing`], but for damage.
pub fn verifiable(path: &Path, quiet: bool, how: Look) -> Result<Result<Db, Error>> {
    refuse_absent(path)?;
    match build(path, quiet, |builder| how.apply(builder)) {
        Err(error) if !error.is_corruption() => Err(error.into()),
        opened => Ok(opened),
    }
}

/// Opens a database that exists, to be looked at: nothing is compacted by itself meanwhile.
///
/// # Errors
/// As [`existing`].
pub fn resting(path: &Path, quiet: bool, how: Look) -> Result<Db> {
    open(path, quiet, |builder| how.apply(builder))
}

/// How a command that only looks opens the database.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Look {
    /// Touch no file and take no lock: a view of this moment, also while another process writes
    #[arg(long)]
    read_only: bool,
}

impl Look {
    fn apply(self, builder: Builder) -> Builder {
        builder.async_compaction(false).read_only(self.read_only)
    }
}

/// Opens a database, and makes it where there is none.
///
/// # Errors
/// `Usage` for a directory of other things, otherwise as `Db::open`.
pub fn or_create(path: &Path, quiet: bool, options: impl FnOnce(Builder) -> Builder) -> Result<Db> {
    match place(path)? {
        Place::Foreign => Err(Failure::usage(format!(
            "{} holds other files and no database; give a new or an empty directory",
            path.display()
        ))),
        _ => Ok(build(path, quiet, options)?),
    }
}

/// Refuses a keyspace name or a key that no database takes, before one is made for it.
///
/// # Errors
/// `Usage`, in the words of the database.
pub fn check_legal(keyspace: &str, key: &[u8]) -> Result<()> {
    // One in memory has the same rules.
    Db::open_in_memory()?.keyspace(keyspace)?.put(key, b"")?;
    Ok(())
}

/// A keyspace that exists.
///
/// # Errors
/// `Absent` when the database has none of this name.
pub fn keyspace(db: &Db, name: &str) -> Result<Keyspace> {
    if !db.keyspaces()?.iter().any(|existing| existing == name) {
        return Err(Failure::new(
            Exit::Absent,
            format!("there is no keyspace {name:?}; `corten keyspaces` lists those that there are"),
        ));
    }
    Ok(db.keyspace(name)?)
}

fn refuse_absent(path: &Path) -> Result<()> {
    match place(path)? {
        Place::New | Place::Foreign => {
            let path = path.display();
            let message =
                format!("{path} holds no database; `corten put` and `corten import` make one");
            Err(Failure::new(Exit::Absent, message))
        }
        Place::Database | Place::Other => Ok(()),
    }
}

fn build(path: &Path, quiet: bool, options: impl FnOnce(Builder) -> Builder) -> Result<Db, Error> {
    let builder = options(Db::builder(path));
    let Some(bar) = progress_bar("opening", quiet) else { return builder.build() };
    let listener = bar.clone();
    let opened = builder
        .progress(move |progress| {
            listener.set_length(progress.bytes_total);
            listener.set_position(progress.bytes_done);
        })
        .build();
    bar.finish_and_clear();
    opened
}

/// A bar of bytes on a terminal; none elsewhere.
pub fn progress_bar(doing: &'static str, quiet: bool) -> Option<ProgressBar> {
    if quiet || !io::stderr().is_terminal() {
        return None;
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}");
    let style = style.expect("the template is right");
    Some(ProgressBar::new(0).with_style(style).with_message(doing))
}

fn place(path: &Path) -> Result<Place> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::New),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Place::Other),
        Err(error) => return Err(Failure::io("read the directory", path, &error)),
    };
    let mut place = Place::New;
    for entry in entries {
        let entry = entry.map_err(|error| Failure::io("read the directory", path, &error))?;
        let name = entry.file_name();
        match name.as_encoded_bytes() {
            b"CURRENT" => return Ok(Place::Database),
            // Segments without CURRENT: the database says what is lost.
            name if name.ends_with(b".seg") || name.ends_with(b".cseg") => {
                return Ok(Place::Database);
            }
            // What a creation that was interrupted leaves.
            b"LOCK" | b"CURRENT.tmp" => {}
            name if name.starts_with(b"MANIFEST-") => {}
            _ => place = Place::Foreign,
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_told_by_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let make = |name: &str, files: &[&str]| {
            fs::create_dir(at(name)).unwrap();
            for file in files {
                fs::write(at(name).join(file), "").unwrap();
            }
            place(&at(name)).unwrap()
        };
        assert_eq!(place(&at("none")).unwrap(), Place::New);
        assert_eq!(make("empty", &[]), Place::New);
        assert_eq!(make("begun", &["LOCK", "MANIFEST-000001", "CURRENT.tmp"]), Place::New);
        assert_eq!(make("database", &["LOCK", "notes.txt", "CURRENT"]), Place::Database);
        assert_eq!(make("lost", &["LOCK", "00000001.seg"]), Place::Database);
        assert_eq!(make("home", &["notes.txt"]), Place::Foreign);
        fs::write(at("file"), "").unwrap();
        assert_eq!(place(&at("file")).unwrap(), Place::Other);
    }
}
