//! The bytes of a source: a file, which can be read from any place, or standard input.

#![expect(clippy::disallowed_methods, reason = "reads the files that the user names")]

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure, Result};
use crate::import::source::Position;
use crate::text;

/// How many bytes before a position are remembered to recognise the file.
const TAIL_BYTES: u64 = 64;

/// A source as it was named.
#[derive(Debug)]
pub struct Input {
    /// The name for messages.
    pub name: String,
    /// The whole path; `None` for standard input.
    pub path: Option<PathBuf>,
    file: Option<File>,
}

impl Input {
    /// Opens a file or folder, or standard input for `-`.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn open(path: &Path) -> Result<Input> {
        if path == Path::new("-") {
            return Ok(Input { name: "standard input".into(), path: None, file: None });
        }
        let cannot = |error| Failure::io("open", path, &error);
        let name = path.display().to_string();
        let file = File::open(path).map_err(cannot)?;
        // A pipe under a name of its own (`<(..)` in a shell) has no whole path.
        let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        Ok(Input { name, path: Some(whole), file: Some(file) })
    }

    /// The bytes from a position on, and where that is: offset and lines before it.
    ///
    /// # Errors
    /// When the file is not the one that the position belongs to.
    pub fn reader(&self, start: Option<&Position>) -> Result<(Box<dyn Read>, u64, u64)> {
        let Some(file) = &self.file else { return Ok((Box::new(io::stdin().lock()), 0, 0)) };
        let cannot = |error| self.cannot_read(&error);
        let mut reader = file.try_clone().map_err(cannot)?;
        // Without a position the file is at its start: nothing was read of it before.
        let Some(Position::Offset { bytes, lines, tail }) = start else {
            return Ok((Box::new(reader), 0, 0));
        };
        if self.tail(*bytes).ok().as_ref() != Some(tail) {
            return Err(Failure::usage(format!(
                "{} is not the file any more of which {bytes} bytes were imported before; `--restart` begins anew",
                self.name
            )));
        }
        reader.seek(SeekFrom::Start(*bytes)).map_err(cannot)?;
        Ok((Box::new(reader), *bytes, *lines))
    }

    /// The position at an offset; `None` for what cannot be read from any place.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn position(&self, bytes: u64, lines: u64) -> Result<Option<Position>> {
        if self.bytes_total().is_none() {
            return Ok(None);
        }
        let tail = self.tail(bytes).map_err(|error| self.cannot_read(&error))?;
        Ok(Some(Position::Offset { bytes, lines, tail }))
    }

    /// Goes back to the start of a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn rewind(&mut self) -> Result<()> {
        let rewound = self.file.as_mut().map_or(Ok(()), |file| file.rewind());
        rewound.map_err(|error| self.cannot_read(&error))
    }

    /// How long the file is; `None` for what cannot be read from any place.
    pub fn bytes_total(&self) -> Option<u64> {
        let facts = self.file.as_ref()?.metadata().ok()?;
        facts.is_file().then_some(facts.len())
    }

    /// How many lines end between an offset and the next text: a reader of rows stops within a line break, and passes
    /// over blank lines. `None` for what cannot be read from any place.
    pub fn line_breaks_at(&self, mut offset: u64) -> Option<u64> {
        self.bytes_total()?;
        let mut breaks = 0;
        let mut chunk = [0; 4096];
        loop {
            let read = self.file.as_ref()?.read_at(&mut chunk, offset).ok()?;
            let blank =
                chunk[..read].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            breaks += chunk[..blank].iter().filter(|byte| **byte == b'\n').count() as u64;
            if blank < chunk.len() {
                return Some(breaks);
            }
            offset += blank as u64;
        }
    }

    /// The failure of a read.
    pub fn cannot_read(&self, error: &io::Error) -> Failure {
        Failure::new(Exit::Io, format!("cannot read {}: {error}", self.name))
    }

    /// The last bytes before an offset, in hex.
    fn tail(&self, end: u64) -> io::Result<String> {
        let Some(file) = &self.file else { return Ok(String::new()) };
        let start = end.saturating_sub(TAIL_BYTES);
        let mut tail = vec![0; (end - start) as usize];
        file.read_exact_at(&mut tail, start)?;
        Ok(text::hexed(&tail))
    }
}

/// Reads a whole file; `None` when it has more bytes than `bytes_max`.
///
/// # Errors
/// As the operating system says.
pub fn read_whole(path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let mut content = Vec::with_capacity((file.metadata()?.len() as usize).min(bytes_max) + 1);
    file.take(bytes_max as u64 + 1).read_to_end(&mut content)?;
    Ok((content.len() <= bytes_max).then_some(content))
}
