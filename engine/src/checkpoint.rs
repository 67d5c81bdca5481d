//! A checkpoint: a whole copy of a database at one of its commits, made while writers go on.
//!
//! # Invariants
//! - The copy has every commit up to one number and none above it.
//! - `CURRENT` of the copy is written last, when everything else is durable: what a crash leaves is no database, and an
//!   opening says so.
//! - A file has two names only if neither database ever writes to it or cuts it: compacted segments, and segments of the log
//!   before the last one with a commit that is proven to be durable: an opening copies the end of that one, and cuts it.
//!
//! # Concurrency
//! Writers and readers go on. A compaction that is about to remove files waits until they have their second name or were
//! opened, which is some microseconds for each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortenkv_wal::SegmentInfo;
use cortenkv_wal::vfs::{FileKind, OpenMode, Vfs, VfsFile, read_full_at, write_all_at};

use crate::core::Core;
use crate::db::Db;
use crate::error::{Error, ErrorKind, Result};
use crate::parts::DurableLog;
use crate::parts::hold;
use crate::parts::manifest::{Identity, ManifestState, write_copy};
use crate::record::SeqNo;
use crate::sync::lock;

/// So much is copied at once.
const COPY_BYTES: usize = 1 << 20;

/// How a checkpoint is made; see [`Db::checkpoint_with`].
#[derive(Debug, Clone)]
#[must_use = "options do nothing before they are given to `Db::checkpoint_with`"]
pub struct CheckpointOptions {
    links: bool,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        CheckpointOptions::new()
    }
}

impl CheckpointOptions {
    /// Files that never change are shared with the database where the file system can do that.
    pub fn new() -> Self {
        CheckpointOptions { links: true }
    }

    /// Whether files may be shared (hard links): at once and without space, but what damages one damages both. With `false`
    /// every byte is copied.
    pub fn links(mut self, links: bool) -> Self {
        self.links = links;
        self
    }
}

/// What a checkpoint holds, and what it took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CheckpointReport {
    /// The copy is the database as it was after this commit.
    pub seq: SeqNo,
    /// Its files, without the manifest.
    pub files: u64,
    /// Those that the database and the copy share.
    pub files_linked: u64,
    /// The bytes of all of them.
    pub bytes: u64,
    /// The bytes that were copied.
    pub bytes_copied: u64,
}

impl Db {
    /// Makes a copy of the database in a new or empty directory, while writers go on. It opens as an ordinary database whose
    /// content is that of this one at the commit that the report names.
    ///
    /// Files that never change are shared where the file system can do that: then a checkpoint takes hardly any time or space.
    /// The copy is durable when this returns. It has no holds, builds its index anew at its first opening, and has a
    /// lineage of its own from its first opening that may write: a backup of the one is never continued by the other.
    ///
    /// ```
    /// # use cortenkv::Db;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    /// let db = Db::open(&data)?;
    /// let seq = db.put(b"key", b"value")?;
    /// let report = db.checkpoint(&copy)?;
    /// db.delete(b"key")?;
    /// assert_eq!(report.seq, seq);
    /// assert_eq!(Db::open(&copy)?.get(b"key")?.as_deref(), Some(&b"value"[..]));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a directory that is not empty, `Unsupported` in memory, `Io`, `StorageFull`, and as
    /// [`Db::sync`]. What was written is removed then, as far as that goes; without `CURRENT` it is no database.
    pub fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<CheckpointReport> {
        self.checkpoint_with(dir, CheckpointOptions::new())
    }

    /// As [`Db::checkpoint`], with options.
    ///
    /// # Errors
    /// As [`Db::checkpoint`].
    pub fn checkpoint_with(
        &self,
        dir: impl AsRef<Path>,
        options: CheckpointOptions,
    ) -> Result<CheckpointReport> {
        let (report, _) = write(self.core(), dir.as_ref(), &options)?;
        Ok(report)
    }
}

/// Writes a checkpoint; its report, and the names of its segments.
pub(crate) fn write(
    core: &Core,
    dir: &Path,
    options: &CheckpointOptions,
) -> Result<(CheckpointReport, Vec<String>)> {
    core.check_writable()?;
    let (log, _) = hold::parts(core)?;
    let vfs = &log.vfs;
    make_empty_dir(vfs.as_ref(), dir)?;
    let mut copy = Copy { vfs, dir, names: Vec::new(), report: CheckpointReport::default() };
    match copy.make(core, log, options) {
        Ok(()) => Ok((copy.report, copy.names)),
        Err(error) => {
            // What cannot be removed is no database either.
            for name in copy.names.iter().map(String::as_str).chain(["MANIFEST-000001"]) {
                let _ = vfs.remove_file(&dir.join(name));
            }
            Err(error)
        }
    }
}

/// A checkpoint under way.
struct Copy<'a> {
    vfs: &'a Arc<dyn Vfs>,
    dir: &'a Path,
    /// Files that were begun.
    names: Vec<String>,
    report: CheckpointReport,
}

/// A file that is to be copied: open, so that it may go meanwhile.
struct Todo {
    name: String,
    from: PathBuf,
    file: Arc<dyn VfsFile>,
    bytes: u64,
}

impl Copy<'_> {
    fn make(&mut self, core: &Core, log: &DurableLog, options: &CheckpointOptions) -> Result<()> {
        let (identity, state, todo) = self.gather(core, log, options)?;
        for todo in &todo {
            self.copy(todo)?;
        }
        // DURABILITY: the directory itself; its names are synced before `CURRENT` is.
        if let Some(parent) = self.dir.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            self.vfs.sync_dir(parent).map_err(|e| failed("sync", parent, e))?;
        }
        write_copy(self.dir, self.vfs, &identity, &state)
    }

    /// Links what can be linked, and opens what must be copied.
    fn gather(
        &mut self,
        core: &Core,
        log: &DurableLog,
        options: &CheckpointOptions,
    ) -> Result<(Identity, ManifestState, Vec<Todo>)> {
        let (_, manifest) = hold::parts(core)?;
        let _removing = core.holds.removing();
        // First what compaction has done, then the end: whatever is in its segments, or died for them, is below it (rule 3).
        let (identity, state) = {
            let manifest = lock(&manifest);
            (manifest.identity(), manifest.state_of_copy())
        };
        // DURABILITY: the copy must not hold what a power cut takes from the database.
        let seq = core.sync()?;
        self.report.seq = seq;
        let mut todo = Vec::new();
        for id in state.compacted.keys() {
            self.take(log, *id, None, options.links, &mut todo)?;
        }
        let of_log: Vec<SegmentInfo> = log
            .wal
            .segments()
            .into_iter()
            .filter(|known| !state.retired.contains_key(&known.id) && known.seq_before <= seq)
            .collect();
        let proven = of_log.iter().map(|known| known.durable_before).max().unwrap_or(0);
        // An opening keeps whole what is before the last segment with a proven commit, and cuts that one behind it.
        let has_proven =
            |known: &&SegmentInfo| known.last_seq <= proven && known.last_seq > known.seq_before;
        let boundary = of_log.iter().rfind(has_proven).map_or(0, |known| known.id);
        let last = of_log.last().map_or(0, |known| known.id);
        for known in &of_log {
            let reader = log.wal.segment(known.id).ok_or_else(|| gone(known.id))?;
            let end = match known.id == last {
                true => reader.end_behind(seq)?,
                false => known.end_stored,
            };
            let links = options.links && known.settled && known.id < boundary;
            self.take(log, known.id, Some(u64::from(end)), links, &mut todo)?;
        }
        Ok((identity, state, todo))
    }

    /// Gives a file its second name, or opens it to be copied up to `end`.
    fn take(
        &mut self,
        log: &DurableLog,
        id: u64,
        end: Option<u64>,
        links: bool,
        todo: &mut Vec<Todo>,
    ) -> Result<()> {
        let from = log.file_of(id);
        let name = from.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        self.names.push(name.clone());
        let file = self.vfs.open(&from, OpenMode::Read).map_err(|e| failed("open", &from, e))?;
        let file_bytes = file.len().map_err(|e| failed("read", &from, e))?;
        let bytes = end.map_or(file_bytes, |end| end.min(file_bytes));
        self.report.files += 1;
        self.report.bytes += bytes;
        // Where it cannot be done, whatever the reason, a copy serves as well.
        if links && self.vfs.link(&from, &self.dir.join(&name)).is_ok() {
            self.report.files_linked += 1;
        } else {
            todo.push(Todo { name, from, file, bytes });
        }
        Ok(())
    }

    fn copy(&mut self, todo: &Todo) -> Result<()> {
        let to = self.dir.join(&todo.name);
        let file = self.vfs.open(&to, OpenMode::CreateNew).map_err(|e| failed("create", &to, e))?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = 0;
        while at < todo.bytes {
            let wanted = COPY_BYTES.min((todo.bytes - at) as usize);
            let read = read_full_at(todo.file.as_ref(), &mut buffer[..wanted], at)
                .map_err(|e| failed("read", &todo.from, e))?;
            if read == 0 {
                return Err(failed("read", &todo.from, io::ErrorKind::UnexpectedEof.into()));
            }
            write_all_at(file.as_ref(), &buffer[..read], at)
                .map_err(|e| failed("write", &to, e))?;
            at += read as u64;
        }
        // DURABILITY: the content, before `CURRENT` makes it count.
        file.sync_data().map_err(|e| failed("sync", &to, e))?;
        self.report.bytes_copied += todo.bytes;
        Ok(())
    }
}

/// Makes a directory, or takes one that has nothing in it.
pub(crate) fn make_empty_dir(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    match vfs.metadata(dir) {
        Ok(facts) if facts.kind != FileKind::Dir => {
            return Err(Error::invalid(format!("{} is not a directory", dir.display())));
        }
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            vfs.create_dir(dir).map_err(|e| failed("create", dir, e))?;
        }
        Err(e) => return Err(failed("look at", dir, e)),
    }
    if vfs.list(dir).map_err(|e| failed("list", dir, e))?.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!("{} is not empty; give a new or an empty directory", dir.display())))
}

/// What the system said about a file. A failed sync of a copy poisons nothing: the copy is given up.
pub(crate) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    cortenkv_wal::Error::io(format!("cannot {what} {}", path.display()), error).into()
}

fn gone(id: u64) -> Error {
    Error::new(ErrorKind::Io, format!("segment {id:016x} of the log went while it was copied"))
}
