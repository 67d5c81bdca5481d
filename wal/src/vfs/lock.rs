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
        let facts = match vfs.metadata(dir) {
            Ok(facts) => facts,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                vfs.create_dir(dir).map_err(cannot)?;
                if let Some(parent) = dir.parent() {
                    let parent =
                        if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                    // DURABILITY: the name of the directory itself, before anything in it is acknowledged.
                    vfs.sync_dir(parent).map_err(cannot)?;
                }
                vfs.metadata(dir).map_err(cannot)?
            }
            Err(e) => return Err(cannot(e)),
        };
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
