//! The log of Cortenkv as an arm.
//!
//! A record of the suites is one commit of one put: the first 16 bytes are its key, the rest its value.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cortenkv_wal::{Batch, Durability, RecordRef, ReplayHandler, Wal, WalOptions};

use crate::counting_vfs::CountingVfs;
use crate::error::{Context, Result};
use crate::log_store::{
    Class, DiskCounts, LogKind, LogStore, LogWriter, Pending, Promise, Replayed,
};

const KEY_BYTES: usize = 16;
const DIR_NAME: &str = "log";

/// A log with one durability mode and defaults for the rest.
#[derive(Debug, Clone, Copy)]
pub struct CortenkvLog {
    mode: &'static str,
    durability: Durability,
}

impl CortenkvLog {
    /// An arm called `cortenkv-MODE`.
    pub fn new(mode: &'static str, durability: Durability) -> Self {
        CortenkvLog { mode, durability }
    }

    /// Synced, no gathering.
    pub fn always() -> Self {
        CortenkvLog::new("always", Durability::Always)
    }

    /// Synced, with the default gathering.
    pub fn group() -> Self {
        CortenkvLog::new("group", Durability::group())
    }

    fn options(&self, vfs: &CountingVfs) -> WalOptions {
        WalOptions::default().durability(self.durability).vfs(Arc::new(vfs.clone()))
    }
}

/// What an append under a mode promises.
pub fn promise_of(durability: Durability) -> Promise {
    match durability {
        Durability::EveryN(n) if n > 1 => Promise::new(
            Class::Kernel,
            format!("survives SIGKILL; a power cut takes at most the newest {} commits", n - 1),
        ),
        Durability::Interval(interval) => Promise::new(
            Class::Kernel,
            format!(
                "survives SIGKILL; a power cut takes at most what is younger than {interval:?} and two syncs"
            ),
        ),
        Durability::Checkpoint => Promise::new(
            Class::Kernel,
            "survives SIGKILL; a power cut takes at most what came after the last requested sync",
        ),
        Durability::None => {
            Promise::new(Class::Kernel, "survives SIGKILL; a power cut leaves a prefix")
        }
        _ => Promise::new(Class::Synced, "an fdatasync begun after the append returned"),
    }
}

impl LogKind for CortenkvLog {
    fn name(&self) -> String {
        format!("cortenkv-{}", self.mode)
    }

    fn settings(&self) -> String {
        format!("Durability::{:?}, defaults; key of 16 bytes, value the rest", self.durability)
    }

    fn promise(&self) -> Promise {
        promise_of(self.durability)
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn LogStore>> {
        let vfs = CountingVfs::counting_calls();
        let (wal, _) = Wal::open(dir.join(DIR_NAME), self.options(&vfs), Arc::new(IgnoreRecords))
            .context(|| format!("cannot open a log in {}", dir.display()))?;
        Ok(Box::new(OpenLog { wal, durability: self.durability, vfs }))
    }

    fn replay(&self, dir: &Path) -> Result<(Replayed, Box<dyn Any>)> {
        let count = Arc::new(CountRecords::default());
        let vfs = CountingVfs::counting_calls();
        let (wal, _) = Wal::open(dir.join(DIR_NAME), self.options(&vfs), count.clone())
            .context(|| format!("cannot open the log in {}", dir.display()))?;
        Ok((count.replayed(), Box::new(wal)))
    }
}

/// A handler for work that reads nothing.
#[derive(Debug)]
pub struct IgnoreRecords;

impl ReplayHandler for IgnoreRecords {
    fn apply(&self, _records: &[RecordRef<'_>]) {}
}

#[derive(Debug, Default)]
struct CountRecords {
    records: AtomicU64,
    payload_bytes: AtomicU64,
}

impl CountRecords {
    fn replayed(&self) -> Replayed {
        Replayed {
            records: self.records.load(Ordering::Relaxed),
            payload_bytes: self.payload_bytes.load(Ordering::Relaxed),
        }
    }
}

impl ReplayHandler for CountRecords {
    fn apply(&self, records: &[RecordRef<'_>]) {
        let bytes: usize = records.iter().map(|record| record.key.len() + record.value.len()).sum();
        self.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        self.payload_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

struct OpenLog {
    wal: Wal,
    durability: Durability,
    vfs: CountingVfs,
}

impl LogStore for OpenLog {
    fn writer(&self) -> Result<Box<dyn LogWriter + '_>> {
        Ok(Box::new(Writer { wal: &self.wal, durability: self.durability, batch: Batch::new() }))
    }

    fn sync(&self) -> Result<()> {
        self.wal.sync().map(drop).context(|| "cannot sync the log".into())
    }

    fn disk_counts(&self) -> Option<DiskCounts> {
        Some(self.vfs.counts())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.wal.close().context(|| "cannot close the log".into())
    }
}

struct Writer<'a> {
    wal: &'a Wal,
    durability: Durability,
    batch: Batch,
}

impl Writer<'_> {
    fn encode(&mut self, record: &[u8]) -> Result<()> {
        let (key, value) = record.split_at(KEY_BYTES.min(record.len()));
        self.batch.clear();
        self.batch.put(0, key, value).map(drop).context(|| "cannot encode a record".into())
    }
}

impl LogWriter for Writer<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.encode(record)?;
        self.wal.append(&self.batch).map(drop).context(|| "cannot append a record".into())
    }

    fn submit(&mut self, record: &[u8]) -> Result<Pending> {
        self.encode(record)?;
        let ticket = self
            .wal
            .append_async(&self.batch, self.durability)
            .context(|| "cannot begin an append".into())?;
        Ok(Box::new(|| ticket.wait().map(drop).context(|| "an append in flight failed".into())))
    }
}
