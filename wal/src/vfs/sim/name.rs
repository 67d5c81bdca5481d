//! One spelling of each path, as the key of everything that the simulator keeps by name.
//!
//! # Invariants
//! - Relative to the root, without `.` and `..` and without a slash too many; the root itself is the empty path. So equal
//!   bytes mean equal paths, and names are compared as bytes: taking paths apart for every comparison was a twelfth of
//!   the time of the crash suites.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A path in its one spelling.
#[derive(Debug, Clone)]
pub(super) struct Name(Arc<Path>);

impl Name {
    /// A path that is spelt so already, as those in the log are.
    pub(super) fn of(path: &Arc<Path>) -> Name {
        debug_assert!(is_normal(path), "{} is not normalized", path.display());
        Name(Arc::clone(path))
    }

    pub(super) fn shared(&self) -> Arc<Path> {
        Arc::clone(&self.0)
    }
}

impl Deref for Name {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Borrow<OsStr> for Name {
    fn borrow(&self) -> &OsStr {
        self.0.as_os_str()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_os_str() == other.0.as_os_str()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_os_str().cmp(other.0.as_os_str())
    }
}

/// The one spelling of a path.
pub(super) fn normalize(path: &Path) -> Name {
    if is_normal(path) {
        return Name(path.into());
    }
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Name(normal.into())
}

fn is_normal(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let mut parts = bytes.split(|byte| *byte == b'/');
    bytes.is_empty() || parts.all(|part| !matches!(part, b"" | b"." | b".."))
}

/// The directory that holds a path in its one spelling; the root for the root.
pub(super) fn parent(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    Path::new(OsStr::from_bytes(&bytes[..end]))
}

/// True when `dir` holds `path` directly, both in their one spelling.
pub(super) fn is_in(path: &Path, dir: &Path) -> bool {
    parent(path).as_os_str() == dir.as_os_str()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_gives_one_name() {
        let name = normalize(Path::new("a/b.c"));
        for other in ["/a/b.c", "./a/b.c", "a//b.c", "a/./b.c", "a/x/../b.c", "a/b.c/", "../a/b.c"]
        {
            assert_eq!(normalize(Path::new(other)), name, "{other}");
        }
        for root in ["", "/", ".", "..", "a/.."] {
            assert_eq!(normalize(Path::new(root)), normalize(Path::new("")), "{root}");
        }
        assert_ne!(normalize(Path::new("a/..b")), normalize(Path::new("a/b")));
    }

    #[test]
    fn a_name_lies_in_its_parent_only() {
        for (path, dir) in [("a/b/c", "a/b"), ("a", ""), ("", "")] {
            assert_eq!(parent(Path::new(path)), Path::new(dir), "{path}");
        }
        assert!(is_in(Path::new("a/b/c"), Path::new("a/b")));
        assert!(!is_in(Path::new("a/b/c"), Path::new("a")));
        assert!(!is_in(Path::new("ab/c"), Path::new("a")));
    }
}
