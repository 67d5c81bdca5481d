//! Where a command writes what it was asked for: standard output or a file.
//!
//! # Failure
//! A reader that has gone (`corten scan db | head`) ends the command without a word.

#![expect(
    clippy::disallowed_methods,
    reason = "the files that a user names are no files of a database"
)]

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

const BUFFER_BYTES: usize = 64 << 10;

/// A buffered writer; what it holds is written by [`Output::finish`], or lost with a failure.
pub struct Output {
    to: BufWriter<Box<dyn Write>>,
    name: PathBuf,
}

impl Output {
    pub fn stdout() -> Self {
        let to: Box<dyn Write> = Box::new(io::stdout().lock());
        Output { to: BufWriter::with_capacity(BUFFER_BYTES, to), name: "standard output".into() }
    }

    /// A new file; one that exists is left alone.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub fn create_new(path: &Path) -> Result<Self> {
        let file = File::create_new(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::usage(format!(
                "{} exists already; give the name of a new file, or remove it first",
                path.display()
            )),
            _ => Failure::io("create", path, &error),
        })?;
        let to: Box<dyn Write> = Box::new(file);
        Ok(Output { to: BufWriter::with_capacity(BUFFER_BYTES, to), name: path.to_path_buf() })
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// As the operating system says; `ReaderGone` when a pipe was closed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).map_err(|error| failure(&self.name, &error))
    }

    /// Writes text and a line break.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn line(&mut self, text: &str) -> Result<()> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    /// Writes a value as JSON over several lines.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value).expect("maps have string keys");
        self.line(&text)
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn finish(mut self) -> Result<()> {
        self.to.flush().map_err(|error| failure(&self.name, &error))
    }
}

fn failure(name: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::io("write to", name, error),
    }
}

/// True when a person sees standard output.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}
