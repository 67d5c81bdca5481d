//! Looks at the files of a database on disk: which segments there are, every record of one, and whether the manifest and the
//! directory agree.
//!
//! # Concurrency
//! Beside writes and compactions. A file that comes or goes while the directory is listed is no fault: what seems wrong is
//! looked at twice.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Mutex;

use cortenkv_wal::vfs::FileKind;
use cortenkv_wal::{COMPACTED_ID_MIN, HeldFile, SegmentInfo};

use super::durable::DurableLog;
use super::manifest::Manifest;
use super::manifest::edit::CompactedInfo;
use super::segment::{DurableSegment, ours};
use crate::error::{Error, ErrorKind, Result};
use crate::record::RecordRef;
use crate::segments::{SegmentKind, SegmentReport, SegmentState};
use crate::sync::lock;

/// In the age class that the manifest notes: the segment holds large values only.
pub(crate) const LARGE: u8 = 0x80;

/// What is wrong with a file as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileFault {
    pub(crate) file: PathBuf,
    pub(crate) what: String,
}

impl DurableLog {
    /// All segments: those of the log, then those of compaction.
    pub(crate) fn segments<M: std::ops::Deref<Target = Manifest>>(
        &self,
        manifest: impl FnOnce() -> M,
    ) -> Vec<SegmentReport> {
        let of_log = self.wal.segments();
        let mut reports: Vec<SegmentReport> = of_log.iter().map(of_the_log).collect();
        reports.extend(manifest().state().compacted.values().map(of_compaction));
        // What cannot be listed is told by `check_files`.
        reports.extend(self.wal.list_held().unwrap_or_default().iter().map(of_hold));
        reports
    }

    /// The path of a segment.
    pub(crate) fn file_of(&self, id: u64) -> PathBuf {
        self.wal.dir().join(file_name(id))
    }

    /// Reads a held segment, each record through its checksum.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(crate) fn check_held(&self, id: u64) -> Result<()> {
        for held in self.wal.list_held()?.iter().filter(|held| held.id == id) {
            self.wal.open_held(held)?;
        }
        Ok(())
    }

    /// Shows every record of a segment, each verified.
    ///
    /// # Errors
    /// `Corruption` at the first that is not intact, after those before it were shown.
    pub(crate) fn for_each_record(
        &self,
        id: u64,
        show: &mut dyn FnMut(&RecordRef<'_>),
    ) -> Result<()> {
        let segment = self.segment(id)?;
        Ok(segment.reader.for_each_record(&mut |record| {
            show(&ours(&record));
            ControlFlow::Continue(())
        })?)
    }

    /// What contradicts the manifest in the directory, and the manifest in its file. `in_work` says which compacted segments
    /// a job has in hand.
    ///
    /// # Errors
    /// `Io` when the directory cannot be read.
    pub(crate) fn check_files(
        &self,
        manifest: &Mutex<Manifest>,
        in_work: &dyn Fn() -> Vec<u64>,
    ) -> Result<Vec<FileFault>> {
        let first = self.file_faults(manifest, in_work)?;
        if first.is_empty() {
            return Ok(Vec::new());
        }
        let second = self.file_faults(manifest, in_work)?;
        Ok(first.intersection(&second).cloned().collect())
    }

    fn file_faults(
        &self,
        manifest: &Mutex<Manifest>,
        in_work: &dyn Fn() -> Vec<u64>,
    ) -> Result<BTreeSet<FileFault>> {
        let mut faults = BTreeSet::new();
        let mut fault = |name: String, what: &str| {
            let file = self.wal.dir().join(name);
            faults.insert(FileFault { file, what: what.to_owned() });
        };
        let in_work = in_work();
        let of_log = self.wal.segments();
        let names = self.segment_names()?;
        let manifest = lock(manifest);
        let state = manifest.state();
        let newest = of_log.last().map_or(0, |segment| segment.id);
        for (id, name) in &names {
            let is_known = match *id {
                id if id >= COMPACTED_ID_MIN => true,
                // Made ahead of the writers.
                id if id > newest => true,
                id => state.retired.contains_key(&id) || of_log.iter().any(|known| known.id == id),
            };
            if !is_known {
                fault(name.clone(), "a segment that is no part of the log");
            }
        }
        let is_there = |id: u64| names.iter().any(|(named, _)| *named == id);
        for segment in of_log.iter().filter(|segment| !is_there(segment.id)) {
            fault(file_name(segment.id), "the file of a segment of the log is missing");
        }
        let compacted = state.compacted.keys();
        for id in compacted.filter(|id| !is_there(**id) && !in_work.contains(id)) {
            fault(file_name(*id), "the manifest names a compacted segment whose file is missing");
        }
        if let Err(error) = manifest.check_file() {
            let file = match error.kind() {
                ErrorKind::Corruption { file, .. } => file.clone(),
                _ => manifest.path(),
            };
            faults.insert(FileFault { file, what: error.to_string() });
        }
        Ok(faults)
    }

    /// The files that bear the name of a segment, with their ids.
    fn segment_names(&self) -> Result<Vec<(u64, String)>> {
        let listed = self.vfs.list(self.wal.dir()).map_err(|e| {
            Error::from(cortenkv_wal::Error::io(
                format!("cannot list {}", self.wal.dir().display()),
                e,
            ))
        })?;
        let files = listed.into_iter().filter(|entry| entry.kind == FileKind::File);
        Ok(files
            .filter_map(|entry| {
                let (digits, _) = entry.name.split_once('.')?;
                let id = u64::from_str_radix(digits, 16).ok()?;
                (entry.name == file_name(id)).then_some((id, entry.name))
            })
            .collect())
    }
}

impl DurableSegment {
    /// Reads a record through its checksum, whatever the database was told about reads.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub(crate) fn check(&self, offset: u32) -> Result<()> {
        Ok(self.reader.read_with(offset, |_| ())?)
    }
}

fn file_name(id: u64) -> String {
    let suffix = if id >= COMPACTED_ID_MIN { "cseg" } else { "seg" };
    format!("{id:016x}.{suffix}")
}

fn of_the_log(segment: &SegmentInfo) -> SegmentReport {
    SegmentReport {
        id: segment.id,
        kind: SegmentKind::Log,
        file: file_name(segment.id),
        state: match (segment.settled, segment.sealed) {
            (true, _) => SegmentState::Settled,
            (false, true) => SegmentState::Sealed,
            (false, false) => SegmentState::Active,
        },
        survived: 0,
        is_large: false,
        stored_bytes: segment.stored_bytes,
        seq_min: segment.last_seq.min(segment.seq_before + 1),
        seq_max: segment.last_seq,
        figures: None,
    }
}

fn of_hold(held: &HeldFile) -> SegmentReport {
    SegmentReport {
        id: held.id,
        kind: SegmentKind::Log,
        file: held.name(),
        state: SegmentState::Held,
        survived: 0,
        is_large: false,
        stored_bytes: held.bytes,
        seq_min: 0,
        seq_max: held.last_seq,
        figures: None,
    }
}

fn of_compaction(segment: &CompactedInfo) -> SegmentReport {
    SegmentReport {
        id: segment.id,
        kind: SegmentKind::Compacted,
        file: file_name(segment.id),
        state: SegmentState::Settled,
        survived: segment.age_class & !LARGE,
        is_large: segment.age_class & LARGE != 0,
        stored_bytes: segment.bytes_stored,
        seq_min: segment.seq_min,
        seq_max: segment.seq_max,
        figures: None,
    }
}
