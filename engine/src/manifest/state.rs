//! What the edits of a manifest add up to.
//!
//! # Invariants
//! - Ids of compacted segments are given out once, across reopenings too, and rise.
//! - [`ManifestState::edits`] lead to the same state again: what a renewed manifest is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cortenkv_wal::RetiredSegment;

use super::edit::{COMPACTED_ID_MIN, CompactedInfo, Edit, Hold, ImageInfo, Lineage};
use super::format::COMPACTED_SEGMENTS;
use crate::catalog::{DEFAULT_KEYSPACE_ID, check_name};
use crate::record::KeyspaceId;

/// LIMIT: segments of each sort in one edit of a renewed manifest, far below the longest edit.
const JOB_SEGMENTS_MAX: usize = 256;
/// LIMIT: the longest name of a hold in bytes.
const HOLD_NAME_BYTES_MAX: usize = 255;

/// The state of a database beside its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestState {
    pub(crate) keyspaces: BTreeMap<KeyspaceId, Arc<str>>,
    /// Live compacted segments.
    pub(crate) compacted: BTreeMap<u64, CompactedInfo>,
    /// Log segments whose files go, or went; the log needs to know them while the chain leads through them.
    pub(crate) retired: BTreeMap<u64, RetiredSegment>,
    pub(crate) images: BTreeMap<u64, ImageInfo>,
    pub(crate) holds: BTreeMap<String, Hold>,
    /// Those of `holds` that kept more than they may: nothing stays because of them.
    pub(crate) broken: BTreeSet<String>,
    /// `None`: that of the uuid.
    pub(crate) lineage: Option<Lineage>,
    /// Those of `keyspaces`.
    names: BTreeSet<Arc<str>>,
    next_compacted_id: u64,
}

impl Default for ManifestState {
    fn default() -> Self {
        ManifestState {
            keyspaces: BTreeMap::new(),
            compacted: BTreeMap::new(),
            retired: BTreeMap::new(),
            images: BTreeMap::new(),
            holds: BTreeMap::new(),
            broken: BTreeSet::new(),
            lineage: None,
            names: BTreeSet::new(),
            next_compacted_id: COMPACTED_ID_MIN,
        }
    }
}

impl ManifestState {
    /// The incompatible features that this state needs.
    pub(super) fn features(&self) -> u32 {
        let has_jobs = !self.compacted.is_empty() || !self.retired.is_empty();
        if has_jobs { COMPACTED_SEGMENTS } else { 0 }
    }

    /// Says what is wrong with an edit at this point, if something is.
    pub(super) fn check(&self, edit: &Edit) -> Result<(), String> {
        match edit {
            Edit::KeyspaceCreated { id, name } => {
                let is_known = self.keyspaces.contains_key(id) || self.names.contains(&**name);
                let fits = !is_known && *id != DEFAULT_KEYSPACE_ID && check_name(name).is_ok();
                ensure(fits, || format!("a new keyspace {id} {name:?}"))
            }
            Edit::JobDone { added, retired, removed } => self.check_job(added, retired, removed),
            Edit::NextCompacted { id } => {
                ensure(*id >= COMPACTED_ID_MIN, || format!("{id:#x} as the next compacted segment"))
            }
            Edit::HoldSet { name, .. } => {
                let fits = (1..=HOLD_NAME_BYTES_MAX).contains(&name.len());
                ensure(fits, || format!("a hold with a name of {} bytes", name.len()))
            }
            Edit::HoldRemoved { name } => {
                ensure(self.holds.contains_key(name), || format!("the removal of hold {name:?}"))
            }
            Edit::HoldBroken { name } => {
                ensure(self.holds.contains_key(name), || format!("the break of hold {name:?}"))
            }
            Edit::Lineage(_) => Ok(()),
            Edit::ImageAdded { number, .. } => {
                ensure(!self.images.contains_key(number), || format!("a new image {number}"))
            }
            Edit::ImageRemoved { number } => ensure(self.images.contains_key(number), || {
                format!("the removal of image {number}")
            }),
        }
    }

    fn check_job(
        &self,
        added: &[CompactedInfo],
        retired: &[RetiredSegment],
        removed: &[u64],
    ) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for segment in added {
            let is_new = seen.insert(segment.id) && !self.compacted.contains_key(&segment.id);
            let is_sound =
                segment.seq_min <= segment.seq_max && segment.tombstones <= segment.records;
            ensure(segment.id >= COMPACTED_ID_MIN && is_new && is_sound, || {
                format!("a new compacted segment {:#x}", segment.id)
            })?;
        }
        for segment in retired {
            let is_new = seen.insert(segment.id) && !self.retired.contains_key(&segment.id);
            ensure(segment.id < COMPACTED_ID_MIN && is_new, || {
                format!("the retirement of log segment {:#x}", segment.id)
            })?;
        }
        for id in removed {
            ensure(seen.insert(*id) && self.compacted.contains_key(id), || {
                format!("the removal of compacted segment {id:#x}")
            })?;
        }
        Ok(())
    }

    /// Takes an edit that [`ManifestState::check`] found right.
    pub(super) fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::KeyspaceCreated { id, name } => {
                let name: Arc<str> = name.into();
                self.names.insert(Arc::clone(&name));
                self.keyspaces.insert(id, name);
            }
            Edit::JobDone { added, retired, removed } => {
                for id in removed {
                    self.compacted.remove(&id);
                }
                for segment in added {
                    self.compacted.insert(segment.id, segment);
                    self.compacted_id_was_used(segment.id);
                }
                self.retired.extend(retired.into_iter().map(|segment| (segment.id, segment)));
            }
            Edit::NextCompacted { id } => {
                self.next_compacted_id = self.next_compacted_id.max(id);
            }
            Edit::HoldSet { name, hold } => {
                self.broken.remove(&name);
                self.holds.insert(name, hold);
            }
            Edit::HoldRemoved { name } => {
                self.broken.remove(&name);
                self.holds.remove(&name);
            }
            Edit::HoldBroken { name } => {
                self.broken.insert(name);
            }
            Edit::Lineage(lineage) => self.lineage = Some(lineage),
            Edit::ImageAdded { number, image } => {
                self.images.insert(number, image);
            }
            Edit::ImageRemoved { number } => {
                self.images.remove(&number);
            }
        }
    }

    /// The shortest list of edits that leads here from nothing.
    pub(super) fn edits(&self) -> Vec<Edit> {
        let keyspaces = self.keyspaces.iter();
        let mut edits: Vec<Edit> = keyspaces
            .map(|(id, name)| Edit::KeyspaceCreated { id: *id, name: name.to_string() })
            .collect();
        if self.next_compacted_id > COMPACTED_ID_MIN {
            edits.push(Edit::NextCompacted { id: self.next_compacted_id });
        }
        let compacted: Vec<CompactedInfo> = self.compacted.values().copied().collect();
        for added in compacted.chunks(JOB_SEGMENTS_MAX) {
            let (retired, removed) = (Vec::new(), Vec::new());
            edits.push(Edit::JobDone { added: added.to_vec(), retired, removed });
        }
        let retired: Vec<RetiredSegment> = self.retired.values().copied().collect();
        for retired in retired.chunks(JOB_SEGMENTS_MAX) {
            let (added, removed) = (Vec::new(), Vec::new());
            edits.push(Edit::JobDone { added, retired: retired.to_vec(), removed });
        }
        let holds = self.holds.iter();
        edits.extend(holds.map(|(name, hold)| Edit::HoldSet { name: name.clone(), hold: *hold }));
        let broken = self.broken.iter();
        edits.extend(broken.map(|name| Edit::HoldBroken { name: name.clone() }));
        edits.extend(self.lineage.map(Edit::Lineage));
        let images = self.images.iter();
        edits.extend(
            images.map(|(number, image)| Edit::ImageAdded { number: *number, image: *image }),
        );
        edits
    }

    /// The id that is given out next.
    pub(super) fn next_compacted_id(&self) -> u64 {
        self.next_compacted_id
    }

    /// Gives out an id for a compacted segment.
    #[allow(dead_code, reason = "a build without compaction gives out none")]
    pub(super) fn take_compacted_id(&mut self) -> u64 {
        let id = self.next_compacted_id;
        self.compacted_id_was_used(id);
        id
    }

    /// Keeps an id from being given out, and those below it.
    pub(super) fn compacted_id_was_used(&mut self, id: u64) {
        // At the end of the numbers the last one is given out again, and `check` refuses it.
        self.next_compacted_id = self.next_compacted_id.max(id.saturating_add(1));
    }
}

fn ensure(fits: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if fits { Ok(()) } else { Err(what()) }
}
