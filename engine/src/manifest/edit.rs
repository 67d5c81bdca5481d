//! The edits of a manifest and their payloads.
//!
//! # Layout
//! A payload is the kind (1 byte), then its fields without gaps, numbers least significant byte first. It is as long as
//! its fields; a name is whatever follows them.
//!
//! | kind | edit | fields (bytes) | since |
//! |---|---|---|---|
//! | 1 | keyspace created | id (4), name | 1.0 |
//! | 2 | job done | three counts (4 each), then as many compacted segments (57 each), retired log segments (48 each), ids of removed compacted segments (8 each) | 1.1 |
//! | 3 | next compacted id | id (8) | 1.1 |
//! | 4 | hold set | seq (8), bytes_max (8), name | 1.1 |
//! | 5 | hold removed | name | 1.1 |
//! | 6 to 9 | reserved: range delete added, range delete ended, clean to, keyspace dropped | | |
//! | 128 | image added | number (8), begin_seq (8), bytes (8), checksum (4) | 1.1 |
//! | 129 | image removed | number (8) | 1.1 |
//! | 130 | lineage | id (16), 1 if this is a copy that was not written to yet (1) | 1.1 |
//! | 131 | hold broken | name | 1.1 |
//!
//! Compacted segment: id (8), bytes_stored (8), bytes_logical (8), records (8), tombstones (8), seq_min (8), seq_max
//! (8), age class (1). A retired log segment is in the form of the log (`RetiredSegment::to_bytes`).
//!
//! # Invariants
//! - One job is one edit, so a crash leaves all of it or nothing.
//! - Kinds from 128 on are passed over by who does not know them: they speak of derived data, which is made again, or of
//!   what can be told without them. Any other unknown kind forbids opening.
//! - Jobs need the feature `COMPACTED_SEGMENTS` in the header: who does not know it would open the log without them.

use cortenkv_wal::RetiredSegment;

use super::format::COMPACTED_SEGMENTS;
use crate::record::{KeyspaceId, SeqNo};

/// The first id of a compacted segment; those below belong to segments of the log.
pub(crate) const COMPACTED_ID_MIN: u64 = 1 << 63;

const KIND_KEYSPACE_CREATED: u8 = 1;
const KIND_JOB_DONE: u8 = 2;
const KIND_NEXT_COMPACTED: u8 = 3;
const KIND_HOLD_SET: u8 = 4;
const KIND_HOLD_REMOVED: u8 = 5;
const KIND_OPTIONAL_MIN: u8 = 128;
const KIND_IMAGE_ADDED: u8 = 128;
const KIND_IMAGE_REMOVED: u8 = 129;
const KIND_LINEAGE: u8 = 130;
const KIND_HOLD_BROKEN: u8 = 131;

/// A segment that compaction wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompactedInfo {
    /// From [`COMPACTED_ID_MIN`] on.
    pub(crate) id: u64,
    /// Length of the file.
    pub(crate) bytes_stored: u64,
    /// Length before compression.
    pub(crate) bytes_logical: u64,
    /// Records in it, tombstones among them.
    pub(crate) records: u64,
    pub(crate) tombstones: u64,
    pub(crate) seq_min: SeqNo,
    pub(crate) seq_max: SeqNo,
    /// How often its records survived.
    pub(crate) age_class: u8,
}

/// What an image of the index is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageInfo {
    /// The image has every commit up to this one; the log is replayed from there.
    pub(crate) begin_seq: SeqNo,
    pub(crate) bytes: u64,
    /// The checksum of the table of its blocks, which has theirs.
    pub(crate) checksum: u32,
}

/// Log that somebody still reads: segments with commits above `seq` stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) seq: SeqNo,
    /// The hold breaks when it keeps more than this.
    pub(crate) bytes_max: u64,
}

/// Which of the copies of a database this is: they share the uuid, which stands in every segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lineage {
    pub(crate) id: [u8; 16],
    /// The id is that of the source until the first opening that may write.
    pub(crate) is_copy: bool,
}

/// One change that a manifest notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    KeyspaceCreated {
        id: KeyspaceId,
        name: String,
    },
    /// A whole compaction job: what it wrote, and what has no live record left because of it.
    JobDone {
        added: Vec<CompactedInfo>,
        retired: Vec<RetiredSegment>,
        /// Compacted segments that go.
        removed: Vec<u64>,
    },
    /// Ids of compacted segments below this one were given out.
    NextCompacted {
        id: u64,
    },
    /// A new hold, or another place for one.
    HoldSet {
        name: String,
        hold: Hold,
    },
    HoldRemoved {
        name: String,
    },
    ImageAdded {
        number: u64,
        image: ImageInfo,
    },
    ImageRemoved {
        number: u64,
    },
    Lineage(Lineage),
    /// A hold kept more than it may; its segments went, and what is left of it tells its owner.
    HoldBroken {
        name: String,
    },
}

/// What a payload turned out to be.
pub(super) enum Parsed {
    Edit(Edit),
    /// Unknown, and no harm in that.
    PassedOver,
    /// Unknown: opening without it could lose data.
    Unknown(u8),
    /// Known, but not of the form of its kind.
    Malformed(u8),
}

impl Edit {
    /// The incompatible features that the header of its manifest must name.
    pub(super) fn features(&self) -> u32 {
        match self {
            Edit::JobDone { .. } => COMPACTED_SEGMENTS,
            _ => 0,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Edit::KeyspaceCreated { id, name } => {
                out.push(KIND_KEYSPACE_CREATED);
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(name.as_bytes());
            }
            Edit::JobDone { added, retired, removed } => {
                out.push(KIND_JOB_DONE);
                for count in [added.len(), retired.len(), removed.len()] {
                    out.extend_from_slice(&(count as u32).to_le_bytes());
                }
                added.iter().for_each(|segment| encode_compacted(&mut out, segment));
                retired.iter().for_each(|segment| out.extend_from_slice(&segment.to_bytes()));
                put_numbers(&mut out, removed);
            }
            Edit::NextCompacted { id } => {
                out.push(KIND_NEXT_COMPACTED);
                put_numbers(&mut out, &[*id]);
            }
            Edit::HoldSet { name, hold } => {
                out.push(KIND_HOLD_SET);
                put_numbers(&mut out, &[hold.seq, hold.bytes_max]);
                out.extend_from_slice(name.as_bytes());
            }
            Edit::HoldRemoved { name } => {
                out.push(KIND_HOLD_REMOVED);
                out.extend_from_slice(name.as_bytes());
            }
            Edit::ImageAdded { number, image } => {
                out.push(KIND_IMAGE_ADDED);
                put_numbers(&mut out, &[*number, image.begin_seq, image.bytes]);
                out.extend_from_slice(&image.checksum.to_le_bytes());
            }
            Edit::ImageRemoved { number } => {
                out.push(KIND_IMAGE_REMOVED);
                put_numbers(&mut out, &[*number]);
            }
            Edit::Lineage(Lineage { id, is_copy }) => {
                out.push(KIND_LINEAGE);
                out.extend_from_slice(id);
                out.push(u8::from(*is_copy));
            }
            Edit::HoldBroken { name } => {
                out.push(KIND_HOLD_BROKEN);
                out.extend_from_slice(name.as_bytes());
            }
        }
        out
    }

    pub(super) fn decode(payload: &[u8]) -> Parsed {
        let Some((&kind, fields)) = payload.split_first() else { return Parsed::Malformed(0) };
        let mut fields = Fields(fields);
        let edit = match kind {
            KIND_KEYSPACE_CREATED => fields.keyspace_created(),
            KIND_JOB_DONE => fields.job_done(),
            KIND_NEXT_COMPACTED => fields.number().map(|id| Edit::NextCompacted { id }),
            KIND_HOLD_SET => fields.hold_set(),
            KIND_HOLD_REMOVED => fields.name().map(|name| Edit::HoldRemoved { name }),
            KIND_IMAGE_ADDED => fields.image_added(),
            KIND_IMAGE_REMOVED => fields.number().map(|number| Edit::ImageRemoved { number }),
            KIND_LINEAGE => fields.lineage(),
            KIND_HOLD_BROKEN => fields.name().map(|name| Edit::HoldBroken { name }),
            _ if kind >= KIND_OPTIONAL_MIN => return Parsed::PassedOver,
            _ => return Parsed::Unknown(kind),
        };
        match edit {
            Some(edit) if fields.0.is_empty() => Parsed::Edit(edit),
            _ => Parsed::Malformed(kind),
        }
    }
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn encode_compacted(out: &mut Vec<u8>, segment: &CompactedInfo) {
    put_numbers(out, &[segment.id, segment.bytes_stored, segment.bytes_logical]);
    put_numbers(out, &[segment.records, segment.tombstones, segment.seq_min, segment.seq_max]);
    out.push(segment.age_class);
}

/// What of a payload is still to be read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn short_number(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// The rest, as text.
    fn name(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.0);
        std::str::from_utf8(rest).ok().map(str::to_owned)
    }

    fn keyspace_created(&mut self) -> Option<Edit> {
        Some(Edit::KeyspaceCreated { id: self.short_number()?, name: self.name()? })
    }

    fn job_done(&mut self) -> Option<Edit> {
        let counts = [self.short_number()?, self.short_number()?, self.short_number()?];
        // Nothing is reserved for counts: an item that is not there ends the reading.
        Some(Edit::JobDone {
            added: (0..counts[0]).map(|_| self.compacted()).collect::<Option<_>>()?,
            retired: (0..counts[1]).map(|_| self.retired()).collect::<Option<_>>()?,
            removed: (0..counts[2]).map(|_| self.number()).collect::<Option<_>>()?,
        })
    }

    fn compacted(&mut self) -> Option<CompactedInfo> {
        Some(CompactedInfo {
            id: self.number()?,
            bytes_stored: self.number()?,
            bytes_logical: self.number()?,
            records: self.number()?,
            tombstones: self.number()?,
            seq_min: self.number()?,
            seq_max: self.number()?,
            age_class: u8::from_le_bytes(self.take()?),
        })
    }

    fn retired(&mut self) -> Option<RetiredSegment> {
        self.take().map(|bytes| RetiredSegment::from_bytes(&bytes))
    }

    fn hold_set(&mut self) -> Option<Edit> {
        let hold = Hold { seq: self.number()?, bytes_max: self.number()? };
        Some(Edit::HoldSet { name: self.name()?, hold })
    }

    fn lineage(&mut self) -> Option<Edit> {
        let id = self.take()?;
        let is_copy = match self.take()? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        Some(Edit::Lineage(Lineage { id, is_copy }))
    }

    fn image_added(&mut self) -> Option<Edit> {
        let number = self.number()?;
        let (begin_seq, bytes) = (self.number()?, self.number()?);
        let image = ImageInfo { begin_seq, bytes, checksum: self.short_number()? };
        Some(Edit::ImageAdded { number, image })
    }
}
