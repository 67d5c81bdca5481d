//! How an open finds an image: it is verified, and its entries are taken as far as their segments are there still.
//!
//! # Failure
//! Whatever does not fit makes the whole image useless, before anything was taken of it: then the log is replayed as if there
//! were none. A run of keys that is not what it should be costs the order of its keyspace only, which is made from the
//! records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use cortenkv_compaction::SegmentCounts;
use cortenkv_index::BucketPoint;
use cortenkv_wal::vfs::{FileKind, Vfs};
use cortenkv_wal::{KnownSegment, Wal};

use super::file::{Kind, Reader, file_name, is_ours};
use super::meta::Meta;
use super::{Images, LOG_BYTES_MIN, Standing};
use crate::catalog::SharedManifest;
use crate::options::Options;
use crate::parts::manifest::{Manifest, ManifestState};
use crate::parts::{Liveness, RunFiles};
use crate::record::Footprint;

/// The images of a directory.
#[derive(Default)]
pub(crate) struct OnDisk {
    /// The one to be used, its shards not verified yet.
    image: Option<Image>,
    pub(crate) standing: Vec<Standing>,
}

pub(super) struct Image {
    number: u64,
    pub(super) reader: Reader,
    pub(super) meta: Meta,
}

/// A segment in the slot that it had.
pub(super) struct Slot {
    pub(super) slot: u16,
    pub(super) segment: u64,
    pub(super) end_logical: u32,
    /// Where the records start that entries point at.
    pub(super) live: Vec<u32>,
}

/// An image whose entries were taken.
pub(crate) struct Loaded {
    pub(super) point: Option<BucketPoint>,
    pub(super) slots: Vec<Slot>,
    pub(super) counts: Vec<SegmentCounts>,
    /// Records that `counts` has as live, and that no entry points at any more.
    pub(super) lost: Vec<(u64, Footprint)>,
    /// Segments that are not to be offered again.
    pub(super) covered: BTreeSet<u64>,
    pub(super) image: Image,
}

impl OnDisk {
    /// Looks for the images that the manifest names, and lets it forget those that are not what it says, or not wanted.
    pub(crate) fn find(
        vfs: &dyn Vfs,
        dir: &Path,
        manifest: &mut Manifest,
        options: &Options,
    ) -> Self {
        let mut on_disk = OnDisk::default();
        // What a salvage leaves of the log is not what an image means.
        let are_wanted = options.index_images != Some(false) && !options.salvage;
        for (number, info) in manifest.state().images.clone().into_iter().rev() {
            let identity = manifest.identity();
            let reader = Reader::open(vfs, dir, &identity, number, &info).filter(|_| are_wanted);
            let Some(image) = reader.and_then(|reader| Image::read(number, reader)) else {
                // The next manifest is without it.
                manifest.state.images.remove(&number);
                continue;
            };
            on_disk.standing.insert(0, image.standing());
            if on_disk.image.is_none() && (image.meta.is_ordered || !options.is_ordered()) {
                on_disk.image = Some(image);
            }
        }
        on_disk
    }

    /// The files of runs that images name.
    pub(crate) fn run_files(&self) -> BTreeSet<u64> {
        self.standing.iter().flat_map(|image| &image.runs).copied().collect()
    }

    /// What the open database does with images.
    pub(crate) fn into_images(
        self,
        options: &Options,
        manifest: &SharedManifest,
        liveness: &Liveness,
    ) -> Images {
        if options.index_images == Some(false) {
            return Images::none();
        }
        let log_bytes_min = options.image_log_bytes_min.unwrap_or(LOG_BYTES_MIN);
        Images::new(Arc::clone(manifest), liveness.clone(), log_bytes_min, self.standing)
    }

    /// True if the log need not be replayed, as far as it is known.
    pub(crate) fn has_image(&self) -> bool {
        self.image.is_some()
    }

    /// The log segments that the image covers.
    pub(crate) fn known(&self) -> Vec<KnownSegment> {
        self.image.as_ref().map_or_else(Vec::new, |image| image.meta.known.clone())
    }

    /// Keeps the files of runs that images name.
    pub(crate) fn hold_runs(&self, files: &RunFiles) {
        let runs = self.standing.iter().flat_map(|image| &image.runs);
        runs.for_each(|number| files.hold(*number));
    }

    /// Takes the entries of the image; `None` if it does not fit what is there, and then it is forgotten.
    pub(crate) fn load(
        &mut self,
        wal: &Wal,
        manifest: &mut Manifest,
        options: &Options,
    ) -> Option<Loaded> {
        let image = self.image.take()?;
        let number = image.number;
        let loaded = image.load(wal, manifest.state(), options);
        if loaded.is_none() {
            manifest.state.images.remove(&number);
            self.standing.retain(|image| image.number != number);
        }
        loaded
    }
}

impl Image {
    fn load(self, wal: &Wal, state: &ManifestState, options: &Options) -> Option<Loaded> {
        let image = self;
        let ends = image.ends(wal, state)?;
        let mut slots = image.slots(&ends)?;
        let shards = image.reader.blocks(Kind::Shard)?;
        if options.index.shards.is_some_and(|wanted| wanted as usize != shards.len()) {
            return None;
        }
        let mut is_sound = true;
        let mut by_slot: Vec<Option<&mut Slot>> = Vec::new();
        for slot in &mut slots {
            by_slot.resize_with(usize::from(slot.slot), || None);
            by_slot.push(Some(slot));
        }
        let point = BucketPoint::from_raw(shards, |address| {
            let slot = by_slot.get_mut(usize::from(address.slot()))?.as_mut()?;
            is_sound &= address.offset_bytes() < slot.end_logical;
            slot.live.push(address.offset_bytes());
            Some(address)
        });
        let point = point.ok().filter(|_| is_sound)?;
        let lost = image.lost(&mut slots);
        let counts = image.meta.counts.iter().filter(|counts| ends.contains_key(&counts.id));
        let counts: Vec<SegmentCounts> = counts.cloned().collect();
        let covered = ends.into_keys().collect();
        let loaded = Loaded { point: Some(point), slots, counts, lost, covered, image };
        loaded.adds_up().then_some(loaded)
    }

    fn read(number: u64, reader: Reader) -> Option<Image> {
        let meta = match reader.blocks(Kind::Meta)?[..] {
            [meta] => Meta::decode(meta)?,
            _ => return None,
        };
        Some(Image { number, reader, meta })
    }

    fn standing(&self) -> Standing {
        Standing {
            number: self.number,
            bytes: self.reader.bytes(),
            newest: self.meta.known.iter().map(|known| known.id).max().unwrap_or(0),
            compacted: self.meta.compacted.clone(),
            runs: self.meta.run_files(),
        }
    }

    /// The covered segments that are there still, each with its end in logical bytes; `None` if one is not what it was.
    fn ends(&self, wal: &Wal, state: &ManifestState) -> Option<BTreeMap<u64, u32>> {
        let log = wal.segments();
        let oldest = log.first().map_or(0, |segment| segment.id);
        let log: BTreeMap<u64, _> = log.into_iter().map(|segment| (segment.id, segment)).collect();
        let mut ends = BTreeMap::new();
        for known in &self.meta.known {
            match log.get(&known.id) {
                Some(segment) => {
                    let (stored, logical) = (segment.end_stored, segment.end_logical);
                    if !segment.sealed || (stored, logical) != (known.end_stored, known.end_logical)
                    {
                        return None;
                    }
                    ends.insert(known.id, logical);
                }
                // It was retired, and perhaps that is forgotten by now.
                None if known.id < oldest || state.retired.contains_key(&known.id) => {}
                None => return None,
            }
        }
        let compacted = state.compacted.values();
        for segment in compacted.filter(|segment| self.meta.compacted.contains(&segment.id)) {
            ends.insert(segment.id, u32::try_from(segment.bytes_logical).ok()?);
        }
        Some(ends)
    }

    /// The slots of these segments, in order; `None` if a slot or a segment is there twice.
    fn slots(&self, ends: &BTreeMap<u64, u32>) -> Option<Vec<Slot>> {
        let mut seen = BTreeSet::new();
        let mut slots: Vec<Slot> = Vec::new();
        for &(slot, segment) in &self.meta.slots {
            if slots.last().is_some_and(|last| last.slot >= slot) || !seen.insert(segment) {
                return None;
            }
            if let Some(&end_logical) = ends.get(&segment) {
                slots.push(Slot { slot, segment, end_logical, live: Vec::new() });
            }
        }
        Some(slots)
    }

    /// The records that died while the shards were copied, and that no copied entry points at.
    fn lost(&self, slots: &mut [Slot]) -> Vec<(u64, Footprint)> {
        if self.meta.deaths.is_empty() {
            return Vec::new();
        }
        slots.iter_mut().for_each(|slot| slot.live.sort_unstable());
        let lost = self.meta.deaths.iter().filter_map(|death| {
            let at = slots.binary_search_by_key(&death.address.slot(), |slot| slot.slot.into());
            let slot = at.ok().and_then(|at| slots.get(at))?;
            let is_live = slot.live.binary_search(&death.address.offset()).is_ok();
            (!is_live).then_some((slot.segment, death.was))
        });
        lost.collect()
    }
}

impl Loaded {
    /// True if each segment has as many entries as live records.
    fn adds_up(&self) -> bool {
        let mut entries: BTreeMap<u64, u64> =
            self.slots.iter().map(|slot| (slot.segment, slot.live.len() as u64)).collect();
        for (segment, _) in &self.lost {
            *entries.entry(*segment).or_default() += 1;
        }
        for counts in &self.counts {
            if entries.remove(&counts.id).unwrap_or(0) != counts.live.records {
                return false;
            }
        }
        entries.values().all(|entries| *entries == 0)
    }

    /// The keys that it has, those of tombstones included.
    pub(crate) fn keys(&self) -> u64 {
        self.slots.iter().map(|slot| slot.live.len() as u64).sum()
    }

    /// Bytes of the image.
    pub(crate) fn bytes(&self) -> u64 {
        self.image.reader.bytes()
    }
}

/// Removes the images that the manifest does not name.
pub(crate) fn remove_unnamed(vfs: &dyn Vfs, dir: &Path, state: &ManifestState) {
    let named: BTreeSet<String> = state.images.keys().map(|number| file_name(*number)).collect();
    // What cannot be listed or removed is in nobody's way.
    for entry in vfs.list(dir).unwrap_or_default() {
        if entry.kind == FileKind::File && is_ours(&entry.name) && !named.contains(&entry.name) {
            let _ = vfs.remove_file(&dir.join(&entry.name));
        }
    }
}
