//! The error of this crate: a kind that a program can match and a sentence that a person can act on.

use std::fmt;

/// The result of a fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, for programs. Every kind has a number that never changes: [`ErrorKind::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The owner's storage failed.
    Io,
    /// Bytes that were stored are not the bytes that come back.
    Corruption,
    /// An argument that can never be right.
    InvalidArgument,
    /// A number beyond the documented limit.
    LimitExceeded,
}

impl ErrorKind {
    /// A number for bindings and scripts; it never changes its meaning and is the same in all Cortenkv crates.
    pub fn code(self) -> u32 {
        match self {
            ErrorKind::Io => 1,
            ErrorKind::Corruption => 2,
            ErrorKind::InvalidArgument => 3,
            ErrorKind::LimitExceeded => 4,
        }
    }
}

/// What went wrong ([`Error::kind`]), and where and what to do (`Display`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    context: String,
}

impl Error {
    /// An error with the sentence that `Display` shows; for owners of records and stores of runs, whose failures pass
    /// through this crate.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Error { kind, context: context.into() }
    }

    /// What went wrong, for programs.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence that `Display` shows.
    pub fn context(&self) -> &str {
        &self.context
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl std::error::Error for Error {}
