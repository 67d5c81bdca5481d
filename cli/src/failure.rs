//! Exit codes and messages: the part of the tool that shell scripts rely on.
//!
//! # Invariants
//! A code never changes its meaning. A message is one line, starts with `corten: `, names the thing and says what to do.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use cortenkv::{Error, ErrorKind};

use crate::text;

/// The table of [`Exit`] for `--help`.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  done
  1  get: the key is not there
  2  a wrong option, name or path, or a key or value over the limit; nothing was written
  3  import: some records were skipped; the others are in the database
  4  a file of the database is damaged
  5  another process has the database open
  6  the disk is full
  7  a file could not be read or written
  8  the files need a newer version, or this build lacks a part
  9  there is no such database, keyspace or source
  10 a part of the log that is needed is gone: make a full backup, or scan all of it

Errors are one line on standard error that starts with `corten: `.";

/// Why a command did not do all that it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// `get`: the key is not there.
    NoKey = 1,
    /// A wrong option, name or path, or a key or value over the limit.
    Usage = 2,
    /// `import`: some records were skipped.
    Partial = 3,
    /// A file of the database is damaged.
    Corruption = 4,
    /// Another process has the database open.
    Locked = 5,
    /// The disk is full.
    Full = 6,
    /// A file could not be read or written.
    Io = 7,
    /// A newer format, or a part that this build lacks.
    Unsupported = 8,
    /// No such database, keyspace or source.
    Absent = 9,
    /// A part of the log that is needed is gone.
    Lagged = 10,
}

/// The end of a command that did not do all that it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// A code and its sentence.
    Failed(Exit, String),
    /// A code whose reasons were printed already, or speak for themselves.
    Silent(Exit),
    /// Whoever read the output has enough; that is no error.
    ReaderGone,
}

/// The result of whatever may end a command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure::Failed(exit, message.into())
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, message)
    }

    /// What the operating system said about a file.
    pub fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::Absent,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::Full,
            _ => Exit::Io,
        };
        Failure::new(exit, format!("cannot {what} {}: {error}", path.display()))
    }

    /// The same failure with words before its sentence.
    pub fn before(self, words: impl fmt::Display) -> Self {
        match self {
            Failure::Failed(exit, message) => Failure::Failed(exit, format!("{words}{message}")),
            other => other,
        }
    }

    /// Prints the sentence and gives the code of the process.
    pub fn report(&self) -> ExitCode {
        let exit = match self {
            Failure::Failed(exit, message) => {
                complain(message);
                exit
            }
            Failure::Silent(exit) => exit,
            Failure::ReaderGone => return ExitCode::SUCCESS,
        };
        ExitCode::from(*exit as u8)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::InvalidArgument | ErrorKind::LimitExceeded => Exit::Usage,
            ErrorKind::Corruption { .. } => Exit::Corruption,
            ErrorKind::Locked { .. } => Exit::Locked,
            ErrorKind::StorageFull => Exit::Full,
            ErrorKind::Unsupported => Exit::Unsupported,
            ErrorKind::Lagged { .. } => Exit::Lagged,
            _ => Exit::Io,
        };
        Failure::new(exit, describe(&error))
    }
}

/// The sentence of an error of the engine: for a damaged file with its place, for a full disk with what to do.
pub fn describe(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Corruption { file, offset, .. } => {
            let (sentence, name) = (error.to_string(), file.display().to_string());
            let place = format!("{name} at offset {offset}");
            // Most sentences name the place themselves.
            if sentence.contains(&name) && sentence.contains(&offset.to_string()) {
                sentence
            } else {
                format!("{sentence} ({place})")
            }
        }
        ErrorKind::StorageFull => {
            let sentence = error.to_string();
            // Some sentences say it themselves.
            let hint = if sentence.contains("free some") { "" } else { "; free some space there" };
            sentence + hint
        }
        _ => error.to_string(),
    }
}

/// Prints a sentence on standard error as one line.
pub fn complain(message: &str) {
    // There is nowhere left to report that standard error is gone.
    let _ = writeln!(io::stderr(), "{}", line(message));
}

/// Prints a sentence that is no error, such as a summary, on standard error.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{}", text::visible(message));
}

/// `corten: ` and the sentence, with whatever would break the line made visible.
pub fn line(message: &str) -> String {
    format!("corten: {}", text::visible(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_file_names_hold() {
        assert_eq!(line("no file a\nb\x1b[1m"), "corten: no file a\\nb\\x1B[1m");
        assert_eq!(line(r"C:\x"), r"corten: C:\x");
    }

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        let exit = |kind| match Failure::from(Error::new(kind, "x")) {
            Failure::Failed(exit, _) => exit,
            other => panic!("{other:?}"),
        };
        assert_eq!(exit(ErrorKind::Locked { pid: None }), Exit::Locked);
        assert_eq!(exit(ErrorKind::LimitExceeded), Exit::Usage);
        assert_eq!(exit(ErrorKind::StorageFull), Exit::Full);
        assert_eq!(exit(ErrorKind::Unsupported), Exit::Unsupported);
        assert_eq!(exit(ErrorKind::Io), Exit::Io);
    }

    #[test]
    fn a_damaged_file_is_named_with_its_offset_once() {
        let corruption = |context: &str| {
            let (file, expected, found) = ("db/1.seg".into(), String::new(), String::new());
            let kind = ErrorKind::Corruption { file, offset: 4096, expected, found };
            describe(&Error::new(kind, context))
        };
        assert_eq!(corruption("bad record"), "bad record (db/1.seg at offset 4096)");
        assert_eq!(corruption("db/1.seg is bad at 4096"), "db/1.seg is bad at 4096");
    }
}
