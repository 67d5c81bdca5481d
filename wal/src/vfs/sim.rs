//! A file system in memory that knows what a power cut would leave of it.
//!
//! Everything depends on the seed: no clock, no ambient randomness. Each operation, and each note of the test, goes
//! into one ordered log; afterwards the log is walked, and at every point the legal disks after a crash are built.
//!
//! ```
//! use std::path::Path;
//! use cortenkv_wal::vfs::sim::{CrashVariant, DiskModel};
//! use cortenkv_wal::vfs::{OpenMode, SimVfs, Vfs, write_all_at};
//!
//! # fn main() -> std::io::Result<()> {
//! let sim = SimVfs::new(1);
//! let file = sim.open(Path::new("a"), OpenMode::CreateNew)?;
//! write_all_at(file.as_ref(), b"hello", 0)?;
//! file.sync_data()?;
//! sim.sync_dir(Path::new("."))?;
//! sim.note(1); // acknowledged
//!
//! sim.trace().for_each_crash_point(DiskModel::Posix, |cursor| {
//!     for variant in CrashVariant::STANDARD {
//!         let image = cursor.image(variant, 1);
//!         if !cursor.notes().is_empty() {
//!             assert_eq!(image.read("a").as_deref(), Some(&b"hello"[..]));
//!         }
//!     }
//! });
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//! Live side: `state` (names, contents, log), `file` (handles and mappings). Log: `trace`. Disk side: `cursor` walks the
//! log and keeps `names` and one `disk` file each; `crash` chooses what survives and documents the rules, `stage`
//! builds the bytes, `image` is the result and can rot. `name`, `content` and `random` serve all.
//!
//! # What it does not simulate
//! Links and other special files; permissions; access through a mapping of what lies beyond the end of the file
//! (a panic here, a signal in reality); errors of reading (see `FaultVfs`).

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{DirEntry, FileKind, LockOutcome, Metadata, OpenMode, ReadMap, TailMap, Vfs, VfsFile};

mod content;
mod crash;
mod cursor;
mod disk;
mod file;
mod image;
mod name;
mod names;
mod random;
mod stage;
mod state;
mod trace;

#[cfg(all(test, shuttle))]
mod race;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

pub use crash::{CrashVariant, DiskModel};
pub use cursor::Cursor;
pub use image::Image;
pub use trace::{Data, FileNumber, Op, Trace};

pub(super) use file::SimFile;
use file::{SimLock, SimMap, race_window};
use name::{is_in, normalize};
use names::{Change, Node};
use state::{Shared, State};

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

/// A simulated file system. Clones are the same file system.
///
/// Paths are relative to its root whether or not they start with `/`. A lock lasts until it is dropped; to go on after
/// a simulated death of the process, see [`SimVfs::after_kill`].
#[derive(Debug, Clone)]
pub struct SimVfs {
    shared: Arc<Shared>,
}

impl SimVfs {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        SimVfs::from_image(Image::new(), seed)
    }

    /// A disk after a boot: everything in the image is durable, the log is empty.
    pub fn from_image(image: Image, seed: u64) -> Self {
        SimVfs { shared: Arc::new(Shared::new(State::of_image(image, seed))) }
    }

    /// The same machine after the process died at a crash point of a trace: everything is visible, nothing is locked,
    /// and what was not synced is still not. The log goes on from there, so a later power cut loses both what the dead
    /// process left unsynced and what the next one adds.
    ///
    /// # Panics
    /// When the point is greater than `trace.len()`.
    pub fn after_kill(trace: &Trace, point: usize, seed: u64) -> Self {
        let state = State::of_trace(trace.prefix(point), seed);
        SimVfs { shared: Arc::new(Shared::new(state)) }
    }

    /// Whether files can be mapped; where not, `map_tail` and `map_read` answer `Unsupported`. True at first.
    #[must_use]
    pub fn mapping(self, mapping: bool) -> Self {
        self.shared.state().mapping = mapping;
        self
    }

    /// The bytes that all files together may take, `None` (as at first) for no limit. Beyond it, writes are short,
    /// then fail with `StorageFull`, as `allocate` does. Removed files and cut tails give their space back.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.shared.state().capacity_bytes = capacity_bytes;
    }

    /// The bytes that all files with a name take.
    pub fn used_bytes(&self) -> u64 {
        self.shared.state().used_bytes()
    }

    /// The next `sync_data` of any file fails with this error. The bytes it should have covered stay readable and
    /// count as clean: later syncs answer `Ok` and do not write them.
    pub fn fail_next_sync(&self, error: io::Error) {
        self.shared.state().sync_failure = Some(error);
    }

    /// Puts a note of the test into the log: an operation starts, or it was acknowledged.
    pub fn note(&self, tag: u64) {
        self.shared.state().trace.push(Op::Note(tag));
    }

    /// How many operations were logged: the crash point of this moment.
    pub fn point(&self) -> usize {
        self.shared.state().trace.len()
    }

    /// A copy of the log so far.
    pub fn trace(&self) -> Trace {
        self.shared.state().trace.clone()
    }

    /// One disk that a power cut at a point of the log so far may leave; as [`Trace::crash_image`], without a copy of the
    /// log.
    ///
    /// # Panics
    /// When the point is greater than [`SimVfs::point`].
    pub fn crash_image(
        &self,
        model: DiskModel,
        point: usize,
        variant: CrashVariant,
        seed: u64,
    ) -> Image {
        self.shared.state().trace.crash_image(model, point, variant, seed)
    }

    /// What live code sees now.
    pub fn image(&self) -> Image {
        let state = self.shared.state();
        let mut image = Image::default();
        for (path, node) in &state.names {
            match node {
                Node::Dir => {
                    image.dirs.insert(path.clone());
                }
                Node::File(file) => {
                    image.files.insert(path.clone(), Arc::clone(state.content(*file)));
                }
            }
        }
        image
    }

    fn handle(&self, number: FileNumber, writable: bool) -> SimFile {
        SimFile { shared: Arc::clone(&self.shared), number, writable }
    }

    fn map(&self, file: &Arc<dyn VfsFile>, span: u64, writable: bool) -> io::Result<SimMap> {
        let file = file.as_any().downcast_ref::<SimFile>().ok_or(io::ErrorKind::Unsupported)?;
        let mut state = self.shared.state();
        if !state.mapping || !Arc::ptr_eq(&self.shared, &file.shared) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if span == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if writable && !file.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let (cell, len) = state.map(file.number, span);
        Ok(SimMap { file: file.clone(), cell, len })
    }
}

impl Vfs for SimVfs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = normalize(dir);
        let mut state = self.shared.state();
        let mut missing = Vec::new();
        for dir in dir.ancestors() {
            match state.node(dir) {
                Some(Node::Dir) => break,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => missing.push(normalize(dir)),
            }
        }
        for path in missing.into_iter().rev() {
            state.change(&Change::Add(path.clone(), Node::Dir));
            state.trace.push(Op::CreateDir { path: path.shared() });
        }
        Ok(())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let state = self.shared.state();
        let (kind, len) = match state.node(&normalize(path)).ok_or(io::ErrorKind::NotFound)? {
            Node::Dir => (FileKind::Dir, 0),
            Node::File(file) => (FileKind::File, state.content(file).len()),
        };
        Ok(Metadata { kind, len, writable_by_others: false })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = normalize(dir);
        let state = self.shared.state();
        match state.node(&dir) {
            Some(Node::Dir) => {}
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        let inside = state.names.iter().filter(|(path, _)| is_in(path, &dir));
        let entries = inside.filter_map(|(path, node)| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some(match node {
                Node::Dir => DirEntry { name, kind: FileKind::Dir, len: 0 },
                Node::File(file) => {
                    DirEntry { name, kind: FileKind::File, len: state.content(*file).len() }
                }
            })
        });
        Ok(entries.collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let path = normalize(path);
        let mut state = self.shared.state();
        let number = match (state.node(&path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::CreateNew) => {
                state.check_parent(&path)?;
                state.create(&path)
            }
            (Some(Node::File(number)), OpenMode::Read | OpenMode::Write) => number,
            (Some(Node::Dir), _) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is not a regular file",
                ));
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        drop(state);
        Ok(Arc::new(self.handle(number, mode != OpenMode::Read)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normalize(from), normalize(to));
        let mut state = self.shared.state();
        match (state.node(&from), state.node(&to)) {
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
            (Some(Node::Dir), _) | (_, Some(Node::Dir)) => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            (Some(Node::File(_)), _) => state.check_parent(&to)?,
        }
        if from != to {
            state.change(&Change::Rename(from.clone(), to.clone()));
            state.trace.push(Op::Rename { from: from.shared(), to: to.shared() });
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = normalize(path);
        let mut state = self.shared.state();
        match state.node(&path) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(_)) => {
                state.change(&Change::Remove(path.clone()));
                state.trace.push(Op::Remove { path: path.shared() });
                Ok(())
            }
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = normalize(dir);
        let begin = {
            let mut state = self.shared.state();
            match state.node(&dir) {
                Some(Node::Dir) => state.trace.push(Op::SyncDirBegin { dir: dir.shared() }),
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            }
        };
        race_window();
        // DURABILITY: the names in the directory that were changed before `begin`.
        self.shared.state().trace.push(Op::SyncDirEnd { dir: dir.shared(), begin, ok: true });
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        let path = normalize(path);
        let mut state = self.shared.state();
        let number = match state.node(&path) {
            Some(Node::File(number)) => number,
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            None => {
                state.check_parent(&path)?;
                state.create(&path)
            }
        };
        if !state.locked.insert(number) {
            return Ok(LockOutcome::Held { pid: None });
        }
        state.trace.push(Op::Lock { file: number });
        drop(state);
        Ok(LockOutcome::Acquired(Box::new(SimLock(self.handle(number, true)))))
    }

    fn map_tail(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn TailMap>> {
        Ok(Box::new(self.map(file, span, true)?))
    }

    fn map_read(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn ReadMap>> {
        Ok(Box::new(self.map(file, span, false)?))
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.shared.state().random.fill(bytes);
        Ok(())
    }
}
