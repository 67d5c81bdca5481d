//! A walk over the operation log that knows, at each crash point, what is durable and what is not.

use std::sync::Arc;

use super::crash::{self, CrashVariant, DiskModel};
use super::disk::DiskFile;
use super::image::Image;
use super::name::Name;
use super::names::{Change, DiskNames, Names, Node};
use super::trace::{FileNumber, Op, Trace};

/// A crash point of a trace, with the state of the disk there. Moves forward only.
#[derive(Debug, Clone)]
pub struct Cursor<'t> {
    pub(super) trace: &'t Trace,
    pub(super) model: DiskModel,
    pub(super) files: Vec<DiskFile>,
    pub(super) names: DiskNames,
    /// Of a journalling file system: metadata changes before this operation are durable.
    pub(super) committed: usize,
    point: usize,
    notes: Vec<(usize, u64)>,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(trace: &'t Trace, model: DiskModel) -> Self {
        let (names, contents) = number_files(&trace.base);
        Cursor {
            trace,
            model,
            files: contents.into_iter().map(DiskFile::durable).collect(),
            names: DiskNames::durable(names),
            committed: 0,
            point: 0,
            notes: Vec::new(),
        }
    }

    /// The crash point: so many operations have happened.
    pub fn point(&self) -> usize {
        self.point
    }

    /// The operation just before the crash.
    pub fn last_op(&self) -> Option<&'t Op> {
        self.trace.ops.get(self.point.checked_sub(1)?)
    }

    /// The notes so far, oldest first, each with the operation number that it has in the trace.
    pub fn notes(&self) -> &[(usize, u64)] {
        &self.notes
    }

    /// True when a power cut can lose something here; otherwise all variants give the same image.
    pub fn has_unsynced(&self) -> bool {
        self.names.pending().len() > 0 || self.files.iter().any(|file| !file.is_synced())
    }

    /// A disk that a crash at this point may leave. The same arguments give the same image.
    pub fn image(&self, variant: CrashVariant, seed: u64) -> Image {
        crash::image(self, variant, seed)
    }

    /// Goes to the next crash point; false at the end.
    pub fn advance(&mut self) -> bool {
        let Some(op) = self.trace.ops.get(self.point) else { return false };
        let at = self.point;
        self.point += 1;
        match op {
            Op::Create { file, path } => {
                debug_assert_eq!(
                    *file,
                    self.files.len(),
                    "files are numbered in order of creation"
                );
                self.files.push(DiskFile::created(at));
                self.names.push(at, Change::Add(Name::of(path), Node::File(*file)));
            }
            Op::CreateDir { path } => {
                self.names.push(at, Change::Add(Name::of(path), Node::Dir));
            }
            Op::Rename { from, to } => {
                self.names.push(at, Change::Rename(Name::of(from), Name::of(to)));
            }
            Op::Remove { path } => self.names.push(at, Change::Remove(Name::of(path))),
            Op::SyncDirEnd { dir, begin, ok: true } => match self.model {
                DiskModel::Posix => self.names.commit_dir(dir, *begin),
                DiskModel::Ext4 | DiskModel::Xfs => self.commit_journal(*begin),
            },
            Op::Write { file, offset, data }
            | Op::Store { file, offset, data }
            | Op::Publish { file, offset, data } => self.files[*file].write(at, *offset, data),
            Op::Allocate { file, offset, len } => self.files[*file].allocate(at, offset + len),
            Op::SetLen { file, len } => self.files[*file].set_len(at, *len),
            Op::SyncEnd { file, begin, ok } => self.sync_ended(*file, *begin, *ok),
            Op::Note(tag) => self.notes.push((at, *tag)),
            Op::SyncDirEnd { ok: false, .. }
            | Op::SyncDirBegin { .. }
            | Op::SyncBegin { .. }
            | Op::Lock { .. }
            | Op::Unlock { .. } => {}
        }
        true
    }

    fn sync_ended(&mut self, number: FileNumber, begin: usize, ok: bool) {
        let file = &mut self.files[number];
        if !ok {
            file.sync_failed(begin);
            return;
        }
        let uncommitted = |at: usize| at >= self.committed && at < begin;
        let has_metadata = file.created_at.is_some_and(uncommitted)
            || file.lengths.iter().any(|change| match change.journalled {
                true => uncommitted(change.at),
                false => change.at < begin,
            });
        file.sync_ended(begin, self.trace);
        if self.model != DiskModel::Posix && has_metadata {
            self.commit_journal(begin);
        }
    }

    fn commit_journal(&mut self, before: usize) {
        self.names.commit(before);
        self.committed = self.committed.max(before);
    }
}

/// The files of an image in the order of their paths: a file's number is its place.
pub(super) fn number_files(image: &Image) -> (Names, Vec<Arc<super::content::Content>>) {
    let dirs = image.dirs.iter().map(|dir| (dir.clone(), Node::Dir));
    let files = image.files.keys().enumerate();
    let files = files.map(|(number, path)| (path.clone(), Node::File(number)));
    (dirs.chain(files).collect(), image.files.values().cloned().collect())
}
