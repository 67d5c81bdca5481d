//! The error of the benches: a sentence that says what failed, and its cause.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a measurement stopped at. Programs only ask whether there is one, so it has no kinds.
#[derive(Debug)]
pub struct Error {
    context: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with no other error behind it.
    pub fn new(context: impl Into<String>) -> Self {
        Error { context: context.into(), source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.context),
            None => f.write_str(&self.context),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Says what was being done when somebody else's error came.
pub trait Context<T> {
    /// Wraps the error in a sentence.
    fn context(self, sentence: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, sentence: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error { context: sentence(), source: Some(error.into()) })
    }
}
