//! How an image is made: the beginning, the shards, the order of keys, the end.
//!
//! # Invariants
//! Rule 4: an image is named by the manifest only after everything that it points at is durable: the log, the files of runs,
//! itself. Compacted segments are durable before anything points at them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Release;

use cortenkv_wal::bugs::{Bug, planted};

use super::file::{Kind, Writer};
use super::meta::{Meta, PieceAt};
use super::runs::header_checksum;
use super::{DEATHS_MAX, Kept, Standing, wal};
use crate::core::Core;
use crate::error::{ClosedReason, Error, Result};
use crate::parts::manifest::edit::{Edit, ImageInfo};
use crate::sync::{lock, write};

/// LIMIT: bytes of shards that one step copies.
const STEP_BYTES: usize = 512 << 10;

/// An image on its way.
pub(super) struct Job {
    number: u64,
    writer: Writer,
    meta: Meta,
    stage: Stage,
    /// Blocks of runs so far.
    blocks: u64,
    /// Files of runs that are held for it.
    held: BTreeSet<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Shard(usize),
    Order,
    End,
}

impl Job {
    /// Takes the moment from which on the image need not know what happens.
    pub(super) fn begin(kept: &Kept, core: &Core, number: u64) -> Result<Job> {
        let wal = wal(core).ok_or_else(gone)?;
        let identity = lock(&kept.manifest).identity();
        let mut meta = Meta { is_ordered: core.options.is_ordered(), ..Meta::default() };
        wal.seal_active()?;
        let sealed = wal.segments().iter().filter(|s| s.sealed).map(|s| s.id).max().unwrap_or(0);
        // What is sealed by now has its commits in the index behind this, but for those that install themselves.
        meta.begin_seq = wal.last_seq();
        core.log.install_pending().inspect_err(|error| core.note_failure(error))?;
        // They, and whoever else changes the index, have the gate meanwhile.
        let alone = write(&core.gate);
        let segments = wal.segments();
        let covered = segments.iter().filter(|s| s.sealed && s.id <= sealed);
        meta.known = covered.map(|s| s.known()).collect();
        meta.compacted = {
            let manifest = lock(&kept.manifest);
            let moving = lock(&kept.moving);
            let moving: BTreeSet<u64> = moving.values().flatten().copied().collect();
            let ids = manifest.state().compacted.keys().copied();
            ids.filter(|id| !moving.contains(id) || planted(Bug::ImageCoversMoving)).collect()
        };
        let book = lock(&core.slots.book);
        meta.slots = book.assigned.iter().map(|(id, slot)| (*slot, *id)).collect();
        drop(book);
        meta.counts = kept.liveness.0.export();
        lock(&kept.deaths).clear();
        // ORDERING: Release, pairs with the load in `Images::is_copying`; the gate orders it for those who install.
        kept.is_copying.store(true, Release);
        drop(alone);
        let covered: BTreeSet<u64> =
            meta.known.iter().map(|known| known.id).chain(meta.compacted.iter().copied()).collect();
        meta.counts.retain(|counts| covered.contains(&counts.id));
        meta.slots.retain(|(_, id)| covered.contains(id));
        meta.slots.sort_unstable();
        let writer = Writer::create(&core.options.platform.vfs, wal.dir(), &identity, number);
        let writer = writer.map_err(|e| {
            kept.is_copying.store(false, Release);
            cannot_write(e)
        })?;
        let (stage, held) = (Stage::Shard(0), BTreeSet::new());
        Ok(Job { number, writer, meta, stage, blocks: 0, held })
    }

    /// One step; the image once it counts.
    pub(super) fn step(&mut self, kept: &Kept, core: &Core) -> Result<Option<Standing>> {
        match self.stage {
            Stage::Shard(shard) if shard < core.index.point.shards() => self.copy(core, shard)?,
            Stage::Shard(_) => {
                kept.is_copying.store(false, Release);
                self.meta.deaths = std::mem::take(&mut *lock(&kept.deaths));
                if self.meta.deaths.len() > DEATHS_MAX {
                    return Err(Error::limit("too many records died while an image was written"));
                }
                self.stage = Stage::Order;
            }
            Stage::Order => self.save_order(core)?,
            Stage::End => return self.end(kept, core).map(Some),
        }
        Ok(None)
    }

    fn copy(&mut self, core: &Core, first: usize) -> Result<()> {
        let (mut copied, mut shard, mut bytes) = (0, first, Vec::new());
        while shard < core.index.point.shards() && copied < STEP_BYTES {
            bytes.clear();
            core.index.point.export_raw(shard, &mut bytes);
            self.writer.block(Kind::Shard, &bytes).map_err(cannot_write)?;
            copied += bytes.len();
            shard += 1;
        }
        self.stage = Stage::Shard(shard);
        Ok(())
    }

    fn save_order(&mut self, core: &Core) -> Result<()> {
        for (keyspace, runs) in core.index.order.save()? {
            let mut saved = Vec::with_capacity(runs.len());
            for run in runs {
                let mut pieces = Vec::with_capacity(run.len());
                for piece in run {
                    let bytes = piece.bytes.bytes();
                    let at = match (piece.bytes.number(), core.index.order.files()) {
                        (Some(number), Some(files)) => {
                            if self.held.insert(number) {
                                files.hold(number);
                                files.sync(number).map_err(cannot_write)?;
                            }
                            let header_checksum = header_checksum(bytes);
                            PieceAt::File { number, bytes: bytes.len() as u64, header_checksum }
                        }
                        _ => {
                            self.writer.block(Kind::Run, bytes).map_err(cannot_write)?;
                            self.blocks += 1;
                            PieceAt::Block(self.blocks - 1)
                        }
                    };
                    pieces.push((piece.first.to_vec(), at));
                }
                saved.push(pieces);
            }
            self.meta.order.push((keyspace, saved));
        }
        self.stage = Stage::End;
        Ok(())
    }

    fn end(&mut self, kept: &Kept, core: &Core) -> Result<Standing> {
        let wal = wal(core).ok_or_else(gone)?;
        self.writer.block(Kind::Meta, &self.meta.encode()).map_err(cannot_write)?;
        let checksum = self.writer.finish().map_err(cannot_write)?;
        // DURABILITY: what the entries point at, and what made other entries go (rule 4).
        if !planted(Bug::ImageBeforeSync) {
            let synced = wal.sync_segments().map_err(Error::from);
            synced.inspect_err(|error| core.note_failure(error))?;
        }
        self.writer.publish().map_err(cannot_write)?;
        let bytes = self.writer.bytes();
        let image = ImageInfo { begin_seq: self.meta.begin_seq, bytes, checksum };
        kept.note(core, Edit::ImageAdded { number: self.number, image })?;
        Ok(Standing {
            number: self.number,
            bytes,
            newest: self.meta.known.iter().map(|known| known.id).max().unwrap_or(0),
            compacted: std::mem::take(&mut self.meta.compacted),
            runs: std::mem::take(&mut self.held),
        })
    }

    /// Gives it up.
    pub(super) fn abandon(self, kept: &Kept, core: &Core) {
        kept.is_copying.store(false, Release);
        lock(&kept.deaths).clear();
        self.writer.abandon();
        if let Some(files) = core.index.order.files() {
            self.held.iter().for_each(|number| files.release(*number));
        }
    }
}

fn cannot_write(error: std::io::Error) -> Error {
    cortenkv_wal::Error::io("cannot write an image of the index", error).into()
}

fn gone() -> Error {
    Error::closed(ClosedReason::Clean)
}
