//! `wal-db` 1.1: a log in one file, appended with one positioned write per record.
//!
//! `append` returns when the record is in the page cache (class kernel); `append_and_sync` adds an fdatasync that
//! concurrent callers share (class synced). `Wal::open` scans and checks the whole log, and hands nothing over: a user
//! then walks `iter`, so a replay is both. The file grows; blocks are not written ahead, and no option asks for it.

use std::any::Any;
use std::path::Path;

use ::wal_db::Wal;
use cortenkv_bench::log_store::{
    Class, DiskCounts, LogKind, LogStore, LogWriter, Promise, Replayed,
};
use cortenkv_bench::{Context, Result};

const FILE_NAME: &str = "log.wal";

/// How appends are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalDb {
    /// `append`.
    Relaxed,
    /// `append_and_sync`.
    Synced,
}

impl LogKind for WalDb {
    fn name(&self) -> String {
        "wal-db".into()
    }

    fn settings(&self) -> String {
        let call = match self {
            WalDb::Relaxed => "append",
            WalDb::Synced => "append_and_sync (group commit)",
        };
        format!("Wal::open with defaults, one file; {call}")
    }

    fn promise(&self) -> Promise {
        match self {
            WalDb::Relaxed => {
                Promise::new(Class::Kernel, "in the page cache; survives SIGKILL; never synced")
            }
            WalDb::Synced => {
                Promise::new(Class::Synced, "an fdatasync begun after the append returned")
            }
        }
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn LogStore>> {
        let path = dir.join(FILE_NAME);
        let wal = Wal::open(&path).context(|| format!("wal-db cannot open {}", path.display()))?;
        Ok(Box::new(OpenLog { wal, kind: *self }))
    }

    fn replay(&self, dir: &Path) -> Result<(Replayed, Box<dyn Any>)> {
        let context = || "wal-db cannot replay".to_string();
        let wal = Wal::open(dir.join(FILE_NAME)).context(context)?;
        let mut replayed = Replayed::default();
        for record in wal.iter().context(context)? {
            let record = record.context(context)?;
            replayed.records += 1;
            replayed.payload_bytes += record.len() as u64;
        }
        Ok((replayed, Box::new(wal)))
    }
}

struct OpenLog {
    wal: Wal,
    kind: WalDb,
}

impl LogStore for OpenLog {
    fn writer(&self) -> Result<Box<dyn LogWriter + '_>> {
        Ok(Box::new(Writer { log: self }))
    }

    fn sync(&self) -> Result<()> {
        self.wal.sync().context(|| "wal-db cannot sync".into())
    }

    fn disk_counts(&self) -> Option<DiskCounts> {
        None
    }

    fn close(self: Box<Self>) -> Result<()> {
        // Dropping it is its close; it syncs on request only.
        self.sync()
    }
}

struct Writer<'a> {
    log: &'a OpenLog,
}

impl LogWriter for Writer<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let wal = &self.log.wal;
        match self.log.kind {
            WalDb::Relaxed => wal.append(record),
            WalDb::Synced => wal.append_and_sync(record),
        }
        .map(drop)
        .context(|| "wal-db cannot append".into())
    }
}
