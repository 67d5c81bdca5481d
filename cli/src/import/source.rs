//! What every source of an import gives: records one by one, and where each came from.

use serde::{Deserialize, Serialize};

use crate::failure::Result;

/// A record to be put.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The keyspace, where the source names one.
    pub keyspace: Option<String>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// When it ends, in milliseconds since 1970; nothing is written when that is over.
    pub expires_at_ms: Option<u64>,
}

/// What a source gives next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Record(Record),
    /// Something that is no record, and why.
    Rejected(String),
    End,
}

/// A place of a source to go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// Behind this file of a folder.
    BehindPath {
        /// The relative path, escaped as in text output.
        path: String,
        /// Bytes of the files up to there.
        bytes: u64,
    },
    /// Within a file.
    Offset {
        bytes: u64,
        /// Lines before it.
        lines: u64,
        /// The last bytes before it in hex, to tell whether the file is still the same.
        tail: String,
    },
}

/// A stream of records.
pub trait Source {
    /// The next record.
    ///
    /// # Errors
    /// When the source itself cannot be read any further.
    fn next(&mut self) -> Result<Step>;

    /// Where to go on with what [`Source::next`] gave last; `None` at the start, and where a source has no places.
    ///
    /// # Errors
    /// When the source cannot be read.
    fn position(&self) -> Result<Option<Position>>;

    /// The name of the place of what [`Source::next`] gave last, for messages.
    fn place(&self) -> String;

    /// Bytes of the source that were read so far, those of earlier runs included.
    fn bytes_read(&self) -> u64;

    /// Bytes that there are in all; `None` for a source that cannot tell.
    ///
    /// # Errors
    /// When the source cannot be read.
    fn bytes_total(&self) -> Result<Option<u64>>;

    /// What was passed over although it is no error, in words for the summary.
    fn passed_over(&self) -> Option<String> {
        None
    }
}
