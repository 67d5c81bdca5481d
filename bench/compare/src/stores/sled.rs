//! `sled` 0.34: a lock-free Bw-tree over a log.
//!
//! Durability: a put is in a buffer of the process when it returns; a thread writes and syncs it each 500 ms
//! (`flush_every_ms`, the default), and its "sync" is sync_file_range. SIGKILL takes up to half a second (class memory,
//! weaker than kernel). The only stronger mode waits for a flush at each put.
//!
//! Settings: cache of 512 MiB, mode HighThroughput, both as its author recommends for speed; no compression. sled never
//! settles: a flush is all that can be waited for.

use std::ops::ControlFlow;
use std::path::Path;

use cortenkv_bench::log_store::{Class, Promise};
use cortenkv_bench::{Context, Result};
use sled::{Batch, Config, Db, Mode};

use crate::store::{
    CACHE_BYTES, Entries, Key, LOAD_BATCH, SeeEntry, SeeValue, Session, Store, StoreKind,
};

/// The arm.
#[derive(Debug, Clone, Copy)]
pub struct Sled;

impl StoreKind for Sled {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn settings(&self) -> String {
        "cache of 512 MiB, Mode::HighThroughput, flushed each 500 ms; else defaults".into()
    }

    fn promise(&self) -> Promise {
        Promise::new(Class::Memory, "in the process for up to 500 ms; SIGKILL loses that")
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn Store>> {
        let config = Config::new()
            .path(dir.join("sled"))
            .cache_capacity(CACHE_BYTES)
            .mode(Mode::HighThroughput);
        Ok(Box::new(OpenDb { db: config.open().context(|| "sled cannot open".into())? }))
    }
}

struct OpenDb {
    db: Db,
}

impl Store for OpenDb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(OpenSession { db: &self.db }))
    }

    fn load(&self, entries: &mut Entries<'_>) -> Result<()> {
        let mut more = true;
        while more {
            let mut batch = Batch::default();
            more = entries.some(LOAD_BATCH, |key, value| {
                batch.insert(key, value);
                Ok(())
            })?;
            self.db.apply_batch(batch).context(|| "sled cannot put a batch".into())?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.db.flush().map(drop).context(|| "sled cannot flush".into())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.settle()
    }
}

struct OpenSession<'a> {
    db: &'a Db,
}

impl Session for OpenSession<'_> {
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.db.insert(key, value).map(drop).context(|| "sled cannot put".into())
    }

    fn delete(&mut self, key: &Key) -> Result<()> {
        self.db.remove(key).map(drop).context(|| "sled cannot delete".into())
    }

    fn get(&mut self, key: &Key, see: SeeValue<'_>) -> Result<bool> {
        let value = self.db.get(key).context(|| "sled cannot get".into())?;
        Ok(value.map(|value| see(&value)).is_some())
    }

    fn scan(&mut self, from: &Key, see: SeeEntry<'_>) -> Result<()> {
        for entry in self.db.range(&from[..]..) {
            let (key, value) = entry.context(|| "sled cannot scan".into())?;
            if let ControlFlow::Break(()) = see(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}
