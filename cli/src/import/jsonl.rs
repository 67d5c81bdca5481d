//! JSON lines: one object a line, with a key field that the user names or in the form that `corten export` writes.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::failure::Result;
use crate::import::file::Input;
use crate::import::lines::{self, Line, Lines};
use crate::import::source::{Position, Record, Source, Step};
use crate::text;

/// The members of an object as they are written: numbers keep their digits.
type Object<'a> = BTreeMap<String, &'a RawValue>;

/// A source of JSON lines.
pub struct JsonLines {
    lines: Lines,
    form: Form,
}

/// Where key and value are.
enum Form {
    /// As `corten export` writes them.
    Exported,
    /// In the fields of these names; without a value field the whole line is the value.
    Fields { key: String, value: Option<String> },
}

impl JsonLines {
    /// Reads from a position on; `fields` are those of key and value, `None` is the form of `corten export`.
    ///
    /// # Errors
    /// As [`Lines::open`].
    pub fn open(
        input: Input,
        fields: Option<(String, Option<String>)>,
        start: Option<&Position>,
    ) -> Result<Self> {
        let form = fields.map_or(Form::Exported, |(key, value)| Form::Fields { key, value });
        Ok(JsonLines { lines: Lines::open(input, start)?, form })
    }
}

impl Source for JsonLines {
    fn next(&mut self) -> Result<Step> {
        Ok(match self.lines.next_line()? {
            None => Step::End,
            Some(Line::TooLong) => Step::Rejected(lines::too_long()),
            Some(Line::Text(line)) => {
                self.form.record(line).map_or_else(Step::Rejected, Step::Record)
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

impl Form {
    fn record(&self, line: &[u8]) -> Result<Record, String> {
        let line = std::str::from_utf8(line)
            .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
        let object: Object<'_> = serde_json::from_str(line).map_err(|error| not_json(&error))?;
        match self {
            Form::Exported => exported(&object),
            Form::Fields { key, value } => {
                let key = scalar(&object, key)?;
                let value = match value {
                    None => line.trim().as_bytes().to_vec(),
                    Some(value) => any(&object, value)?,
                };
                Ok(Record { key, value, ..Record::default() })
            }
        }
    }
}

/// The words of the parser without its line number, which is always 1 here.
fn not_json(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    format!("no JSON object: {words} at column {}", error.column())
}

/// An object as `corten export` writes it.
fn exported(object: &Object<'_>) -> Result<Record, String> {
    let key = bytes(object, "key")
        .ok_or("no field \"key\" or \"key_hex\"; --key names the field that is the key")??;
    let value = bytes(object, "value").ok_or("no field \"value\" or \"value_hex\"")??;
    let keyspace = object.get("keyspace").map(|raw| string("keyspace", raw)).transpose()?;
    let expires_at_ms = object.get("expires_at_ms").map(|raw| milliseconds(raw)).transpose()?;
    Ok(Record { keyspace, key, value, expires_at_ms })
}

/// The field of a name as text, or in hex under the name with `_hex`.
fn bytes(object: &Object<'_>, name: &str) -> Option<Result<Vec<u8>, String>> {
    if let Some(raw) = object.get(name) {
        return Some(string(name, raw).map(String::into_bytes));
    }
    let name = format!("{name}_hex");
    let raw = object.get(&name)?;
    Some(string(&name, raw).and_then(|digits| text::unhex(digits.as_bytes())))
}

fn milliseconds(raw: &RawValue) -> Result<u64, String> {
    serde_json::from_str(raw.get())
        .map_err(|_| "the field \"expires_at_ms\" is no whole number".to_owned())
}

/// A string as its text, a number or a truth value as it is written.
fn scalar(object: &Object<'_>, name: &str) -> Result<Vec<u8>, String> {
    let raw = object.get(name).ok_or_else(|| format!("no field {name:?}"))?;
    match raw.get().as_bytes().first() {
        Some(b'{' | b'[') => Err(format!("the field {name:?} is an object or a list, no key")),
        Some(b'n') => Err(format!("the field {name:?} is null, no key")),
        _ => any(object, name),
    }
}

/// A string as its text, anything else as it is written.
fn any(object: &Object<'_>, name: &str) -> Result<Vec<u8>, String> {
    let raw = object.get(name).ok_or_else(|| format!("no field {name:?}"))?;
    match raw.get().starts_with('"') {
        true => string(name, raw).map(String::into_bytes),
        false => Ok(raw.get().as_bytes().to_vec()),
    }
}

fn string(name: &str, raw: &RawValue) -> Result<String, String> {
    serde_json::from_str(raw.get()).map_err(|error| match error.is_data() {
        true => format!("the field {name:?} is no string"),
        false => format!("the field {name:?} is no valid string"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(key: &str, value: Option<&str>) -> Form {
        Form::Fields { key: key.into(), value: value.map(str::to_owned) }
    }

    fn pair(form: &Form, line: &str) -> Result<(String, String), String> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        form.record(line.as_bytes()).map(|record| (text(record.key), text(record.value)))
    }

    #[test]
    fn the_value_is_the_line_or_a_field() {
        let line = r#" {"id": "7", "name": "Ad\u00e9", "tags": [1, 2]} "#;
        let pairs = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(pair(&fields("id", None), line), pairs("7", line.trim()));
        assert_eq!(pair(&fields("id", Some("name")), line), pairs("7", "Adé"));
        assert_eq!(pair(&fields("name", Some("tags")), line), pairs("Adé", "[1, 2]"));
    }

    #[test]
    fn numbers_keep_every_digit() {
        let line = r#"{"id": 12345678901234567890123, "x": 1.10}"#;
        let found = pair(&fields("id", Some("x")), line).unwrap();
        assert_eq!(found, ("12345678901234567890123".into(), "1.10".into()));
    }

    #[test]
    fn what_is_no_record_says_why() {
        let reason = |line: &str| pair(&fields("id", None), line).unwrap_err();
        assert!(reason("{\"id\": 1").contains("column 8"), "{}", reason("{\"id\": 1"));
        assert!(reason("[1]").contains("no JSON object"));
        assert!(reason("{} {}").contains("no JSON object"));
        assert!(reason(r#"{"ID": 1}"#).contains("no field \"id\""));
        assert!(reason(r#"{"id": null}"#).contains("null"));
        assert!(reason(r#"{"id": {"a": 1}}"#).contains("no key"));
        assert!(reason(r#"{"id": "\ud800"}"#).contains("valid string"));
        assert!(fields("id", None).record(b"{\"\xFF").unwrap_err().contains("byte 3"));
    }

    #[test]
    fn what_export_writes_comes_back() {
        let line = r#"{"keyspace":"users","key_hex":"ff00","value":"Ada","expires_at_ms":1}"#;
        let record = Form::Exported.record(line.as_bytes()).unwrap();
        assert_eq!(record.keyspace.as_deref(), Some("users"));
        assert_eq!((&record.key[..], &record.value[..]), (&b"\xFF\x00"[..], &b"Ada"[..]));
        assert_eq!(record.expires_at_ms, Some(1));
        let reason = |line: &str| pair(&Form::Exported, line).unwrap_err();
        assert!(reason(r#"{"id": 1}"#).contains("--key"));
        assert!(reason(r#"{"key": "a", "value": 1}"#).contains("\"value\" is no string"));
        assert!(reason(r#"{"key": "a", "value_hex": "0"}"#).contains("hex"));
    }
}
