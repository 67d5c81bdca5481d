//! A folder of files: the relative path is the key, the content the value.
//!
//! # Invariants
//! Files come in the order of their paths, compared part by part, whatever order the file system lists them in: so one
//! path tells where to go on.

#![expect(clippy::disallowed_methods, reason = "reads the folder that the user names")]

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use cortenkv::VALUE_BYTES_MAX;

use crate::failure::{Exit, Failure, Result};
use crate::import::file::{self, Input};
use crate::import::source::{Position, Record, Source, Step};
use crate::{text, units};

/// A source that walks a folder.
pub struct Folder {
    name: String,
    walk: Walk,
    bytes_read: u64,
    /// The last file that was given, and the one before it, with the bytes up to there.
    last: Option<Place>,
    before_last: Option<Place>,
}

/// Behind a file.
#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    bytes_read: u64,
}

/// What a folder holds, in order.
struct Walk {
    root: PathBuf,
    /// The database itself is no part of its source.
    database: PathBuf,
    /// Everything up to here was imported before.
    behind: Option<PathBuf>,
    /// The rest of each open folder, the last name first.
    open: Vec<Vec<Found>>,
    links: u64,
    specials: u64,
}

/// A name in a folder; the path from the root.
struct Found {
    path: PathBuf,
    kind: io::Result<fs::FileType>,
}

/// A step of a walk.
enum Walked {
    File(PathBuf),
    Unreadable(PathBuf, io::Error),
}

impl Folder {
    /// Walks a folder, behind a position.
    ///
    /// # Errors
    /// When the folder cannot be read, or is the database itself.
    pub fn open(input: Input, database: &Path, start: Option<&Position>) -> Result<Self> {
        let root = input.path.expect("standard input is no folder");
        let database = fs::canonicalize(database).unwrap_or_default();
        if root == database {
            return Err(Failure::usage(format!("{} is the database itself", input.name)));
        }
        let last = match start {
            Some(Position::BehindPath { path, bytes }) => {
                let path = text::unescape(path.as_bytes()).map_err(|wrong| {
                    let message = format!(
                        "the progress of this import is damaged: {wrong}; `--restart` begins anew"
                    );
                    Failure::new(Exit::Corruption, message)
                })?;
                let path = PathBuf::from(std::ffi::OsString::from_vec(path.into_owned()));
                Some(Place { path, bytes_read: *bytes })
            }
            _ => None,
        };
        let behind = last.as_ref().map(|place| place.path.clone());
        let walk = Walk::start(root, database, behind)
            .map_err(|error| Failure::io("read the folder", Path::new(&input.name), &error))?;
        let bytes_read = last.as_ref().map_or(0, |place| place.bytes_read);
        Ok(Folder { name: input.name, walk, bytes_read, before_last: last.clone(), last })
    }

    fn content(&self, path: &Path) -> Result<Vec<u8>, String> {
        match file::read_whole(&self.walk.root.join(path), VALUE_BYTES_MAX) {
            Ok(Some(content)) => Ok(content),
            Ok(None) => {
                Err(format!("the file has more than {VALUE_BYTES_MAX} bytes, the limit of a value"))
            }
            Err(error) => Err(format!("cannot read the file: {error}")),
        }
    }
}

impl Source for Folder {
    fn next(&mut self) -> Result<Step> {
        let Some(walked) = self.walk.next() else { return Ok(Step::End) };
        self.before_last = self.last.take();
        let (path, step) = match walked {
            Walked::File(path) => match self.content(&path) {
                Ok(value) => {
                    self.bytes_read += value.len() as u64;
                    let key = path.as_os_str().as_bytes().to_vec();
                    (path, Step::Record(Record { key, value, ..Record::default() }))
                }
                Err(reason) => (path, Step::Rejected(reason)),
            },
            Walked::Unreadable(path, error) => {
                (path, Step::Rejected(format!("cannot read the folder: {error}")))
            }
        };
        self.last = Some(Place { path, bytes_read: self.bytes_read });
        Ok(step)
    }

    fn position(&self) -> Result<Option<Position>> {
        Ok(self.before_last.as_ref().map(Place::position))
    }

    fn place(&self) -> String {
        let path = self.last.as_ref().map(|place| place.path.as_path()).unwrap_or(Path::new(""));
        Path::new(&self.name).join(path).display().to_string()
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    fn bytes_total(&self) -> Result<Option<u64>> {
        let Walk { root, database, .. } = &self.walk;
        let cannot = |error| Failure::io("read the folder", Path::new(&self.name), &error);
        let mut walk = Walk::start(root.clone(), database.clone(), None).map_err(cannot)?;
        let mut bytes = 0;
        while let Some(walked) = walk.next() {
            if let Walked::File(path) = walked {
                bytes += fs::symlink_metadata(root.join(path)).map_or(0, |facts| facts.len());
            }
        }
        Ok(Some(bytes))
    }

    fn passed_over(&self) -> Option<String> {
        let Walk { links, specials, .. } = self.walk;
        let links = (links > 0).then(|| units::counted(links, "symbolic link"));
        let specials = (specials > 0).then(|| units::counted(specials, "special file"));
        let words: Vec<String> = links.into_iter().chain(specials).collect();
        (!words.is_empty()).then(|| format!("{} passed over", words.join(" and ")))
    }
}

impl Place {
    fn position(&self) -> Position {
        let path = text::escaped(self.path.as_os_str().as_bytes());
        Position::BehindPath { path, bytes: self.bytes_read }
    }
}

impl Walk {
    fn start(root: PathBuf, database: PathBuf, behind: Option<PathBuf>) -> io::Result<Self> {
        let mut walk = Walk { root, database, behind, open: Vec::new(), links: 0, specials: 0 };
        let names = walk.list(Path::new(""))?;
        walk.open.push(names);
        Ok(walk)
    }

    /// The names of a folder, the last first.
    fn list(&self, folder: &Path) -> io::Result<Vec<Found>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(folder))? {
            let entry = entry?;
            names.push(Found { path: folder.join(entry.file_name()), kind: entry.file_type() });
        }
        names.sort_unstable_by(|a, b| b.path.file_name().cmp(&a.path.file_name()));
        Ok(names)
    }

    fn next(&mut self) -> Option<Walked> {
        loop {
            let names = self.open.last_mut()?;
            let Some(Found { path, kind }) = names.pop() else {
                self.open.pop();
                continue;
            };
            let kind = match kind {
                Ok(kind) => kind,
                Err(error) => return Some(Walked::Unreadable(path, error)),
            };
            // A folder on the way to the place that was reached is entered again; others before it are done.
            let is_done = self.behind.as_ref().is_some_and(|behind| path <= *behind);
            let leads_there = self.behind.as_ref().is_some_and(|behind| behind.starts_with(&path));
            if is_done && !(kind.is_dir() && leads_there) {
                continue;
            }
            if kind.is_dir() {
                if self.root.join(&path) == self.database {
                    continue;
                }
                match self.list(&path) {
                    Ok(names) => self.open.push(names),
                    Err(error) => return Some(Walked::Unreadable(path, error)),
                }
            } else if kind.is_file() {
                return Some(Walked::File(path));
            } else if kind.is_symlink() {
                self.links += 1;
            } else {
                self.specials += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(walk: &mut Walk) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(Walked::File(path)) = walk.next() {
            found.push(path.display().to_string());
        }
        found
    }

    #[test]
    fn files_come_in_order_and_the_walk_goes_on_behind_any_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["a", "a/b", "a.d", "empty", "db"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        let files = ["a/1", "a/b/2", "a/c", "a.d/3", "a0", "z"];
        for file in files.iter().chain(&["db/CURRENT"]) {
            fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("z", root.join("link")).unwrap();
        let start = |behind: Option<&str>| {
            let behind = behind.map(PathBuf::from);
            Walk::start(root.to_path_buf(), root.join("db"), behind).unwrap()
        };
        let mut walk = start(None);
        assert_eq!(walked(&mut walk), files);
        assert_eq!((walk.links, walk.specials), (1, 0));
        for (n, file) in files.iter().enumerate() {
            assert_eq!(walked(&mut start(Some(file))), files[n + 1..], "behind {file}");
        }
        // A file that is gone meanwhile.
        assert_eq!(walked(&mut start(Some("a/b/1"))), files[1..]);
        assert_eq!(walked(&mut start(Some("a/bb"))), files[2..]);
    }
}
