//! LMDB 0.9 through `heed`: a B+ tree of pages in a mapped file, one writer, readers that never wait.
//!
//! Durability: every arm sets NOSYNC. A commit then is in the page cache when it returns: written with `pwrite`, or with
//! WRITEMAP stored in the mapping itself; both survive SIGKILL (class kernel). After a crash of the operating system
//! the file may be damaged, because pages reach the disk in any order.
//!
//! - `WriteMap` is NOSYNC | WRITEMAP | MAPASYNC, the fastest writes that LMDB has; `Written` is NOSYNC alone. Reads are
//!   the same, so `Written` has rows of writes only.
//! - A put is a write transaction, a get a read transaction, as in an API of single operations. Reader slots are bound
//!   to threads (heed's default), which is the cheap way to begin one.
//! - `Snapshot` keeps one read transaction for the life of a session. Its reads are cheaper, and see nothing that was
//!   written since: a bound.
//!
//! Read-ahead stays on: the data fits in memory. The map is 64 GiB, of which the file takes what it needs.

#![allow(unsafe_code, reason = "heed marks opening and these flags unsafe")]

use std::convert::Infallible;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use cortenkv_bench::log_store::{Class, Promise};
use cortenkv_bench::{Context, Result};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls};

use crate::store::{Entries, Key, LOAD_BATCH, Role, SeeEntry, SeeValue, Session, Store, StoreKind};

/// LIMIT: bytes of address space; LMDB cannot grow its map by itself.
const MAP_BYTES: usize = 64 << 30;

/// How the arm writes, and how long its read transactions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lmdb {
    /// Pages are changed in the mapping.
    WriteMap,
    /// Pages are written at commit.
    Written,
    /// As `WriteMap`, with one read transaction for each session.
    Snapshot,
}

impl StoreKind for Lmdb {
    fn name(&self) -> &'static str {
        match self {
            Lmdb::WriteMap => "lmdb",
            Lmdb::Written => "lmdb-written",
            Lmdb::Snapshot => "lmdb-snapshot",
        }
    }

    fn role(&self) -> Role {
        if *self == Lmdb::Snapshot { Role::Bound } else { Role::Peer }
    }

    fn settings(&self) -> String {
        let flags = match self {
            Lmdb::Written => "NOSYNC",
            Lmdb::WriteMap | Lmdb::Snapshot => "NOSYNC | WRITEMAP | MAPASYNC",
        };
        let reads = match self {
            Lmdb::Snapshot => "one read transaction for all operations of a thread: a bound",
            _ => "one transaction for each operation",
        };
        format!("{flags}, map of 64 GiB, one unnamed database; {reads}")
    }

    fn promise(&self) -> Promise {
        Promise::new(
            Class::Kernel,
            "survives SIGKILL; a crash of the operating system may damage the file",
        )
    }

    fn is_for_reads_only(&self) -> bool {
        *self == Lmdb::Snapshot
    }

    fn is_for_writes_only(&self) -> bool {
        *self == Lmdb::Written
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn Store>> {
        let mut flags = EnvFlags::NO_SYNC;
        if *self != Lmdb::Written {
            flags |= EnvFlags::WRITE_MAP | EnvFlags::MAP_ASYNC;
        }
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        // SAFETY: the flags are unsafe because they give up durability, and because stray writes of this process could
        // reach the mapping; the data is thrown away.
        unsafe { options.flags(flags) };
        // SAFETY: the directory was made for this case; nobody else opens or changes its files.
        let env = unsafe { options.open(dir) }.context(|| "lmdb cannot open".into())?;
        let txn = env.write_txn().context(|| "lmdb cannot begin".into())?;
        let database = env
            .create_databases_and_commit(txn, |opener, txn| {
                opener.create_database(txn, None).map(CommitOrAbort::<_, Infallible>::Commit)
            })
            .context(|| "lmdb has no database".into())?
            .unwrap_commit();
        Ok(Box::new(OpenEnv { env, database, is_snapshot: *self == Lmdb::Snapshot }))
    }
}

type Table = Database<'static, Bytes, Bytes>;

struct OpenEnv {
    env: Env<WithTls>,
    database: Table,
    is_snapshot: bool,
}

impl Store for OpenEnv {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let snapshot = match self.is_snapshot {
            true => Some(self.env.read_txn().context(|| "lmdb cannot begin".into())?),
            false => None,
        };
        Ok(Box::new(OpenSession { env: &self.env, database: self.database, snapshot }))
    }

    fn load(&self, entries: &mut Entries<'_>) -> Result<()> {
        loop {
            let mut txn = self.env.write_txn().context(|| "lmdb cannot begin".into())?;
            let more = entries.some(LOAD_BATCH, |key, value| {
                self.database.put(&mut txn, key, value).context(|| "lmdb cannot put".into())
            })?;
            txn.commit().context(|| "lmdb cannot commit".into())?;
            if !more {
                return Ok(());
            }
        }
    }

    fn settle(&self) -> Result<()> {
        // Nothing runs in the background; dirty pages are written now rather than during the reads.
        self.env.force_sync().context(|| "lmdb cannot sync".into())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

struct OpenSession<'a> {
    env: &'a Env<WithTls>,
    database: Table,
    snapshot: Option<RoTxn<'a, WithTls>>,
}

impl OpenSession<'_> {
    /// Does something in the transaction of the session, or in one of its own.
    fn read<T>(
        &self,
        work: impl FnOnce(&Table, &RoTxn<'_, WithTls>) -> heed::Result<T>,
    ) -> Result<T> {
        let done = match &self.snapshot {
            Some(txn) => work(&self.database, txn),
            None => self.env.read_txn().and_then(|txn| work(&self.database, &txn)),
        };
        done.context(|| "lmdb cannot read".into())
    }
}

impl Session for OpenSession<'_> {
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        let put = || {
            let mut txn = self.env.write_txn()?;
            self.database.put(&mut txn, key, value)?;
            txn.commit()
        };
        put().context(|| "lmdb cannot put".into())
    }

    fn delete(&mut self, key: &Key) -> Result<()> {
        let delete = || {
            let mut txn = self.env.write_txn()?;
            self.database.delete(&mut txn, key)?;
            txn.commit()
        };
        delete().context(|| "lmdb cannot delete".into())
    }

    fn get(&mut self, key: &Key, see: SeeValue<'_>) -> Result<bool> {
        self.read(|database, txn| Ok(database.get(txn, key)?.map(see).is_some()))
    }

    fn scan(&mut self, from: &Key, see: SeeEntry<'_>) -> Result<()> {
        self.read(|database, txn| {
            let range = (Bound::Included(&from[..]), Bound::Unbounded);
            for entry in database.range(txn, &range)? {
                let (key, value) = entry?;
                if let ControlFlow::Break(()) = see(key, value) {
                    break;
                }
            }
            Ok(())
        })
    }
}
