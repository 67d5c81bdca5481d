//! A build without the log crate has no database on disk: the types have no values, and opening says so.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::install::{Installer, Installing};
use crate::log::{Attempt, Mark, Opened};
use crate::options::{Durability, Options};
use crate::record::{KeyspaceId, RecordRef, SeqNo, Write};
use crate::segments::SegmentReport;
use crate::stats::LogStats;
use crate::ticket::Ticket;
use crate::write::Premises;

/// The file system to open on; there is none to choose.
#[derive(Clone, Default)]
pub(crate) struct Platform(());

impl Platform {
    pub(crate) fn with_view<R>(
        &self,
        _: &Path,
        mut open: impl FnMut(Platform) -> Result<R>,
    ) -> Result<R> {
        open(self.clone())
    }
}

/// A log on disk, which this build cannot have.
pub(crate) enum DurableLog {}

/// A place in a log on disk, which this build cannot have.
pub(crate) enum DurableMark {}

/// What a log on disk would show its records to.
const _: fn(&mut Premises<'static>, &RecordRef<'_>) = Premises::visit;

/// A segment on disk, which this build cannot have.
pub(crate) enum DurableSegment {}

/// A value in a segment on disk.
pub(crate) enum PinnedBytes {}

/// What is wrong with a file as a whole.
pub(crate) struct FileFault {
    pub(crate) file: PathBuf,
    pub(crate) what: String,
}

impl DurableSegment {
    pub(crate) fn check(&self, _: u32) -> Result<()> {
        match *self {}
    }

    pub(crate) fn id(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn last_seq(&self) -> SeqNo {
        match *self {}
    }

    pub(crate) fn read_with<R>(&self, _: u32, _: impl FnOnce(&RecordRef<'_>) -> R) -> Result<R> {
        match *self {}
    }

    pub(crate) fn prefetchable(&self, _: u32) -> Option<&[u8]> {
        match *self {}
    }

    pub(crate) fn pin(&self, _: &RecordRef<'_>) -> Option<PinnedBytes> {
        match *self {}
    }
}

impl std::ops::Deref for PinnedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match *self {}
    }
}

/// What a record would take; nothing counts it.
pub(crate) fn stored_bytes(_: &RecordRef<'_>) -> u32 {
    0
}

/// Files that stay or go; there are none.
#[derive(Default)]
pub(crate) struct Holds(());

/// A manifest on disk, which this build cannot have.
pub(crate) enum Manifest {}

pub(crate) fn open_durable(dir: &Path, options: &Options, _: &Arc<Installer>) -> Result<Opened> {
    let Platform(()) = options.platform;
    Err(Error::unsupported(format!(
        "{} cannot be opened: this build has no log on disk; enable the feature `wal`, or use Db::open_in_memory",
        dir.display()
    )))
}

impl DurableLog {
    pub(crate) fn append(
        &self,
        _: &[Write<'_>],
        _: Durability,
        _: Installing<'_>,
    ) -> Result<SeqNo> {
        match *self {}
    }

    pub(crate) fn append_async(
        &self,
        _: &[Write<'_>],
        _: Durability,
        _: Installing<'_>,
    ) -> Result<Ticket<SeqNo>> {
        match *self {}
    }

    pub(crate) fn mark(&self) -> Mark {
        match *self {}
    }

    pub(crate) fn append_if(
        &self,
        _: &[Write<'_>],
        _: Durability,
        _: &DurableMark,
        _: &mut Premises<'_>,
        _: Installing<'_>,
    ) -> Result<Attempt<SeqNo>> {
        match *self {}
    }

    pub(crate) fn append_if_async(
        &self,
        _: &[Write<'_>],
        _: Durability,
        _: &DurableMark,
        _: &mut Premises<'_>,
        _: Installing<'_>,
    ) -> Result<Attempt<Ticket<SeqNo>>> {
        match *self {}
    }

    pub(crate) fn wait_durable(&self, _: SeqNo) -> Result<()> {
        match *self {}
    }

    pub(crate) fn durable_async(&self, _: SeqNo) -> Result<Ticket<SeqNo>> {
        match *self {}
    }

    pub(crate) fn settled_seq(&self, _: SeqNo) -> Option<SeqNo> {
        match *self {}
    }

    pub(crate) fn install_pending(&self) -> Result<()> {
        match *self {}
    }

    pub(crate) fn sync_async(&self) -> Result<Ticket<SeqNo>> {
        match *self {}
    }

    pub(crate) fn sync(&self) -> Result<SeqNo> {
        match *self {}
    }

    pub(crate) fn segment(&self, _: u64) -> Result<DurableSegment> {
        match *self {}
    }

    pub(crate) fn segments<M>(&self, _: impl FnOnce() -> M) -> Vec<SegmentReport> {
        match *self {}
    }

    pub(crate) fn file_of(&self, _: u64) -> PathBuf {
        match *self {}
    }

    pub(crate) fn check_held(&self, _: u64) -> Result<()> {
        match *self {}
    }

    pub(crate) fn for_each_record(&self, _: u64, _: &mut dyn FnMut(&RecordRef<'_>)) -> Result<()> {
        match *self {}
    }

    pub(crate) fn check_files(
        &self,
        _: &Mutex<Manifest>,
        _: &dyn Fn() -> Vec<u64>,
    ) -> Result<Vec<FileFault>> {
        match *self {}
    }

    pub(crate) fn last_seq(&self) -> SeqNo {
        match *self {}
    }

    pub(crate) fn durable_seq(&self) -> SeqNo {
        match *self {}
    }

    pub(crate) fn stats(&self) -> LogStats {
        match *self {}
    }

    pub(crate) fn reset_stats(&self) {
        match *self {}
    }

    pub(crate) fn step(&self) -> Result<bool> {
        match *self {}
    }

    pub(crate) fn close(&self) -> Result<()> {
        match *self {}
    }
}

impl Manifest {
    pub(crate) fn create_keyspace(&mut self, _: &str) -> Result<KeyspaceId> {
        match *self {}
    }
}
