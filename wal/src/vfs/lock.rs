//! The lock of a directory: one process, and one opening in it, at a time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FileKind, FileLock, LockOutcome, Vfs};
use crate::error::{Error, ErrorKind, Result};

/// The name of the lock file. It is never deleted: removing a lock file lets two processes hold "the" lock.
pub const LOCK_FILE: &str = "LOCK";

/// A locked directory. The lock is released when the last clone is dropped or the process dies.
#[derive(Debug, Clone)]
pub struct DirLock {
    dir: PathBuf,
    vfs: Arc<dyn Vfs>,
    _lock: Arc<dyn FileLock>,
}

impl DirLock {
    /// Creates the directory (mode 0700) where it is missing, and locks it.
    ///
    /// # Errors
    /// `Locked` when another process or another opening of this process holds it; `InvalidArgument` when the path is
    /// not a directory, or when group or others may write to it and `allow_writable_by_others` is false; `Io` otherwise.
    pub fn acquire(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        allow_writable_by_others: bool,
    ) -> Result<DirLock> {
        Self::prepare_dir(vfs.as_ref(), dir, allow_writable_by_others)?;
        let path = dir.join(LOCK_FILE);
        match vfs.lock(&path) {
            Ok(LockOutcome::Acquired(lock)) => {
                Ok(DirLock { dir: dir.to_path_buf(), vfs: Arc::clone(vfs), _lock: Arc::from(lock) })
            }
            Ok(LockOutcome::Held { pid }) => {
                let holder = pid
                    .map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                Err(Error::new(
                    ErrorKind::Locked { pid },
                    format!("{} is in use by {holder}; close it there first", dir.display()),
                ))
            }
            Err(e) => Err(Error::io(format!("cannot lock {}", path.display()), e)),
        }
    }

    fn prepare_dir(vfs: &dyn Vfs, dir: &Path, allow_writable_by_others: bool) -> Result<()> {
        let cannot = |e| Error::io(format!("cannot use the directory {}", dir.display()), e);
        make_dir(vfs, dir).map_err(cannot)?;
        let facts = vfs.metadata(dir).map_err(cannot)?;
        if facts.kind != FileKind::Dir {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{} is not a directory; give the path of a directory", dir.display()),
            ));
        }
        if facts.writable_by_others && !allow_writable_by_others {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{} may be written by group or others, who could change the files; run `chmod go-w` on it",
                    dir.display()
                ),
            ));
        }
        Ok(())
    }

    /// The locked directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file system that the directory lives on.
    pub fn vfs(&self) -> &Arc<dyn Vfs> {
        &self.vfs
    }
}

/// Creates a directory and those above it, each durable under its name before anything is made in it.
///
/// What is there already may have been made by a process that died before its name was durable, so the deepest
/// directory that exists counts as new. Those above it are durable: whoever made it saw to that first.
fn make_dir(vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let parent = dir.parent().filter(|_| dir.file_name().is_some());
    match vfs.metadata(dir) {
        Ok(facts) if facts.kind != FileKind::Dir => return Ok(()), // refused by the caller
        Ok(_) => {
            let Some(parent) = parent else { return Ok(()) };
            // DURABILITY: as below, for a name that somebody else made. Where we may not read the directory above, it
            // was not us.
            return match vfs.sync_dir(or_here(parent)) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                synced => synced,
            };
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let Some(parent) = parent else { return Err(io::ErrorKind::NotFound.into()) };
    make_dir(vfs, or_here(parent))?;
    vfs.create_dir(dir)?;
    // DURABILITY: the name of the directory, before anything in it is acknowledged.
    vfs.sync_dir(or_here(parent))
}

/// The parent of a plain name is the empty path; it stands for the current directory.
fn or_here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}
