//! Files of runs that an image names: they are durable before it is, and stay as long as it does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use cortenkv_index::{DeadBits, RunBytes, SavedRun};
use cortenkv_wal::vfs::{OpenMode, read_full_at};

use super::super::index::Index;
use super::super::ordered::KeyOrder;
use super::super::runs::{Dir, RunFiles};
use super::load::Loaded;
use crate::core::Core;
use crate::error::Result;
use crate::options::IndexOptions;
use crate::record::KeyspaceId;
use crate::sync::lock;

/// The part of the file of a run that tells it from others.
const HEADER_BYTES: usize = 64;

impl RunFiles {
    fn dir(&self) -> Option<&Arc<Dir>> {
        self.0.dir.as_ref()
    }

    /// An image names this file, which is open or was kept when the database was opened.
    pub(super) fn hold(&self, number: u64) {
        if let Some(dir) = self.dir() {
            lock(&dir.files).entry(number).or_default().images += 1;
        }
    }

    /// The image does so no more.
    pub(super) fn release(&self, number: u64) {
        if let Some(dir) = self.dir() {
            dir.change_uses(number, |uses| uses.images = uses.images.saturating_sub(1));
        }
    }

    /// Makes the content of an open file durable; false if it is not open.
    pub(super) fn sync(&self, number: u64) -> io::Result<bool> {
        let open =
            |dir: &Arc<Dir>| lock(&dir.files).get(&number).and_then(|uses| uses.open.clone());
        match self.dir().and_then(open) {
            // DURABILITY: before an image names it.
            Some(file) => file.sync_data().map(|()| true),
            None => Ok(false),
        }
    }

    /// Opens a file that an image names; `None` if it is not the one that the image means.
    pub(super) fn reopen(
        &self,
        number: u64,
        bytes: u64,
        header_checksum: u32,
    ) -> Option<Arc<dyn RunBytes>> {
        let dir = self.dir()?;
        let file = dir.vfs.open(&dir.path_of(number), OpenMode::Read).ok()?;
        let len = file.len().ok().filter(|len| *len == bytes)?;
        let mut header = [0; HEADER_BYTES];
        let read = read_full_at(file.as_ref(), &mut header, 0).ok()?;
        if crc32c::crc32c(header.get(..read)?) != header_checksum {
            return None;
        }
        let name = dir.used(number, &file);
        Some(Arc::new(dir.mapped(name, &file, usize::try_from(len).ok()?).ok()?))
    }
}

/// What tells the file of a run from others.
pub(super) fn header_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes.get(..HEADER_BYTES).unwrap_or(bytes))
}

impl Loaded {
    /// An index with the entries of the image, and no order of keys yet.
    pub(crate) fn index(
        &mut self,
        hash_seed: u64,
        options: &IndexOptions,
        runs: RunFiles,
    ) -> Index {
        let point = self.point.take().expect("the index is made once");
        Index { hash_seed, point, order: KeyOrder::new(options, runs) }
    }
}

impl KeyOrder {
    pub(super) fn files(&self) -> Option<&RunFiles> {
        self.0.as_ref().map(|kept| &kept.files)
    }

    /// False while a part of it is damaged.
    pub(super) fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|kept| !kept.is_damaged())
    }

    /// The runs of every keyspace.
    pub(super) fn save(&self) -> Result<Vec<(KeyspaceId, Vec<SavedRun>)>> {
        let Some(kept) = &self.0 else { return Ok(Vec::new()) };
        let keyspaces = kept.keys.keyspaces().into_iter();
        keyspaces.map(|keyspace| Ok((keyspace, kept.keys.save(keyspace)?))).collect()
    }

    /// Puts the runs of a keyspace in its place; `stands` says which segments stand in which slot.
    pub(super) fn restore(
        &self,
        keyspace: KeyspaceId,
        runs: Vec<SavedRun>,
        stands: &mut dyn FnMut(u64, u16) -> bool,
    ) -> Result<()> {
        let Some(kept) = &self.0 else { return Ok(()) };
        Ok(kept.keys.restore(keyspace, runs, stands)?)
    }

    /// Takes the keys of a keyspace from the records, while nobody else uses the database.
    pub(super) fn rebuild_now(&self, core: &Core, keyspace: KeyspaceId) -> Result<()> {
        let Some(kept) = &self.0 else { return Ok(()) };
        kept.take_from_records(core, keyspace)
    }

    /// Whether every put announces its key, as a rebuild wants it.
    pub(super) fn announce_all(&self, all: bool) {
        if let Some(kept) = &self.0 {
            // ORDERING: Release, as in a rebuild; nobody else uses the database yet.
            kept.is_rebuilding.store(all, Release);
        }
    }

    /// Says of all records of a slot that they are dead, but for those at these offsets.
    pub(super) fn begin_dead(&self, slot: u16, end_logical: u32, live: &[u32]) {
        if let Some(dead) = self.0.as_ref().and_then(|kept| kept.dead.as_ref()) {
            let bits = DeadBits::all_but(end_logical, live.iter().copied());
            dead.cell_or_new(slot).set(Some(bits));
        }
    }
}
