//! A segment that a job writes, and the words that it is noted in.

use std::sync::{Arc, Weak};

use cortenkv_compaction::{AgeClass, LivenessTable, Origin, SegmentId, Stream};
use cortenkv_wal::{COMPACTED_ID_MIN, CompactedBuilder, CompactedSegment, RecordKind, RecordRef};

use super::access::{gone, wal};
use crate::address::Location;
use crate::core::Core;
use crate::error::Result;
use crate::parts::inspect::LARGE;
use crate::parts::manifest::edit::CompactedInfo;
use crate::record::SeqNo;

/// Units of the offset in the token of a copy.
const OFFSET_BITS: u32 = 23;
const OFFSET_UNIT_BYTES: u32 = 8;

/// See above. Dropped before it was to be published it leaves nothing behind; while that is open, the next opening removes its
/// file unless the manifest names it.
pub(super) struct Output {
    pub(super) id: SegmentId,
    builder: Option<CompactedBuilder>,
    sealed: Option<CompactedSegment>,
    class: u8,
    tombstones: u64,
    seq_min: SeqNo,
    seq_max: SeqNo,
    /// The manifest may name it.
    pub(super) may_be_published: bool,
    core: Weak<Core>,
    liveness: Arc<LivenessTable>,
}

impl Output {
    pub(super) fn create(
        core: &Arc<Core>,
        id: SegmentId,
        stream: Stream,
        liveness: &Arc<LivenessTable>,
    ) -> Result<Output> {
        let builder = CompactedBuilder::create(wal(core)?, id)?;
        liveness.create(id, Origin::default());
        Ok(Output {
            id,
            builder: Some(builder),
            sealed: None,
            class: stream.class as u8 | if stream.large { LARGE } else { 0 },
            tombstones: 0,
            seq_min: SeqNo::MAX,
            seq_max: 0,
            may_be_published: false,
            core: Arc::downgrade(core),
            liveness: Arc::clone(liveness),
        })
    }

    /// Adds a record, and returns the token of the copy.
    pub(super) fn append(&mut self, copy: &RecordRef<'_>) -> Result<u64> {
        let builder = self.builder.as_mut().ok_or_else(gone)?;
        let offset = builder.append(copy)?;
        self.tombstones += u64::from(copy.kind == RecordKind::Delete);
        self.seq_min = self.seq_min.min(copy.seq);
        self.seq_max = self.seq_max.max(copy.seq);
        // LIMIT: 2^41 compacted segments, each of which took a file.
        Ok((self.id - COMPACTED_ID_MIN) << OFFSET_BITS | u64::from(offset / OFFSET_UNIT_BYTES))
    }

    /// Makes it durable.
    pub(super) fn seal(&mut self) -> Result<()> {
        if let Some(builder) = self.builder.take() {
            self.sealed = Some(builder.finish()?);
        }
        Ok(())
    }

    /// What the manifest notes of it.
    pub(super) fn info(&self) -> Option<CompactedInfo> {
        let sealed = self.sealed.as_ref()?;
        Some(CompactedInfo {
            id: self.id,
            bytes_stored: u64::from(sealed.bytes),
            bytes_logical: u64::from(sealed.end_logical),
            records: sealed.records,
            tombstones: self.tombstones,
            seq_min: self.seq_min.min(self.seq_max),
            seq_max: self.seq_max,
            age_class: self.class,
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.may_be_published {
            return;
        }
        self.liveness.retire(self.id);
        if self.sealed.is_some()
            && let Some(core) = self.core.upgrade()
            && let Ok(wal) = wal(&core)
        {
            // On a full disk it must not keep the space that is missing. Where this fails, the next opening removes it.
            let _ = wal.remove_compacted(&[self.id]);
        }
    }
}

/// The age class in the words of jobs, and whether the segment holds large values only.
pub(super) fn class_of(info: &CompactedInfo) -> (AgeClass, bool) {
    let class = match info.age_class & !LARGE {
        0 => AgeClass::New,
        1 => AgeClass::SurvivedOnce,
        _ => AgeClass::SurvivedTwice,
    };
    (class, info.age_class & LARGE != 0)
}

/// The place of the copy with this token.
pub(super) fn location_of(token: u64) -> Location {
    let offset = (token & ((1 << OFFSET_BITS) - 1)) as u32 * OFFSET_UNIT_BYTES;
    Location { segment: COMPACTED_ID_MIN + (token >> OFFSET_BITS), offset }
}
