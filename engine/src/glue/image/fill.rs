//! How a database is filled: the segments of an image are mounted, the order of keys is put back, and everything that the image
//! does not cover is offered again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use cortenkv_index::{RamRuns, RunStore, SavedPiece, SavedRun};
use cortenkv_wal::bugs::{Bug, planted};

use super::file::Kind;
use super::load::{Image, Loaded};
use super::meta::{Piece, PieceAt};
use super::{Images, wal};
use crate::core::Core;
use crate::error::Result;
use crate::install::Installer;
use crate::parts::RunFiles;
use crate::parts::segment::ours;
use crate::record::KeyspaceId;
use crate::sync::lock;

impl Image {
    /// The runs of a keyspace; `None` if one is not what it was.
    fn runs(&self, runs: &[Vec<Piece>], files: &RunFiles) -> Option<Vec<SavedRun>> {
        let blocks = self.reader.blocks(Kind::Run)?;
        let piece = |(first, at): &Piece| {
            let bytes = match at {
                PieceAt::File { number, bytes, header_checksum } => {
                    files.reopen(*number, *bytes, *header_checksum)?
                }
                PieceAt::Block(n) => {
                    RamRuns.store(blocks.get(usize::try_from(*n).ok()?)?.to_vec()).ok()?
                }
            };
            Some(SavedPiece { first: first.as_slice().into(), bytes })
        };
        runs.iter().map(|run| run.iter().map(piece).collect()).collect()
    }
}

impl Loaded {
    /// Mounts the segments, counts what is live, and puts the order of keys back.
    fn restore(&self, core: &Core) -> Result<Vec<KeyspaceId>> {
        let Images(Some(kept)) = &core.images else { return Ok(Vec::new()) };
        for counts in &self.counts {
            kept.liveness.0.load(counts);
        }
        self.lost.iter().for_each(|(segment, was)| kept.liveness.dead(*segment, *was));
        let mut book = lock(&core.slots.book);
        for slot in &self.slots {
            core.slots.put(slot.slot, core.mount(slot.segment, slot.slot)?);
            core.index.order.begin_dead(slot.slot, slot.end_logical, &slot.live);
            book.assigned.insert(slot.segment, slot.slot);
        }
        book.unused = self.slots.last().map_or(0, |slot| usize::from(slot.slot) + 1);
        let taken: BTreeSet<u16> = self.slots.iter().map(|slot| slot.slot).collect();
        book.free = (0..book.unused as u16).rev().filter(|slot| !taken.contains(slot)).collect();
        drop(book);
        let stats = self.slots.iter().filter_map(|slot| kept.liveness.0.get(slot.segment, 0));
        for stats in stats {
            core.counters.keys.fetch_add(stats.live_records - stats.tombstones, Relaxed);
            core.counters.tombstones.fetch_add(stats.tombstones, Relaxed);
        }
        Ok(self.restore_order(core))
    }

    /// The keyspaces whose order has to be made from the records.
    fn restore_order(&self, core: &Core) -> Vec<KeyspaceId> {
        let order = &core.index.order;
        let Some(files) = order.files() else { return Vec::new() };
        let slots: BTreeMap<u64, u16> =
            self.slots.iter().map(|slot| (slot.segment, slot.slot)).collect();
        let mut stands = |segment, slot| slots.get(&segment) == Some(&slot);
        let mut broken = Vec::new();
        for (keyspace, runs) in &self.image.meta.order {
            let runs = self.image.runs(runs, files);
            let restored = runs.map(|runs| order.restore(*keyspace, runs, &mut stands));
            if !matches!(restored, Some(Ok(()))) {
                broken.push(*keyspace);
            }
        }
        broken
    }

    /// Fills a database with what the image has, and offers everything else. Returns how many records were offered, and a
    /// keyspace of one of them that there is not.
    ///
    /// # Errors
    /// `Corruption` and `Io` for a segment that cannot be read.
    pub(crate) fn fill(
        &self,
        core: &Arc<Core>,
        installer: &Installer,
    ) -> Result<(u64, Option<KeyspaceId>)> {
        let broken = self.restore(core)?;
        // A merge may have dropped a key that died after the beginning, and whose next put replaces a copied entry.
        core.index.order.announce_all(true);
        let mut records = 0;
        let unknown = installer.replay_tail(core, || {
            records = self.replay_rest(core)?;
            Ok(())
        })?;
        core.index.order.announce_all(false);
        for keyspace in broken {
            core.index.order.rebuild_now(core, keyspace)?;
        }
        Ok((records, unknown))
    }

    fn replay_rest(&self, core: &Core) -> Result<u64> {
        let (Some(wal), Images(Some(kept))) = (wal(core), &core.images) else { return Ok(0) };
        let mut records = 0;
        for segment in wal.segments() {
            if !self.covered.contains(&segment.id) {
                records += wal.replay(segment.id)?;
            }
        }
        let compacted = lock(&kept.manifest).state().compacted.clone();
        for id in compacted.keys().filter(|id| !self.covered.contains(id)) {
            if planted(Bug::ImageOutputsForgotten) {
                continue;
            }
            let reader = wal.open_compacted(*id)?;
            let read = wal.replay_compacted(&reader, &mut |record| {
                let record = ours(&record);
                if !(record.tombstone && planted(Bug::ImageTombstonesForgotten)) {
                    core.install(std::iter::once(record), None);
                }
            })?;
            records += read.records;
        }
        Ok(records)
    }
}
