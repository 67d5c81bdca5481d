//! What live code sees of the simulated disk, and the log of how it came to be.
//!
//! # Concurrency
//! One lock around everything. It is held for the copying of bytes and never across a point where another thread must
//! run, so a standard lock is right under shuttle too: there one thread runs at a time and it yields elsewhere.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::content::Content;
use super::cursor::number_files;
use super::file::MapCell;
use super::image::Image;
use super::name::{Name, parent};
use super::names::{Change, Names, Node};
use super::random::Random;
use super::trace::{Data, FileNumber, Op, Trace};

/// How bytes got into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Write,
    Store,
    Publish,
}

/// A file as live code sees it.
#[derive(Debug)]
pub(super) struct LiveFile {
    content: Arc<Content>,
    /// Also held by mappings, which check every access against it.
    len: Arc<AtomicU64>,
    /// The space that it takes; a store through a mapping below this cannot fail.
    reserved: u64,
    linked: bool,
    maps: Vec<Weak<MapCell>>,
}

/// Everything behind the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) names: Names,
    files: Vec<LiveFile>,
    pub(super) trace: Trace,
    pub(super) random: Random,
    pub(super) locked: BTreeSet<FileNumber>,
    /// The error of the next sync of a file.
    pub(super) sync_failure: Option<io::Error>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) mapping: bool,
}

/// The state, shared by the file system and its open files.
#[derive(Debug)]
pub(super) struct Shared(Mutex<State>);

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Shared(Mutex::new(state))
    }

    /// A panic of a holder leaves the state valid: contract violations are found before anything changes.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveFile {
    fn new(content: Arc<Content>) -> Self {
        let len = content.len();
        LiveFile {
            content,
            len: Arc::new(len.into()),
            reserved: len,
            linked: true,
            maps: Vec::new(),
        }
    }

    fn set_len_seen(&self, len: u64) {
        // ORDERING: Relaxed: a mapping's check of its bounds, ordered by whatever told the reader where to read.
        self.len.store(len, Ordering::Relaxed);
    }

    /// Applies a change to every mapping, which thereby becomes memory of its own.
    fn mirror(&mut self, change: impl Fn(&MapCell)) {
        self.maps.retain(|map| match map.upgrade() {
            Some(map) => {
                change(&map);
                true
            }
            None => false,
        });
    }
}

impl State {
    /// A disk that holds an image, all of it durable.
    pub(super) fn of_image(image: Image, seed: u64) -> State {
        let (names, contents) = number_files(&image);
        State {
            names,
            files: contents.into_iter().map(LiveFile::new).collect(),
            trace: Trace::starting_with(image),
            random: Random::new(seed),
            locked: BTreeSet::new(),
            sync_failure: None,
            capacity_bytes: None,
            mapping: true,
        }
    }

    /// The disk after the operations of a trace, with what is unsynced still unsynced.
    pub(super) fn of_trace(trace: Trace, seed: u64) -> State {
        let mut state = State::of_image(trace.base.clone(), seed);
        for op in &trace.ops {
            state.replay(op, &trace);
        }
        state.trace = trace;
        state
    }

    fn replay(&mut self, op: &Op, trace: &Trace) {
        match op {
            Op::Create { path, .. } => {
                self.add_file(&Name::of(path));
            }
            Op::CreateDir { path } => Change::Add(Name::of(path), Node::Dir).apply(&mut self.names),
            Op::Rename { from, to } => self.change(&Change::Rename(Name::of(from), Name::of(to))),
            Op::Remove { path } => self.change(&Change::Remove(Name::of(path))),
            Op::Write { file, offset, data }
            | Op::Store { file, offset, data }
            | Op::Publish { file, offset, data } => match data {
                Data::Bytes(range) => self.apply(*file, *offset, &trace.arena[range.clone()]),
                Data::Zeroes(len) => self.apply(*file, *offset, &vec![0; *len as usize]),
            },
            Op::Allocate { file, offset, len } => self.reserve(*file, offset + len),
            Op::SetLen { file, len } => self.apply_len(*file, *len),
            Op::SyncDirBegin { .. }
            | Op::SyncDirEnd { .. }
            | Op::SyncBegin { .. }
            | Op::SyncEnd { .. }
            | Op::Lock { .. }
            | Op::Unlock { .. }
            | Op::Note(_) => {}
        }
    }

    pub(super) fn node(&self, path: &Path) -> Option<Node> {
        if path.as_os_str().is_empty() {
            Some(Node::Dir)
        } else {
            self.names.get(path.as_os_str()).copied()
        }
    }

    /// An error unless the directory that holds a path exists.
    pub(super) fn check_parent(&self, path: &Path) -> io::Result<()> {
        match self.node(parent(path)) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn create(&mut self, path: &Name) -> FileNumber {
        let file = self.add_file(path);
        self.trace.push(Op::Create { file, path: path.shared() });
        file
    }

    pub(super) fn change(&mut self, change: &Change) {
        let (Change::Rename(_, gone) | Change::Remove(gone) | Change::Add(gone, _)) = change;
        if let Some(Node::File(file)) = self.names.get(gone) {
            self.files[*file].linked = false;
        }
        change.apply(&mut self.names);
    }

    pub(super) fn content(&self, file: FileNumber) -> &Arc<Content> {
        &self.files[file].content
    }

    /// Writes bytes and logs them; returns how many fitted on the disk.
    pub(super) fn write(
        &mut self,
        file: FileNumber,
        offset: u64,
        bytes: &[u8],
    ) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = self.room(file, offset + bytes.len() as u64);
        let end = (offset + bytes.len() as u64).min(room);
        let fitting = end.saturating_sub(offset) as usize;
        if fitting == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let bytes = &bytes[..fitting];
        let data = self.trace.keep(bytes);
        self.trace.push(Op::Write { file, offset, data });
        self.apply(file, offset, bytes);
        Ok(fitting)
    }

    /// Stores bytes through a mapping and logs them.
    ///
    /// # Panics
    /// When the range is not reserved: the real store is a SIGBUS beyond the end of the file, and may be one in a hole.
    pub(super) fn store(&mut self, file: FileNumber, offset: u64, bytes: &[u8], via: Via) {
        let live = &self.files[file];
        let (end, len) = (offset + bytes.len() as u64, live.content.len());
        assert!(
            end <= live.reserved.min(len),
            "a store at {offset}..{end} lies outside the reserved space of the file (length {len}, reserved {})",
            live.reserved
        );
        let data = self.trace.keep(bytes);
        self.trace.push(match via {
            Via::Store => Op::Store { file, offset, data },
            Via::Publish => Op::Publish { file, offset, data },
            Via::Write => Op::Write { file, offset, data },
        });
        self.apply_via(file, offset, bytes, via);
    }

    pub(super) fn allocate(&mut self, file: FileNumber, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let end = offset.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
        if self.room(file, end) < end {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.trace.push(Op::Allocate { file, offset, len });
        self.reserve(file, end);
        Ok(())
    }

    pub(super) fn set_len(&mut self, file: FileNumber, len: u64) {
        self.trace.push(Op::SetLen { file, len });
        self.apply_len(file, len);
    }

    /// The content of a file, its length as mappings see it, and a mapping that every later change reaches.
    pub(super) fn map(&mut self, file: FileNumber, span: u64) -> (Arc<MapCell>, Arc<AtomicU64>) {
        let live = &mut self.files[file];
        let map = Arc::new(MapCell::new(span, Arc::clone(&live.content)));
        live.maps.push(Arc::downgrade(&map));
        (map, Arc::clone(&live.len))
    }

    /// The space that all files with a name take.
    pub(super) fn used_bytes(&self) -> u64 {
        self.files.iter().filter(|file| file.linked).map(|file| file.reserved).sum()
    }

    /// How far a file may reach, up to `end`.
    fn room(&self, file: FileNumber, end: u64) -> u64 {
        let Some(capacity_bytes) = self.capacity_bytes else { return end };
        let free = capacity_bytes.saturating_sub(self.used_bytes());
        end.min(self.files[file].reserved.saturating_add(free))
    }

    fn add_file(&mut self, path: &Name) -> FileNumber {
        let file = self.files.len();
        self.files.push(LiveFile::new(Arc::default()));
        Change::Add(path.clone(), Node::File(file)).apply(&mut self.names);
        file
    }

    fn reserve(&mut self, file: FileNumber, end: u64) {
        let live = &mut self.files[file];
        live.reserved = live.reserved.max(end);
        if end > live.content.len() {
            Arc::make_mut(&mut live.content).set_len(end);
            live.set_len_seen(end);
        }
    }

    fn apply(&mut self, file: FileNumber, offset: u64, bytes: &[u8]) {
        self.apply_via(file, offset, bytes, Via::Write);
    }

    fn apply_via(&mut self, file: FileNumber, offset: u64, bytes: &[u8], via: Via) {
        let live = &mut self.files[file];
        live.mirror(|map| map.store(offset, bytes, via));
        Arc::make_mut(&mut live.content).write(offset, bytes);
        live.reserved = live.reserved.max(offset + bytes.len() as u64);
        live.set_len_seen(live.content.len());
    }

    fn apply_len(&mut self, file: FileNumber, len: u64) {
        let live = &mut self.files[file];
        let cut_end = live.content.stored().len() as u64;
        live.mirror(|map| map.zero(len, cut_end));
        Arc::make_mut(&mut live.content).set_len(len);
        live.reserved = live.reserved.min(len);
        live.set_len_seen(len);
    }
}
