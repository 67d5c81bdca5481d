//! The operation log: everything that touched the simulated disk, and the notes of the test, in one order.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::crash::{CrashVariant, DiskModel};
use super::cursor::Cursor;
use super::image::Image;

/// The number of a simulated file: it stays with the file when the file is renamed.
pub type FileNumber = usize;

/// The bytes of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Data {
    /// So many zeroes.
    Zeroes(u64),
    /// A range of what [`Trace::bytes`] gives.
    Bytes(Range<usize>),
}

impl Data {
    /// How many bytes.
    pub fn len(&self) -> u64 {
        match self {
            Data::Zeroes(len) => *len,
            Data::Bytes(range) => range.len() as u64,
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One entry of the operation log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are those of the call that the variant names")]
pub enum Op {
    /// A new file got a name.
    Create { file: FileNumber, path: Arc<Path> },
    /// A new directory got a name.
    CreateDir { path: Arc<Path> },
    /// A file changed its name; what stood at `to` lost it.
    Rename { from: Arc<Path>, to: Arc<Path> },
    /// A file lost its name.
    Remove { path: Arc<Path> },
    /// A directory sync started.
    SyncDirBegin { dir: Arc<Path> },
    /// The directory sync that started with operation `begin` returned.
    SyncDirEnd { dir: Arc<Path>, begin: usize, ok: bool },
    /// A `write_at`, with the bytes that it took.
    Write { file: FileNumber, offset: u64, data: Data },
    /// A store through a tail map.
    Store { file: FileNumber, offset: u64, data: Data },
    /// A head word published through a tail map.
    Publish { file: FileNumber, offset: u64, data: Data },
    /// Space was reserved.
    Allocate { file: FileNumber, offset: u64, len: u64 },
    /// The length was set.
    SetLen { file: FileNumber, len: u64 },
    /// A file sync started.
    SyncBegin { file: FileNumber },
    /// The file sync that started with operation `begin` returned.
    SyncEnd { file: FileNumber, begin: usize, ok: bool },
    /// A lock was taken.
    Lock { file: FileNumber },
    /// A lock was released.
    Unlock { file: FileNumber },
    /// The test said something: an operation started, or was acknowledged.
    Note(u64),
}

/// The operation log of a simulated file system, from the image that it started with.
///
/// Crash point `i` lies before operation `i`; there are `len() + 1` of them.
#[derive(Clone)]
pub struct Trace {
    pub(super) base: Image,
    pub(super) ops: Vec<Op>,
    pub(super) arena: Vec<u8>,
}

impl Trace {
    pub(super) fn starting_with(base: Image) -> Self {
        Trace { base, ops: Vec::new(), arena: Vec::new() }
    }

    pub(super) fn push(&mut self, op: Op) -> usize {
        self.ops.push(op);
        self.ops.len() - 1
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) -> Data {
        if bytes.iter().all(|byte| *byte == 0) {
            return Data::Zeroes(bytes.len() as u64);
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        Data::Bytes(start..self.arena.len())
    }

    pub(super) fn prefix(&self, point: usize) -> Trace {
        Trace {
            base: self.base.clone(),
            ops: self.ops[..point].to_vec(),
            arena: self.arena.clone(),
        }
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// True when nothing happened.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The operations, oldest first.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The bytes of a store of this trace.
    pub fn bytes(&self, data: &Data) -> Vec<u8> {
        match data {
            Data::Zeroes(len) => vec![0; *len as usize],
            Data::Bytes(range) => self.arena[range.clone()].to_vec(),
        }
    }

    /// The notes before a crash point, oldest first.
    pub fn notes(&self, point: usize) -> impl Iterator<Item = u64> {
        self.ops[..point].iter().filter_map(|op| match op {
            Op::Note(tag) => Some(*tag),
            _ => None,
        })
    }

    /// A walk over the crash points, standing at the first one.
    pub fn cursor(&self, model: DiskModel) -> Cursor<'_> {
        Cursor::new(self, model)
    }

    /// A walk that stands at a crash point.
    ///
    /// # Panics
    /// When the point is greater than `len()`.
    pub fn cursor_at(&self, model: DiskModel, point: usize) -> Cursor<'_> {
        let mut cursor = self.cursor(model);
        while cursor.point() < point {
            assert!(cursor.advance(), "crash point {point} lies beyond {} operations", self.len());
        }
        cursor
    }

    /// Visits every crash point in order; one walk, so the cost is that of the operations.
    pub fn for_each_crash_point(&self, model: DiskModel, mut visit: impl FnMut(&Cursor<'_>)) {
        let mut cursor = self.cursor(model);
        visit(&cursor);
        while cursor.advance() {
            visit(&cursor);
        }
    }

    /// One image; replays the trace up to the point. For one failure of a suite; a suite itself walks.
    ///
    /// # Panics
    /// When the point is greater than `len()`.
    pub fn crash_image(
        &self,
        model: DiskModel,
        point: usize,
        variant: CrashVariant,
        seed: u64,
    ) -> Image {
        self.cursor_at(model, point).image(variant, seed)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (point, op) in self.ops.iter().enumerate() {
            writeln!(f, "{point:6} {op:?}")?;
        }
        Ok(())
    }
}
