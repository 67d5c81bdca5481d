//! Backups: a directory that holds a whole copy of a database, and what was committed since, piece by piece.
//!
//! # Layout
//! | file | what it is |
//! |---|---|
//! | `CATALOG.toml` | the backups, their files, and the length and checksum of each (`catalog`) |
//! | `full-n/` | a checkpoint: every byte is a copy |
//! | `log-n.clog` | the commits behind one backup up to another, deletes among them (`log_file`) |
//!
//! `restore` makes a database of them; `check` verifies them, and compares a restored database with its source.
//!
//! # Invariants
//! - A file is durable before the catalogue names it; what the catalogue does not name does not count.
//! - The pieces of a chain join: each begins behind the commit that the one before it ends with.
//! - The hold of the target keeps the log behind the last backup that the catalogue names.
//!
//! # Concurrency
//! Beside writers. One backup into a target at a time is the caller's affair.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortenkv_wal::vfs::{OpenMode, Vfs, read_full_at};

use crate::db::Db;
use crate::error::{Error, Result};
use crate::parts::checkpoint::{CheckpointOptions, failed, write};
use crate::parts::hold::{self, HoldOptions};
use crate::record::SeqNo;
use crate::sync::lock;

#[path = "backup/catalog.rs"]
mod catalog;
#[path = "backup/check.rs"]
mod check;
#[path = "backup/log_file.rs"]
mod log_file;
#[path = "backup/restore.rs"]
mod restore;

pub use catalog::{Backup, BackupKind};
use catalog::{Catalog, FileEntry};
pub use check::{BackupVerifyReport, list_backups, verify_backup};
pub use restore::{RestoreReport, RestoreTo, restore, restore_from_log};

/// How a backup is made; see [`Db::backup`].
#[derive(Debug, Clone)]
#[must_use = "options do nothing before they are given to `Db::backup`"]
pub struct BackupOptions {
    is_incremental: bool,
    has_self_test: bool,
    hold: HoldOptions,
}

impl BackupOptions {
    /// All of the database.
    pub fn full() -> Self {
        BackupOptions { is_incremental: false, has_self_test: false, hold: HoldOptions::new() }
    }

    /// What was committed since the last backup into the same target.
    pub fn incremental() -> Self {
        BackupOptions { is_incremental: true, ..BackupOptions::full() }
    }

    /// Restores what was written into a directory within the target, compares it with the database, and removes it again.
    pub fn self_test(mut self, on: bool) -> Self {
        self.has_self_test = on;
        self
    }

    /// The most disk that the database keeps for the next incremental backup; beyond it that one answers `Lagged`. 1 GiB unless
    /// set.
    pub fn bytes_max(mut self, bytes_max: u64) -> Self {
        self.hold = self.hold.bytes_max(bytes_max);
        self
    }
}

/// What a backup holds; made by [`Db::backup`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BackupReport {
    /// What was made.
    pub kind: BackupKind,
    /// Commits above this one are in it; 0 for a full one.
    pub since: SeqNo,
    /// Commits up to this one are in it.
    pub seq: SeqNo,
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Keys that a self-test compared.
    pub keys_compared: u64,
}

impl Db {
    /// Backs the database up into a directory, while writers go on: all of it, or what was committed since the last backup into
    /// the same directory. [`restore`](crate::restore()) makes a database of it, as it was after any commit from the first full
    /// backup on.
    ///
    /// ```
    /// # use cortenkv::{BackupOptions, Db, RestoreTo};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (data, target, copy) = (dir.path().join("d"), dir.path().join("b"), dir.path().join("r"));
    /// let db = Db::open(&data)?;
    /// let seq = db.put(b"key", b"1")?;
    /// db.backup(&target, BackupOptions::full())?;
    /// db.put(b"key", b"2")?;
    /// db.delete(b"key")?;
    /// db.backup(&target, BackupOptions::incremental().self_test(true))?;
    /// cortenkv::restore(&target, &copy, RestoreTo::Seq(seq + 1))?;
    /// assert_eq!(Db::open(&copy)?.get(b"key")?.as_deref(), Some(&b"2"[..]));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Lagged` for an incremental one when the log behind the last backup is gone: make a full one. `InvalidArgument` for a
    /// target that holds other things, has the backups of another database, or no full one yet. `Corruption` if the self-test
    /// finds a difference. `Unsupported` in memory, `Io`, `StorageFull`, and as [`Db::sync`].
    pub fn backup(&self, target: impl AsRef<Path>, options: BackupOptions) -> Result<BackupReport> {
        let core = self.core();
        core.check_writable()?;
        let (log, manifest) = hold::parts(core)?;
        let vfs = Arc::clone(&log.vfs);
        let target = target.as_ref();
        let (uuid, lineage) = {
            let manifest = lock(&manifest);
            (manifest.identity().uuid, manifest.lineage())
        };
        let known = Catalog::find(&vfs, target)?;
        let mut catalog = match known {
            Some(known) if known.uuid != uuid || known.lineage != lineage => {
                return Err(Error::invalid(format!(
                    "{} has the backups of another database, or of another copy of this one; give a new directory",
                    target.display()
                )));
            }
            Some(known) => known,
            None if options.is_incremental => {
                return Err(Error::invalid(format!(
                    "{} has no full backup to go on from; make one first",
                    target.display()
                )));
            }
            None => Catalog::create(&vfs, target, uuid, lineage)?,
        };
        let number = catalog.next_number(&vfs, target)?;
        let backup = match options.is_incremental {
            true => self.back_up_log(&vfs, target, &catalog, number)?,
            false => self.back_up_all(&vfs, target, &catalog, number, &options)?,
        };
        let mut report = BackupReport {
            kind: backup.kind,
            since: backup.since,
            seq: backup.seq,
            files: backup.files.len() as u64,
            bytes: backup.files.iter().map(|file| file.bytes).sum(),
            keys_compared: 0,
        };
        let seq = backup.seq;
        catalog.backups.push(backup);
        catalog.write(&vfs, target)?;
        self.hold(&catalog.hold, options.hold)?.advance(seq)?;
        if options.has_self_test {
            report.keys_compared = check::self_test(self, &vfs, target, number, seq)?;
        }
        Ok(report)
    }

    fn back_up_all(
        &self,
        vfs: &Arc<dyn Vfs>,
        target: &Path,
        catalog: &Catalog,
        number: u64,
        options: &BackupOptions,
    ) -> Result<Backup> {
        // One that broke begins anew here.
        if self.holds()?.iter().any(|hold| hold.name == catalog.hold && hold.is_broken) {
            self.release_hold(&catalog.hold)?;
        }
        self.hold(&catalog.hold, options.hold.clone())?;
        let folder = format!("full-{number:06}");
        let dir = target.join(&folder);
        let (report, mut names) = write(self.core(), &dir, &CheckpointOptions::new().links(false))?;
        names.extend(["MANIFEST-000001".to_owned(), "CURRENT".to_owned()]);
        let entry = |name: String| {
            let (bytes, crc32c) = checksum(vfs, &dir.join(&name))?;
            Ok(FileEntry { name: format!("{folder}/{name}"), bytes, crc32c })
        };
        let files = names.into_iter().map(entry).collect::<Result<_>>()?;
        let wall_ms = self.core().now_ms();
        Ok(Backup { kind: BackupKind::Full, number, since: 0, seq: report.seq, wall_ms, files })
    }

    fn back_up_log(
        &self,
        vfs: &Arc<dyn Vfs>,
        target: &Path,
        catalog: &Catalog,
        number: u64,
    ) -> Result<Backup> {
        let since = catalog.backups.last().map_or(0, |backup| backup.seq);
        let seq = self.core().sync()?;
        let wall_ms = self.core().now_ms();
        let name = format!("log-{number:06}.clog");
        let file = log_file::write(self.core(), vfs, &target.join(&name), since, seq)?;
        let files = vec![FileEntry { name, ..file }];
        Ok(Backup { kind: BackupKind::Incremental, number, since, seq, wall_ms, files })
    }
}

/// The length and the checksum of a file.
fn checksum(vfs: &Arc<dyn Vfs>, path: &Path) -> Result<(u64, u32)> {
    let file = vfs.open(path, OpenMode::Read).map_err(|e| failed("open", path, e))?;
    let mut buffer = vec![0; 1 << 20];
    let (mut bytes, mut crc32c) = (0, 0);
    loop {
        let read =
            read_full_at(file.as_ref(), &mut buffer, bytes).map_err(|e| failed("read", path, e))?;
        if read == 0 {
            return Ok((bytes, crc32c));
        }
        crc32c = crc32c::crc32c_append(crc32c, &buffer[..read]);
        bytes += read as u64;
    }
}

/// Removes a directory with the files in it; what cannot be removed stays.
fn remove_all(vfs: &dyn Vfs, dir: &Path) {
    let entries = vfs.list(dir).unwrap_or_default();
    let paths: Vec<PathBuf> = entries.iter().map(|entry| dir.join(&entry.name)).collect();
    for path in paths {
        let _ = vfs.remove_file(&path);
    }
    let _ = vfs.remove_dir(dir);
}
