//! Verification of an open database: every record through its checksum, and every way to a record against the others.
//!
//! # Layout
//! `records`: from the segments to the index. `entries`: from the index to the segments. `order`: scans and gets of every
//! key. `figures`: what is counted, and the files. `newest`: the newest record of a key, as rule 1 has it.
//!
//! # Concurrency
//! Reads, writes and compactions go on meanwhile. What seems wrong is looked at again in a way that a write or a job that
//! comes between cannot deceive. Figures are compared only when nothing was written and no job was under way from the
//! beginning to the end: [`VerifyReport::is_quiet`].
//!
//! # Failure
//! Findings are gathered, the first [`FINDINGS_MAX`] of them; none ends the verification.

mod entries;
mod figures;
mod newest;
mod order;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::core::Core;
use crate::db::Db;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{KeyspaceId, RecordRef, SeqNo};
use crate::segments::{SegmentFigures, SegmentReport};
use crate::stats::Progress;

/// LIMIT: findings that a report holds.
pub const FINDINGS_MAX: usize = 1_000;

/// What sort of thing a [`Finding`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum FindingKind {
    /// A file does not hold what was written to it.
    Damage,
    /// A file could not be read just now.
    Unreadable,
    /// The index leads to no record, or not to the newest of its key.
    Index,
    /// A scan and a get of a key differ, or a key is missing in a scan or stands in the wrong place.
    Order,
    /// Something is counted wrong.
    Figures,
    /// The manifest and the files of the directory contradict one another.
    Files,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// The file, where it is about one.
    pub file: Option<PathBuf>,
    /// The place in the file, in bytes; of a record of a compressed commit, that of the record before compression.
    pub offset: Option<u64>,
    /// The keyspace, where it is about a key.
    pub keyspace: Option<String>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// A sentence.
    pub what: String,
}

/// What was found of one keyspace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct VerifiedKeyspace {
    /// Its name.
    pub name: String,
    /// Entries that a scan shows.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// What a verification looked at, and what it found; made by [`Db::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct VerifyReport {
    /// Segments that were read.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// The bytes of these.
    pub record_bytes: u64,
    /// Entries of the index that were followed to their record.
    pub entries: u64,
    /// Keys whose newest record is a value, expired ones too.
    pub keys: u64,
    /// Keys whose newest record is a tombstone.
    pub tombstones: u64,
    /// The keyspaces; empty without key order.
    pub keyspaces: Vec<VerifiedKeyspace>,
    /// False if scans could not be compared, because the database keeps no key order.
    pub is_ordered: bool,
    /// True if nothing was written and no compaction was under way meanwhile, so that figures were compared.
    pub is_quiet: bool,
    /// All findings, those beyond the first [`FINDINGS_MAX`] too.
    pub findings_total: u64,
    /// The first findings.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// True if nothing was found.
    pub fn is_intact(&self) -> bool {
        self.findings_total == 0
    }
}

impl Db {
    /// Reads every record of every segment through its checksum, and compares all that should agree: index and records (each
    /// entry leads to an intact record, the newest of its key), gets and scans, what is counted, the manifest and the files.
    ///
    /// It waits for the commits that are under way, and runs beside reads and writes; what is written since is not judged.
    /// It takes some microseconds for each record, and no memory that grows with the database.
    ///
    /// # Errors
    /// `Closed` after `close`. What is wrong with the database is no error but a [`Finding`] of the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.verify_with(|_| {})
    }

    /// As [`Db::verify`], and tells how far it has come, in bytes of segments. Index and scans come after them.
    ///
    /// # Errors
    /// As [`Db::verify`].
    pub fn verify_with(&self, progress: impl FnMut(Progress)) -> Result<VerifyReport> {
        let core = self.core();
        core.check_open()?;
        // In the index, so that it can be asked about them; what comes later is not judged. After a failed write it cannot be
        // known what is there beyond what is durable.
        let settled = core.settled_seq();
        let before = Moment::of(self)?;
        let seq_max = *settled.as_ref().unwrap_or(&core.log.durable_seq());
        let mut verifier = Verifier::new(core, seq_max);
        verifier.read_segments(&before.segments, progress);
        verifier.follow_entries();
        verifier.compare_scans(|| Ok(Moment::of(self)? == before));
        verifier.check_files();
        let after = Moment::of(self)?;
        verifier.report.is_quiet =
            settled.is_ok_and(|seq| seq == before.last_seq) && before.is_still() && before == after;
        if verifier.report.is_quiet {
            verifier.compare_figures(&after.segments);
        }
        Ok(verifier.report)
    }
}

/// What shows that something was written, or a job has worked, between two looks.
struct Moment {
    last_seq: SeqNo,
    segments: Vec<SegmentReport>,
    in_work: Vec<u64>,
}

impl Moment {
    fn of(db: &Db) -> Result<Self> {
        let core = db.core();
        let (segments, last_seq) = (db.segments()?, core.log.last_seq());
        Ok(Moment { last_seq, segments, in_work: core.compaction.in_work() })
    }

    fn is_still(&self) -> bool {
        self.in_work.is_empty()
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        let ids = |moment: &Moment| moment.segments.iter().map(|s| s.id).collect::<Vec<u64>>();
        self.last_seq == other.last_seq && self.in_work == other.in_work && ids(self) == ids(other)
    }
}

/// A verification under way.
struct Verifier<'a> {
    core: &'a Arc<Core>,
    names: BTreeMap<KeyspaceId, Arc<str>>,
    /// Commits above are not judged: they may be on their way into the index.
    seq_max: SeqNo,
    /// What the records and the index say of each segment.
    found: BTreeMap<u64, SegmentFigures>,
    /// Live keys of each keyspace.
    live: BTreeMap<KeyspaceId, u64>,
    /// True once a live record was met that expires.
    is_expiring: bool,
    /// Places that were told already.
    told: BTreeSet<(PathBuf, u64)>,
    report: VerifyReport,
}

impl<'a> Verifier<'a> {
    fn new(core: &'a Arc<Core>, seq_max: SeqNo) -> Self {
        Verifier {
            core,
            names: core.catalog.by_id(),
            seq_max,
            found: BTreeMap::new(),
            live: BTreeMap::new(),
            is_expiring: false,
            told: BTreeSet::new(),
            report: VerifyReport { is_ordered: true, ..VerifyReport::default() },
        }
    }

    /// A record or a file that cannot be read.
    fn note_error(&mut self, error: &Error) {
        let (kind, file, offset) = match error.kind() {
            ErrorKind::Corruption { file, offset, .. } => {
                // Met once by its segment, and again by the index.
                if self.told.len() < FINDINGS_MAX && !self.told.insert((file.clone(), *offset)) {
                    return;
                }
                (FindingKind::Damage, Some(file.clone()), Some(*offset))
            }
            _ => (FindingKind::Unreadable, None, None),
        };
        let what = error.to_string();
        self.note(Finding { kind, file, offset, keyspace: None, key: None, what });
    }

    /// A record that contradicts something else.
    fn note_record(&mut self, kind: FindingKind, record: &RecordRef<'_>, what: String) {
        let file = self.file_of(record.location.segment);
        let offset = file.is_some().then_some(u64::from(record.location.offset));
        let (keyspace, key) = (self.name(record.keyspace), Some(record.key.to_vec()));
        self.note(Finding { kind, file, offset, keyspace, key, what });
    }

    /// A key of which two answers differ.
    fn note_key(&mut self, kind: FindingKind, keyspace: KeyspaceId, key: &[u8], what: String) {
        let (keyspace, key) = (self.name(keyspace), Some(key.to_vec()));
        self.note(Finding { kind, file: None, offset: None, keyspace, key, what });
    }

    fn note(&mut self, finding: Finding) {
        self.report.findings_total += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }

    fn name(&self, keyspace: KeyspaceId) -> Option<String> {
        let name = self.names.get(&keyspace).map(|name| name.to_string());
        name.or_else(|| Some(format!("number {keyspace}")))
    }

    fn file_of(&self, segment: u64) -> Option<PathBuf> {
        self.core.log.file_of(segment)
    }
}

#[cfg(test)]
mod tests;
