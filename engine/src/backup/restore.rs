//! Restoring: the last full backup that is not too new, and the commits behind it up to the one that is asked for.
//!
//! # Invariants
//! - Commits are applied whole, in their order. Each is a commit of the restored database, with a number of its own.
//! - The directory appears whole: it is made under another name beside it, and renamed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortenkv_wal::vfs::{FileKind, OpenMode, Vfs, read_full_at, write_all_at};

use super::catalog::{Backup, BackupKind, Catalog, damaged};
use super::log_file::{LogFile, LoggedCommit};
use super::remove_all;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::parts::checkpoint::{failed, make_empty_dir};
use crate::parts::log_reader::{LogReader, Logged};
use crate::parts::{Platform, hold};
use crate::record::{Change, KeyspaceId, SeqNo, Write};
use crate::sync::lock;

/// The moment to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreTo {
    /// The last commit that there is.
    Latest,
    /// This commit of the source, or the last before it.
    Seq(SeqNo),
    /// The last commit at or before this moment, in ms since 1970. A commit counts at the moment of the sync-mark before it: a
    /// few milliseconds too early in the durable modes, up to the sync interval in others.
    TimeMs(u64),
}

/// What was restored; made by [`restore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RestoreReport {
    /// The last commit of the source that is in the restored database.
    pub seq: SeqNo,
    /// Commits that were applied to the full copy.
    pub commits: u64,
    /// The changes in them.
    pub changes: u64,
}

/// Makes a database of the backups of a target, in a new or empty directory, as the source was after any commit from the first
/// full backup on. Every file is compared with its checksum while it is read.
///
/// ```no_run
/// use cortenkv::{RestoreTo, restore};
///
/// restore("/backups/data", "data", RestoreTo::Latest)?;
/// # Ok::<(), cortenkv::Error>(())
/// ```
///
/// # Errors
/// `InvalidArgument` for a target without backups, a moment that none of them has, or a directory that is not empty;
/// `Corruption` for a damaged backup; `Io`, `StorageFull`.
pub fn restore(
    target: impl AsRef<Path>,
    dir: impl AsRef<Path>,
    to: RestoreTo,
) -> Result<RestoreReport> {
    let vfs = Platform::default().vfs;
    restore_on(&vfs, target.as_ref(), dir.as_ref(), to)
}

/// Makes a database of a checkpoint and of the log that its source has had since, in a new or empty directory. The source is
/// looked at, and may be in use; what it committed meanwhile is not in the result.
///
/// # Errors
/// `Lagged` if the log of the source does not reach back to the checkpoint: a hold made before it keeps what is needed.
/// `InvalidArgument` if the two do not belong together; otherwise as [`restore`].
pub fn restore_from_log(
    checkpoint: impl AsRef<Path>,
    source: impl AsRef<Path>,
    dir: impl AsRef<Path>,
    to: RestoreTo,
) -> Result<RestoreReport> {
    let vfs = Platform::default().vfs;
    let (checkpoint, source) = (checkpoint.as_ref(), source.as_ref());
    in_new_dir(&vfs, dir.as_ref(), |making| {
        let listed = vfs.list(checkpoint).map_err(|e| failed("list", checkpoint, e))?;
        for entry in listed.iter().filter(|entry| entry.kind == FileKind::File) {
            if entry.name != "LOCK" {
                copy(&vfs, &checkpoint.join(&entry.name), &making.join(&entry.name))?;
            }
        }
        let source = Db::builder(source).read_only(true).build()?;
        let mut restored = Restored::open(&vfs, making, to)?;
        restored.check_same(&source)?;
        // What the files have; the next number of the database is far above it.
        let segments = restored.db.core().segments();
        restored.report.seq = segments.iter().map(|known| known.seq_max).max().unwrap_or(0);
        let wanted = match to {
            RestoreTo::Seq(seq) if seq < restored.report.seq => return Err(too_early(checkpoint)),
            RestoreTo::Seq(seq) => seq,
            _ => SeqNo::MAX,
        };
        let mut log = LogReader::behind(restored.report.seq);
        let mut ready: Vec<OwnedCommit> = Vec::new();
        restored.names = source.core().catalog.by_id();
        while log.read(source.core(), 1 << 20, wanted, &mut |logged| gather(&mut ready, &logged))? {
            for commit in ready.drain(..) {
                if !restored.apply(commit)? {
                    return restored.finish();
                }
            }
        }
        restored.finish()
    })
}

/// A commit that is about to be applied.
struct OwnedCommit {
    seq: SeqNo,
    wall_ms: u64,
    changes: Vec<OwnedChange>,
}

struct OwnedChange {
    keyspace: KeyspaceId,
    key: Vec<u8>,
    /// The value and its end; `None` for a delete.
    put: Option<(Vec<u8>, Option<u64>)>,
}

impl OwnedChange {
    fn new(keyspace: KeyspaceId, key: &[u8], change: Change<'_>) -> Self {
        let put = match change {
            Change::Put { value, expires_at_ms } => Some((value.to_vec(), expires_at_ms)),
            Change::Delete => None,
        };
        OwnedChange { keyspace, key: key.to_vec(), put }
    }
}

fn gather(ready: &mut Vec<OwnedCommit>, logged: &Logged<'_>) {
    let (record, wall_ms) = (&logged.record, logged.wall_ms);
    if ready.last().is_none_or(|commit| commit.seq != record.seq) {
        ready.push(OwnedCommit { seq: record.seq, wall_ms, changes: Vec::new() });
    }
    let change = match record.tombstone {
        true => Change::Delete,
        false => Change::Put { value: record.value, expires_at_ms: record.expires_at_ms },
    };
    if let Some(commit) = ready.last_mut() {
        commit.changes.push(OwnedChange::new(record.keyspace, record.key, change));
    }
}

/// As [`restore`], on a file system.
pub(super) fn restore_on(
    vfs: &Arc<dyn Vfs>,
    target: &Path,
    dir: &Path,
    to: RestoreTo,
) -> Result<RestoreReport> {
    let catalog = Catalog::open(vfs, target)?;
    let chain = chain(&catalog, to).ok_or_else(|| too_early(target))?;
    in_new_dir(vfs, dir, |making| {
        let (full, logs) = (chain[0], &chain[1..]);
        for file in &full.files {
            let from = target.join(&file.name);
            let name = file.name.rsplit('/').next().unwrap_or_default();
            if copy(vfs, &from, &making.join(name))? != (file.bytes, file.crc32c) {
                return Err(damaged(&from, "what its checksum says"));
            }
        }
        let mut restored = Restored::open(vfs, making, to)?;
        restored.report.seq = full.seq;
        for log in logs {
            let paths = log.files.iter().map(|file| target.join(&file.name));
            for path in paths.collect::<Vec<_>>() {
                if !restored.apply_file(vfs, &path, log, &catalog)? {
                    return restored.finish();
                }
            }
        }
        restored.finish()
    })
}

/// The full backup to begin with, and the pieces of the log behind it.
fn chain(catalog: &Catalog, to: RestoreTo) -> Option<Vec<&Backup>> {
    let fits = |backup: &&Backup| {
        backup.kind == BackupKind::Full
            && match to {
                RestoreTo::Latest => true,
                RestoreTo::Seq(seq) => backup.seq <= seq,
                RestoreTo::TimeMs(at_ms) => backup.wall_ms <= at_ms,
            }
    };
    let at = catalog.backups.iter().rposition(|backup| fits(&backup))?;
    let behind = catalog.backups[at + 1..].iter();
    // A later full backup begins a chain of its own; what was committed between the two is in neither.
    let logs = behind.take_while(|backup| backup.kind == BackupKind::Incremental);
    let chain: Vec<&Backup> = std::iter::once(&catalog.backups[at]).chain(logs).collect();
    let is_newest = at + chain.len() == catalog.backups.len();
    let end = chain.last()?;
    let has_moment = match to {
        RestoreTo::Latest => true,
        RestoreTo::Seq(seq) => seq <= end.seq,
        RestoreTo::TimeMs(at_ms) => is_newest || at_ms <= end.wall_ms,
    };
    has_moment.then_some(chain)
}

fn too_early(target: &Path) -> Error {
    Error::invalid(format!(
        "{} has nothing of that moment; `list_backups` tells from where to where each backup reaches",
        target.display()
    ))
}

/// Calls `make` with a directory beside `dir`, which becomes `dir` when that went well.
fn in_new_dir(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    make: impl FnOnce(&Path) -> Result<RestoreReport>,
) -> Result<RestoreReport> {
    make_empty_dir(vfs.as_ref(), dir)?;
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    let making = dir.with_file_name(name);
    // Nobody else uses this name; what a crash left there is no database.
    remove_all(vfs.as_ref(), &making);
    make_empty_dir(vfs.as_ref(), &making)?;
    let made = make(&making).and_then(|report| {
        vfs.rename(&making, dir).map_err(|e| failed("rename", &making, e))?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent: PathBuf = parent.unwrap_or(Path::new(".")).to_path_buf();
        // DURABILITY: the directory under its name, before anybody is told of it.
        vfs.sync_dir(&parent).map_err(|e| failed("sync", &parent, e))?;
        Ok(report)
    });
    if made.is_err() {
        remove_all(vfs.as_ref(), &making);
    }
    made
}

/// Copies a file; its length and checksum.
fn copy(vfs: &Arc<dyn Vfs>, from: &Path, to: &Path) -> Result<(u64, u32)> {
    let source = vfs.open(from, OpenMode::Read).map_err(|e| failed("open", from, e))?;
    let file = vfs.open(to, OpenMode::CreateNew).map_err(|e| failed("create", to, e))?;
    let mut buffer = vec![0; 1 << 20];
    let (mut at, mut crc32c) = (0, 0);
    loop {
        let read = read_full_at(source.as_ref(), &mut buffer, at);
        let read = read.map_err(|e| failed("read", from, e))?;
        if read == 0 {
            break;
        }
        write_all_at(file.as_ref(), &buffer[..read], at).map_err(|e| failed("write", to, e))?;
        crc32c = crc32c::crc32c_append(crc32c, &buffer[..read]);
        at += read as u64;
    }
    // DURABILITY: the content, before the directory gets its name.
    file.sync_data().map_err(|e| failed("sync", to, e))?;
    Ok((at, crc32c))
}

/// A database that is being restored.
struct Restored {
    db: Db,
    to: RestoreTo,
    /// The keyspaces of the source, and those of the restored database with the same names.
    names: BTreeMap<KeyspaceId, Arc<str>>,
    ids: BTreeMap<KeyspaceId, KeyspaceId>,
    report: RestoreReport,
}

impl Restored {
    fn open(vfs: &Arc<dyn Vfs>, dir: &Path, to: RestoreTo) -> Result<Self> {
        let db = Db::builder(dir).vfs(Arc::clone(vfs)).durability(Durability::None).build()?;
        let (names, ids) = (BTreeMap::new(), BTreeMap::new());
        Ok(Restored { db, to, names, ids, report: RestoreReport::default() })
    }

    fn check_same(&self, source: &Db) -> Result<()> {
        let uuid =
            |db: &Db| -> Result<[u8; 16]> { Ok(lock(&hold::parts(db.core())?.1).identity().uuid) };
        if uuid(&self.db)? != uuid(source)? {
            return Err(Error::invalid("the checkpoint and the log are of two databases"));
        }
        Ok(())
    }

    /// Applies the commits of a piece of the log; false once the moment was reached.
    fn apply_file(
        &mut self,
        vfs: &Arc<dyn Vfs>,
        path: &Path,
        backup: &Backup,
        catalog: &Catalog,
    ) -> Result<bool> {
        let mut log = LogFile::open(vfs, path)?;
        let is_it = (log.uuid, log.since, log.seq) == (catalog.uuid, backup.since, backup.seq);
        if !is_it || log.since != self.report.seq {
            return Err(damaged(path, "the piece of the log that the catalogue names"));
        }
        let names = log.keyspaces.iter();
        self.names = names.map(|(id, name)| (*id, name.as_str().into())).collect();
        while let Some(commit) = log.next()? {
            let changes = owned(&log, &commit)?;
            let LoggedCommit { seq, wall_ms, .. } = commit;
            if !self.apply(OwnedCommit { seq, wall_ms, changes })? {
                return Ok(false);
            }
        }
        let is_before_end = matches!(self.to, RestoreTo::Seq(seq) if seq < log.seq);
        if !is_before_end {
            self.report.seq = log.seq;
        }
        Ok(!is_before_end)
    }

    /// Applies a commit; false, and nothing applied, if it is behind the moment.
    fn apply(&mut self, commit: OwnedCommit) -> Result<bool> {
        let is_behind = match self.to {
            RestoreTo::Latest => false,
            RestoreTo::Seq(seq) => commit.seq > seq,
            RestoreTo::TimeMs(at_ms) => commit.wall_ms > at_ms,
        };
        if is_behind {
            return Ok(false);
        }
        let mut writes = Vec::with_capacity(commit.changes.len());
        for OwnedChange { keyspace, key, put } in &commit.changes {
            let keyspace = self.keyspace(*keyspace)?;
            let change = match put {
                Some((value, expires_at_ms)) => {
                    Change::Put { value, expires_at_ms: *expires_at_ms }
                }
                None => Change::Delete,
            };
            writes.push(Write { keyspace, key, change });
        }
        self.db.core().commit(&writes, None)?;
        self.report.seq = commit.seq;
        self.report.commits += 1;
        self.report.changes += writes.len() as u64;
        Ok(true)
    }

    /// The keyspace of the restored database that has the name of one of the source.
    fn keyspace(&mut self, id: KeyspaceId) -> Result<KeyspaceId> {
        if let Some(known) = self.ids.get(&id) {
            return Ok(*known);
        }
        let name = self.names.get(&id).ok_or_else(|| {
            Error::invalid(format!("the log has a change of keyspace {id}, which it does not name"))
        })?;
        let known = self.db.keyspace(name)?.id();
        self.ids.insert(id, known);
        Ok(known)
    }

    fn finish(self) -> Result<RestoreReport> {
        // DURABILITY: all of it, before the directory gets its name.
        self.db.sync()?;
        self.db.close()?;
        Ok(self.report)
    }
}

fn owned(log: &LogFile<'_>, commit: &LoggedCommit) -> Result<Vec<OwnedChange>> {
    let mut changes = Vec::new();
    log.changes(commit, |keyspace, key, change| {
        changes.push(OwnedChange::new(keyspace, key, change));
    })?;
    Ok(changes)
}
