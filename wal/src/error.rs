//! The error of this crate: one struct, a kind that a program can match, a sentence that a person can act on.
//!
//! An [`Error`] is one pointer wide, so that a result costs its successful callers nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of a fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a log no longer accepts work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClosedReason {
    /// `close` was called.
    Clean,
    /// A write or a sync failed; only a reopen can tell what reached the disk.
    Poisoned,
    /// A background thread panicked.
    Panicked,
    /// The call came from a child process made by `fork`.
    Forked,
}

/// What went wrong, for programs. Every kind has a number that never changes: [`ErrorKind::code`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a file operation.
    Io,
    /// A file does not hold what was written to it.
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Offset in bytes from the start of the file.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An argument that can never be right.
    InvalidArgument,
    /// A key, value, commit or count beyond the documented limit. Nothing was written.
    LimitExceeded,
    /// Too much work is pending; try again later.
    Busy,
    /// Another process has the directory open.
    Locked {
        /// The process that holds the lock, where it could be read.
        pid: Option<u32>,
    },
    /// The log takes no more writes.
    Closed(ClosedReason),
    /// The disk is full. Reads go on, and writes resume by themselves when space is back.
    StorageFull,
    /// The wait ended before the work did.
    Timeout,
    /// The files need a newer version, or a feature that is not compiled in.
    Unsupported,
}

impl ErrorKind {
    /// A number for bindings and scripts; it never changes its meaning.
    pub fn code(&self) -> u32 {
        match self {
            ErrorKind::Io => 1,
            ErrorKind::Corruption { .. } => 2,
            ErrorKind::InvalidArgument => 3,
            ErrorKind::LimitExceeded => 4,
            ErrorKind::Busy => 5,
            ErrorKind::Locked { .. } => 6,
            ErrorKind::Closed(_) => 7,
            ErrorKind::StorageFull => 8,
            ErrorKind::Timeout => 10,
            ErrorKind::Unsupported => 12,
        }
    }
}

/// What went wrong ([`Error::kind`]), where and what to do (`Display`), and why (`source`).
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    context: String,
    source: Option<Arc<io::Error>>,
}

impl Error {
    /// What went wrong, for programs.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The sentence that `Display` shows, without the source.
    pub fn context(&self) -> &str {
        &self.0.context
    }

    /// The operating system's error behind this one, where there is one.
    pub fn io_source(&self) -> Option<&io::Error> {
        self.0.source.as_deref()
    }

    /// An error of the given kind with a sentence that says what the caller can do.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, context: context.into(), source: None }))
    }

    /// Maps an operating-system error: a full disk becomes [`ErrorKind::StorageFull`], the rest [`ErrorKind::Io`].
    pub fn io(context: impl Into<String>, source: io::Error) -> Self {
        let kind =
            if is_out_of_resources(&source) { ErrorKind::StorageFull } else { ErrorKind::Io };
        let (context, source) = (context.into(), Some(Arc::new(source)));
        Error(Box::new(Inner { kind, context, source }))
    }

    /// The same failure, once it has closed the log. "Full" would promise that nothing was written and that writes go on.
    pub(crate) fn for_good(mut self) -> Self {
        if self.is_storage_full() {
            self.0.kind = ErrorKind::Io;
        }
        self
    }

    /// A failed sync. Never "full", whatever the system says: the bytes may be gone, so it cannot be tried again.
    pub(crate) fn sync_failed(path: &Path, source: io::Error) -> Self {
        let context = format!("cannot sync {}", path.display());
        Error(Box::new(Inner { kind: ErrorKind::Io, context, source: Some(Arc::new(source)) }))
    }

    /// A damaged file.
    pub fn corruption(
        file: &Path,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (expected, found) = (expected.into(), found.into());
        let context = format!(
            "{} is damaged at byte {offset}: expected {expected}, found {found}; restore it from a copy, or open with \
             salvage to keep what is intact",
            file.display()
        );
        let kind = ErrorKind::Corruption { file: file.to_path_buf(), offset, expected, found };
        Error(Box::new(Inner { kind, context, source: None }))
    }

    pub(crate) fn closed(reason: ClosedReason) -> Self {
        let context = match reason {
            ClosedReason::Clean => "the log was closed; open it again to use it",
            ClosedReason::Poisoned => {
                "an earlier write or sync failed, so nothing more can be promised; close the log, mend the cause and \
                 open it again"
            }
            ClosedReason::Panicked => {
                "a background thread panicked; close the log and open it again"
            }
            ClosedReason::Forked => {
                "the log was opened by the parent process; open it in this process instead"
            }
        };
        Error::new(ErrorKind::Closed(reason), context)
    }

    /// The same error with the words of the one that led to it.
    pub(crate) fn caused_by(mut self, cause: &Error) -> Self {
        self.0.context = format!("{}; what happened first: {}", self.0.context, cause.0.context);
        self.0.source.clone_from(&cause.0.source);
        self
    }

    pub(crate) fn limit(context: impl Into<String>) -> Self {
        Error::new(ErrorKind::LimitExceeded, context)
    }

    /// True for a full disk, a used-up quota or no file handles left: the caller may try again later.
    pub fn is_storage_full(&self) -> bool {
        self.0.kind == ErrorKind::StorageFull
    }

    /// True for a damaged file.
    pub fn is_corruption(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Corruption { .. })
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, context, source } = &*self.0;
        let mut shown = f.debug_struct("Error");
        shown.field("kind", kind).field("context", context).field("source", source).finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.context)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

/// ENOSPC, EDQUOT, EMFILE and ENFILE: the state "full", not a failure of the log.
fn is_out_of_resources(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_code() {
        let kinds = [
            ErrorKind::Io,
            ErrorKind::Corruption {
                file: PathBuf::new(),
                offset: 0,
                expected: String::new(),
                found: String::new(),
            },
            ErrorKind::InvalidArgument,
            ErrorKind::LimitExceeded,
            ErrorKind::Busy,
            ErrorKind::Locked { pid: None },
            ErrorKind::Closed(ClosedReason::Clean),
            ErrorKind::StorageFull,
            ErrorKind::Timeout,
            ErrorKind::Unsupported,
        ];
        let mut codes: Vec<u32> = kinds.iter().map(ErrorKind::code).collect();
        codes.dedup();
        assert_eq!(codes.len(), kinds.len());
    }

    #[test]
    fn a_full_disk_is_told_apart_from_other_failures() {
        assert!(Error::io("x", io::Error::from_raw_os_error(28)).is_storage_full());
        assert!(Error::io("x", io::Error::from_raw_os_error(122)).is_storage_full());
        assert!(Error::io("x", io::Error::from_raw_os_error(24)).is_storage_full());
        assert!(!Error::io("x", io::Error::from_raw_os_error(5)).is_storage_full());
    }
}
