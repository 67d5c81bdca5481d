//! The directories of the simulated disk: which names are durable, and which changes of names may yet be lost.
//!
//! # Invariants
//! - A change depends on every earlier pending change of the same name: it survives only with them.
//! - A rename is atomic: the old and the new name change together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::name::{Name, is_in, parent};
use super::trace::FileNumber;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(FileNumber),
}

/// All names; the root, the empty path, is not among them.
pub(super) type Names = BTreeMap<Name, Node>;

/// A change of names.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Add(Name, Node),
    Rename(Name, Name),
    Remove(Name),
}

/// The names of the simulated disk.
#[derive(Debug, Clone, Default)]
pub(super) struct DiskNames {
    durable: Names,
    /// With the operation that made them, oldest first.
    pending: Vec<(usize, Change)>,
}

impl Change {
    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            Change::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            Change::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            Change::Remove(path) => {
                names.remove(path);
            }
        }
    }

    /// The names that it changes.
    fn paths(&self) -> impl Iterator<Item = &Name> {
        let (first, second) = match self {
            Change::Add(path, _) | Change::Remove(path) => (path, None),
            Change::Rename(from, to) => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }
}

impl DiskNames {
    pub(super) fn durable(names: Names) -> Self {
        DiskNames { durable: names, pending: Vec::new() }
    }

    pub(super) fn push(&mut self, at: usize, change: Change) {
        self.pending.push((at, change));
    }

    /// The operations whose changes are not durable, oldest first.
    pub(super) fn pending(&self) -> impl ExactSizeIterator<Item = usize> {
        self.pending.iter().map(|(at, _)| *at)
    }

    /// Every change before an operation is durable.
    pub(super) fn commit(&mut self, before: usize) {
        let committed = self.pending.partition_point(|(at, _)| *at < before);
        for (_, change) in self.pending.drain(..committed) {
            change.apply(&mut self.durable);
        }
    }

    /// Every change of names in one directory before an operation is durable, with what those depend on.
    pub(super) fn commit_dir(&mut self, dir: &Path, before: usize) {
        let mut names: BTreeSet<Name> = BTreeSet::new();
        let mut keep = vec![true; self.pending.len()];
        for (keep, (at, change)) in keep.iter_mut().zip(&self.pending).rev() {
            let covered = *at < before && change.paths().any(|path| is_in(path, dir));
            if covered || change.paths().any(|path| names.contains(path)) {
                names.extend(change.paths().cloned());
                *keep = false;
            }
        }
        let mut keep = keep.into_iter();
        self.pending.retain(|(_, change)| {
            let keep = keep.next().unwrap_or(true);
            if !keep {
                change.apply(&mut self.durable);
            }
            keep
        });
    }

    /// The names after a crash that kept the chosen changes and no change that depends on a lost one.
    pub(super) fn surviving(&self, mut keep: impl FnMut(usize) -> bool) -> Names {
        let mut names = self.durable.clone();
        let mut lost: BTreeSet<&Name> = BTreeSet::new();
        for (at, change) in &self.pending {
            if keep(*at) && !change.paths().any(|path| lost.contains(path)) {
                change.apply(&mut names);
            } else {
                lost.extend(change.paths());
            }
        }
        names
    }
}

/// True when every directory above a path exists.
pub(super) fn is_reachable(names: &Names, path: &Path) -> bool {
    let mut dir = parent(path);
    while !dir.as_os_str().is_empty() {
        if names.get(dir.as_os_str()) != Some(&Node::Dir) {
            return false;
        }
        dir = parent(dir);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::name::normalize;
    use super::*;

    fn path(text: &str) -> Name {
        normalize(Path::new(text))
    }

    fn names(disk: &DiskNames, keep: impl FnMut(usize) -> bool) -> Vec<String> {
        disk.surviving(keep).keys().map(|path| path.display().to_string()).collect()
    }

    fn two_dirs() -> DiskNames {
        let mut disk = DiskNames::default();
        disk.push(0, Change::Add(path("a"), Node::Dir));
        disk.push(1, Change::Add(path("b"), Node::Dir));
        disk.commit_dir(Path::new(""), 2);
        disk
    }

    #[test]
    fn a_change_survives_only_with_earlier_changes_of_its_names() {
        let mut disk = two_dirs();
        disk.push(2, Change::Add(path("a/tmp"), Node::File(0)));
        disk.push(3, Change::Rename(path("a/tmp"), path("a/x")));
        disk.push(4, Change::Add(path("a/other"), Node::File(1)));
        assert_eq!(names(&disk, |at| at != 2), ["a", "a/other", "b"]);
        assert_eq!(names(&disk, |at| at != 3), ["a", "a/other", "a/tmp", "b"]);
        assert_eq!(names(&disk, |at| at != 4), ["a", "a/x", "b"]);
    }

    #[test]
    fn a_name_is_not_taken_again_before_it_was_given_up() {
        let mut disk = two_dirs();
        disk.push(2, Change::Add(path("a/x"), Node::File(0)));
        disk.commit(3);
        disk.push(3, Change::Rename(path("a/x"), path("a/old")));
        disk.push(4, Change::Add(path("a/x"), Node::File(1)));
        let names = disk.surviving(|at| at != 3);
        assert_eq!(names.get(Path::new("a/x").as_os_str()), Some(&Node::File(0)));
    }

    #[test]
    fn a_directory_sync_covers_its_own_earlier_names_only() {
        let mut disk = two_dirs();
        disk.push(2, Change::Add(path("a/x"), Node::File(0)));
        disk.push(3, Change::Add(path("b/y"), Node::File(1)));
        disk.push(4, Change::Add(path("a/z"), Node::File(2)));
        disk.commit_dir(Path::new("a"), 4);
        assert_eq!(names(&disk, |_| false), ["a", "a/x", "b"]);
    }

    #[test]
    fn a_directory_sync_takes_along_what_its_names_depend_on() {
        let mut disk = two_dirs();
        disk.push(2, Change::Add(path("a/x"), Node::File(0)));
        disk.push(3, Change::Rename(path("a/x"), path("b/x")));
        disk.commit_dir(Path::new("b"), 4);
        assert_eq!(names(&disk, |_| false), ["a", "b", "b/x"]);
    }

    #[test]
    fn a_name_in_a_lost_directory_is_not_reachable() {
        let mut disk = two_dirs();
        disk.push(2, Change::Add(path("a/c"), Node::Dir));
        disk.push(3, Change::Add(path("a/c/x"), Node::File(0)));
        disk.commit_dir(Path::new("a/c"), 4);
        let lost = disk.surviving(|_| false);
        assert!(!is_reachable(&lost, Path::new("a/c/x")));
        let kept = disk.surviving(|_| true);
        assert!(is_reachable(&kept, Path::new("a/c/x")));
    }
}
