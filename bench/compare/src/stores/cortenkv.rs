//! Cortenkv, by each of its ways to read, and in both modes of the class kernel.
//!
//! Durability: a put under `None` and `Interval` returns when the record is in the log's mapped file, so it survives
//! SIGKILL (class kernel). Single puts, as everybody else has them. Compression is off as for the others; it would
//! only concern commits of 4 KiB and more. There is no cache of entries: what is resident is the log, mapped.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use cortenkv::{Compression, Db, Durability};
use cortenkv_bench::log_store::{Class, Promise};
use cortenkv_bench::{Context, Error, Result};

use crate::store::{Entries, Key, Role, SeeEntry, SeeValue, SeeValues, Session, Store, StoreKind};

const INTERVAL: Duration = Duration::from_millis(100);
/// Keys of one `multi_get`.
const BATCH_KEYS: usize = 16;

/// The index is settled when its figures have not changed for so long: many turns of its background thread.
const STILL: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(10);
/// LIMIT: how long settling may take.
const SETTLE_MAX: Duration = Duration::from_secs(300);

/// How the arm reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cortenkv {
    /// `get`: the value in memory of its own. Durability `None`.
    Get,
    /// `get_with`: the value is shown where it lies.
    GetWith,
    /// `multi_get` of 16 keys.
    MultiGet,
    /// As `Get`, with a sync each 100 ms in the background.
    Interval,
}

impl StoreKind for Cortenkv {
    fn name(&self) -> &'static str {
        match self {
            Cortenkv::Get => "cortenkv",
            Cortenkv::GetWith => "cortenkv-get-with",
            Cortenkv::MultiGet => "cortenkv-multi-get-16",
            Cortenkv::Interval => "cortenkv-interval",
        }
    }

    fn role(&self) -> Role {
        match self {
            Cortenkv::Get => Role::Ours,
            Cortenkv::GetWith | Cortenkv::MultiGet | Cortenkv::Interval => Role::OursOtherwise,
        }
    }

    fn settings(&self) -> String {
        let (durability, read) = match self {
            Cortenkv::Get => ("None", "get, scan_with"),
            Cortenkv::GetWith => ("None", "get_with"),
            Cortenkv::MultiGet => ("None", "multi_get of 16 keys"),
            Cortenkv::Interval => ("Interval of 100 ms", "no reads"),
        };
        format!("default features, compression off, durability {durability}; {read}; else defaults")
    }

    fn promise(&self) -> Promise {
        let text = match self {
            Cortenkv::Interval => "survives SIGKILL; synced within 100 ms",
            _ => "survives SIGKILL; after a power cut a prefix is there",
        };
        Promise::new(Class::Kernel, text)
    }

    fn batch_keys(&self) -> usize {
        if *self == Cortenkv::MultiGet { BATCH_KEYS } else { 1 }
    }

    fn is_for_reads_only(&self) -> bool {
        matches!(self, Cortenkv::GetWith | Cortenkv::MultiGet)
    }

    fn is_for_writes_only(&self) -> bool {
        *self == Cortenkv::Interval
    }

    fn has_scans(&self) -> bool {
        *self == Cortenkv::Get
    }

    fn is_derived(&self, file: &OsStr) -> bool {
        let path = Path::new(file);
        let is_image = file.to_string_lossy().starts_with("CKPT-");
        is_image || path.extension().is_some_and(|kind| kind == "run" || kind == "keys")
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn Store>> {
        let durability = match self {
            Cortenkv::Interval => Durability::Interval(INTERVAL),
            _ => Durability::None,
        };
        let db = Db::builder(dir.join("db"))
            .durability(durability)
            .compression(Compression::None)
            .build()
            .context(|| "cortenkv cannot open a database".into())?;
        Ok(Box::new(OpenDb { db, kind: *self }))
    }
}

struct OpenDb {
    db: Db,
    kind: Cortenkv,
}

impl Store for OpenDb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(OpenSession { db: &self.db, kind: self.kind }))
    }

    fn load(&self, entries: &mut Entries<'_>) -> Result<()> {
        // A batch is one commit, whose records lie otherwise than those of single puts.
        let mut value = Vec::new();
        while let Some(key) = entries.next(&mut value) {
            self.db.put(key, &value).context(|| "cortenkv cannot put".into())?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        settle(&self.db)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.close().context(|| "cortenkv cannot close".into())
    }
}

struct OpenSession<'a> {
    db: &'a Db,
    kind: Cortenkv,
}

impl Session for OpenSession<'_> {
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.db.put(key, value).map(drop).context(|| "cortenkv cannot put".into())
    }

    fn delete(&mut self, key: &Key) -> Result<()> {
        self.db.delete(key).map(drop).context(|| "cortenkv cannot delete".into())
    }

    fn get(&mut self, key: &Key, see: SeeValue<'_>) -> Result<bool> {
        let found = match self.kind {
            Cortenkv::GetWith => self.db.get_with(key, see).map(|shown| shown.is_some()),
            _ => self.db.get(key).map(|value| value.map(|value| see(&value)).is_some()),
        };
        found.context(|| "cortenkv cannot get".into())
    }

    fn get_batch(&mut self, keys: &[Key], see: SeeValues<'_>) -> Result<()> {
        let values = self.db.multi_get(keys).context(|| "cortenkv cannot get".into())?;
        for (n, value) in values.iter().enumerate() {
            if let Some(value) = value {
                see(n, value);
            }
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, see: SeeEntry<'_>) -> Result<()> {
        let scanned = self.db.scan_with::<&[u8], ()>(&from[..].., see);
        scanned.map(drop).context(|| "cortenkv cannot scan".into())
    }
}

/// Everything synced, and the background work of the index done: its figures stand still.
fn settle(db: &Db) -> Result<()> {
    db.flush().context(|| "cortenkv cannot flush".into())?;
    let start = Instant::now();
    let (mut last, mut since) = (db.stats().index, start);
    while since.elapsed() < STILL {
        if start.elapsed() > SETTLE_MAX {
            return Err(Error::new("the background work of cortenkv does not end"));
        }
        std::thread::sleep(POLL);
        let now = db.stats().index;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}
