//! `fjall` 3: an LSM tree in pure Rust.
//!
//! Durability: by default each write goes to the operating system before it returns (`PersistMode::Buffer`) and is not
//! synced (class kernel), as RocksDB does it.
//!
//! Settings for data that is resident: cache of 512 MiB, no compression (the values do not shrink), a hash index in data
//! blocks, which its author recommends for cached data. The default filters have one false positive in 10,000 in the
//! first levels and 10 bits a key below. Memtables, workers and compaction are the defaults.

use std::ops::ControlFlow;
use std::path::Path;

use cortenkv_bench::log_store::{Class, Promise};
use cortenkv_bench::{Context, Result};
use fjall::config::{CompressionPolicy, HashRatioPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions};

use crate::store::{
    CACHE_BYTES, Entries, Key, LOAD_BATCH, SeeEntry, SeeValue, Session, Store, StoreKind,
};

/// Buckets of the hash index in a data block for each of its keys.
const HASH_RATIO: f32 = 0.75;

/// The arm.
#[derive(Debug, Clone, Copy)]
pub struct Fjall;

impl StoreKind for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn settings(&self) -> String {
        "journal to the kernel at each write, cache of 512 MiB, no compression, hash index in data blocks; else defaults"
            .into()
    }

    fn promise(&self) -> Promise {
        Promise::new(Class::Kernel, "in the page cache; survives SIGKILL")
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn Store>> {
        let database = Database::builder(dir.join("fjall")).cache_size(CACHE_BYTES).open();
        let database = database.context(|| "fjall cannot open".into())?;
        let options = || {
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
                .data_block_hash_ratio_policy(HashRatioPolicy::all(HASH_RATIO))
        };
        let keyspace = database.keyspace("entries", options);
        let keyspace = keyspace.context(|| "fjall has no keyspace".into())?;
        Ok(Box::new(OpenDb { database, keyspace }))
    }
}

struct OpenDb {
    database: Database,
    keyspace: Keyspace,
}

impl Store for OpenDb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(OpenSession { keyspace: &self.keyspace }))
    }

    fn load(&self, entries: &mut Entries<'_>) -> Result<()> {
        let mut more = true;
        while more {
            let mut batch = self.database.batch();
            more = entries.some(LOAD_BATCH, |key, value| {
                batch.insert(&self.keyspace, key, value);
                Ok(())
            })?;
            batch.commit().context(|| "fjall cannot commit".into())?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        // Memtables to tables, tables to one sorted run: what a reader of a finished load would find.
        self.keyspace.rotate_memtable_and_wait().context(|| "fjall cannot flush".into())?;
        self.keyspace.major_compact().context(|| "fjall cannot compact".into())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct OpenSession<'a> {
    keyspace: &'a Keyspace,
}

impl Session for OpenSession<'_> {
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.keyspace.insert(&key[..], value).context(|| "fjall cannot put".into())
    }

    fn delete(&mut self, key: &Key) -> Result<()> {
        self.keyspace.remove(&key[..]).context(|| "fjall cannot delete".into())
    }

    fn get(&mut self, key: &Key, see: SeeValue<'_>) -> Result<bool> {
        let value = self.keyspace.get(key).context(|| "fjall cannot get".into())?;
        Ok(value.map(|value| see(&value)).is_some())
    }

    fn scan(&mut self, from: &Key, see: SeeEntry<'_>) -> Result<()> {
        for entry in self.keyspace.range(&from[..]..) {
            let (key, value) = entry.into_inner().context(|| "fjall cannot scan".into())?;
            if let ControlFlow::Break(()) = see(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}
