//! CSV with a header: the key is a column, the value another one or the whole row as a JSON object.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use csv::{ByteRecord, Reader, ReaderBuilder};

use crate::failure::{Failure, Result};
use crate::import::file::Input;
use crate::import::source::{Position, Record, Source, Step};

/// LIMIT: the longest row in bytes, as for lines; without a bound one forgotten quote takes the rest of the file.
const ROW_BYTES_MAX: u64 = 64 << 20;

/// A source of CSV rows.
pub struct Table {
    input: Input,
    reader: Reader<Bounded>,
    budget: Rc<Cell<u64>>,
    header: Vec<String>,
    key: usize,
    value: Option<usize>,
    row: ByteRecord,
    /// Where the reader began.
    base: Cursor,
    before: Cursor,
}

/// What the user says about the columns.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    pub delimiter: u8,
    pub key: &'a str,
    /// `None` for the whole row.
    pub value: Option<&'a str>,
}

impl Columns<'_> {
    /// The places of key and value in a header.
    fn places(&self, input: &Input, header: &[String]) -> Result<(usize, Option<usize>)> {
        let value = self.value.map(|name| column(input, header, name)).transpose()?;
        Ok((column(input, header, self.key)?, value))
    }
}

/// Refuses a file without the columns that are named; a pipe can only be read once, and says so later.
///
/// # Errors
/// As [`Table::open`].
pub fn check_columns(input: &mut Input, columns: &Columns<'_>) -> Result<()> {
    if input.bytes_total().is_none() {
        return Ok(());
    }
    let (from, ..) = input.reader(None)?;
    let budget = Rc::new(Cell::new(ROW_BYTES_MAX));
    let header = header(input, &mut rows(from, &budget, columns.delimiter))?;
    columns.places(input, &header)?;
    input.rewind()
}

/// Offset and lines before it.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    bytes: u64,
    lines: u64,
}

/// A reader that gives no more than is left of a budget.
struct Bounded {
    from: Box<dyn Read>,
    budget: Rc<Cell<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        match self.budget.get().checked_sub(read as u64) {
            Some(left) => self.budget.set(left),
            None => {
                return Err(io::Error::other(format!(
                    "a row has more than {ROW_BYTES_MAX} bytes; is a quote missing?"
                )));
            }
        }
        Ok(read)
    }
}

impl Table {
    /// Reads the header, and the rows from a position on.
    ///
    /// # Errors
    /// When the header lacks a column that is named, and as [`Input::reader`].
    pub fn open(input: Input, columns: &Columns<'_>, start: Option<&Position>) -> Result<Self> {
        let budget = Rc::new(Cell::new(ROW_BYTES_MAX));
        let (from, ..) = input.reader(None)?;
        let mut reader = rows(from, &budget, columns.delimiter);
        let header = header(&input, &mut reader)?;
        let (key, value) = columns.places(&input, &header)?;
        let mut base = Cursor { bytes: 0, lines: 0 };
        if start.is_some() {
            let (from, bytes, lines) = input.reader(start)?;
            reader = rows(from, &budget, columns.delimiter);
            base = Cursor { bytes, lines };
        }
        let row = ByteRecord::new();
        let mut table =
            Table { input, reader, budget, header, key, value, row, base, before: base };
        table.before = table.behind();
        Ok(table)
    }

    /// Behind the last row.
    fn behind(&self) -> Cursor {
        let position = self.reader.position();
        Cursor {
            bytes: self.base.bytes + position.byte(),
            // The reader counts from 1.
            lines: self.base.lines + position.line() - 1,
        }
    }

    fn record(&self) -> Result<Record, String> {
        if self.row.len() != self.header.len() {
            let (fields, columns) = (self.row.len(), self.header.len());
            return Err(format!("the row has {fields} fields, the header {columns}"));
        }
        let value = match self.value {
            Some(value) => self.row[value].to_vec(),
            None => self.row_as_json()?,
        };
        Ok(Record { key: self.row[self.key].to_vec(), value, ..Record::default() })
    }

    /// The row as a JSON object, the columns in their order.
    fn row_as_json(&self) -> Result<Vec<u8>, String> {
        let mut json = vec![b'{'];
        for (name, field) in self.header.iter().zip(&self.row) {
            let field = std::str::from_utf8(field).map_err(|_| {
                format!("the field {name:?} is not UTF-8; --value takes one column as it is")
            })?;
            if json.len() > 1 {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, name).expect("a string can be written to memory");
            json.push(b':');
            serde_json::to_writer(&mut json, field).expect("a string can be written to memory");
        }
        json.push(b'}');
        Ok(json)
    }
}

impl Source for Table {
    fn next(&mut self) -> Result<Step> {
        self.before = self.behind();
        self.budget.set(ROW_BYTES_MAX);
        let read = self.reader.read_byte_record(&mut self.row);
        match read.map_err(|error| unreadable(&self.input, error).before(self.place() + ": "))? {
            false => Ok(Step::End),
            true => Ok(self.record().map_or_else(Step::Rejected, Step::Record)),
        }
    }

    fn position(&self) -> Result<Option<Position>> {
        let Cursor { bytes, lines } = self.before;
        self.input.position(bytes, lines)
    }

    fn place(&self) -> String {
        let Cursor { bytes, lines } = self.before;
        match self.input.line_breaks_at(bytes) {
            Some(breaks) => format!("{}:{}", self.input.name, lines + breaks + 1),
            // What was read of it is gone.
            None => format!("{}, near line {}", self.input.name, lines + 1),
        }
    }

    fn bytes_read(&self) -> u64 {
        self.behind().bytes
    }

    fn bytes_total(&self) -> Result<Option<u64>> {
        Ok(self.input.bytes_total())
    }
}

fn unreadable(input: &Input, error: csv::Error) -> Failure {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => input.cannot_read(&error),
        other => input.cannot_read(&io::Error::other(format!("{other:?}"))),
    }
}

fn rows(from: Box<dyn Read>, budget: &Rc<Cell<u64>>, delimiter: u8) -> Reader<Bounded> {
    let from = Bounded { from, budget: Rc::clone(budget) };
    ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(from)
}

fn header(input: &Input, reader: &mut Reader<Bounded>) -> Result<Vec<String>> {
    let mut row = ByteRecord::new();
    reader.read_byte_record(&mut row).map_err(|error| unreadable(input, error))?;
    let names = row.iter().map(|field| String::from_utf8(field.to_vec()));
    let names: Result<Vec<String>, _> = names.collect();
    match names {
        Ok(names) if !names.is_empty() => Ok(names),
        Ok(_) => Err(Failure::usage(format!("{} has no header", input.name))),
        Err(_) => Err(Failure::usage(format!("the header of {} is not UTF-8", input.name))),
    }
}

fn column(input: &Input, header: &[String], name: &str) -> Result<usize> {
    let mut places = (0..header.len()).filter(|place| header[*place] == name);
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (None, _) => Err(Failure::usage(format!(
            "{} has no column {name:?}; it has {}",
            input.name,
            header.join(", ")
        ))),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("{} has two columns {name:?}", input.name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_beyond_its_budget_is_an_error_and_not_an_endless_read() {
        let budget = Rc::new(Cell::new(5_000));
        let mut endless = rows(Box::new(io::repeat(b'"')), &budget, b',');
        let error = endless.read_byte_record(&mut ByteRecord::new()).unwrap_err();
        assert!(error.to_string().contains("is a quote missing?"), "{error}");
    }
}
