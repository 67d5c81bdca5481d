//! Opening a database without touching it: the usual recovery runs over a view, which keeps in memory what it writes.

use std::path::Path;
use std::sync::Arc;

use cortenkv_wal::vfs::ViewVfs;

use super::durable::Platform;
use crate::error::{Error, Result};

/// How often an opening begins anew because the owner of the files has gone on meanwhile.
const ATTEMPTS_MAX: u32 = 10;

impl Platform {
    /// Calls `open` with a view of a directory, again while files come and go under it.
    ///
    /// # Errors
    /// `InvalidArgument` where no database is; what `open` answers for a directory at rest, or at last.
    pub(crate) fn with_view<R>(
        &self,
        dir: &Path,
        mut open: impl FnMut(Platform) -> Result<R>,
    ) -> Result<R> {
        let mut attempt = 1;
        loop {
            let view = ViewVfs::new(Arc::clone(&self.vfs), dir).map_err(|e| {
                cortenkv_wal::Error::io(format!("cannot look at {}", dir.display()), e)
            })?;
            if !view.had("CURRENT") {
                return Err(Error::invalid(format!(
                    "{} holds no database to look at; only an opening that may write makes one",
                    dir.display()
                )));
            }
            let view = Arc::new(view);
            let vfs = Arc::clone(&view);
            let opened = open(Platform { vfs, ..self.clone() });
            if opened.is_ok() || attempt == ATTEMPTS_MAX || !view.has_moved() {
                return opened;
            }
            attempt += 1;
        }
    }
}
