//! The error of the engine: a kind that a program can match, a sentence that a person can act on.
//!
//! An [`Error`] is one pointer wide and cheap to clone, because one failed sync is the answer to every commit that
//! waited for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The result of a fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a database no longer accepts calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClosedReason {
    /// `close` was called, or the last handle was dropped.
    Clean,
    /// A write or a sync failed; only a reopen can tell what reached the disk. Reads go on.
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
    /// Another process, or another handle of this process, has the directory open.
    Locked {
        /// The process that holds the lock, where it could be read.
        pid: Option<u32>,
    },
    /// The database takes no more calls of this sort.
    Closed(ClosedReason),
    /// The disk is full. Reads go on, and writes resume by themselves when space is back.
    StorageFull,
    /// The snapshot was given up, because it held too much or lived too long.
    SnapshotTooOld,
    /// The wait ended before the work did.
    Timeout,
    /// A service that the engine depends on does not answer; try again later.
    Unavailable,
    /// A part of the log that was asked for is gone: begin anew with all of the data, by a scan or a full backup.
    Lagged {
        /// What comes behind this commit was asked for.
        position: u64,
        /// What comes behind this one is there.
        oldest: u64,
    },
    /// The files need a newer version, or the build lacks the part that was asked for.
    Unsupported,
    /// Other writes came between in each of the attempts that were allowed; try again later.
    Conflict,
}

impl ErrorKind {
    /// A number for bindings and scripts; it never changes its meaning, and the log crate uses the same numbers.
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
            ErrorKind::SnapshotTooOld => 9,
            ErrorKind::Timeout => 10,
            ErrorKind::Unavailable => 11,
            ErrorKind::Unsupported => 12,
            ErrorKind::Conflict => 13,
            ErrorKind::Lagged { .. } => 14,
        }
    }
}

/// A cause that several errors may share.
type Source = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong ([`Error::kind`]), where and what to do (`Display`), and why (`source`).
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    context: String,
    source: Option<Source>,
}

impl Error {
    /// An error of the given kind with a sentence that says what the caller can do.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Error(Arc::new(Inner { kind, context: context.into(), source: None }))
    }

    /// The same with the error behind it.
    pub fn with_source(
        kind: ErrorKind,
        context: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Error(Arc::new(Inner { kind, context: context.into(), source: Some(Arc::new(source)) }))
    }

    /// What went wrong, for programs.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The number of the kind: [`ErrorKind::code`].
    pub fn code(&self) -> u32 {
        self.0.kind.code()
    }

    /// The sentence that `Display` shows, without the source.
    pub fn context(&self) -> &str {
        &self.0.context
    }

    /// True for a damaged file.
    pub fn is_corruption(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Corruption { .. })
    }

    /// True when the database was closed or has latched a failure.
    pub fn is_closed(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Closed(_))
    }

    pub(crate) fn invalid(context: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidArgument, context)
    }

    pub(crate) fn limit(context: impl Into<String>) -> Self {
        Error::new(ErrorKind::LimitExceeded, context)
    }

    #[allow(dead_code, reason = "a build without a log on disk has none to lag behind")]
    pub(crate) fn lagged(position: u64, oldest: u64) -> Self {
        Error::new(
            ErrorKind::Lagged { position, oldest },
            format!(
                "the log behind commit {position} is gone up to commit {oldest}: nothing held it, or its hold kept more than \
                 it may; begin anew with all of the data"
            ),
        )
    }

    pub(crate) fn unsupported(context: impl Into<String>) -> Self {
        Error::new(ErrorKind::Unsupported, context)
    }

    pub(crate) fn closed(reason: ClosedReason) -> Self {
        let context = match reason {
            ClosedReason::Clean => "the database was closed; open it again to use it",
            ClosedReason::Poisoned => {
                "an earlier write or sync failed, so nothing more can be promised; close the database, mend the cause \
                 and open it again"
            }
            ClosedReason::Panicked => {
                "a background thread panicked; close the database and open it again"
            }
            ClosedReason::Forked => {
                "the database was opened by the parent process; open it in this process instead"
            }
        };
        Error::new(ErrorKind::Closed(reason), context)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()
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
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_code_from_1_to_13() {
        let corruption = ErrorKind::Corruption {
            file: PathBuf::new(),
            offset: 0,
            expected: String::new(),
            found: String::new(),
        };
        let kinds = [
            ErrorKind::Io,
            corruption,
            ErrorKind::InvalidArgument,
            ErrorKind::LimitExceeded,
            ErrorKind::Busy,
            ErrorKind::Locked { pid: None },
            ErrorKind::Closed(ClosedReason::Clean),
            ErrorKind::StorageFull,
            ErrorKind::SnapshotTooOld,
            ErrorKind::Timeout,
            ErrorKind::Unavailable,
            ErrorKind::Unsupported,
            ErrorKind::Conflict,
            ErrorKind::Lagged { position: 1, oldest: 2 },
        ];
        let codes: Vec<u32> = kinds.iter().map(ErrorKind::code).collect();
        assert_eq!(codes, (1..=14).collect::<Vec<u32>>());
    }

    #[test]
    fn display_is_the_sentence_and_its_cause() {
        let error = Error::with_source(
            ErrorKind::Io,
            "cannot read CURRENT",
            std::io::Error::other("bad cable"),
        );
        assert_eq!(error.to_string(), "cannot read CURRENT: bad cable");
        assert!(std::error::Error::source(&error).is_some());
    }
}
