//! Salvage of a damaged compacted segment: what is intact moves to a new one, and what is lost is told.
//!
//! # Invariants
//! - Nothing is offered to the index that is not intact, and records keep their numbers.
//! - The manifest takes the new segment for the old one by one edit; until then nothing has changed.
//! - A tombstone that is lost may let an older value of its key come back. Nobody can tell which, so their number is told, with
//!   the keys on both sides: compacted segments are sorted by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use cortenkv_wal::{CompactedBuilder, RecordKind, Salvaged, Wal};

use crate::catalog::DEFAULT_KEYSPACE;
use crate::error::Result;
use crate::parts::manifest::Manifest;
use crate::parts::manifest::edit::{CompactedInfo, Edit};
use crate::record::KeyspaceId;
use crate::stats::{LostKey, LostPlace, SalvagedSegment};

/// A damaged segment, what takes its place, and what was lost.
pub(super) struct Salvage {
    damaged: u64,
    pub(super) replacement: Option<CompactedInfo>,
    report: SalvagedSegment,
}

/// Copies what is intact of a compacted segment to a new one.
pub(super) fn salvage(
    wal: &Wal,
    manifest: &mut Manifest,
    damaged: CompactedInfo,
) -> Result<Salvage> {
    let id = manifest.next_compacted_id();
    let mut copy = Copy::new(CompactedBuilder::create(wal, id)?, &manifest.state().keyspaces);
    let mut failure = None;
    wal.salvage_compacted(damaged.id, &mut |found| {
        if failure.is_none() {
            failure = copy.take(found).err();
        }
    })?;
    failure.map_or(Ok(()), Err)?;
    let (records, tombstones) = (copy.records, copy.tombstones);
    let replacement = match records {
        0 => None,
        _ => {
            let built = copy.builder.finish()?;
            Some(CompactedInfo {
                id,
                bytes_stored: u64::from(built.bytes),
                bytes_logical: u64::from(built.end_logical),
                records,
                tombstones,
                seq_min: copy.seqs.0,
                seq_max: copy.seqs.1,
                age_class: damaged.age_class,
            })
        }
    };
    let report = SalvagedSegment {
        file: wal.dir().join(format!("{:016x}.cseg", damaged.id)),
        records_kept: records,
        records_lost: damaged.records.saturating_sub(records),
        tombstones_lost: damaged.tombstones.saturating_sub(tombstones),
        places: copy.places,
    };
    Ok(Salvage { damaged: damaged.id, replacement, report })
}

/// Notes durably what takes the place of what, and sets the damaged files aside.
pub(super) fn publish(
    wal: &Wal,
    manifest: &mut Manifest,
    salvages: Vec<Salvage>,
) -> Result<Vec<SalvagedSegment>> {
    if salvages.is_empty() {
        return Ok(Vec::new());
    }
    let added = salvages.iter().filter_map(|salvage| salvage.replacement).collect();
    let removed: Vec<u64> = salvages.iter().map(|salvage| salvage.damaged).collect();
    manifest.commit(Edit::JobDone { added, retired: Vec::new(), removed: removed.clone() })?;
    removed.iter().try_for_each(|id| wal.set_aside_compacted(*id))?;
    Ok(salvages.into_iter().map(|salvage| salvage.report).collect())
}

/// A copy under way.
struct Copy<'a> {
    builder: CompactedBuilder,
    names: &'a BTreeMap<KeyspaceId, Arc<str>>,
    records: u64,
    tombstones: u64,
    /// The least and the largest number.
    seqs: (u64, u64),
    /// The last key that was kept.
    last: Option<(KeyspaceId, Vec<u8>)>,
    places: Vec<LostPlace>,
}

impl<'a> Copy<'a> {
    fn new(builder: CompactedBuilder, names: &'a BTreeMap<KeyspaceId, Arc<str>>) -> Self {
        let (last, places) = (None, Vec::new());
        Copy { builder, names, records: 0, tombstones: 0, seqs: (u64::MAX, 0), last, places }
    }

    fn key(&self, (keyspace, key): &(KeyspaceId, Vec<u8>)) -> LostKey {
        let name = self.names.get(keyspace).map_or(DEFAULT_KEYSPACE, |name| name);
        LostKey { keyspace: name.to_owned(), key: key.clone() }
    }

    fn take(&mut self, found: Salvaged<'_>) -> Result<()> {
        match found {
            Salvaged::Record(record) => {
                let key = (record.keyspace, record.key.to_vec());
                if self.places.last().is_some_and(|place| place.before.is_none()) {
                    let before = Some(self.key(&key));
                    self.places
                        .iter_mut()
                        .rev()
                        .take(1)
                        .for_each(|it| it.before.clone_from(&before));
                }
                self.last = Some(key);
                self.records += 1;
                self.tombstones += u64::from(record.kind == RecordKind::Delete);
                self.seqs = (self.seqs.0.min(record.seq), self.seqs.1.max(record.seq));
                self.builder.append(&record)?;
            }
            Salvaged::Lost { offset, bytes } => {
                let after = self.last.as_ref().map(|key| self.key(key));
                let (offset, bytes) = (u64::from(offset), u64::from(bytes));
                self.places.push(LostPlace { offset, bytes, after, before: None });
            }
            _ => {}
        }
        Ok(())
    }
}
