//! An entry as a line: text, hex or JSON, for `scan` and `export`, and as `import` reads it back.
//!
//! # Layout
//! - text: key and value escaped (see `text`), a tab between them
//! - hex: key and value in hex, a tab between them
//! - JSON: `{"key": .., "value": ..}`; what is not UTF-8 comes as `key_hex` or `value_hex`; `keyspace` and
//!   `expires_at_ms` where they are asked for

use std::time::UNIX_EPOCH;

use cortenkv::Entry;

use crate::text;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Escaped text, a tab between key and value
    Text,
    /// Hex, a tab between key and value
    Hex,
    /// One JSON object a line
    Json,
}

/// What a line shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line<'a> {
    pub keyspace: Option<&'a str>,
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
    pub expires_at_ms: Option<u64>,
}

impl Line<'_> {
    /// Writes the line, with its line break, into an emptied buffer.
    pub fn write(&self, format: Format, out: &mut Vec<u8>) {
        out.clear();
        match format {
            Format::Text => self.write_fields(text::escape, out),
            Format::Hex => self.write_fields(text::hex, out),
            Format::Json => self.write_json(out),
        }
        out.push(b'\n');
    }

    fn write_fields(&self, encode: impl Fn(&[u8], &mut Vec<u8>), out: &mut Vec<u8>) {
        encode(self.key, out);
        if let Some(value) = self.value {
            out.push(b'\t');
            encode(value, out);
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(keyspace) = self.keyspace {
            member("keyspace", keyspace.as_bytes(), out);
            out.push(b',');
        }
        member("key", self.key, out);
        if let Some(value) = self.value {
            out.push(b',');
            member("value", value, out);
        }
        if let Some(at_ms) = self.expires_at_ms {
            out.extend_from_slice(format!(",\"expires_at_ms\":{at_ms}").as_bytes());
        }
        out.push(b'}');
    }
}

/// `"name":"text"`, or `"name_hex":"digits"` where it is no text.
fn member(name: &str, bytes: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.extend_from_slice(format!("\"{name}\":").as_bytes());
            serde_json::to_writer(out, text).expect("a string can be written to memory");
        }
        Err(_) => {
            out.extend_from_slice(format!("\"{name}_hex\":\"").as_bytes());
            text::hex(bytes, out);
            out.push(b'"');
        }
    }
}

/// When an entry ends, in milliseconds since 1970.
pub fn expires_at_ms(entry: &Entry) -> Option<u64> {
    let since = entry.expires_at?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: Line<'_>, format: Format) -> String {
        let mut out = Vec::new();
        line.write(format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_format_keeps_an_entry_on_one_line() {
        let line = Line { key: b"a\tb", value: Some(b"\"\n\xFF"), ..Line::default() };
        assert_eq!(shown(line, Format::Text), "a\\tb\t\"\\n\\xFF\n");
        assert_eq!(shown(line, Format::Hex), "610962\t220aff\n");
        assert_eq!(shown(line, Format::Json), "{\"key\":\"a\\tb\",\"value_hex\":\"220aff\"}\n");
    }

    #[test]
    fn keyspace_and_expiry_are_in_json_where_known() {
        let line = Line { keyspace: Some("users"), key: b"7", value: None, expires_at_ms: Some(9) };
        assert_eq!(
            shown(line, Format::Json),
            "{\"keyspace\":\"users\",\"key\":\"7\",\"expires_at_ms\":9}\n"
        );
    }
}
