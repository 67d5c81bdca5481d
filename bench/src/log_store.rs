//! What a log must do to be measured, and what it must say about itself.

use std::any::Any;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// What an acknowledged write survives. Arms are compared within one class only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Nothing: it may still be in the memory of the process.
    Memory,
    /// The death of the process: it is in the kernel.
    Kernel,
    /// A power cut.
    Synced,
}

impl Class {
    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::Memory => "memory",
            Class::Kernel => "kernel",
            Class::Synced => "synced",
        }
    }
}

/// What an arm promises when it acknowledges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The class that it is compared in.
    pub class: Class,
    /// The promise in words.
    pub text: String,
}

impl Promise {
    /// A promise.
    pub fn new(class: Class, text: impl Into<String>) -> Self {
        Promise { class, text: text.into() }
    }
}

/// What went to the disk, as far as an arm can count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCounts {
    /// fdatasync and fsync calls on files.
    pub fsyncs: u64,
    /// fsync calls on directories.
    pub dir_fsyncs: u64,
    /// write calls.
    pub writes: u64,
    /// Bytes written or stored through a mapping, where they are counted.
    pub written_bytes: u64,
}

impl DiskCounts {
    /// What was added since an earlier count.
    pub fn since(&self, earlier: &DiskCounts) -> DiskCounts {
        DiskCounts {
            fsyncs: self.fsyncs - earlier.fsyncs,
            dir_fsyncs: self.dir_fsyncs - earlier.dir_fsyncs,
            writes: self.writes - earlier.writes,
            written_bytes: self.written_bytes - earlier.written_bytes,
        }
    }
}

/// What reading a log from the start found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub payload_bytes: u64,
}

/// A kind of log with all its settings: one arm of a comparison.
pub trait LogKind: Send + Sync {
    /// A short name without spaces.
    fn name(&self) -> String;

    /// Every setting that was chosen, and "defaults" for the rest.
    fn settings(&self) -> String;

    /// What an append promises when it returns.
    fn promise(&self) -> Promise;

    /// Opens a log in an empty directory.
    fn open(&self, dir: &Path) -> Result<Box<dyn LogStore>>;

    /// Opens a log that was left in `dir` and reads every record of it once, checksums checked. Also returns what is
    /// open then, so that closing it is not measured.
    fn replay(&self, dir: &Path) -> Result<(Replayed, Box<dyn Any>)>;
}

/// An open log.
pub trait LogStore: Send + Sync {
    /// A writer for one thread, with its own buffers.
    fn writer(&self) -> Result<Box<dyn LogWriter + '_>>;

    /// Makes everything appended durable.
    fn sync(&self) -> Result<()>;

    /// What went to the disk since the log was opened, where that is counted.
    fn disk_counts(&self) -> Option<DiskCounts>;

    /// Closes the log as its author means it to be closed.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Waits for an append that was begun.
pub type Pending = Box<dyn FnOnce() -> Result<()>>;

/// Appends from one thread.
pub trait LogWriter {
    /// Appends a record; returns when the promise of the kind holds.
    fn append(&mut self, record: &[u8]) -> Result<()>;

    /// Begins an append. A log that cannot do that appends at once, so nothing is in flight.
    fn submit(&mut self, record: &[u8]) -> Result<Pending> {
        self.append(record)?;
        Ok(Box::new(|| Ok(())))
    }
}
