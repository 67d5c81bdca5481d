//! The lines of a file, with a bound on their length and the place of each.

use std::io::{BufRead, BufReader, Read};

use crate::failure::Result;
use crate::import::file::Input;
use crate::import::source::Position;

/// LIMIT: the longest line in bytes: the longest value with half of its characters escaped.
const LINE_BYTES_MAX: usize = 64 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// A line without its line break.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Text(&'a [u8]),
    /// Longer than allowed; it was passed over.
    TooLong,
}

/// Offset and lines before it.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    bytes: u64,
    lines: u64,
}

/// A reader of lines.
pub struct Lines {
    input: Input,
    reader: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
    line_bytes_max: usize,
    before: Cursor,
    behind: Cursor,
}

impl Lines {
    /// The lines from a position on.
    ///
    /// # Errors
    /// As [`Input::reader`].
    pub fn open(input: Input, start: Option<&Position>) -> Result<Self> {
        let (reader, bytes, lines) = input.reader(start)?;
        let reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        let cursor = Cursor { bytes, lines };
        let line_bytes_max = LINE_BYTES_MAX;
        Ok(Lines {
            input,
            reader,
            line: Vec::new(),
            line_bytes_max,
            before: cursor,
            behind: cursor,
        })
    }

    /// The next line that is not blank.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>> {
        loop {
            self.before = self.behind;
            self.line.clear();
            let limit = self.line_bytes_max as u64 + 1;
            let read = (&mut self.reader).take(limit).read_until(b'\n', &mut self.line);
            let mut read = read.map_err(|error| self.input.cannot_read(&error))? as u64;
            if read == 0 {
                return Ok(None);
            }
            let is_too_long = read == limit && self.line.last() != Some(&b'\n');
            if is_too_long {
                read += self.pass_over_rest()?;
            }
            self.behind = Cursor { bytes: self.before.bytes + read, lines: self.before.lines + 1 };
            if is_too_long {
                return Ok(Some(Line::TooLong));
            }
            // A UTF-8 mark at the start of a file belongs to no line.
            let is_marked = self.before.bytes == 0 && self.line.starts_with(b"\xEF\xBB\xBF");
            let range = if is_marked { 3 } else { 0 }..content_end(&self.line);
            if range.is_empty() {
                continue;
            }
            return Ok(Some(Line::Text(&self.line[range])));
        }
    }

    fn pass_over_rest(&mut self) -> Result<u64> {
        let rest = self.reader.skip_until(b'\n');
        Ok(rest.map_err(|error| self.input.cannot_read(&error))? as u64)
    }

    /// Before the last line.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn position(&self) -> Result<Option<Position>> {
        self.input.position(self.before.bytes, self.before.lines)
    }

    pub fn place(&self) -> String {
        format!("{}:{}", self.input.name, self.behind.lines)
    }

    pub fn bytes_read(&self) -> u64 {
        self.behind.bytes
    }

    pub fn bytes_total(&self) -> Option<u64> {
        self.input.bytes_total()
    }
}

/// Where the line break starts, `\n` or `\r\n`.
fn content_end(line: &[u8]) -> usize {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

/// Why a line that is too long is no record.
pub fn too_long() -> String {
    format!("the line is longer than {LINE_BYTES_MAX} bytes")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "writes the file that is read")]

    use super::*;

    fn lines(content: &[u8], line_bytes_max: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let mut lines = Lines::open(Input::open(file.path()).unwrap(), None).unwrap();
        lines.line_bytes_max = line_bytes_max;
        let mut found = Vec::new();
        loop {
            let line = match lines.next_line().unwrap() {
                None => break,
                Some(Line::TooLong) => None,
                Some(Line::Text(text)) => Some(text.to_vec()),
            };
            found.push((lines.behind.lines, line));
        }
        assert_eq!(lines.bytes_read(), content.len() as u64);
        found
    }

    #[test]
    fn lines_are_counted_blank_ones_too_and_lose_their_breaks() {
        let found = lines(b"\xEF\xBB\xBFa\r\n\n\r\nb\nlast", 100);
        let expected = [(1, b"a".to_vec()), (4, b"b".to_vec()), (5, b"last".to_vec())];
        assert_eq!(found, expected.map(|(line, text)| (line, Some(text))));
    }

    #[test]
    fn a_line_over_the_limit_is_passed_over_and_the_next_one_is_whole() {
        let found = lines(b"1234\n12345678\nab\n", 4);
        assert_eq!(found, [(1, Some(b"1234".to_vec())), (2, None), (3, Some(b"ab".to_vec()))]);
        assert_eq!(lines(b"12345678", 4), [(1, None)]);
    }
}
