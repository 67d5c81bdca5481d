//! RocksDB 11 through `rocksdb`: the LSM tree that others are measured by.
//!
//! Durability: the WAL is on and not synced, so a put is in the page cache when it returns (class kernel).
//!
//! Settings after its tuning guide, for data that is resident: HyperClockCache of 512 MiB, bloom filters of 10 bits a
//! key, hash index in data blocks, two background threads for the two cores, no compression (the values do not shrink).
//! Index and filter blocks stay in memory outside the cache, as by default.
//!
//! Reads are `get_pinned` and a raw iterator: nothing is copied. An iterator is made for each scan; it is not told to
//! follow later writes.

use std::ops::ControlFlow;
use std::path::Path;

use cortenkv_bench::log_store::{Class, Promise};
use cortenkv_bench::{Context, Result};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DataBlockIndexType, Options,
    WaitForCompactOptions, WriteBatch,
};

use crate::store::{
    CACHE_BYTES, Entries, Key, LOAD_BATCH, SeeEntry, SeeValue, Session, Store, StoreKind,
};

const BLOOM_BITS_PER_KEY: f64 = 10.0;
const HASH_RATIO: f64 = 0.75;
const BACKGROUND_THREADS: i32 = 2;

/// The arm.
#[derive(Debug, Clone, Copy)]
pub struct RocksDb;

impl StoreKind for RocksDb {
    fn name(&self) -> &'static str {
        "rocksdb"
    }

    fn settings(&self) -> String {
        "WAL on, not synced; HyperClockCache of 512 MiB, bloom filters of 10 bits, hash index in data blocks, 2 \
         background threads, no compression; else defaults"
            .into()
    }

    fn promise(&self) -> Promise {
        Promise::new(Class::Kernel, "in the page cache; survives SIGKILL")
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn Store>> {
        let mut blocks = BlockBasedOptions::default();
        // An estimate of 0 lets the cache find the size of its entries itself.
        blocks.set_block_cache(&Cache::new_hyper_clock_cache(CACHE_BYTES as usize, 0));
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        blocks.set_data_block_hash_ratio(HASH_RATIO);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::None);
        options.increase_parallelism(BACKGROUND_THREADS);
        options.set_block_based_table_factory(&blocks);
        let db = DB::open(&options, dir.join("rocksdb"));
        Ok(Box::new(OpenDb { db: db.context(|| "rocksdb cannot open".into())? }))
    }
}

struct OpenDb {
    db: DB,
}

impl Store for OpenDb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(OpenSession { db: &self.db }))
    }

    fn load(&self, entries: &mut Entries<'_>) -> Result<()> {
        let mut more = true;
        while more {
            let mut batch = WriteBatch::default();
            more = entries.some(LOAD_BATCH, |key, value| {
                batch.put(key, value);
                Ok(())
            })?;
            self.db.write(batch).context(|| "rocksdb cannot write".into())?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        // Memtables to tables, tables to one sorted run: what a reader of a finished load would find.
        self.db.flush().context(|| "rocksdb cannot flush".into())?;
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        let wait = WaitForCompactOptions::default();
        self.db.wait_for_compact(&wait).context(|| "rocksdb cannot compact".into())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct OpenSession<'a> {
    db: &'a DB,
}

impl Session for OpenSession<'_> {
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.db.put(key, value).context(|| "rocksdb cannot put".into())
    }

    fn delete(&mut self, key: &Key) -> Result<()> {
        self.db.delete(key).context(|| "rocksdb cannot delete".into())
    }

    fn get(&mut self, key: &Key, see: SeeValue<'_>) -> Result<bool> {
        let value = self.db.get_pinned(key).context(|| "rocksdb cannot get".into())?;
        Ok(value.map(|value| see(&value)).is_some())
    }

    fn scan(&mut self, from: &Key, see: SeeEntry<'_>) -> Result<()> {
        let mut entries = self.db.raw_iterator();
        entries.seek(from);
        while let Some((key, value)) = entries.item() {
            if let ControlFlow::Break(()) = see(key, value) {
                break;
            }
            entries.next();
        }
        entries.status().context(|| "rocksdb cannot scan".into())
    }
}
