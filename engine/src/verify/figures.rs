//! What is counted, against what was just counted anew; and the manifest against the files.

use std::sync::atomic::Ordering::Relaxed;

use super::{Finding, FindingKind, Verifier};
use crate::segments::{SegmentFigures, SegmentReport};

impl Verifier<'_> {
    /// Compares the counters of the database and of each segment. Nothing was written since they were counted anew.
    pub(super) fn compare_figures(&mut self, segments: &[SegmentReport]) {
        let counters = &self.core.counters;
        let counted = [
            ("keys", counters.keys.load(Relaxed), self.report.keys),
            ("tombstones", counters.tombstones.load(Relaxed), self.report.tombstones),
        ];
        for (name, counted, found) in counted {
            if counted != found {
                let what = format!("the database counts {counted} {name}; there are {found}");
                self.note_figures(None, what);
            }
        }
        for segment in segments {
            let found = self.found.get(&segment.id).copied().unwrap_or_default();
            if let Some(counted) = segment.figures.filter(|counted| *counted != found) {
                self.note_figures(
                    Some(segment.id),
                    format!("counted are {}; there are {}", words(&counted), words(&found)),
                );
            }
        }
    }

    fn note_figures(&mut self, segment: Option<u64>, what: String) {
        let file = segment.and_then(|segment| self.file_of(segment));
        let kind = FindingKind::Figures;
        self.note(Finding { kind, file, offset: None, keyspace: None, key: None, what });
    }

    /// Compares the manifest with its file and with the directory.
    pub(super) fn check_files(&mut self) {
        let core = self.core;
        let (Some(log), Some(manifest)) = (core.log.durable(), core.catalog.manifest()) else {
            return;
        };
        match log.check_files(&manifest, &|| core.compaction.in_work()) {
            Ok(faults) => {
                for fault in faults {
                    let (kind, file) = (FindingKind::Files, Some(fault.file));
                    let (keyspace, key, what) = (None, None, fault.what);
                    self.note(Finding { kind, file, offset: None, keyspace, key, what });
                }
            }
            Err(error) => self.note_error(&error),
        }
    }
}

fn words(figures: &SegmentFigures) -> String {
    let SegmentFigures { records, record_bytes, live_records, live_bytes, live_tombstones } =
        figures;
    format!(
        "{records} records of {record_bytes} bytes, {live_records} of {live_bytes} bytes live, {live_tombstones} of them \
         tombstones"
    )
}
