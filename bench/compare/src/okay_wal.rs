//! `okaywal` 0.3: segments that are filled with zeroes first, handed to a checkpointer and used again.
//!
//! Every commit of an entry is synced (class synced), and concurrent commits share the fdatasync; there is no relaxed
//! mode, so it has no row in that class. When a segment has taken `checkpoint_after_bytes` (768 KiB of 1 MiB by
//! default), a thread of its own passes it to `LogManager::checkpoint_to`, syncs the directory and recycles the file.
//! For appends the manager has nothing to keep, so it answers at once, and the defaults stand. For replay nothing may
//! be recycled: `checkpoint_after_bytes` is set beyond any fill.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cortenkv_bench::log_store::{
    Class, DiskCounts, LogKind, LogStore, LogWriter, Promise, Replayed,
};
use cortenkv_bench::{Context, Result};
use okaywal::{
    Configuration, Entry, EntryId, LogManager, ReadChunkResult, SegmentReader, WriteAheadLog,
};

const DIR_NAME: &str = "log";

/// What happens to a full segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OkayWal {
    /// It is recycled: the defaults.
    Recycled,
    /// It is kept, so that a replay finds every record.
    Kept,
}

impl OkayWal {
    fn configuration(self, dir: &Path) -> Configuration {
        let defaults = Configuration::default_for(dir.join(DIR_NAME));
        match self {
            OkayWal::Recycled => defaults,
            OkayWal::Kept => defaults.checkpoint_after_bytes(u64::MAX),
        }
    }
}

impl LogKind for OkayWal {
    fn name(&self) -> String {
        "okaywal".into()
    }

    fn settings(&self) -> String {
        match self {
            OkayWal::Recycled => {
                "defaults: 1 MiB segments, recycled past 768 KiB by a manager with nothing to keep"
            }
            OkayWal::Kept => {
                "checkpoint_after_bytes beyond the fill, so that nothing is recycled; else defaults"
            }
        }
        .into()
    }

    fn promise(&self) -> Promise {
        Promise::new(Class::Synced, "an fdatasync begun after the entry was written returned")
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn LogStore>> {
        let log = self.configuration(dir).open(Counter::default());
        Ok(Box::new(OpenLog { log: log.context(|| "okaywal cannot open a log".into())? }))
    }

    fn replay(&self, dir: &Path) -> Result<(Replayed, Box<dyn Any>)> {
        let counter = Counter::default();
        let log = self.configuration(dir).open(counter.clone());
        let log = log.context(|| "okaywal cannot recover its log".into())?;
        Ok((counter.replayed(), Box::new(log)))
    }
}

/// Counts what recovery hands over; keeps nothing at a checkpoint.
#[derive(Debug, Clone, Default)]
struct Counter {
    records: Arc<AtomicU64>,
    payload_bytes: Arc<AtomicU64>,
}

impl Counter {
    fn replayed(&self) -> Replayed {
        Replayed {
            records: self.records.load(Ordering::Relaxed),
            payload_bytes: self.payload_bytes.load(Ordering::Relaxed),
        }
    }
}

impl LogManager for Counter {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let mut bytes = 0;
        loop {
            match entry.read_chunk()? {
                ReadChunkResult::Chunk(mut chunk) => {
                    bytes += chunk.read_all()?.len() as u64;
                    if !chunk.check_crc()? {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "wrong checksum"));
                    }
                }
                ReadChunkResult::EndOfEntry => break,
                // A torn entry is no record.
                ReadChunkResult::AbortedEntry => return Ok(()),
            }
        }
        self.records.fetch_add(1, Ordering::Relaxed);
        self.payload_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last_checkpointed_id: EntryId,
        _checkpointed_entries: &mut SegmentReader,
        _wal: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

struct OpenLog {
    log: WriteAheadLog,
}

impl LogStore for OpenLog {
    fn writer(&self) -> Result<Box<dyn LogWriter + '_>> {
        Ok(Box::new(Writer { log: &self.log }))
    }

    fn sync(&self) -> Result<()> {
        // Every commit is synced already.
        Ok(())
    }

    fn disk_counts(&self) -> Option<DiskCounts> {
        None
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.log.shutdown().context(|| "okaywal cannot shut down".into())
    }
}

struct Writer<'a> {
    log: &'a WriteAheadLog,
}

impl LogWriter for Writer<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let append = || -> io::Result<EntryId> {
            let mut entry = self.log.begin_entry()?;
            entry.write_chunk(record)?;
            entry.commit()
        };
        append().map(drop).context(|| "okaywal cannot append".into())
    }
}
