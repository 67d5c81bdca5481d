//! TSV: key and value with a tab between them, escaped as `corten scan` writes them.

use crate::failure::Result;
use crate::import::file::Input;
use crate::import::lines::{self, Line, Lines};
use crate::import::source::{Position, Record, Source, Step};
use crate::text;

/// A source of TSV lines.
pub struct Tsv {
    lines: Lines,
    /// Backslashes stand for themselves.
    is_raw: bool,
}

impl Tsv {
    /// Reads from a position on.
    ///
    /// # Errors
    /// As [`Lines::open`].
    pub fn open(input: Input, is_raw: bool, start: Option<&Position>) -> Result<Self> {
        Ok(Tsv { lines: Lines::open(input, start)?, is_raw })
    }
}

impl Source for Tsv {
    fn next(&mut self) -> Result<Step> {
        Ok(match self.lines.next_line()? {
            None => Step::End,
            Some(Line::TooLong) => Step::Rejected(lines::too_long()),
            Some(Line::Text(line)) => {
                record(line, self.is_raw).map_or_else(Step::Rejected, Step::Record)
            }
        })
    }

    fn position(&self) -> Result<Option<Position>> {
        self.lines.position()
    }

    fn place(&self) -> String {
        self.lines.place()
    }

    fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }

    fn bytes_total(&self) -> Result<Option<u64>> {
        Ok(self.lines.bytes_total())
    }
}

/// Splits a line at its first tab; a raw value may hold more of them.
fn record(line: &[u8], is_raw: bool) -> Result<Record, String> {
    let tab = line.iter().position(|byte| *byte == b'\t').ok_or("no tab between key and value")?;
    let (key, value) = (&line[..tab], &line[tab + 1..]);
    if is_raw {
        return Ok(Record { key: key.to_vec(), value: value.to_vec(), ..Record::default() });
    }
    if value.contains(&b'\t') {
        return Err("more than one tab; --raw takes the second one into the value".into());
    }
    let take_back = |field| match text::unescape(field) {
        Ok(bytes) => Ok(bytes.into_owned()),
        Err(wrong) => Err(format!("{wrong}; --raw takes backslashes as they are")),
    };
    Ok(Record { key: take_back(key)?, value: take_back(value)?, ..Record::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(line: &str, is_raw: bool) -> Result<(Vec<u8>, Vec<u8>), String> {
        record(line.as_bytes(), is_raw).map(|record| (record.key, record.value))
    }

    #[test]
    fn escapes_are_taken_back_unless_raw() {
        assert_eq!(pair("a\\tb\tc\\n", false), Ok((b"a\tb".to_vec(), b"c\n".to_vec())));
        assert_eq!(pair("C:\\dir\tx\ty", true), Ok((b"C:\\dir".to_vec(), b"x\ty".to_vec())));
        assert_eq!(pair("\t", false), Ok((vec![], vec![])));
    }

    #[test]
    fn what_is_no_pair_says_why() {
        assert!(pair("key", false).unwrap_err().contains("no tab"));
        assert!(pair("a\tb\tc", false).unwrap_err().contains("--raw"));
        assert!(pair("C:\\dir\tx", false).unwrap_err().contains("--raw"));
    }
}
