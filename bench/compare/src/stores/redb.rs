//! `redb` 4: a copy-on-write B-tree in pure Rust, one writer.
//!
//! Durability: transactions are committed with `Durability::None`, which leaves them in the memory of the process until a
//! later commit with `Immediate`; SIGKILL takes them (class memory, weaker than kernel). redb has nothing between that
//! and a sync, so this is the arm that is kindest to it.
//!
//! Pages that such commits free are not used again before a durable commit, so the file grows under overwrites. The
//! author means `None` for batches that end in a durable commit; [`settle`](Store::settle) makes one.
//!
//! A get begins a read transaction and opens the table, as in an API of single operations. `Snapshot` keeps the table
//! open for the life of a session and sees nothing that was written since: a bound.

use std::ops::ControlFlow;
use std::path::Path;

use cortenkv_bench::log_store::{Class, Promise};
use cortenkv_bench::{Context, Result};
use redb::{Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};

use crate::store::{
    CACHE_BYTES, Entries, Key, LOAD_BATCH, Role, SeeEntry, SeeValue, Session, Store, StoreKind,
};

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("entries");

/// How long read transactions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redb {
    /// As long as the operation.
    PerOperation,
    /// As long as the session.
    Snapshot,
}

impl StoreKind for Redb {
    fn name(&self) -> &'static str {
        match self {
            Redb::PerOperation => "redb",
            Redb::Snapshot => "redb-snapshot",
        }
    }

    fn role(&self) -> Role {
        if *self == Redb::Snapshot { Role::Bound } else { Role::Peer }
    }

    fn settings(&self) -> String {
        let reads = match self {
            Redb::Snapshot => "one read transaction for all operations of a thread: a bound",
            Redb::PerOperation => "one transaction for each operation",
        };
        format!("Durability::None, cache of 512 MiB, one table of byte slices; {reads}")
    }

    fn promise(&self) -> Promise {
        Promise::new(Class::Memory, "in the process until a durable commit; SIGKILL loses it")
    }

    fn is_for_reads_only(&self) -> bool {
        *self == Redb::Snapshot
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn Store>> {
        let cache_bytes = CACHE_BYTES as usize;
        let database = Builder::new().set_cache_size(cache_bytes).create(dir.join("redb"));
        let database = database.context(|| "redb cannot open".into())?;
        let open = OpenDb { database, is_snapshot: *self == Redb::Snapshot };
        // Read transactions find no table before the first durable commit of one.
        open.write(Durability::Immediate, |_| Ok(()))?;
        Ok(Box::new(open))
    }
}

struct OpenDb {
    database: Database,
    is_snapshot: bool,
}

impl OpenDb {
    fn write(
        &self,
        durability: Durability,
        work: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>) -> Result<()>,
    ) -> Result<()> {
        let mut txn = self.database.begin_write().context(|| "redb cannot begin".into())?;
        txn.set_durability(durability).context(|| "redb refuses the durability".into())?;
        {
            let mut table = txn.open_table(TABLE).context(|| "redb has no table".into())?;
            work(&mut table)?;
        }
        txn.commit().context(|| "redb cannot commit".into())
    }

    fn table(&self) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>> {
        let txn = self.database.begin_read().context(|| "redb cannot begin".into())?;
        txn.open_table(TABLE).context(|| "redb has no table".into())
    }
}

impl Store for OpenDb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let snapshot = if self.is_snapshot { Some(self.table()?) } else { None };
        Ok(Box::new(OpenSession { db: self, snapshot }))
    }

    fn load(&self, entries: &mut Entries<'_>) -> Result<()> {
        let mut more = true;
        while more {
            self.write(Durability::None, |table| {
                more = entries.some(LOAD_BATCH, |key, value| {
                    table.insert(key, value).map(drop).context(|| "redb cannot put".into())
                })?;
                Ok(())
            })?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.write(Durability::Immediate, |_| Ok(()))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct OpenSession<'a> {
    db: &'a OpenDb,
    snapshot: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl OpenSession<'_> {
    fn read<T>(
        &self,
        work: impl FnOnce(&ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, redb::StorageError>,
    ) -> Result<T> {
        let done = match &self.snapshot {
            Some(table) => work(table),
            None => work(&self.db.table()?),
        };
        done.context(|| "redb cannot read".into())
    }
}

impl Session for OpenSession<'_> {
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.db.write(Durability::None, |table| {
            table.insert(&key[..], value).map(drop).context(|| "redb cannot put".into())
        })
    }

    fn delete(&mut self, key: &Key) -> Result<()> {
        self.db.write(Durability::None, |table| {
            table.remove(&key[..]).map(drop).context(|| "redb cannot delete".into())
        })
    }

    fn get(&mut self, key: &Key, see: SeeValue<'_>) -> Result<bool> {
        self.read(|table| Ok(table.get(&key[..])?.map(|value| see(value.value())).is_some()))
    }

    fn scan(&mut self, from: &Key, see: SeeEntry<'_>) -> Result<()> {
        self.read(|table| {
            for entry in table.range(&from[..]..)? {
                let (key, value) = entry?;
                if let ControlFlow::Break(()) = see(key.value(), value.value()) {
                    break;
                }
            }
            Ok(())
        })
    }
}
