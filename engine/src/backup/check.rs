//! Whether backups are whole, and whether a restored database is what its source was.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cortenkv_wal::vfs::Vfs;

use super::catalog::{Backup, BackupKind, Catalog, damaged};
use super::log_file::LogFile;
use super::restore::{RestoreTo, restore_on};
use super::{checksum, remove_all};
use crate::db::Db;
use crate::error::{Error, ErrorKind, Result};
use crate::parts::Platform;
use crate::parts::log_reader::LogReader;
use crate::record::SeqNo;

/// What a verification of a target has read; made by [`verify_backup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BackupVerifyReport {
    /// Backups.
    pub backups: u64,
    /// Their files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Commits in pieces of the log.
    pub commits: u64,
}

/// The backups of a target, the oldest first.
///
/// # Errors
/// `InvalidArgument` for a directory without any, `Corruption` for a damaged catalogue, `Io`.
pub fn list_backups(target: impl AsRef<Path>) -> Result<Vec<Backup>> {
    Ok(Catalog::open(&Platform::default().vfs, target.as_ref())?.backups)
}

/// Reads every file of every backup of a target, compares it with its checksum, and sees that the pieces of each chain join.
///
/// # Errors
/// `Corruption` for the first that is not as it was written, or missing; otherwise as [`list_backups`].
pub fn verify_backup(target: impl AsRef<Path>) -> Result<BackupVerifyReport> {
    let (vfs, target) = (Platform::default().vfs, target.as_ref());
    let catalog = Catalog::open(&vfs, target)?;
    let mut report = BackupVerifyReport::default();
    let mut seq = 0;
    for backup in &catalog.backups {
        if backup.kind == BackupKind::Incremental && backup.since != seq {
            return Err(damaged(target, "a chain of backups without a hole"));
        }
        seq = backup.seq;
        report.backups += 1;
        for file in &backup.files {
            let path = target.join(&file.name);
            let found = checksum(&vfs, &path).map_err(|error| match error.kind() {
                ErrorKind::Io => damaged(&path, "a file of a backup"),
                _ => error,
            })?;
            if found != (file.bytes, file.crc32c) {
                return Err(damaged(&path, "what its checksum says"));
            }
            report.files += 1;
            report.bytes += file.bytes;
            if backup.kind == BackupKind::Incremental {
                report.commits += read_log(&vfs, &path, backup)?;
            }
        }
    }
    Ok(report)
}

fn read_log(vfs: &Arc<dyn Vfs>, path: &Path, backup: &Backup) -> Result<u64> {
    let mut log = LogFile::open(vfs, path)?;
    let (mut last, mut commits) = (backup.since, 0);
    while let Some(commit) = log.next()? {
        if commit.seq <= last || commit.seq > backup.seq {
            return Err(damaged(path, "commits in their order"));
        }
        log.changes(&commit, |_, _, _| {})?;
        (last, commits) = (commit.seq, commits + 1);
    }
    Ok(commits)
}

/// Restores what a target holds and compares it with the source as it was at `seq`; the number of keys compared.
pub(super) fn self_test(
    source: &Db,
    vfs: &Arc<dyn Vfs>,
    target: &Path,
    number: u64,
    seq: SeqNo,
) -> Result<u64> {
    let dir = target.join(format!("self-test-{number:06}"));
    remove_all(vfs.as_ref(), &dir);
    restore_on(vfs, target, &dir, RestoreTo::Seq(seq))?;
    let restored = Db::builder(&dir)
        .vfs(Arc::clone(vfs))
        .clock(Arc::clone(&source.core().options.clock))
        .manual()
        .build()?;
    let compared = compare(source, &restored, seq);
    drop(restored);
    remove_all(vfs.as_ref(), &dir);
    compared
}

/// Compares two databases, of which the source has gone on since `seq`: a key that differs must have been changed since, or
/// have ended.
fn compare(source: &Db, restored: &Db, seq: SeqNo) -> Result<u64> {
    let mut differing = BTreeSet::new();
    let mut compared = 0;
    for name in source.keyspaces()?.iter().chain(&restored.keyspaces()?).collect::<BTreeSet<_>>() {
        let is_in_both = restored.keyspaces()?.contains(name);
        let here = source.keyspace(name)?;
        let mut keys: BTreeSet<bytes::Bytes> = here.keys().collect::<Result<_>>()?;
        let there = if is_in_both { Some(restored.keyspace(name)?) } else { None };
        if let Some(there) = &there {
            keys.extend(there.keys().collect::<Result<Vec<_>>>()?);
        }
        compared += keys.len() as u64;
        for key in keys {
            let entry = |found: Option<crate::read::Entry>| {
                found.map(|entry| (entry.value, entry.expires_at))
            };
            let copy = match &there {
                Some(there) => entry(there.get_entry(&key)?),
                None => None,
            };
            if entry(here.get_entry(&key)?) != copy {
                differing.insert((here.id(), key));
            }
        }
    }
    // What was changed since the backup may differ.
    let end = source.core().sync()?;
    let mut log = LogReader::behind(seq);
    while !differing.is_empty()
        && log.read(source.core(), 1 << 20, end, &mut |logged| {
            let key = bytes::Bytes::copy_from_slice(logged.record.key);
            differing.remove(&(logged.record.keyspace, key));
        })?
    {}
    match differing.first() {
        None => Ok(compared),
        Some((keyspace, key)) => Err(Error::new(
            ErrorKind::Corruption {
                file: Default::default(),
                offset: 0,
                expected: format!(
                    "the entry of key {:?} of keyspace {keyspace}",
                    key.escape_ascii()
                ),
                found: "another one".to_owned(),
            },
            format!(
                "the backup at commit {seq} differs from the database in {} keys; make a full backup, and verify the database",
                differing.len()
            ),
        )),
    }
}
